"""What the synthesising probes check, and how values per image are lined up."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import CalcarineWarning, InputError, ShapeError
from calcarine.testing import check_model

__all__ = [
    "check_images",
    "check_loss",
    "check_representation",
    "check_same",
    "check_tensor",
    "check_weight",
    "per_group",
    "probing_generator",
]


_SEED = 20130  # of probes left to themselves; not 0, with which users draw images


def check_images(
    probe: str, image: Float[Tensor, "B C H W"], model: Callable[..., Any]
) -> Float[Tensor, "B C H W"]:
    """Return the image, detached, if the model can be probed with it.

    Raises:
        InputError: With every check that fails and what to change.
    """
    check_tensor(probe, image)
    check_model(model, image).raise_if_failed()
    if isinstance(model, nn.Module) and any(part.training for part in model.modules()):
        warnings.warn(
            f"{type(model).__name__} is in training mode; probes usually want model.eval().",
            CalcarineWarning,
            stacklevel=3,
        )
    return image.detach()


def check_tensor(probe: str, image: Tensor) -> None:
    """Check that an image is a tensor.

    Raises:
        InputError: If it is anything else.
    """
    if not isinstance(image, Tensor):
        raise InputError(
            f"{probe} expected the image as a tensor with axes (batch, channel, height, width), "
            f"got {type(image).__name__}."
        )


def check_same(
    probe: str, name: str, other: Tensor, image: Float[Tensor, "B C H W"]
) -> Float[Tensor, "B C H W"]:
    """Return another image if it is of the first one's kind.

    Raises:
        ShapeError: If its shape differs.
        InputError: If its dtype or device differs, or a value is not finite.
    """
    if not isinstance(other, Tensor) or other.shape != image.shape:
        got = tuple(other.shape) if isinstance(other, Tensor) else type(other).__name__
        raise ShapeError(
            f"{probe} expected {name} of the image's shape {tuple(image.shape)} (batch, channel, "
            f"height, width), got {got}. For several beginnings repeat the image: "
            "image.repeat(n, 1, 1, 1)."
        )
    if other.dtype != image.dtype or other.device != image.device:
        raise InputError(
            f"{probe} expected {name} as {image.dtype} on {image.device}, got {other.dtype} on "
            f"{other.device}. Use {name}.to(image)."
        )
    if not torch.isfinite(other).all():
        raise InputError(f"{probe} expected finite values, {name} holds NaN or infinity.")
    return other


def check_loss(
    probe: str, loss: Callable[[Tensor], Tensor], pixels: Float[Tensor, "B C H W"]
) -> None:
    """Check that a loss is differentiable by the pixels.

    Raises:
        ShapeError: If it is neither one value per image nor a single number.
        InputError: If it is no tensor of real numbers, or no gradient reaches the pixels.
    """
    with torch.enable_grad():
        value = per_group([loss(pixels.detach().requires_grad_())], len(pixels))
    if not value.requires_grad:
        raise InputError(
            f"{probe} expected a differentiable loss, got one that no gradient reaches the pixels "
            "through. Use differentiable torch operations only, and no detach() or numpy."
        )


def check_weight(probe: str, weight: float) -> float:
    """Return the weight of a penalty.

    Raises:
        InputError: If it is below 0.
    """
    if not weight >= 0:
        raise InputError(f"{probe} expected penalty_weight >= 0, got {weight}.")
    return float(weight)


def per_group(values: Sequence[Tensor], batch: int) -> Float[Tensor, "T G"]:
    """Line up terms of an objective: one value per image, or one in all where any term has one.

    Args:
        values: Terms, each with the batch as first axis and any further axes, or a single number.
        batch: Number of images.

    Raises:
        ShapeError: If a term is neither.
        InputError: If a term is no tensor of real numbers.
    """
    apart = []
    for value in values:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            got = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"A loss, metric or penalty expected to return a tensor of real numbers, got {got}."
            )
        if value.ndim == 0 or (value.numel() == 1 and batch != 1):
            apart.append(value.reshape(1))
        elif value.shape[0] == batch:
            apart.append(value.reshape(batch, -1).mean(1))
        else:
            raise ShapeError(
                "A loss or penalty expected to return one value per image, with the batch "
                f"({batch}) as first axis, or a single number, got shape {tuple(value.shape)}."
            )
    if any(len(each) != batch for each in apart):
        apart = [each.mean(0, keepdim=True) for each in apart]
    return torch.stack(apart)


def check_representation(path: str | os.PathLike[str], made: Tensor, saved: Tensor) -> None:
    """Check that a model is the one that a file was made with.

    Args:
        path: The file.
        made: Representation by the model at hand.
        saved: The one in the file.

    Raises:
        InputError: If they differ by more than 0.1 %.
    """
    alike = made.shape == saved.shape and made.dtype == saved.dtype
    if not alike or not torch.allclose(
        made, saved, rtol=1e-3, atol=1e-3 * float(saved.abs().mean())
    ):
        raise InputError(
            f"{path} was made with another model: the representation of its image differs. Load it "
            "with the model, and the parameters, that it was made with."
        )


def probing_generator(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or one with a seed of its own, which nobody takes by chance.

    Raises:
        InputError: If it is not one of the CPU.
    """
    if generator is None:
        return torch.Generator().manual_seed(_SEED)
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise InputError(
            "Expected a torch.Generator of the CPU, so that all devices draw alike, got "
            f"{generator!r}."
        )
    return generator
