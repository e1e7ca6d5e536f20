"""Measures of orientation maps that need no wavelength: likeness, smoothness, histogram.

    d(F, O)     min(|F - O|, 1 - |F - O|), preferences in half turns, 0 .. 1/2
    stability   1 - 4 mean d over units          1 for equal maps, 0 for unrelated ones
    smoothness  1 - 4 mean d over neighbours     1 for one preference everywhere, 0 for noise

A unit without preference is unrelated to everything, itself included: its d counts as 1/4. So two
silent maps have stability 0, not 1.

Every function takes a map as preferences in degrees, real, or as e^(2 i preference), complex, with
0 where there is none.

Axes    H W of the map, rows down, columns right
Source  stevens2013 (stability index); ours: smoothness, units without preference
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError

__all__ = ["as_direction", "preference_histogram", "smoothness", "stability"]


def as_direction(owner: str, preference: Tensor) -> Complex[Tensor, "H W"]:
    """Return a map as e^(2 i preference), 0 where there is none, in double precision on the CPU.

    Raises:
        InputError: If it is no tensor of numbers.
        ShapeError: If it is not one map.
        NonFiniteError: If a preference is NaN or infinite.
    """
    if not isinstance(preference, Tensor) or preference.dtype == torch.bool:
        kind = preference.dtype if isinstance(preference, Tensor) else type(preference).__name__
        raise InputError(
            f"{owner} expected preferences in degrees as a tensor (height, width), got {kind}. "
            "Of an OrientationMap take preference_deg, or use its method of this name."
        )
    if preference.ndim != 2 or preference.numel() == 0:
        raise ShapeError(
            f"{owner} expected one map with axes (height, width), got shape "
            f"{tuple(preference.shape)}."
        )
    values = preference.detach().cpu()
    if not values.isfinite().all():
        raise NonFiniteError(
            f"{owner} expected finite preferences, got {int((~values.isfinite()).sum())} that are "
            "NaN or infinite. Mark units without preference as 0 in e^(2 i preference)."
        )
    if values.is_complex():
        return values.to(torch.cdouble).sgn()
    angle = values.double() * (math.pi / 90)
    return torch.polar(torch.ones_like(angle), angle)


def stability(first: Tensor, final: Tensor) -> float:
    """Return how alike two maps are.

    Args:
        first: A map: degrees, or e^(2 i preference).
        final: Another of the same size.

    Raises:
        ShapeError: If they differ in size, or are no maps.
        NonFiniteError: If a preference is NaN or infinite.
    """
    one, other = as_direction("stability", first), as_direction("stability", final)
    if one.shape != other.shape:
        raise ShapeError(
            f"stability expected maps of one size, got {tuple(one.shape)} and {tuple(other.shape)} "
            "(height, width)."
        )
    return _likeness(one, other).mean().item()


def smoothness(preference: Tensor, *, wrap: bool = False) -> float:
    """Return how alike neighbours in a row or a column are, on average.

    Args:
        preference: A map: degrees, or e^(2 i preference).
        wrap: Whether the sheet is a torus.

    Raises:
        ShapeError: If it is no map, or has one unit only.
        NonFiniteError: If a preference is NaN or infinite.
    """
    z = as_direction("smoothness", preference)
    if z.numel() < 2:
        raise ShapeError("smoothness expected at least two units, so that one has a neighbour.")
    if wrap:
        pairs = [_likeness(z, z.roll(-1, axis)) for axis in (0, 1) if z.shape[axis] > 1]
    else:
        pairs = [_likeness(z[1:], z[:-1]), _likeness(z[:, 1:], z[:, :-1])]
    return torch.cat([p.flatten() for p in pairs]).mean().item()


def preference_histogram(
    preference: Tensor, bins: int = 12
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return how preferences are distributed.

    Args:
        preference: A map: degrees, or e^(2 i preference).
        bins: How many; the first one is centred on 0 degrees and takes both sides of it.

    Returns:
        Centres of the bins in degrees, and the share of the units that prefer each. Units without
        preference are left out; without any unit left all shares are 0.

    Raises:
        InputError: If there are no bins.
        ShapeError: If it is no map.
        NonFiniteError: If a preference is NaN or infinite.
    """
    if not isinstance(bins, int) or bins < 1:
        raise InputError(f"preference_histogram expected bins >= 1, got {bins!r}.")
    z = as_direction("preference_histogram", preference)
    turns = z[z.abs() > 0].angle() / (2 * math.pi)
    counts = (turns * bins).round().long().remainder(bins).bincount(minlength=bins).double()
    centers = 180.0 / bins * torch.arange(bins, dtype=torch.double)
    return centers, counts / counts.sum().clamp(min=1)


def _likeness(one: Tensor, other: Tensor) -> Tensor:
    """Return 1 - 4 d of every pair, 0 where one has no preference."""
    both = one * other.conj()
    d = both.angle().abs() / (2 * math.pi)
    return torch.where(both.abs() > 0, 1 - 4 * d, 0.0)
