"""Dead leaves: which leaf lies on top at every pixel.

    P(radius) ~ radius^-3 within [least, most]       the same at every scale, as natural images are

Leaves are ellipses that fall one after another at random places of a torus; the last one is seen.
The number of a leaf is its turn, so the topmost leaf is the largest number at a pixel, and leaves
of similar size are drawn together.

Axes    S side of the torus [px]
Source  lee2001 (the model, the law of the radii)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["count_leaves", "cut_windows", "leaf_map", "unit_noise"]

_COVERED = 6.0  # times over; exp(-6) = 0.25 % of the ground stays bare. Ours
_LEAST_ASPECT = 0.4  # short over long axis of an ellipse. Ours
_AT_ONCE = 2**21  # candidate pixels, bounds the memory


def count_leaves(side: int, radii_px: tuple[float, float]) -> int:
    """Return how many leaves cover a torus."""
    least, most = radii_px
    mean_square = 2 * math.log(most / least) / (least**-2 - most**-2)
    mean_area = math.pi * mean_square * (1 + _LEAST_ASPECT) / 2
    return math.ceil(_COVERED * side**2 / mean_area)


def leaf_map(
    side: int, radii_px: tuple[float, float], generator: torch.Generator
) -> tuple[Int[Tensor, "S S"], Int[Tensor, " labels"]]:
    """Draw which leaf is seen where; 0 is the ground, which no leaf covers.

    Args:
        side: Height and width of the torus [px].
        radii_px: Least and largest half of the long axis [px].
        generator: Source of randomness.

    Returns:
        The map, and the place of every leaf's centre in the flattened map; 0 for the ground.
    """
    count = count_leaves(side, radii_px)
    chance = torch.rand(5, count, generator=generator)
    least, most = radii_px
    radius = (least**-2 + chance[0] * (most**-2 - least**-2)) ** -0.5
    aspect = _LEAST_ASPECT + (1 - _LEAST_ASPECT) * chance[1]
    angle, y, x = math.pi * chance[2], side * chance[3], side * chance[4]
    ellipses = torch.stack([radius, aspect * radius, angle.cos(), angle.sin(), y, x])
    numbers = torch.arange(1, count + 1)
    seen = torch.zeros(side * side, dtype=torch.long)
    group = radius.log2().ceil().int()
    for exponent in range(int(group.min()), int(group.max()) + 1):
        member = group == exponent
        reach = 2**exponent + 1
        chunk = max(1, _AT_ONCE // (2 * reach + 1) ** 2)
        for some, number in zip(
            ellipses[:, member].split(chunk, 1), numbers[member].split(chunk), strict=True
        ):
            _lay(seen, side, some, number, reach)
    centres = torch.cat([numbers.new_zeros(1), y.long() * side + x.long()])
    return seen.view(side, side), centres


def _lay(seen: Tensor, side: int, ellipses: Tensor, numbers: Tensor, reach: int) -> None:
    """Let ellipses of about the same size fall, in place."""
    long, short, cos, sin, y, x = ellipses[:, :, None, None]
    steps = torch.arange(-reach, reach + 1)
    rows, columns = y.long() + steps[:, None], x.long() + steps
    dy, dx = rows - y, columns - x
    across, along = (dx * cos + dy * sin) / long, (dy * cos - dx * sin) / short
    inside = across**2 + along**2 <= 1
    places = (rows % side) * side + columns % side
    number = numbers[:, None, None].expand_as(inside)
    seen.scatter_reduce_(0, places[inside], number[inside], "amax")


def cut_windows(
    tori: Float[Tensor, "P S S"] | Int[Tensor, "P S S"],
    size: tuple[int, int],
    chance: Float[Tensor, "B 4"],
) -> Float[Tensor, "B H W"] | Int[Tensor, "B H W"]:
    """Cut windows out of tori: of which one, from which row and column, mirrored or not.

    Args:
        tori: What to cut from, at least as large as a window.
        size: Height and width of a window [px].
        chance: Numbers in [0, 1), in double precision: single precision rounds some of them to 1.
    """
    count, side, _ = tori.shape
    which, top, left = ((chance[:, i] * n).long() for i, n in enumerate((count, side, side)))
    row, column = (torch.arange(length, device=chance.device) for length in size)
    column = torch.where(chance[:, 3:4] < 0.5, column.flip(0), column)
    rows, columns = (top[:, None] + row) % side, (left[:, None] + column) % side
    places = (which[:, None] * side + rows)[:, :, None] * side + columns[:, None, :]
    return tori.flatten()[places]


def unit_noise(
    count: int, side: int, exponent: float, generator: torch.Generator
) -> Float[Tensor, "P S S"]:
    """Draw periodic noise of mean 0 and variance 1 with amplitudes falling as f^-exponent."""
    from calcarine.stimuli.noise import pink_noise

    shape = (count, 1, side, side)
    return pink_noise(shape, exponent=exponent, mean=0.0, std=1.0, generator=generator)[:, 0]
