"""Cone fundamentals: the spectral sensitivity of any cone, seen through the human lens.

    S(lambda)    = 10^p(peak / (558.5 lambda))                    visual-pigment template
    S_od         = (1 - 10^(-S d)) / (1 - 10^(-d))                 self-screening, density d
    fundamental  = S_od 10^(-lens(lambda)), divided by its maximum over 400..700 nm

One template, shifted along a reciprocal wavelength axis, serves every pigment. Because the
maximum is taken over the default grid, a value does not depend on which other wavelengths are
asked for. The published template has its maximum 0.3 % below the nominal peak; the nominal one is
what peaks_nm means here, as in kotani2024.

Axes    wavelengths, nm | types, one column per cone
Source  carroll2000 (template), stockman1999 (lens optical density)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color.tables import Wavelengths, default_wavelengths, grid
from calcarine.errors import InputError

__all__ = ["cone_fundamentals", "lens_density"]

REFERENCE_PEAK_NM = 558.5
# Amplitude, centre and width of the six Gaussian corrections of the template.
CORRECTIONS = (
    (-6.68402e-5 / 6.58428e-5, 0.00157981, 6.58428e-5),
    (-1.86269e-5 / 7.31313e-5, 0.002310442, 7.31313e-5),
    (-5.14736e-6 / 5.40717e-5, 0.002008124, 5.40717e-5),
    (4.8e-6 / 4.21764e-5, 0.001455413, 4.21764e-5),
    (2.99e-5 / 3.86677e-5 / 10, 0.001809022, 3.86677e-5),
    (1.51e-5 / 1.47344e-5 / 100, 0.001757315, 1.47344e-5),
)
LENS_FIRST_NM, LENS_STEP_NM, LENS_CLEAR_NM = 390, 5, 660
LENS_DENSITY = (
    *(2.5122, 2.1306, 1.7649, 1.4257, 1.13738, 0.9063, 0.72398, 0.59572, 0.4876, 0.4081),
    *(0.34132, 0.29998, 0.26288, 0.2438, 0.2279, 0.21306, 0.20458, 0.19292, 0.18338, 0.1749),
    *(0.16748, 0.16006, 0.1537, 0.14628, 0.1378, 0.12932, 0.12296, 0.1166, 0.11024, 0.10494),
    *(0.09858, 0.09222, 0.08586, 0.0795, 0.0742, 0.06784, 0.06148, 0.05512, 0.04876, 0.04346),
    *(0.03812, 0.03286, 0.02968, 0.02544, 0.02226, 0.01908, 0.01696, 0.01484, 0.01166, 0.00848),
    *(0.0053, 0.00424, 0.00318, 0.00106, 0.0),
)


def cone_fundamentals(
    peaks_nm: Sequence[float],
    wavelengths_nm: Wavelengths = None,
    optical_density: float = 0.001,
) -> Float[Tensor, "wavelengths types"]:
    """Relative sensitivity of cones to light that arrives at the eye.

    The lens absorbs short wavelengths, so that the pigments peaking at 560, 530 and 419 nm make
    fundamentals that peak at 567, 536 and 442 nm.

    Args:
        peaks_nm: Wavelength at which each pigment absorbs most, nm, 390..700.
        wavelengths_nm: Where to evaluate, ascending, within 390..830 nm; 400..700 nm in steps of
            1 nm when left out.
        optical_density: Peak axial density of the pigment in the outer segment. Ours: 0.001,
            nearly no self-screening, as kotani2024.

    Returns:
        One column per pigment with maximum 1 over 400..700 nm. float64, or the dtype and device
        of ``wavelengths_nm`` where that is a floating-point tensor.

    Raises:
        InputError: If a peak, a wavelength or the density is out of range.
    """
    peaks = check_peaks(peaks_nm)
    if not (math.isfinite(optical_density) and optical_density >= 0):
        raise InputError(f"Expected an optical density >= 0, got {optical_density}.")
    wavelengths = grid(wavelengths_nm, LENS_FIRST_NM)
    scale = _seen_through_lens(peaks, default_wavelengths(), optical_density).amax(0)
    fundamentals = _seen_through_lens(peaks, wavelengths, optical_density) / scale
    if isinstance(wavelengths_nm, Tensor) and wavelengths_nm.is_floating_point():
        return fundamentals.to(wavelengths_nm)
    return fundamentals


def lens_density(wavelengths_nm: Wavelengths = None) -> Float[Tensor, " wavelengths"]:
    """Optical density of the human lens; it transmits the fraction ``10 ** -density``.

    Args:
        wavelengths_nm: Wavelengths within 390..830 nm; the default grid when left out.

    Returns:
        Density [1] per wavelength, float64; 0 from 660 nm on. stockman1999.
    """
    wavelengths = grid(wavelengths_nm, LENS_FIRST_NM)
    density = torch.from_numpy(np.asarray(_lens_spline()(wavelengths.numpy())))
    return torch.where(wavelengths >= LENS_CLEAR_NM, torch.zeros_like(density), density)


def check_peaks(peaks_nm: Sequence[float]) -> tuple[float, ...]:
    """Return the peaks as floats, or say what is wrong with them."""
    if isinstance(peaks_nm, int | float):
        raise InputError(f"Expected one peak per cone type, for example ({peaks_nm},).")
    peaks = tuple(float(peak) for peak in peaks_nm)
    if not peaks:
        raise InputError("Expected at least one peak wavelength, got none: (560, 530, 419) is LMS.")
    wrong = [peak for peak in peaks if not 390 <= peak <= 700]
    if wrong:
        raise InputError(
            f"Expected pigment peaks within 390..700 nm, got {', '.join(f'{w:g}' for w in wrong)}. "
            "Peaks are wavelengths in nanometres, for example (560, 530, 419)."
        )
    return peaks


def _seen_through_lens(peaks: tuple[float, ...], wavelengths: Tensor, density: float) -> Tensor:
    absorbed = _template(torch.tensor(peaks, dtype=torch.float64) / wavelengths[:, None])
    screening = density + 1e-8  # keeps the quotient defined for a density of 0
    seen = (1 - 10 ** (-absorbed * screening)) / (1 - 10**-screening)
    return seen * 10 ** -lens_density(wavelengths)[:, None]


def _template(peak_over_wavelength: Tensor) -> Tensor:
    """Absorbance of a pigment, as a function of peak / wavelength (carroll2000)."""
    x = peak_over_wavelength / REFERENCE_PEAK_NM
    long_wave = 16.05774461 * (1 - torch.tanh((0.001575426 - x) / 5.11376e-5))
    log_absorbance = (
        torch.log10(long_wave)
        - 1.922880605
        + 0.417050601 * torch.tanh((0.002072146 - x) / 0.000163888)
    )
    for amplitude, center, width in CORRECTIONS:
        gaussian = torch.exp(-(((x - center) / width) ** 2) / 2) / math.sqrt(2 * math.pi)
        log_absorbance = log_absorbance + amplitude * gaussian
    return 10**log_absorbance


@lru_cache(maxsize=1)
def _lens_spline() -> Any:
    from scipy.interpolate import CubicSpline

    at = LENS_FIRST_NM + LENS_STEP_NM * np.arange(len(LENS_DENSITY))
    return CubicSpline(at, np.array(LENS_DENSITY))
