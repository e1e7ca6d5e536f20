"""What a unit makes of its input: silent below a threshold, saturated above another.

    f(x) = 0 for x <= lower,  1 for x >= upper,  (x - lower) / (upper - lower) between

Axes    any
Source  miikkulainen2005
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError

__all__ = ["PiecewiseSigmoid", "piecewise_sigmoid"]


def piecewise_sigmoid(
    x: Float[Tensor, "*any"], lower: float | Tensor, upper: float | Tensor
) -> Float[Tensor, "*any"]:
    """Cut a straight line off at 0 and 1.

    Args:
        x: Input of the units.
        lower: Where the response starts; a number, or a tensor that broadcasts with ``x``.
        upper: Where the response reaches 1.

    Raises:
        InputError: If ``lower`` is not below ``upper``. Only numbers are checked: reading tensors
            would make the device wait.
    """
    if not isinstance(lower, Tensor) and not isinstance(upper, Tensor) and not lower < upper:
        raise InputError(f"piecewise_sigmoid expected lower < upper, got {lower} and {upper}.")
    return ((x - lower) / (upper - lower)).clamp(0, 1)


class PiecewiseSigmoid(nn.Module):
    """:func:`piecewise_sigmoid` with thresholds that a schedule may move.

    Args:
        lower: Where the response starts. miikkulainen2005: 0.1 before learning.
        upper: Where the response reaches 1. miikkulainen2005: 0.65 before learning.

    Raises:
        InputError: If ``lower`` is not below ``upper``.
    """

    lower: Tensor
    upper: Tensor

    def __init__(self, lower: float = 0.1, upper: float = 0.65) -> None:
        super().__init__()
        self.register_buffer("lower", torch.tensor(0.0))
        self.register_buffer("upper", torch.tensor(1.0))
        self.move_(lower, upper)

    def move_(self, lower: float, upper: float) -> Self:
        """Set both thresholds.

        Raises:
            InputError: If ``lower`` is not below ``upper``.
        """
        if not lower < upper:
            raise InputError(f"PiecewiseSigmoid expected lower < upper, got {lower} and {upper}.")
        self.lower.fill_(lower)
        self.upper.fill_(upper)
        return self

    def forward(self, x: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """Return the response to an input."""
        return piecewise_sigmoid(x, self.lower.to(x.dtype), self.upper.to(x.dtype))
