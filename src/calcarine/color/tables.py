"""Standard tables of colorimetry, read from the colour-science library and kept in memory.

    cie_1931    x-bar, y-bar, z-bar of the 2-degree standard observer, 360..830 nm
    daylight    relative power of the standard illuminant D65, 300..830 nm, 100 at 560 nm

Between tabulated wavelengths values are interpolated with a cubic spline.

Axes    wavelengths | three colour-matching functions
Source  cie1931
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, require

__all__ = ["cie_1931", "daylight", "default_wavelengths"]

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


@lru_cache(maxsize=2)
def _table(name: str) -> tuple[Tensor, Tensor]:
    with warnings.catch_warnings():
        # The library announces optional parts of its own that are absent; nothing to act on here.
        warnings.simplefilter("ignore")
        colour: Any = require("colour", extra="spectral", purpose="Colorimetry")
        source = (
            colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
            if name == "cie1931"
            else colour.SDS_ILLUMINANTS["D65"]
        )
        wavelengths = np.array(source.wavelengths, dtype=np.float64)
        values = np.array(source.values, dtype=np.float64)
    return torch.from_numpy(wavelengths), torch.from_numpy(values)
