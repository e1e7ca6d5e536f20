"""Standard tables of colorimetry, read from the colour-science library and kept in memory.

    cie_1931      x-bar, y-bar, z-bar of the 2-degree standard observer, 360..830 nm
    daylight      relative power of the standard illuminant D65, 300..830 nm, 100 at 560 nm
    daylights     S0 + M1(T) S1 + M2(T) S2, daylight of correlated colour temperature T
    reflectances  measured surfaces: 190 that cameras are calibrated with, 99 of a lighting standard
    srgb_basis    reflectances of the primaries of sRGB, which add up to 1 at every wavelength

Between tabulated wavelengths values are interpolated with a cubic spline.

Axes    wavelengths | three colour-matching functions or primaries | surfaces
Source  cie1931, judd1964 (daylight), aces2016 and cie2017 (reflectances), mallett2019 (primaries)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, require

__all__ = [
    "DAYLIGHT_RANGE_K",
    "cie_1931",
    "daylight",
    "daylights",
    "default_wavelengths",
    "reflectances",
    "srgb_basis",
]

DAYLIGHT_RANGE_K = (4000.0, 25000.0)
"""Correlated colour temperatures for which the CIE defines daylight, K. judd1964."""

Wavelengths = Float[Tensor, " wavelengths"] | Sequence[float] | None


def default_wavelengths() -> Float[Tensor, " wavelengths"]:
    """Return the default grid, 400..700 nm in steps of 1 nm (301 numbers, float64)."""
    return torch.arange(400, 701, dtype=torch.float64)


def cie_1931(wavelengths_nm: Wavelengths = None) -> Float[Tensor, "wavelengths 3"]:
    """Colour-matching functions of the CIE 1931 2-degree standard observer.

    Args:
        wavelengths_nm: Wavelengths within 360..830 nm; the default grid when left out.

    Returns:
        One row per wavelength, columns x-bar, y-bar, z-bar, float64.

    Raises:
        InputError: If a wavelength lies outside the table.
        MissingDependencyError: If colour-science is not installed.
    """
    return _interpolate("cie1931", grid(wavelengths_nm), "the CIE 1931 observer")


def daylight(wavelengths_nm: Wavelengths = None) -> Float[Tensor, " wavelengths"]:
    """Relative spectral power of the CIE standard illuminant D65 (100 at 560 nm).

    Args:
        wavelengths_nm: Wavelengths within 300..830 nm; the default grid when left out.

    Returns:
        One number per wavelength, float64.

    Raises:
        InputError: If a wavelength lies outside the table.
        MissingDependencyError: If colour-science is not installed.
    """
    return _interpolate("d65", grid(wavelengths_nm), "illuminant D65")


def daylights(
    temperatures_k: Float[Tensor, "*B"], wavelengths_nm: Wavelengths = None
) -> Float[Tensor, "*B wavelengths"]:
    """Spectral power of CIE daylight of given colour temperatures, 1 at 560 nm.

    Nominal temperatures of the standard illuminants differ a little from the correlated ones: D65
    is daylight of 6504 K.

    Args:
        temperatures_k: Correlated colour temperatures within 4000..25000 K; others are moved to the
            nearer end.
        wavelengths_nm: Wavelengths within 300..830 nm; the default grid when left out.

    Returns:
        In the dtype and on the device of the temperatures.

    Raises:
        InputError: If a wavelength lies outside the table.
        MissingDependencyError: If colour-science is not installed.
    """
    parts = daylight_parts(wavelengths_nm).to(temperatures_k)
    return daylight_weights(temperatures_k) @ parts.T


def daylight_parts(wavelengths_nm: Wavelengths = None) -> Float[Tensor, "wavelengths 3"]:
    """Return the mean and the two variations that every daylight is a sum of, float64."""
    return _interpolate("daylight_parts", grid(wavelengths_nm), "CIE daylight") / 100


def daylight_weights(temperatures_k: Float[Tensor, "*B"]) -> Float[Tensor, "*B 3"]:
    """Weights of :func:`daylight_parts` at given colour temperatures."""
    inverse = 1e3 / temperatures_k.clamp(*DAYLIGHT_RANGE_K)
    # Chromaticity on the daylight locus, one cubic in 1/T below 7000 K and one above.
    powers = torch.stack([inverse**n for n in range(4)], -1)
    warm, cool = (powers @ cubic for cubic in _locus(powers.dtype, powers.device))
    x = torch.where(inverse >= 1 / 7, warm, cool)
    y = -3.0 * x**2 + 2.87 * x - 0.275
    scale = 0.0241 + 0.2562 * x - 0.7341 * y
    first = (-1.3515 - 1.7703 * x + 5.9114 * y) / scale
    second = (0.03 - 31.4424 * x + 30.0717 * y) / scale
    return torch.stack([torch.ones_like(x), first, second], -1)


def reflectances(wavelengths_nm: Wavelengths = None) -> Float[Tensor, "surfaces wavelengths"]:
    """Measured reflectances of 289 surfaces, natural and made by people.

    The first 190 are those that the Academy Color Encoding System calibrates cameras with, the
    other 99 the test samples of the CIE colour fidelity index. Three of the former exceed 1 by up
    to 0.05, as measurements of glossy or fluorescent surfaces do; they are cut off at 1.

    Args:
        wavelengths_nm: Wavelengths within 380..780 nm; the default grid when left out.

    Returns:
        One row per surface, in [0, 1], float64.

    Raises:
        InputError: If a wavelength lies outside the table.
        MissingDependencyError: If colour-science is not installed.
    """
    wavelengths = grid(wavelengths_nm)
    values = _interpolate("reflectances", wavelengths, "Measured reflectances")
    return values.T.clamp(0, 1).contiguous()


def srgb_basis(wavelengths_nm: Wavelengths = None) -> Float[Tensor, "wavelengths 3"]:
    """Reflectances of the red, green and blue primaries of sRGB.

    Under D65 a surface ``srgb_basis() @ rgb`` has the colour of the linear sRGB values ``rgb``. Of
    all such spectra they are the smoothest that stay in [0, 1] and add up to 1. mallett2019.

    Args:
        wavelengths_nm: Wavelengths within 380..780 nm; the default grid when left out.

    Returns:
        One row per wavelength, columns R, G, B, float64.

    Raises:
        InputError: If a wavelength lies outside the table.
        MissingDependencyError: If colour-science is not installed.
    """
    return _interpolate("srgb_basis", grid(wavelengths_nm), "The basis of sRGB")


def grid(wavelengths_nm: Wavelengths, least_nm: float = 300.0, most_nm: float = 830.0) -> Tensor:
    """Return the wavelengths as a float64 vector on the CPU, checked.

    Args:
        wavelengths_nm: One or more wavelengths in ascending order; ``None`` is the default grid.
        least_nm: Shortest wavelength that can be answered.
        most_nm: Longest wavelength that can be answered.

    Raises:
        InputError: If the wavelengths are not an ascending vector within the range.
    """
    if wavelengths_nm is None:
        return default_wavelengths()
    values = torch.as_tensor(wavelengths_nm).detach().to(device="cpu", dtype=torch.float64)
    if values.ndim != 1 or values.numel() == 0 or not bool(values.isfinite().all()):
        raise InputError(
            "Expected wavelengths in nm as a vector of finite numbers, got shape "
            f"{tuple(values.shape)}. For example torch.arange(400., 701.)."
        )
    if bool((values.diff() <= 0).any()):
        raise InputError("Expected wavelengths in nm in ascending order without repetition.")
    low, high = values[0].item(), values[-1].item()
    if low < least_nm or high > most_nm:
        raise InputError(
            f"Expected wavelengths within {least_nm:g}..{most_nm:g} nm, got {low:g}..{high:g}. "
            "Wavelengths are in nanometres; leave out those beyond the table."
        )
    return values


def _interpolate(name: str, wavelengths: Tensor, what: str) -> Tensor:
    from scipy.interpolate import CubicSpline

    known, values = _table(name)
    low, high = known[0].item(), known[-1].item()
    if wavelengths[0].item() < low or wavelengths[-1].item() > high:
        raise InputError(
            f"{what} is tabulated for {low:g}..{high:g} nm, got "
            f"{wavelengths[0].item():g}..{wavelengths[-1].item():g} nm."
        )
    spline = CubicSpline(known.numpy(), values.numpy(), axis=0)
    return torch.from_numpy(np.asarray(spline(wavelengths.numpy()), dtype=np.float64))


# Powers of 1000/T for the x of daylight, judd1964.
_LOCUS_WARM = (0.244063, 0.09911, 2.9678, -4.6070)
_LOCUS_COOL = (0.237040, 0.24748, 1.9018, -2.0064)


@lru_cache(maxsize=8)
def _locus(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both cubics, kept where they are needed: a GPU waits for what comes from the host."""
    warm, cool = torch.tensor((_LOCUS_WARM, _LOCUS_COOL), dtype=dtype, device=device)
    return warm, cool


