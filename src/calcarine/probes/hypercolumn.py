"""The size of a hypercolumn: the wavelength at which preferences repeat.

    P(k) = |sum_x (z(x) - mean z) e^(-2 pi i k x)|^2 / (H W),    z = e^(2 i preference)
    radial average over rings |k|, and the fit
        a0 exp(-(k - a1)^2 / (2 a2^2)) + a3 + a4 k + a5 k^2
    wavelength = 1 / a1
    centre of mass = sum over rings |k| P / sum over rings P

The map is surrounded by zeros up to four times its size, so that rings are finer than one cycle per
map; there is no window. On maps with one known wavelength, 3 to 10 of them across, the fit is
within 1 % and the inverse centre of mass 6 % below. The broader the peak, the less the fit says:
with wavenumbers that scatter by 20 % it scatters by 7 % itself, the centre of mass by 5 %.

A map without a hypercolumn (noise, a single gradient, a heap of all wavelengths) has status
``"no_peak"`` and a wavelength of NaN: its fit has no peak of at least 1.5 cycles per map, one lower
than 0.3 of the largest power or broader than 0.7 a1, or explains less than 0.7 of the variance.

Axes    H W of the map, rows down, columns right | n rings
Units   wavenumbers in cycles per unit (pixel) of the map, wavelengths in units
Source  kaschube2010, supplement, eq. 7 (the fit); ours: zeros around the map, what is no peak
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import ShapeError
from calcarine.probes.map_measures import as_direction

__all__ = ["Hypercolumn", "hypercolumn"]

_FINER = 4
_LEAST_SIDE = 8
_FEWEST = 1.5  # hypercolumns across the map
_HEIGHT, _WIDTH = 0.3, 0.7  # of the peak: least, of the largest power; largest, of its place
_ROUNDING = 1e-12
_EXPLAINED = 0.7  # of the variance, by the fit


@dataclass(frozen=True)
class Hypercolumn:
    """The wavelength of a map and the spectrum it was read off.

    Args:
        wavelength: Size of a hypercolumn, in units of the map; NaN without a peak.
        wavenumber: Its inverse.
        center_of_mass: Mean wavenumber of the radial spectrum; NaN for a uniform map.
        status: ``"fitted"``, or ``"no_peak"``.
        wavenumbers: Of the rings.
        power: Radially averaged.
        fit: The fitted curve; NaN without a peak.
    """

    wavelength: float
    wavenumber: float
    center_of_mass: float
    status: Literal["fitted", "no_peak"]
    wavenumbers: Float[Tensor, " n"]
    power: Float[Tensor, " n"]
    fit: Float[Tensor, " n"]


def hypercolumn(preference: Tensor) -> Hypercolumn:
    """Measure the size of a hypercolumn.

    Args:
        preference: Preferences in degrees, axes (height, width), or e^(2 i preference) with 0
            where there is none.

    Raises:
        ShapeError: If it is no map, or a side is shorter than 8 units.
        NonFiniteError: If a preference is NaN or infinite.
    """
    z = as_direction("hypercolumn", preference)
    if min(z.shape) < _LEAST_SIDE:
        raise ShapeError(
            f"hypercolumn expected at least {_LEAST_SIDE} x {_LEAST_SIDE} units, to have a "
            f"spectrum, got {tuple(z.shape)}."
        )
    k, power = _rings(z - z.mean())
    fit, center, peak = None, math.nan, math.nan
    if power.sum() > _ROUNDING:
        center = ((power * k).sum() / power.sum()).item()
        fit, peak = _fitted(k, power, center, lowest=_FEWEST / max(z.shape))
    if fit is None:
        nothing = torch.full_like(k, math.nan)
        return Hypercolumn(math.nan, math.nan, center, "no_peak", k, power, nothing)
    return Hypercolumn(1 / peak, peak, center, "fitted", k, power, fit)


def _rings(z: Complex[Tensor, "H W"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Average power over rings up to the highest wavenumber that all directions have."""
    height, width = (n * _FINER for n in z.shape)
    power = torch.fft.fft2(z, s=(height, width)).abs() ** 2 / z.numel()
    ky = torch.fft.fftfreq(height, dtype=power.dtype)[:, None]
    kx = torch.fft.fftfreq(width, dtype=power.dtype)
    k, step = torch.hypot(ky, kx), 1 / max(height, width)
    ring = (k / step).round().long().flatten()
    number = int(0.5 / step) + 1
    counts = ring.bincount(minlength=number)[:number].double()
    means = [
        ring.bincount(weights=values.flatten(), minlength=number)[:number] / counts.clamp(min=1)
        for values in (k, power)
    ]
    filled = counts > 0
    filled[0] = False  # the mean of the map says nothing about its wavelength
    return means[0][filled], means[1][filled]


def _fitted(k: Tensor, power: Tensor, center: float, lowest: float) -> tuple[Tensor | None, float]:
    """Fit a peak on a slope; return the curve and the place of the peak, if there is one."""
    import numpy as np
    from scipy.optimize import OptimizeWarning, curve_fit

    x, y = k.numpy(), (power / power.max()).numpy()

    def curve(x, a0, a1, a2, a3, a4, a5):  # type: ignore[no-untyped-def]
        return a0 * np.exp(-((x - a1) ** 2) / (2 * a2**2)) + a3 + a4 * x + a5 * x**2

    # From the centre of mass: from the highest ring the fit may end on a single spike.
    start = (1.0, center, center / 4, 0.0, 0.0, 0.0)
    try:
        with warnings.catch_warnings():
            # An unknown covariance is of no interest, and flat spectra overflow on the way.
            warnings.simplefilter("ignore", OptimizeWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            found, _ = curve_fit(curve, x, y, p0=start, maxfev=5000)
    except RuntimeError:  # it did not converge
        return None, math.nan
    fit = curve(x, *found)
    explained = 1 - ((y - fit) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    inside = lowest < found[1] < float(x[-1]) and abs(found[2]) < _WIDTH * found[1]
    if not (inside and found[0] > _HEIGHT and explained > _EXPLAINED):
        return None, math.nan
    return torch.from_numpy(fit) * power.max(), float(found[1])
