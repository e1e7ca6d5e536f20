"""Omega, moving a percept with the eye: by whole cells on a regular lattice.

    moved[y, x] = percept[y + dy, x + dx]     inside the lattice, 0 outside
    known[y, x] = 1 where the source lies inside the lattice, else 0

When gaze moves by (dx, dy), x right and y down, what lay at (x + dx, y + dy) comes to (x, y).

Axes    B batch | K latent | H W lattice of cells
Source  kotani2024, section 3.2; whole cells as in its sandbox variant
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.errors import ShapeError

__all__ = ["translate"]


class _Translate(torch.autograd.Function):
    """One copy of the overlapping rectangle per item; its transpose is the opposite shift."""

    @staticmethod
    def forward(percept: Tensor, shifts: tuple[tuple[int, int], ...]) -> Tensor:
        return _copy_overlaps(percept, shifts)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.shifts = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        opposite = tuple((-dx, -dy) for dx, dy in ctx.shifts)
        return _Translate.apply(gradient, opposite), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return _Translate.apply(tangent, ctx.shifts)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Return (destination, source) along one axis."""
    kept = max(0, size - abs(shift))
    return (
        slice(max(0, -shift), max(0, -shift) + kept),
        slice(max(0, shift), max(0, shift) + kept),
    )


def _copy_overlaps(percept: Tensor, shifts: tuple[tuple[int, int], ...]) -> Tensor:
    moved = torch.zeros_like(percept)
    for index, (dx, dy) in enumerate(shifts):
        rows, source_rows = _overlap(dy, percept.shape[-2])
        columns, source_columns = _overlap(dx, percept.shape[-1])
        moved[index, :, rows, columns] = percept[index, :, source_rows, source_columns]
    return moved


def translate(
    percept: Float[Tensor, "B K H W"], shift_px: Int[Tensor, "B 2"]
) -> tuple[Float[Tensor, "B K H W"], Float[Tensor, "B 1 H W"]]:
    """Move percepts with the eye and say where the result is known.

    Args:
        percept: What was seen before the movement.
        shift_px: Gaze shift (dx, dy) of every item in cells.

    Returns:
        The percept expected after the movement, 0 where it comes from outside, and the mask.

    Raises:
        ShapeError: If there is not one shift per item.
    """
    if percept.ndim != 4 or tuple(shift_px.shape) != (percept.shape[0], 2):
        raise ShapeError(
            "translate expected a percept with axes (batch, latent, height, width) and one "
            f"(dx, dy) per item, got shapes {tuple(percept.shape)} and {tuple(shift_px.shape)}."
        )
    height, width = percept.shape[-2:]
    rows = torch.arange(height, device=percept.device) + shift_px[:, 1:].to(percept.device)
    columns = torch.arange(width, device=percept.device) + shift_px[:, :1].to(percept.device)
    inside_rows = (rows >= 0) & (rows < height)
    inside_columns = (columns >= 0) & (columns < width)
    known = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    if torch.compiler.is_compiling() or percept.is_cuda:
        return _look_up(percept, rows, columns) * known, known.to(percept.dtype)
    shifts = tuple((int(dx), int(dy)) for dx, dy in shift_px.tolist())
    return _Translate.apply(percept, shifts), known.to(percept.dtype)


def _look_up(
    percept: Float[Tensor, "B K H W"], rows: Int[Tensor, "B H"], columns: Int[Tensor, "B W"]
) -> Float[Tensor, "B K H W"]:
    """Look every cell up at its place, for which the host need not know the shifts."""
    height, width = percept.shape[-2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    place = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]
    flat = percept.flatten(2)
    return flat.gather(2, place.expand(-1, flat.shape[1], -1)).view_as(percept)