@lru_cache(maxsize=8)
def _table(name: str) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # The library announces optional parts of its own that are absent; nothing to act on here.
        warnings.simplefilter("ignore")
        colour: Any = require("colour", extra="spectral", purpose="Colorimetry")
        found = _READERS[name](colour)
    wavelengths = np.array(found[0].wavelengths, dtype=np.float64)
    columns = [np.asarray(s.values, dtype=np.float64).reshape(len(wavelengths), -1) for s in found]
    values = np.concatenate(columns, axis=1)
    if name == "d65":
        values = values[:, 0]
    return torch.from_numpy(wavelengths), torch.from_numpy(values)


def _measured(colour: Any) -> list[Any]:
    from colour.characterisation import read_training_data_rawtoaces_v1
    from colour.quality.cfi2017 import load_TCS_CIE2017

    shape = colour.SpectralShape(380, 780, 5)
    return [read_training_data_rawtoaces_v1().copy().align(shape), load_TCS_CIE2017(shape)]


_READERS: dict[str, Callable[[Any], list[Any]]] = {
    "cie1931": lambda colour: [colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]],
    "d65": lambda colour: [colour.SDS_ILLUMINANTS["D65"]],
    "daylight_parts": lambda colour: [
        colour.colorimetry.SDS_BASIS_FUNCTIONS_CIE_ILLUMINANT_D_SERIES[name]
        for name in ("S0", "S1", "S2")
    ],
    "reflectances": _measured,
    "srgb_basis": lambda colour: [colour.recovery.MSDS_BASIS_FUNCTIONS_sRGB_MALLETT2019],
}
