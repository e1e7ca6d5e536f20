"""Where the cones sit: a smooth lattice whose local density follows a given density.

    rho_t    = (1 - t) + t rho                      from uniform to wanted, mean 1
    Lap psi  = rho - 1,   d psi / dn = 0            one Poisson equation, solved in cosines
    dp/dt    = -grad psi(p) / rho_t(p)              every cell flows from its lattice site

Moser's flow: mass is conserved along it, so after t = 1 every lattice cell holds the same share of
the density; being a flow it has no folds, and the border maps onto the border. A divergence-free
displacement of the lattice sites beforehand jitters the cones without changing their density.

Axes    positions (2, size, size): x to the right, y down, in [-1, 1]; [:, row, column]
Source  moser1965 (flow); solver ours
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, RunError, ShapeError
from calcarine.retina.density import Density, evaluate_density

__all__ = [
    "cone_positions",
    "density_error",
    "jacobian",
    "local_spacing",
    "uniform_positions",
]

Array = np.ndarray
JITTER_LENGTH_CELLS = 4.0  # ours: neighbours move together, so the lattice stays orderly
MARGIN = 12  # nodes beyond the border; a cubic spline forgets by 0.27 per node
DENSITY_TOLERANCE = 0.1


def uniform_positions(size: int) -> Float[Tensor, "2 size size"]:
    """Centres of the cells of a regular lattice, float64."""
    axis = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y])


def cone_positions(
    density: Density, size: int, *, jitter: float = 0.2, seed: int = 0
) -> Float[Tensor, "2 size size"]:
    """Compute cone positions whose local density follows ``density``.

    Args:
        density: ``density(x, y)`` for x and y in [-1, 1], positive; only ratios matter.
        size: Cells along each side.
        jitter: Root mean square displacement of the cones, in cells.
        seed: Seed of the jitter.

    Returns:
        Positions, float64.

    Raises:
        RunError: If the density is too steep for a lattice of this size.
    """
    if not 0 <= jitter <= 0.5:
        raise InputError(
            f"Expected 0 <= jitter <= 0.5 cells, so that cones keep order; got {jitter}."
        )
    sites = uniform_positions(size).numpy() + _jitter(size, jitter, seed)
    nodes, steps = max(256, 2 * size), 16
    for _ in range(3):
        positions = torch.from_numpy(_flow(sites, density, nodes, steps))
        folded = jacobian(positions).amin().item() <= 0
        worst = density_error(positions, density).abs().amax().item()
        if not folded and worst < DENSITY_TOLERANCE:
            return positions
        nodes, steps = 2 * nodes, 2 * steps
    raise RunError(
        f"Cone positions for {size} x {size} cells miss the wanted density by {worst:.0%}"
        f"{' and fold' if folded else ''}. The density changes too much from one cell to the "
        "next: use a smoother density, more cells, or less jitter."
    )


def jacobian(positions: Float[Tensor, "2 H W"]) -> Float[Tensor, "4 H-1 W-1"]:
    """Area spanned at each corner of every quadrilateral of four neighbours, uniform lattice = 1.

    All four are positive exactly where the quadrilateral is convex and not folded over.
    """
    _check_positions(positions)
    height, width = positions.shape[1:]
    a, b = positions[:, :-1, :-1], positions[:, :-1, 1:]
    c, d = positions[:, 1:, 1:], positions[:, 1:, :-1]
    corners = ((d, a, b), (a, b, c), (b, c, d), (c, d, a))
    areas = torch.stack([_cross(here - left, right - here) for left, here, right in corners])
    # Clockwise on screen (y down) is the positive orientation of the undisturbed lattice.
    return areas * (height * width / 4)


def density_error(positions: Float[Tensor, "2 H W"], density: Density) -> Float[Tensor, "H-1 W-1"]:
    """Relative difference between the density of the cones and the wanted one, per quadrilateral.

    Every quadrilateral of four neighbours should hold the share 1 / (H W) of the density. The
    share found is integrated over the quadrilateral (3 x 3 Gauss points), compared without a free
    scale.
    """
    _check_positions(positions)
    positions = positions.double()
    height, width = positions.shape[1:]
    whole = _mean_density(density) * 4
    share = torch.zeros(height - 1, width - 1, dtype=torch.float64)
    nodes, weights = np.polynomial.legendre.leggauss(3)
    for v, wv in zip((nodes + 1) / 2, weights / 2, strict=True):
        edge = torch.lerp(positions[:, :-1], positions[:, 1:], v)
        down = positions[:, 1:] - positions[:, :-1]
        along = edge[:, :, 1:] - edge[:, :, :-1]
        for u, wu in zip((nodes + 1) / 2, weights / 2, strict=True):
            x, y = torch.lerp(edge[:, :, :-1], edge[:, :, 1:], u)
            area = _cross(along, torch.lerp(down[:, :, :-1], down[:, :, 1:], u))
            share += wu * wv * area * evaluate_density(density, x, y)
    return whole / (height * width) / share - 1


def local_spacing(positions: Float[Tensor, "2 H W"]) -> Float[Tensor, "H W"]:
    """Square root of the area around every cone, as a fraction of the width of the field."""
    _check_positions(positions)
    down, right = torch.gradient(positions, dim=(1, 2))
    return _cross(right, down).abs().sqrt() / 2


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[0] * second[1] - first[1] * second[0]


def _check_positions(positions: Tensor) -> None:
    if positions.ndim != 3 or positions.shape[0] != 2 or min(positions.shape[1:]) < 2:
        raise ShapeError(
            "Expected positions with axes (2, height, width), x before y, at least 2 x 2 cells, "
            f"got shape {tuple(positions.shape)}."
        )


def _mean_density(density: Density, cells: int = 1024) -> float:
    x, y = uniform_positions(cells)
    return evaluate_density(density, x, y).mean().item()


def _jitter(size: int, rms_cells: float, seed: int) -> Array:
    """Random smooth displacement of the sites, the curl of a stream function: (2, size, size)."""
    if rms_cells == 0 or size < 2:
        return np.zeros((2, size, size))
    k = np.pi / 2 * np.arange(1, size)  # of sin(k (x + 1)), zero on the border
    at = (2 * np.arange(size) + 1) / size
    sines, cosines = np.sin(np.outer(at, k)), np.cos(np.outer(at, k)) * k
    length = JITTER_LENGTH_CELLS * 2 / size
    envelope = np.exp(-((k[:, None] ** 2 + k**2) * length**2) / 4)
    stream = np.random.default_rng(seed).standard_normal(envelope.shape) * envelope
    displacement = np.stack([cosines @ stream @ sines.T, -(sines @ stream @ cosines.T)])
    return displacement * (rms_cells * 2 / size / math.sqrt((displacement**2).sum(0).mean()))


def _flow(sites: Array, density: Density, nodes: int, steps: int) -> Array:
    """Carry the sites along Moser's flow with the classical Runge-Kutta method."""
    velocity = _velocity(density, nodes)
    points, step = np.clip(sites, -1, 1), 1 / steps
    for index in range(steps):
        t = index * step
        k1 = velocity(points, t)
        k2 = velocity(points + step / 2 * k1, t + step / 2)
        k3 = velocity(points + step / 2 * k2, t + step / 2)
        k4 = velocity(points + step * k3, t + step)
        points = np.clip(points + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4), -1, 1)
    return points


