"""Spatial sampling: from the image on the retina to one value per cone and cone type.

    UniformSampling     a regular lattice; the identity where there is one pixel per cell
    FovealSampling      cones as dense as in a real eye, read by mip-mapped bilinear sampling

Axes    leading axes, C cone types | R resolution of the field of view, px | S cells along a side
Source  curcio1990 (density), williams1983 (mip-mapping)
"""

from __future__ import annotations

import hashlib
import math
from threading import Lock
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.retina._cache import load_array, save_array
from calcarine.retina.density import Density, evaluate_density, layout_density
from calcarine.retina.mipmap import check_square, mipmap_sample, resolution_for
from calcarine.retina.positions import cone_positions, local_spacing, uniform_positions
from calcarine.stage import Stage

__all__ = ["FovealSampling", "UniformSampling"]

# Part of the key of stored positions; raise it when the numbers of the solver change.
SOLVER_VERSION = 1
IN_MEMORY = 16  # sets of positions; one of 256 x 256 cells takes a megabyte

_in_memory: dict[str, Tensor] = {}
_lock = Lock()


class UniformSampling(Stage):
    """A regular lattice of cones.

    Args:
        size: Cells along each side of the square lattice.

    Attributes:
        positions: Cell centres (2, size, size), x right and y down in [-1, 1].
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "williams1983")

    positions: Tensor
    log2_spacing: Tensor

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.size = check_size(size)
        positions = uniform_positions(size).to(torch.get_default_dtype())
        self._octaves = -math.log2(size)
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer(
            "log2_spacing", torch.full_like(positions[0], self._octaves), persistent=False
        )

    @property
    def required_resolution(self) -> int:
        """Side of the field of view that gives every cell one pixel, px."""
        return self.size

    def forward(self, x: Float[Tensor, "*B C R R"]) -> Float[Tensor, "*B C S S"]:
        """Sample the field of view; with one pixel per cell it is returned as it is.

        Raises:
            ShapeError: If the field of view is not square.
        """
        check_square(x)
        if x.shape[-1] == self.size:
            return x
        octaves = self._octaves
        return mipmap_sample(x, self.positions, self.log2_spacing, (octaves, octaves))

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"size={self.size}"


class FovealSampling(Stage):
    """Cones whose local density follows the human retina, another animal's, or a given one.

    The positions are computed once, in about a second for 256 x 256 cells, and kept in memory and
    on disk (``$CALCARINE_CACHE``, else ``~/.cache/calcarine``).

    Args:
        size: Cells along each side of the square lattice.
        layout: ``"fovea"``, ``"two_foveas"`` (hawks), ``"horizontal_streak"`` (kangaroos),
            ``"uniform"``, or a function ``density(x, y)`` of positions in [-1, 1] that returns
            positive numbers of the same shape.
        half_field_mm: Distance on the retina from the centre to the border of the field, mm, for
            the named layouts. Ours: 0.4 mm, about 1.4 degrees, where 256 x 256 cells need an image
            of 512 x 512 px.
        jitter: Root mean square displacement of the cones, in cells; smooth, and it leaves the
            density as it is. Ours.
        seed: Seed of the jitter.

    Attributes:
        positions: Cone positions (2, size, size), x right and y down in [-1, 1].
        spacing: Local distance between cones (size, size), as a fraction of the field's width.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "curcio1990", "moser1965", "williams1983")

    positions: Tensor
    log2_spacing: Tensor

    def __init__(
        self,
        size: int = 64,
        *,
        layout: str | Density = "fovea",
        half_field_mm: float = 0.4,
        jitter: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.size = check_size(size)
        self.layout, self.half_field_mm = layout, half_field_mm
        self.jitter, self.seed = jitter, seed
        positions = _stored_positions(self.density, size, jitter, seed)
        positions = positions.to(torch.get_default_dtype())
        # Kept in checkpoints, because a learned cortex belongs to exactly these cones.
        self.register_buffer("positions", positions)
        self.register_buffer("log2_spacing", torch.empty_like(positions[0]), persistent=False)
        self._octaves = (0.0, 0.0)
        self._measure()
        self.register_load_state_dict_post_hook(_measure_again)

    @property
    def density(self) -> Density:
        """The wanted density as a function of (x, y); only ratios matter."""
        if isinstance(self.layout, str):
            return layout_density(self.layout, self.half_field_mm)
        return self.layout

    @property
    def spacing(self) -> Float[Tensor, "S S"]:
        """Local distance between cones, as a fraction of the width of the field."""
        return torch.exp2(self.log2_spacing)

    @property
    def required_resolution(self) -> int:
        """Side of the field of view at which the closest cones are a pixel apart, px."""
        return resolution_for(2 ** self._octaves[0])

    def _measure(self) -> None:
        with torch.no_grad():
            spacing = torch.log2(local_spacing(self.positions))
            self.log2_spacing.copy_(spacing)
            self._octaves = (spacing.min().item(), spacing.max().item())

    def forward(self, x: Float[Tensor, "*B C R R"]) -> Float[Tensor, "*B C S S"]:
        """Sample a field of view of any resolution; ``required_resolution`` loses no detail.

        Raises:
            ShapeError: If the field of view is not square.
        """
        return mipmap_sample(x, self.positions, self.log2_spacing, self._octaves)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"size={self.size}, layout={self.layout!r}, half_field_mm={self.half_field_mm}, "
            f"jitter={self.jitter}, seed={self.seed}"
        )


def check_size(size: int) -> int:
    """Return the side of a lattice, or say what is wrong with it."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 2:
        raise InputError(f"Expected size as a whole number of at least 2 cells, got {size!r}.")
    return size


def _measure_again(module: torch.nn.Module, _: object) -> None:
    """Follow positions that came from a checkpoint."""
    assert isinstance(module, FovealSampling)
    module._measure()


def _stored_positions(density: Density, size: int, jitter: float, seed: int) -> Tensor:
    """Look positions up by what they depend on, and compute them where they are not yet known."""
    x, y = uniform_positions(max(256, 2 * size))
    values = evaluate_density(density, x, y)
    content = hashlib.sha256((values / values.mean()).numpy().round(12).tobytes())
    content.update(repr((SOLVER_VERSION, size, float(jitter), int(seed))).encode())
    key = f"positions-{content.hexdigest()[:32]}"
    with _lock:
        known = _in_memory.get(key)
        if known is None:
            stored = load_array(key, (2, size, size))
            if stored is None:
                known = cone_positions(density, size, jitter=jitter, seed=seed)
                save_array(key, known.numpy())
            else:
                known = torch.from_numpy(stored)
            _in_memory[key] = known
            while len(_in_memory) > IN_MEMORY:
                _in_memory.pop(next(iter(_in_memory)))
    return known
