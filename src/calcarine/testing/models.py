"""What every probe needs of a model, one check each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.testing.outcome import CheckError, Report, judge

__all__ = ["check_model"]


def check_model(model: Callable[[Tensor], Tensor], image: Tensor) -> Report:
    """Say, check by check, whether a model can be probed.

    A probe takes any differentiable ``image -> representation`` with a 4-D image in and a 3-D or
    4-D representation out, real or complex. Nothing is repaired: what fails says what to change.

    Args:
        model: The model, a module or any callable.
        image: An image with axes (batch, channel, height, width) that the model is made for.
    """
    with _buffers_kept(model):
        checks = [judge(name, partial(c, model, image)) for name, c in _MODEL_CHECKS.items()]
    return Report(getattr(model, "__name__", type(model).__name__), tuple(checks))


@contextmanager
def _buffers_kept(model: Any) -> Iterator[None]:
    """Leave the buffers as they were: a check of a model in training mode is no training."""
    held = list(model.buffers()) if isinstance(model, nn.Module) else []
    before = [buffer.clone() for buffer in held]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(held, before, strict=True):
                if not (buffer.is_meta or torch.equal(buffer, value)):
                    buffer.copy_(value)


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


def _no_side_effects(model: Any, image: Tensor) -> str | None:
    if not isinstance(model, nn.Module):
        return None
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        model(image)
    changed = [n for n, b in model.named_buffers() if not _same(b, before.get(n))]
    if changed:
        raise CheckError(
            f"a call changes {len(changed)} buffers ({changed[0]}, ...); call model.eval()"
        )
    if any(m.training for m in model.modules()):
        return "in training mode; call model.eval() unless that is meant"
    return None


def _same(one: Tensor, other: Tensor | None) -> bool:
    if other is None or one.is_meta:
        return other is not None
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _parameters_frozen(model: Any, image: Tensor) -> str | None:
    with torch.enable_grad():
        learns = _representation(model, image.detach()).requires_grad
    if learns:
        free = [n for n, p in _parameters(model) if p.requires_grad]
        which = (
            f"{len(free)} parameters collect gradients ({free[0]}, ...)"
            if free
            else ("something in it collects gradients")
        )
        raise CheckError(f"{which}; call model.requires_grad_(False)")
    return None


def _parameters(model: Any) -> list[tuple[str, nn.Parameter]]:
    return list(model.named_parameters()) if isinstance(model, nn.Module) else []


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
    if not (response.is_floating_point() or response.is_complex()):
        raise CheckError(
            f"expected floating point or complex values out, got {response.dtype}; leave out what "
            "rounds, thresholds or counts, or return what is in front of it"
        )
    if response.dtype.to_real() != image.dtype or response.device != image.device:
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
            training = isinstance(model, nn.Module) and any(m.training for m in model.modules())
            first = "call model.eval(), and " if training else ""
            raise CheckError(f"two calls on the same image differ; {first}remove the randomness")
    return None


def _differentiable(model: Any, image: Tensor) -> str | None:
    x = image.detach().clone().requires_grad_()
    with torch.enable_grad():
        response = _representation(model, x)
        if not response.requires_grad:
            raise CheckError(
                "no gradient reaches the image; use differentiable torch operations only"
            )
        total = torch.view_as_real(response).sum() if response.is_complex() else response.sum()
    (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
    if gradient is None or not torch.isfinite(gradient).all():
        raise CheckError("the gradient with respect to the image is missing or not finite")
    return None


_MODEL_CHECKS: dict[str, Callable[[Any, Tensor], str | None]] = {
    "image": _image_is_fit,
    "same_device": _same_device,
    "parameters_frozen": _parameters_frozen,
    "output": _output_fits,
    "no_side_effects": _no_side_effects,
    "repeatable": _repeatable,
    "differentiable": _differentiable,
}
