"""Omega and the visual field: what lies where, beyond whole cells of a regular lattice.

    warp      moved(u) = percept(P^-1(P(u) + shift))       after gaze moved by shift
    unwarp    picture(x) = percept(P^-1(x))                what is seen, laid out in the field

with P the map from lattice to field. Both read the percept bilinearly; a point is known where the
four cells around it exist.

Axes    B batch | K channels | H W lattice of cells | R side of a picture of the field, px
Source  kotani2024, section 3.2
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from calcarine.cortex._reading_kernel import read
from calcarine.cortex.given_positions import cell_centres
from calcarine.errors import ShapeError

__all__ = ["CellMap", "erode", "lattice_of_field", "look_up", "warp"]

SLACK_CELLS = 0.05  # an inverse that is not quite exact must not make border cells unknown


class CellMap(Protocol):
    """What every belief about the places of cells can do; all maps go between [-1, 1]^2."""

    size: int

    def positions(self, like: Tensor) -> Float[Tensor, "1 2 S S"]:
        """Return where in the visual field every cell lies."""

    def to_lattice(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Return where on the lattice points of the visual field are seen."""

    def after_movement(self, shift: Float[Tensor, "B 2"], like: Tensor) -> Float[Tensor, "B 2 S S"]:
        """Return ``to_lattice(positions(like) + shift)``: where it was seen what cells see now.

        One sheet of cells for every movement of gaze.
        """


def look_up(
    image: Float[Tensor, "B K H W"], lattice: Float[Tensor, "_ 2 R C"]
) -> tuple[Float[Tensor, "B K R C"], Bool[Tensor, "_ 1 R C"]]:
    """Read an image on the lattice at points of the lattice.

    Args:
        image: One value per cell and channel.
        lattice: Where to read, (u, v) in [-1, 1]; one set of points for all items or one for each.

    Returns:
        The values, 0 where unknown, and whether they are known.

    Raises:
        ShapeError: If points and image do not fit each other.
    """
    if image.ndim != 4 or lattice.ndim != 4 or lattice.shape[:2] not in {
        (1, 2), (image.shape[0], 2)
    }:  # fmt: skip
        raise ShapeError(
            "look_up expected an image with axes (batch, channel, height, width) and points with "
            f"axes (batch or 1, 2, rows, columns), got shapes {tuple(image.shape)} and "
            f"{tuple(lattice.shape)}."
        )
    height, width = image.shape[-2:]
    edge = (1 - (1 - 2 * SLACK_CELLS) / width, 1 - (1 - 2 * SLACK_CELLS) / height)
    return read(image, lattice, edge)


def warp(
    percept: Float[Tensor, "B K S S"], cells: CellMap, shift: Float[Tensor, "B 2"]
) -> tuple[Float[Tensor, "B K S S"], Float[Tensor, "B 1 S S"]]:
    """Move percepts with the eye and say where the result is known.

    Args:
        percept: What was seen before the movement.
        cells: Where the cells lie.
        shift: Movement of gaze (dx, dy) in halves of the field of view.

    Returns:
        The percept expected after the movement, 0 where it comes from outside, and the mask.
        Differentiable with respect to the percept, the positions and the shift.

    Raises:
        ShapeError: If there is not one shift per item.
    """
    if percept.ndim != 4 or tuple(shift.shape) != (percept.shape[0], 2):
        raise ShapeError(
            "warp expected a percept with axes (batch, latent, height, width) and one (dx, dy) per "
            f"item, got shapes {tuple(percept.shape)} and {tuple(shift.shape)}."
        )
    moved, known = look_up(percept, cells.after_movement(shift.to(percept), percept))
    return moved, known.to(percept.dtype)


def lattice_of_field(cells: CellMap, side: int, like: Tensor) -> Float[Tensor, "1 2 R R"]:
    """Return where on the lattice every pixel of a picture of the visual field is seen.

    Args:
        cells: Where the cells lie.
        side: Pixels per side of the picture.
        like: Says dtype and device.
    """
    return cells.to_lattice(cell_centres(side, like))


def erode(known: Float[Tensor, "B 1 H W"], kernel_size: int) -> Float[Tensor, "B 1 H W"]:
    """Keep what is known together with its whole neighbourhood of ``kernel_size`` cells."""
    if torch.compiler.is_compiling() or known.is_cuda:  # one operation where those cost most
        half = kernel_size // 2
        return 1 - F.max_pool2d(1 - known, kernel_size, 1, half)
    left = known > 0
    for axis, side in ((2, known.shape[2]), (3, known.shape[3])):
        before, left = left, left.clone()
        for step in range(1, min(kernel_size // 2, side - 1) + 1):
            near, far = (0, side - step), (step, side - step)
            left.narrow(axis, *near).logical_and_(before.narrow(axis, *far))
            left.narrow(axis, *far).logical_and_(before.narrow(axis, *near))
    return left.to(known.dtype)
