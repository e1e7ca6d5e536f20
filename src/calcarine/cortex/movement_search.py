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

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
        return _search(_pyramid(torch.cat([first, second], dim=1), mask))


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
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _pyramid(both: Tensor, known: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the pictures (B 2 H W) and their masks (_ 1 H W), coarsest first."""
    levels = [(both, known)]
    while min(levels[-1][0].shape[2:]) >= 2 * COARSEST_PX:
        both, known = levels[-1]
        share = F.avg_pool2d(known, 2)
        both = F.avg_pool2d(both * known, 2) / share.clamp(min=0.25)
        levels.append((both, (share > 0.99).to(known)))
    return levels[::-1]


def _search(levels: list[tuple[Tensor, Tensor]]) -> Int[Tensor, "B 2"]:
    batch = levels[0][0].shape[0]
    shifts = torch.zeros(batch, 1, 2, dtype=torch.long, device=levels[0][0].device)
    for index, (both, known) in enumerate(levels):
        reach = REACH if index else min(both.shape[2:]) // 2
        last = index == len(levels) - 1
        kept = 1 if last else KEPT[min(index, len(KEPT) - 1)]
        shifts = 2 * shifts
        cost = _compare(both, known, shifts, reach)
        shifts = _best(cost, shifts, reach, kept)
    return shifts[:, 0]


def _around(reach: int, device: torch.device) -> Int[Tensor, "S 2"]:
    axis = torch.arange(-reach, reach + 1, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def _compare(both: Tensor, known: Tensor, shifts: Tensor, reach: int) -> Float[Tensor, "B H S"]:
    """Return the mean difference for all shifts within ``reach`` of the given ones."""
    (batch, hypotheses), (height, width) = shifts.shape[:2], both.shape[2:]
    middle = [(max(0, (n - COMPARED_PX) // 2), min(n, COMPARED_PX)) for n in (height, width)]
    (top, rows), (left, columns) = middle
    y = torch.arange(top - reach, top + rows + reach, device=both.device) + shifts[..., 1:]
    x = torch.arange(left - reach, left + columns + reach, device=both.device) + shifts[..., :1]
    inside = ((y >= 0) & (y < height))[..., None] & ((x >= 0) & (x < width))[..., None, :]
    source = y.clamp(0, height - 1)[..., None] * width + x.clamp(0, width - 1)[..., None, :]
    flat = source.flatten(1)
    before = both[:, 0].flatten(1).gather(1, flat).view_as(source)
    mask = known[:, 0].flatten(1).expand(batch, -1).gather(1, flat).view_as(source) * inside
    after = both[:, None, None, 1, top : top + rows, left : left + columns]
    there = known[:, None, None, 0, top : top + rows, left : left + columns]
    costs = []
    for row in range(2 * reach + 1):  # one row of candidates at once, as views
        band = (..., slice(row, row + rows), slice(None))
        usable = mask[band].unfold(3, columns, 1).movedim(3, 2) * there
        difference = (before[band].unfold(3, columns, 1).movedim(3, 2) - after).abs_()
        count = usable.sum(dim=(3, 4))
        mean = difference.mul_(usable).sum(dim=(3, 4)) / count
        costs.append(torch.where(count >= LEAST_KNOWN * rows * columns, mean, torch.inf))
    return torch.cat(costs, dim=2).view(batch, hypotheses, -1)


def _best(cost: Tensor, shifts: Tensor, reach: int, kept: int) -> Int[Tensor, "B K 2"]:
    """Return the best shifts, each no neighbour of a better one."""
    around = _around(reach, cost.device)
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
