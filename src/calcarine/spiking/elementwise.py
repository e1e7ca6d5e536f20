"""Two parts without memory that graphs of spiking networks are made of.

    Scale        y = factor * x
    Threshold    z = 1 where x > threshold, else 0

Axes    B batch | remaining axes as the input has them
Source  pedersen2024 (the nodes of the same names); zenke2018 (slope of the step)
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from calcarine.constants import Constant, Value
from calcarine.spiking.surrogate import Surrogate, check_surrogate, spike
from calcarine.stage import Stage

__all__ = ["Scale", "Threshold"]


class Scale(Stage):
    """Multiply every value by a factor, one for all, per channel or per unit.

    Args:
        factor: The factor.
        learnable: Whether optimisers may change it.

    Raises:
        InputError: If a factor is not finite.
    """

    sources: ClassVar[tuple[str, ...]] = ("pedersen2024",)

    def __init__(self, *, factor: Value | Tensor = 1.0, learnable: bool = False) -> None:
        super().__init__()
        self.factor, self.learnable = factor, learnable
        self.constant = Constant("factor", factor, learnable=learnable)

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """Return the scaled input.

        Raises:
            ShapeError: If there are several factors and they do not fit the axes of ``x``.
        """
        return x * self.constant(x)


class Threshold(Stage):
    """A step per value: spikes without a membrane.

    Args:
        threshold: Value above which the output is 1, one for all, per channel or per unit.
        surrogate: Slope of the step in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope. zenke2018: 100.
        learnable: Whether optimisers may change the threshold.

    Raises:
        InputError: If a threshold is not finite.
        UnknownNameError: If there is no surrogate of this name.
    """

    sources: ClassVar[tuple[str, ...]] = ("pedersen2024", "zenke2018")

    def __init__(
        self,
        *,
        threshold: Value | Tensor = 1.0,
        surrogate: Surrogate = "superspike",
        alpha: float = 100.0,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        check_surrogate(surrogate, alpha)
        self.threshold, self.learnable = threshold, learnable
        self.surrogate, self.alpha = surrogate, float(alpha)
        self.constant = Constant("threshold", threshold, learnable=learnable)

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        """Return 0 or 1 for every value.

        Raises:
            ShapeError: If there are several thresholds and they do not fit the axes of ``x``.
        """
        return spike(x - self.constant(x), self.surrogate, self.alpha)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return f"surrogate={self.surrogate!r}, alpha={self.alpha:g}"
