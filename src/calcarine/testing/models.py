"""What every probe needs of a model, one check each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.testing.outcome import CheckError, Report, judge

__all__ = ["check_model"]


def check_model(model: Callable[[Tensor], Tensor], image: Tensor) -> Report:
    """Say, check by check, whether a model can be probed.

    A probe takes any differentiable ``image -> representation`` with a 4-D image in and a 3-D or
    4-D representation out.

    Args:
        model: The model, a module or any callable.
        image: An image with axes (batch, channel, height, width) that the model is made for.
    """
    checks = [judge(name, partial(c, model, image)) for name, c in _MODEL_CHECKS.items()]
    return Report(getattr(model, "__name__", type(model).__name__), tuple(checks))


def _image_is_fit(model: Any, image: Tensor) -> str | None:
    if image.ndim != 4:
        raise CheckError(
            "expected an image with axes (batch, channel, height, width), got shape "
            f"{tuple(image.shape)}; for one grey image pass image[None, None]"
        )
    if not image.is_floating_point():
        raise CheckError(
            f"expected floating point values, got {image.dtype}; pass image.float() / 255"
        )
    if not torch.isfinite(image).all():
        raise CheckError("the image holds NaN or infinity")
    return None


def _evaluation_mode(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module) and any(m.training for m in model.modules()):
        raise CheckError("the model is in training mode; call model.eval()")
    return None


def _parameters_frozen(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module):
        free = [n for n, p in model.named_parameters() if p.requires_grad]
        if free:
            raise CheckError(
                f"{len(free)} parameters collect gradients ({free[0]}, ...); call "
                "model.requires_grad_(False)"
            )
    return None


def _same_device(model: Any, image: Tensor) -> str | None:
    if isinstance(model, nn.Module):
        held = [*model.parameters(), *model.buffers()]
        other = {str(t.device) for t in held if t.device != image.device}
        if other:
            raise CheckError(
                f"the model is on {', '.join(sorted(other))}, the image on {image.device}; "
                f"call model.to({str(image.device)!r}) or move the image"
            )
    return None


def _representation(model: Any, image: Tensor) -> Tensor:
    response = model(image)
    if not isinstance(response, Tensor):
        raise CheckError(f"expected a tensor out, got {type(response).__name__}; return one tensor")
    return response


def _output_fits(model: Any, image: Tensor) -> str | None:
    with torch.no_grad():
        response = _representation(model, image)
    if response.ndim not in (3, 4):
        raise CheckError(
            f"expected a 3-D or 4-D representation, got shape {tuple(response.shape)}; keep the "
            "batch axis and add a channel axis"
        )
    if not response.is_floating_point():
        raise CheckError(f"expected floating point values out, got {response.dtype}")
    if response.dtype != image.dtype or response.device != image.device:
        raise CheckError(
            f"{image.dtype} on {image.device} in, {response.dtype} on {response.device} out; let "
            "constants follow the input"
        )
    if not torch.isfinite(response).all():
        raise CheckError("the representation holds NaN or infinity")
    return f"shape {tuple(response.shape)}"


def _repeatable(model: Any, image: Tensor) -> str | None:
    with torch.no_grad():
        if not torch.equal(_representation(model, image), _representation(model, image)):
            raise CheckError("two calls on the same image differ; remove the randomness")
    return None


def _differentiable(model: Any, image: Tensor) -> str | None:
    x = image.detach().clone().requires_grad_()
    response = _representation(model, x)
    if not response.requires_grad:
        raise CheckError("no gradient reaches the image; use differentiable torch operations only")
    (gradient,) = torch.autograd.grad(response.sum(), x, allow_unused=True)
    if gradient is None or not torch.isfinite(gradient).all():
        raise CheckError("the gradient with respect to the image is missing or not finite")
    return None


_MODEL_CHECKS: dict[str, Callable[[Any, Tensor], str | None]] = {
    "image": _image_is_fit,
    "evaluation_mode": _evaluation_mode,
    "parameters_frozen": _parameters_frozen,
    "same_device": _same_device,
    "output": _output_fits,
    "repeatable": _repeatable,
    "differentiable": _differentiable,
}
