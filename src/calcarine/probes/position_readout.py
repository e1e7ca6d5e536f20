"""How well a cortex knows where its cells are: learned positions against true ones.

    least over a, R, t     sum over cells |true - (a R learned + t)|^2         R a rotation
    error [cells]          root mean square of |difference| / local distance between cells
    error [px]             root mean square of |difference|, in pixels of the field of view

Positions that are learned from one's own signals are known up to a similarity transform at best:
nothing tells how large the field is, or which way is up. So the best one is applied first.

Axes    positions (2, S, S), x right and y down, in halves of the field of view
Source  umeyama1991 (best similarity transform in closed form)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.retina import local_spacing

__all__ = ["PositionReadout", "position_readout"]


@dataclass(frozen=True)
class PositionReadout:
    """Learned positions after the best similarity transform, and how far they are from the truth.

    Args:
        aligned: The learned positions, transformed.
        error_cells: Root mean square error in local distances between cells.
        error_px: Root mean square error in pixels of the field of view.
        scale: Factor of the transform.
        rotation_deg: Its rotation, counter-clockwise on screen.
    """

    aligned: Float[Tensor, "2 S S"]
    error_cells: float
    error_px: float
    scale: float
    rotation_deg: float


@torch.no_grad()
def position_readout(
    learned: Float[Tensor, "2 S S"],
    true: Float[Tensor, "2 S S"],
    *,
    field_px: int,
    border: int = 0,
) -> PositionReadout:
    """Compare learned positions of cells with the true ones.

    Args:
        learned: Where the cortex believes its cells to be, in any unit.
        true: Where they are, in halves of the field of view.
        field_px: Side of the field of view, px.
        border: Cells left out at every edge, of fit and error.

    Raises:
        ShapeError: If positions do not fit each other, or the border leaves fewer than 2 x 2 cells.
        NonFiniteError: If positions hold NaN or infinity.
        InputError: If all learned positions are the same.
    """
    side = true.shape[-1] - 2 * border
    alike = learned.shape == true.shape and true.ndim == 3 and true.shape[0] == 2
    if not alike or side < 2 or border < 0:
        raise ShapeError(
            "position_readout expected two sets of positions with axes (2, size, size) and a "
            f"border that leaves 2 x 2 cells, got shapes {tuple(learned.shape)} and "
            f"{tuple(true.shape)}, border {border}."
        )
    learned, true = learned.detach().cpu().double(), true.detach().cpu().double()
    if not (learned.isfinite().all() and true.isfinite().all()):
        raise NonFiniteError("position_readout expected finite positions, got NaN or infinity.")
    inner = slice(border, true.shape[-1] - border)
    scale, rotation, shift = _similarity(
        learned[:, inner, inner].flatten(1), true[:, inner, inner].flatten(1)
    )
    aligned = scale * torch.einsum("ij,jhw->ihw", rotation, learned) + shift[:, None, None]
    distance = torch.linalg.vector_norm(aligned - true, dim=0)
    spacing = 2 * local_spacing(true)  # it is given in widths of the field
    return PositionReadout(
        aligned,
        float((distance / spacing)[inner, inner].square().mean().sqrt()),
        float(distance[inner, inner].square().mean().sqrt()) * field_px / 2,
        float(scale),
        math.degrees(math.atan2(-float(rotation[1, 0]), float(rotation[0, 0]))),
    )


def _similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale, rotation and shift that bring points (2, N) closest to others."""
    from_middle, to_middle = source.mean(dim=1), target.mean(dim=1)
    a, b = source - from_middle[:, None], target - to_middle[:, None]
    spread = a.square().sum()
    if spread <= 1e-12 * max(1.0, float(source.abs().max())) ** 2:
        raise InputError("position_readout expected positions that differ; all are the same.")
    u, sizes, v = torch.linalg.svd(b @ a.T)
    proper = torch.ones(2, dtype=source.dtype)
    proper[1] = torch.sign(torch.linalg.det(u @ v))  # a mirror image is no similarity of a field
    rotation = u @ torch.diag(proper) @ v
    scale = (sizes * proper).sum() / spread
    return scale, rotation, to_middle - scale * rotation @ from_middle
