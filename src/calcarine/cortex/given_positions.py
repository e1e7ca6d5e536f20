"""Where the cells of the optic nerve lie in the visual field, for a cortex that is told.

    to_field      lattice (u, v)  ->  field (x, y)      interpolated between the given positions
    to_lattice    field (x, y)    ->  lattice (u, v)    read from a table of the inverse

Both are piecewise linear. The inverse comes from the triangles between neighbouring cells; beyond
the outermost cells the lattice goes on for a few cells as it ended, so that what moves across the
border leaves the lattice instead of folding back.

Axes    N items | points (N, 2, H, W), x right and y down; the centres of a lattice of S cells lie
        at (2 i + 1) / S - 1
Source  ours
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["GivenPositions", "LatticePositions", "cell_centres"]

RING = 4  # cells by which the lattice is continued beyond its border
NODES_PER_CELL = 4  # of the table of the inverse; the error is below 0.03 cells


def cell_centres(size: int, like: Tensor) -> Float[Tensor, "1 2 S S"]:
    """Return the centres of a regular lattice on [-1, 1]^2, x before y, in ``like``'s dtype."""
    axis = (2 * torch.arange(size, dtype=like.dtype, device=like.device) + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y])[None]


class LatticePositions(nn.Module):
    """Cells on the regular lattice that the optic nerve is laid out on: nothing to convert.

    Args:
        size: Cells per side.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def positions(self, like: Tensor) -> Float[Tensor, "1 2 S S"]:
        """Return the position of every cell in the visual field."""
        return cell_centres(self.size, like)

    def to_lattice(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Return the points as they are."""
        return points

    def after_movement(self, shift: Float[Tensor, "B 2"], like: Tensor) -> Float[Tensor, "B 2 S S"]:
        """Return ``to_lattice(positions(like) + shift)``: where it was seen what cells see now."""
        return self.positions(like) + shift[:, :, None, None]


class GivenPositions(nn.Module):
    """Cells at positions that are given, the counterpart of learned ones.

    Args:
        size: Cells per side. Until :meth:`give` is called, calls are refused.
    """

    given: Tensor
    inverse: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        nodes = NODES_PER_CELL * size
        self.register_buffer("given", torch.full((2, size, size), torch.nan))
        self.register_buffer("inverse", torch.zeros(2, nodes, nodes))
        self.ready = False
        self.register_load_state_dict_post_hook(_look_whether_given)

    @property
    def reach(self) -> float:
        """Half the width of the table of the inverse; the field is 1."""
        return 1 + 2 * RING / self.size

    def give(self, positions: Float[Tensor, "2 S S"]) -> None:
        """Take over where the cells are.

        Args:
            positions: (x, y) of every cell in [-1, 1], neighbours next to each other.

        Raises:
            ShapeError: If there is not one position per cell.
            InputError: If they are not finite.
        """
        if tuple(positions.shape) != tuple(self.given.shape):
            raise ShapeError(
                f"GivenPositions expected positions with axes {tuple(self.given.shape)}, x before "
                f"y, got shape {tuple(positions.shape)}."
            )
        if not positions.isfinite().all():
            raise InputError("GivenPositions expected finite positions; some are NaN or infinite.")
        self.given.copy_(positions)
        nodes, like = self.inverse.shape[-1], torch.zeros((), dtype=torch.float64)
        where = self.reach * cell_centres(nodes, like)[0]
        self.inverse.copy_(torch.from_numpy(_inverse(positions, where)))
        self.ready = True

    def positions(self, like: Tensor) -> Float[Tensor, "1 2 S S"]:
        """Return the position of every cell in the visual field."""
        self._check()
        return self.given[None].to(like)

    def to_lattice(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Return where on the lattice the points of the visual field are seen."""
        self._check()
        table = self.inverse.to(points)[None].expand(points.shape[0], -1, -1, -1)
        grid = (points / self.reach).permute(0, 2, 3, 1)
        return F.grid_sample(table, grid, padding_mode="border", align_corners=False)

    def after_movement(self, shift: Float[Tensor, "B 2"], like: Tensor) -> Float[Tensor, "B 2 S S"]:
        """Return ``to_lattice(positions(like) + shift)``: where it was seen what cells see now."""
        return self.to_lattice(self.positions(like) + shift[:, :, None, None])

    def _check(self) -> None:
        if not self.ready:
            raise InputError(
                "The cortex was set to positions='true' but does not know them yet. Call "
                "model.take_facts(retina), or build it through a recipe, which does."
            )


def _look_whether_given(module: nn.Module, _: object) -> None:
    assert isinstance(module, GivenPositions)
    module.ready = bool(module.given.isfinite().all())


def _inverse(positions: Tensor, where: Tensor) -> np.ndarray:
    """Lattice coordinates of field points, linear on the triangles between cells."""
    from scipy.interpolate import LinearNDInterpolator

    size = positions.shape[-1]
    wide = _continued(positions.detach().cpu().double().numpy())
    axis = (2 * np.arange(-RING, size + RING) + 1) / size - 1
    v, u = np.meshgrid(axis, axis, indexing="ij")
    known = LinearNDInterpolator(wide.reshape(2, -1).T, np.stack([u.ravel(), v.ravel()], axis=1))
    points = where.reshape(2, -1).T.numpy()
    found = known(points)
    outside = np.isnan(found)
    found[outside] = 2 * np.sign(points[outside])  # far from any cell: not on the lattice
    return np.asarray(found.T.reshape(where.shape))


def _continued(positions: np.ndarray) -> np.ndarray:
    """Go on beyond the border by the outermost step, axis by axis."""
    for axis in (1, 2):
        width = [(RING, RING) if axis == a else (0, 0) for a in range(3)]
        positions = np.pad(positions, width, mode="reflect", reflect_type="odd")
    return positions
