"""M, how far the eye moved between two fixations, told from their signals alone.

    blur        9 x 9 Gaussian, sigma 2 cells: the mosaic's texture must not count
    pyramid     halved as long as every side keeps at least 4 cells
    per level   shift = 2 * shift of the level above + the best of [-2, 2]^2
    best        smallest mean |first moved by shift - second| where both are known, which has to
                be a quarter of the lattice at least

Nothing is learned; every level treats all items and all 25 candidates at once.

Axes    B batch | S candidate shifts | H W lattice of cells, x right, y down
Source  kotani2024, section 3.2 and public code
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calcarine.cortex._sliding_kernel import compare, correlate, neighbours
from calcarine.errors import ShapeError

__all__ = ["blur_signal", "estimate_movement"]

BLUR_CELLS, BLUR_SIGMA = 9, 2.0  # kotani2024
COARSEST_CELLS = 4  # kotani2024
REACH = 2  # cells per level; kotani2024
LEAST_OVERLAP = 0.25  # share of the lattice known in both; a few cells match by chance. Ours.


def estimate_movement(
    first: Float[Tensor, "B 1 H W"],
    second: Float[Tensor, "B 1 H W"],
    known: Bool[Tensor, "_ 1 H W"] | None = None,
    *,
    blurred: bool = False,
) -> Int[Tensor, "B 2"]:
    """Estimate the shift of gaze between two fixations.

    Args:
        first: Signals before the movement.
        second: Signals after it.
        known: Where there are signals, one for all items or one for each; everywhere by default.
        blurred: The signals have been blurred already.

    Returns:
        The shift (dx, dy) in cells: ``second[y, x]`` is about ``first[y + dy, x + dx]``. No
        gradient.

    Raises:
        ShapeError: If the two differ in shape, or a side is below 8 cells.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 1:
        raise ShapeError(
            "estimate_movement expected two signals with axes (batch, 1, height, width) of one "
            f"shape, got {tuple(first.shape)} and {tuple(second.shape)}."
        )
    if min(first.shape[2:]) < 2 * COARSEST_CELLS:
        raise ShapeError(
            f"estimate_movement expected sides of at least {2 * COARSEST_CELLS} cells, got "
            f"{tuple(first.shape[2:])}."
        )
    with torch.no_grad():
        pair = (first, second) if blurred else (blur_signal(first), blur_signal(second))
        masks = None if known is None else _known_levels(known.to(first))
        pyramids = [_pyramid(signal) for signal in pair]
        shift = torch.zeros(first.shape[0], 2, dtype=torch.long, device=first.device)
        for before, after in zip(*map(reversed, pyramids), strict=True):
            mask = None if masks is None else masks.pop()
            shift = _refine(before[:, 0], after[:, 0], 2 * shift, mask)
    return shift


def blur_signal(signal: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Blur with the published 9 x 9 Gaussian; the border is reflected."""
    half = BLUR_CELLS // 2
    at = torch.arange(-half, half + 1, dtype=signal.dtype, device=signal.device)
    kernel = torch.exp(-(at**2) / (2 * BLUR_SIGMA**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(signal, (half, half, half, half), mode="reflect")
    return correlate(correlate(padded, kernel[None]), kernel[:, None])


def _pyramid(signal: Tensor) -> list[Tensor]:
    """Return the signal and its halvings, finest first."""
    levels = [signal]
    while min(levels[-1].shape[2:]) >= 2 * COARSEST_CELLS:
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


def _known_levels(known: Tensor) -> list[Tensor]:
    """Return which pixels of every level are made of known ones alone, finest first."""
    return [(level > 0.99).to(known) for level in _pyramid(known)]


def _refine(
    before: Float[Tensor, "B H W"],
    after: Float[Tensor, "B H W"],
    shift: Int[Tensor, "B 2"],
    mask: Float[Tensor, "_ 1 H W"] | None = None,
) -> Int[Tensor, "B 2"]:
    around = neighbours(REACH, shift.device)
    order = around.abs().sum(dim=1).argsort(stable=True)  # ties go to the smaller movement
    known = None if mask is None else mask[:, 0]
    cost = compare(before, after, shift[:, None], REACH, known, least=LEAST_OVERLAP)
    return shift + around[order[cost[:, 0, order].argmin(dim=1)]]
