"""Penalties: what a synthesised image pays for not being an image.

    range_penalty = mean over pixels of (x - clamp(x, low, high))^2

Axes    B batch | C channel | H W rows down, columns right
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError

__all__ = ["range_penalty"]


def range_penalty(
    image: Float[Tensor, "B C H W"], low: float = 0.0, high: float = 1.0
) -> Float[Tensor, " B"]:
    """Return the mean squared distance of pixels to the allowed range, per image.

    Args:
        image: The images.
        low: Smallest allowed value.
        high: Largest allowed value.

    Raises:
        InputError: If the range is empty.
    """
    if not low < high:
        raise InputError(f"range_penalty expected low < high, got {low} and {high}.")
    return (image - image.clamp(low, high)).square().flatten(1).mean(1)
