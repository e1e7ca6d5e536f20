"""Seeing a whole picture with an eye that is smaller: one fixation after another.

    fixations on a grid of overlapping fields -> what each one shows -> weighted mean

The weight falls from the centre of a field to its border, where a percept has less to go by.

Axes    B batch | T cone types | O shown channels | H W picture, px | S side of the eye's field, px
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import ShapeError

__all__ = ["scan"]

_BATCH = 16


def _stops(length: int, field: int, overlap: int) -> list[int]:
    """Return where fields of one axis begin, evenly spread, at least ``overlap`` in common."""
    count = 1 + -(-(length - field) // (field - overlap))
    if count == 1:
        return [0]
    return [round(i * (length - field) / (count - 1)) for i in range(count)]


@torch.no_grad()
def scan(
    show: Callable[[Float[Tensor, "B T S S"]], Float[Tensor, "B O S S"]],
    scene: Float[Tensor, "1 T H W"],
    field_px: int,
    overlap: float = 0.5,
) -> Float[Tensor, "1 O H W"]:
    """Look at every part of a scene and put together what is shown.

    Args:
        show: What one fixation shows: scene within the field -> picture of the same size.
        scene: The whole scene, at least as large as the field.
        field_px: Side of the field.
        overlap: Share of a field that neighbouring ones have in common at least, in [0, 1).

    Raises:
        ShapeError: If the scene is smaller than the field, or not one scene.
    """
    if scene.ndim != 4 or scene.shape[0] != 1 or min(scene.shape[2:]) < field_px:
        raise ShapeError(
            f"scan expected one scene with axes (1, channel, height, width) and sides of at least "
            f"{field_px} px, got shape {tuple(scene.shape)}. Enlarge it first."
        )
    height, width = scene.shape[2:]
    step = int(overlap * field_px)
    corners = [
        (y, x) for y in _stops(height, field_px, step) for x in _stops(width, field_px, step)
    ]
    ramp = torch.hann_window(field_px + 2, periodic=False, dtype=scene.dtype)[1:-1].to(scene.device)
    weight = ramp[:, None] * ramp
    total, weights = None, scene.new_zeros(height, width)
    for start in range(0, len(corners), _BATCH):
        some = corners[start : start + _BATCH]
        fields = torch.cat([scene[..., y : y + field_px, x : x + field_px] for y, x in some])
        for (y, x), shown in zip(some, show(fields), strict=True):
            if total is None:
                total = shown.new_zeros(shown.shape[0], height, width)
            total[:, y : y + field_px, x : x + field_px] += weight * shown
            weights[y : y + field_px, x : x + field_px] += weight
    assert total is not None
    return (total / weights)[None]