def _velocity(density: Density, nodes: int) -> Callable[[Array, float], Array]:
    from scipy.ndimage import map_coordinates, spline_filter

    axis = torch.linspace(-1, 1, nodes + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    rho = evaluate_density(density, x, y).numpy()
    rho = rho / _mean_density(density)
    flux_x, flux_y = _flux(rho)
    # Continued beyond the border the flux across it is odd, everything else even.
    fields = [
        spline_filter(_continued(rho, odd_axis=None)),
        spline_filter(_continued(flux_x, odd_axis=1)),
        spline_filter(_continued(flux_y, odd_axis=0)),
    ]

    def velocity(points: Array, t: float) -> Array:
        index = (np.clip(points[::-1], -1, 1) + 1) * (nodes / 2) + MARGIN
        at, along_x, along_y = (map_coordinates(f, index, prefilter=False) for f in fields)
        return np.stack([along_x, along_y]) / ((1 - t) + t * at)

    return velocity


def _continued(field: Array, odd_axis: int | None) -> Array:
    for axis in (0, 1):
        width = [(MARGIN, MARGIN) if axis == a else (0, 0) for a in (0, 1)]
        kind = "odd" if axis == odd_axis else "even"
        field = np.pad(field, width, mode="reflect", reflect_type=kind)  # type: ignore[call-overload]
    return field


def _flux(rho: Array) -> tuple[Array, Array]:
    """Return -grad psi on nodes that include the border, where Lap psi = rho - mean(rho)."""
    from scipy.fft import dct, dst, idctn

    nodes = rho.shape[0] - 1
    k = np.pi / 2 * np.arange(nodes + 1)
    square = k[:, None] ** 2 + k**2
    square[0, 0] = 1.0
    psi = -idctn(rho, type=1) / square
    psi[0, 0] = 0.0

    def minus_slope(coefficients: Array) -> Array:
        """Along the last axis a cosine series becomes a sine series, zero on the border."""
        slope = np.zeros_like(coefficients)
        slope[:, 1:-1] = dst(k[1:-1] * coefficients[:, 1:-1], type=1, axis=1)
        return np.asarray(dct(slope, type=1, axis=0))

    return minus_slope(psi), minus_slope(psi.T).T
