"""The geometry of a sheet of units: how lengths and frequencies on it become pixels.

    side of the picture = round(2 half_side density) px      x = (column - middle) / density
                                                             y = (row - middle) / density

A sheet unit is the side of the patch of cortex that a model is about, so a retina that looks past
it has half-sides above 0.5. The centre of the picture is the centre of the sheet; x points right
and y down.

Units   sheet units; density in units (pixels) per sheet unit; frequencies in cycles per sheet unit
Source  miikkulainen2005 (densities and sheet coordinates)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError

__all__ = ["Sheet"]


@dataclass(frozen=True)
class Sheet:
    """A sheet of units and its size.

    >>> Sheet(density=24, half_side=1.646).size            # the retina of stevens2013
    (79, 79)

    Args:
        density: Units per sheet unit. miikkulainen2005: 24 for a retina.
        half_side: From the centre to the border [sheet units]: one number, or (vertical,
            horizontal).

    Raises:
        InputError: If a number is not above zero, or the sheet has no unit.
    """

    density: float = 24.0
    half_side: float | tuple[float, float] = 0.5

    def __post_init__(self) -> None:
        pair = self.half_side
        halves = tuple(pair) if isinstance(pair, tuple | list) else (pair, pair)
        numbers = (self.density, *halves)
        if len(halves) != 2 or not all(_is_positive(n) for n in numbers):
            raise InputError(
                "Sheet expected a density above 0 and a half side above 0, or a pair (vertical, "
                f"horizontal) of them, got density={self.density!r} and "
                f"half_side={self.half_side!r}."
            )
        if min(self.size) < 1:
            raise InputError(f"Sheet expected at least one unit per side, got {self.size}.")

    @property
    def half_sides(self) -> tuple[float, float]:
        """From the centre to the border, (vertical, horizontal), in sheet units."""
        pair = self.half_side
        vertical, horizontal = pair if isinstance(pair, tuple | list) else (pair, pair)
        return vertical, horizontal

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in units (pixels)."""
        height, width = (round(2 * half * self.density) for half in self.half_sides)
        return height, width

    def coordinates(
        self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> tuple[Float[Tensor, "H 1"], Float[Tensor, "1 W"]]:
        """Return y of every row and x of every column, in sheet units."""
        y, x = (
            (torch.arange(n, dtype=dtype or torch.get_default_dtype(), device=device) - (n - 1) / 2)
            / self.density
            for n in self.size
        )
        return y[:, None], x[None, :]

    def frequency_cpp(self, cycles_per_side: float) -> float:
        """Turn cycles per sheet unit into cycles per pixel."""
        return cycles_per_side / self.density


def _is_positive(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf  # type: ignore[operator]
