"""M, the movement of the eye in the visual field, searched with several hypotheses.

    blur        Gaussian over the lattice: the mosaic's texture must not count
    unwarp      both signals drawn where their cells lie, on R x R px of the visual field
    pyramid     known pixels averaged 2 x 2, down to 16 px a side
    coarsest    every shift of up to half the field
    finer       twice each hypothesis, and its neighbours in [-1, 1]^2
    kept        at every level the best shifts that are no neighbours of a better one
    best        smallest mean |first moved by shift - second| where both are known, which has to
                be a quarter of what is compared at least

A pyramid that follows one hypothesis cannot take back what it misjudged where the picture is a few
pixels wide: of random photographs it loses every seventh. Fine levels compare the middle of the
field only, where cells are dense; what is left out could not tell a pixel from its neighbour.

Axes    B batch | H hypotheses | S candidates around each | R side of the field, px, x right, y down
Source  kotani2024, section 3.2 (blur, pyramid, differences); hypotheses and their numbers are ours
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calcarine.cortex._sliding_kernel import compare, correlate, halve, neighbours
from calcarine.errors import ShapeError

__all__ = ["blur_lattice", "search_movement"]

COARSEST_PX = 16
KEPT = (6, 4, 2)  # hypotheses after each level, coarsest first; the last number from then on
REACH = 1  # px around every hypothesis
COMPARED_PX = 256  # at most, per side
LEAST_KNOWN = 0.25  # share of the pixels compared; a few match by chance


def search_movement(
    first: Float[Tensor, "B 1 R R"],
    second: Float[Tensor, "B 1 R R"],
    known: Bool[Tensor, "_ 1 R R"] | None = None,
) -> Int[Tensor, "B 2"]:
    """Find the shift of gaze between two pictures of the visual field.

    Args:
        first: What was seen before the movement.
        second: What was seen after it.
        known: Where in the field there are cells; everywhere by default. One for all items, or
            one for each.

    Returns:
        The shift (dx, dy) in px: ``second[y, x]`` is about ``first[y + dy, x + dx]``. No gradient.

    Raises:
        ShapeError: If the pictures are no squares of one size, or smaller than 16 px.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 1:
        raise ShapeError(
            "search_movement expected two pictures with axes (batch, 1, side, side), got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    if min(first.shape[2:]) < COARSEST_PX:
        raise ShapeError(
            f"search_movement expected sides of at least {COARSEST_PX} px, got "
            f"{tuple(first.shape[2:])}."
        )
    mask = torch.ones_like(first[:1]) if known is None else known.to(first)
    with torch.no_grad():
        return _search(_pyramid(first, second, mask))


def blur_lattice(signal: Float[Tensor, "B 1 H W"], sigma: float) -> Float[Tensor, "B 1 H W"]:
    """Blur over the lattice with a Gaussian cut at three sigma; the border is repeated.

    Args:
        signal: One number per cell.
        sigma: In cells.
    """
    half = max(1, math.ceil(3 * sigma))
    at = torch.arange(-half, half + 1, dtype=signal.dtype, device=signal.device)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(signal, (half, half, half, half), mode="replicate")
    return correlate(correlate(padded, kernel[None]), kernel[:, None])


class _Level(NamedTuple):
    first: Float[Tensor, "B 1 H W"]
    second: Float[Tensor, "B 1 H W"]
    known: Float[Tensor, "_ 1 H W"]


def _pyramid(first: Tensor, second: Tensor, known: Tensor) -> list[_Level]:
    """Return the pictures and their masks, coarsest first."""
    levels = [_Level(first, second, known)]
    while min(levels[-1].known.shape[2:]) >= 2 * COARSEST_PX:
        first, second, known = levels[-1]
        halved, both_known = halve(first, known)
        levels.append(_Level(halved, halve(second, known)[0], both_known))
    return levels[::-1]


def _search(levels: list[_Level]) -> Int[Tensor, "B 2"]:
    batch = levels[0].first.shape[0]
    shifts = torch.zeros(batch, 1, 2, dtype=torch.long, device=levels[0].first.device)
    for index, level in enumerate(levels):
        reach = REACH if index else min(level.known.shape[2:]) // 2
        last = index == len(levels) - 1
        kept = 1 if last else KEPT[min(index, len(KEPT) - 1)]
        shifts = 2 * shifts
        cost = _compare(level, shifts, reach)
        shifts = _best(cost, shifts, reach, kept)
    return shifts[:, 0]


def _compare(level: _Level, shifts: Tensor, reach: int) -> Float[Tensor, "B H S"]:
    """Return the mean difference in the middle, for all shifts within ``reach`` of given ones."""
    first, second, known = (x[:, 0] for x in level)
    top, left = ((max(0, (n - COMPARED_PX) // 2), min(n, COMPARED_PX)) for n in known.shape[1:])
    window = slice(top[0], sum(top)), slice(left[0], sum(left))
    return compare(first, second, shifts, reach, known, window, LEAST_KNOWN)


def _best(cost: Tensor, shifts: Tensor, reach: int, kept: int) -> Int[Tensor, "B K 2"]:
    """Return the best shifts, each no neighbour of a better one."""
    around = neighbours(reach, cost.device)
    # Of equal costs the smallest movement wins, as where nothing can be seen.
    order = around.abs().sum(dim=1).argsort(stable=True)
    tried = (shifts[:, :, None] + around[order]).flatten(1, 2)
    cost = cost[:, :, order].flatten(1)
    found: list[Tensor] = []
    for _ in range(kept):
        index = cost.argmin(dim=1)[:, None, None].expand(-1, 1, 2)
        best = tried.gather(1, index)
        found.append(best)
        neighbour = (tried - best).abs().amax(dim=2) <= 1
        cost = cost.masked_fill(neighbour, torch.inf)
    return torch.cat(found, dim=1)
