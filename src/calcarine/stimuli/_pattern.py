"""What all endless patterns on a sheet share: how chances become pictures.

A picture is a function of a fixed number of chances, uniform in [0, 1), drawn for it alone. So what
comes next depends on the generator only, drawing 8 pictures equals drawing 5 and then 3, and the
random numbers are few: on an accelerator they travel, the pictures are made there.

Axes    B batch | n chances of a picture | 1 channel | H W rows down, columns right
Units   sheet units, degrees
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_dtype, is_count
from calcarine.stimuli.light import work_dtype
from calcarine.stimuli.sheet import Sheet

__all__ = [
    "Combine",
    "Pattern",
    "Span",
    "checked_combine",
    "checked_count",
    "checked_pair",
    "checked_span",
    "combined",
    "from_chance",
    "placed",
    "rotated",
]

Combine = Literal["maximum", "sum"]
"""How several patterns of one picture combine."""

Span = float | tuple[float, float]
"""A number, or (low, high) to draw from uniformly."""


class Pattern(ABC):
    """Endless pictures of one kind on a sheet.

    Args:
        density: Units per sheet unit.
        half_side: From the centre to the border [sheet units]: a number, or (vertical, horizontal).

    Attributes:
        sources: Keys into ``references.bib``.
        sheet: The geometry.
    """

    sources: ClassVar[tuple[str, ...]] = ()

    def __init__(self, density: float, half_side: Span) -> None:
        self.density, self.half_side = density, half_side
        self.sheet = Sheet(density, half_side)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures [px]."""
        return self.sheet.size

    @property
    @abstractmethod
    def chances(self) -> int:
        """How many random numbers one picture takes."""

    @abstractmethod
    def pictures(
        self, chances: Float[Tensor, "B n"], y: Float[Tensor, "H 1"], x: Float[Tensor, "1 W"]
    ) -> Float[Tensor, "B H W"]:
        """Make one picture of every row of chances, at the coordinates y and x of the sheet."""

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "B 1 H W"]:
        """Draw pictures.

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out. Its state alone
                decides what is drawn.
            dtype: Floating-point type, torch's default one if left out.
            device: Where the pictures are made.

        Raises:
            InputError: If the batch is empty.
        """
        if not is_count(batch_size):
            raise InputError(
                f"draw expected a batch size of at least 1 (a whole number), got {batch_size!r}."
            )
        dtype = checked_dtype("draw", dtype)
        where = "cpu" if generator is None else generator.device
        chances = torch.rand(
            batch_size, self.chances, generator=generator, dtype=torch.double, device=where
        )
        work = work_dtype(dtype)
        y, x = self.sheet.coordinates(dtype=work, device=device)
        return self.pictures(chances.to(device, work), y, x)[:, None].to(dtype)


def checked_span(
    owner: str, name: str, value: object, low: float = 0.0, high: float = math.inf
) -> tuple[float, float]:
    """Return (low, high) of a number or a pair, both within bounds.

    Raises:
        InputError: If it is neither, not in order or out of bounds.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    numbers = [v for v in pair if isinstance(v, int | float) and not isinstance(v, bool)]
    fits = len(numbers) == 2 == len(pair) and low <= numbers[0] <= numbers[1] <= high
    if not fits or not all(map(math.isfinite, numbers)):
        raise InputError(
            f"{owner} expected {name} as a number or a pair (low, high) within [{low:g}, "
            f"{high:g}], got {value!r}."
        )
    return float(numbers[0]), float(numbers[1])


def checked_pair(owner: str, name: str, value: object) -> tuple[float, float]:
    """Return (vertical, horizontal) of one number or a pair, neither below zero.

    Raises:
        InputError: If it is neither.
    """
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    numbers = [v for v in pair if isinstance(v, int | float) and 0 <= v < math.inf]
    if len(pair) != 2 or len(numbers) != 2:
        raise InputError(
            f"{owner} expected {name} as a number or a pair (vertical, horizontal), none below 0, "
            f"got {value!r}."
        )
    return float(numbers[0]), float(numbers[1])


def from_chance(chance: Tensor, span: tuple[float, float]) -> Tensor:
    """Turn chances into numbers between low and high."""
    return span[0] + (span[1] - span[0]) * chance


def placed(chances: Float[Tensor, "B 2"], box: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Turn two chances into a centre (y, x) in a box given by its half-sides."""
    return tuple((2 * chances[:, k] - 1) * box[k] for k in range(2))  # type: ignore[return-value]


def rotated(
    y: Float[Tensor, "H 1"],
    x: Float[Tensor, "1 W"],
    center: tuple[Float[Tensor, " B"], Float[Tensor, " B"]],
    orientation_deg: Float[Tensor, " B"],
) -> tuple[Float[Tensor, "B H W"], Float[Tensor, "B H W"]]:
    """Return distances from a centre along an orientation and across it.

    ``along`` points right at 0 degrees and turns counter-clockwise on screen; ``across`` points 90
    degrees further, so up at 0 degrees.
    """
    dy, dx = y - center[0][:, None, None], x - center[1][:, None, None]
    angle = torch.deg2rad(orientation_deg)[:, None, None]
    cos, sin = angle.cos(), angle.sin()
    return dx * cos - dy * sin, -dx * sin - dy * cos


def combined(pictures: Iterable[Tensor], combine: Combine) -> Tensor:
    """Combine pictures one by one, so that one at a time is in memory."""
    rest = iter(pictures)
    whole = next(rest)
    for picture in rest:
        whole = torch.maximum(whole, picture) if combine == "maximum" else whole + picture
    return whole


def checked_combine(owner: str, combine: object) -> Combine:
    if combine not in ("maximum", "sum"):
        raise InputError(f"{owner} expected combine 'maximum' or 'sum', got {combine!r}.")
    return combine


def checked_count(owner: str, count: object) -> int:
    if not is_count(count):
        raise InputError(f"{owner} expected per_image as a whole number >= 1, got {count!r}.")
    return count  # type: ignore[return-value]
