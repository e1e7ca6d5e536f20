"""Cone density across the retina: the measured profile and layouts made from it.

    fovea               f(|p|)                      round, densest in the middle
    two_foveas          f(2|p - c|) + f(2|p + c|)   hawks: two places of sharpest sight
    horizontal_streak   f(|y|)                      kangaroos: a band along the horizon
    uniform             1                           a regular lattice

f is the density measured along the temporal meridian of human retinae, interpolated monotonically
in the logarithm. Only ratios matter: the number of cells decides how many cones there are.

Axes    x to the right and y down, both in [-1, 1] across the field of view
Source  curcio1990
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError, UnknownNameError

__all__ = ["LAYOUTS", "cone_density", "evaluate_density", "layout_density"]

Density = Callable[[Tensor, Tensor], Tensor]

LAYOUTS = ("fovea", "horizontal_streak", "two_foveas", "uniform")
# Eccentricity in mm and thousand cones per mm^2, temporal meridian, curcio1990.
ECCENTRICITY_MM = (
    *(0.0, 0.0503, 0.0998, 0.1493, 0.1988, 0.2993, 0.3998, 0.4989, 0.5979, 0.6954, 0.7974, 0.8965),
    *(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 16.0, 18.0),
)
THOUSAND_PER_MM2 = (
    *(199.0, 165.7, 123.5, 99.5, 80.4, 57.8, 45.6, 38.2, 33.3, 28.9, 23.0, 20.1),
    *(18.1, 11.7, 9.15, 7.01, 5.79, 5.06, 4.76, 4.51, 4.27, 3.90, 3.54, 3.35, 3.23, 3.41),
)
# Each of two foveas sits in the middle of its half of the field and is half as wide. Ours.
FOVEA_OFFSET = 0.5


def cone_density(eccentricity_mm: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Human cone density at a distance from the centre of the fovea, temporal meridian.

    Args:
        eccentricity_mm: Distance on the retina, mm; beyond 18 mm the last value is kept.

    Returns:
        Thousand cones per mm^2, dtype and device of the input.
    """
    if not eccentricity_mm.is_floating_point():
        raise InputError(f"Expected floating-point distances in mm, got {eccentricity_mm.dtype}.")
    distance = eccentricity_mm.detach().abs().double().cpu().numpy()
    log_density = _profile()(np.minimum(distance, ECCENTRICITY_MM[-1]))
    return torch.from_numpy(np.exp(log_density)).to(eccentricity_mm)


def layout_density(layout: str, half_field_mm: float) -> Density:
    """Return the density of a named layout as a function of (x, y) in [-1, 1].

    Args:
        layout: One of ``LAYOUTS``.
        half_field_mm: Distance on the retina that x = 1 stands for, mm.

    Raises:
        UnknownNameError: If there is no such layout.
        InputError: If the field is not within the measured retina.
    """
    if layout not in LAYOUTS:
        raise UnknownNameError("cone layout", str(layout), LAYOUTS)
    if not 0 < half_field_mm <= ECCENTRICITY_MM[-1]:
        raise InputError(
            f"Expected half_field_mm within 0..{ECCENTRICITY_MM[-1]:g} mm, where cones were "
            f"counted, got {half_field_mm}."
        )

    def density(x: Tensor, y: Tensor) -> Tensor:
        if layout == "fovea":
            return cone_density(half_field_mm * torch.hypot(x, y))
        if layout == "horizontal_streak":
            return cone_density(half_field_mm * (y + 0 * x))
        if layout == "two_foveas":
            scale = half_field_mm / FOVEA_OFFSET
            left = cone_density(scale * torch.hypot(x + FOVEA_OFFSET, y))
            return left + cone_density(scale * torch.hypot(x - FOVEA_OFFSET, y))
        return torch.ones_like(x + y)

    return density


def evaluate_density(density: Density, x: Tensor, y: Tensor) -> Tensor:
    """Evaluate a density and check what it returns.

    Raises:
        ShapeError: If the result has another shape than ``x``.
        InputError: If it is not positive and finite everywhere.
    """
    values = torch.as_tensor(density(x, y)).detach().double()
    if values.shape != x.shape:
        raise ShapeError(
            f"A density function gets x and y of shape {tuple(x.shape)} and must return the same "
            f"shape, it returned {tuple(values.shape)}. Use operations that act element by element."
        )
    if not bool((values.isfinite() & (values > 0)).all()):
        raise InputError(
            "A density function must be positive and finite on the whole field, x and y in "
            "[-1, 1]. Add a small constant where there should be nearly no cones."
        )
    return values


@lru_cache(maxsize=1)
def _profile() -> Any:
    from scipy.interpolate import PchipInterpolator

    # Mirrored, so that the density is smooth in the centre of the fovea.
    at = np.array(ECCENTRICITY_MM)
    values = np.log(np.array(THOUSAND_PER_MM2))
    return PchipInterpolator(np.r_[-at[:0:-1], at], np.r_[values[:0:-1], values])
