"""Colorimetry: cone fundamentals, and the way between sRGB, spectra and cone signals."""

from calcarine.color.fundamentals import cone_fundamentals, lens_density
from calcarine.color.space import ConeSpace
from calcarine.color.tables import (
    DAYLIGHT_RANGE_K,
    cie_1931,
    daylight,
    daylights,
    default_wavelengths,
    reflectances,
    srgb_basis,
)
from calcarine.color.transfer import linear_to_srgb, srgb_to_linear

__all__ = [
    "DAYLIGHT_RANGE_K",
    "ConeSpace",
    "cie_1931",
    "cone_fundamentals",
    "daylight",
    "daylights",
    "default_wavelengths",
    "lens_density",
    "linear_to_srgb",
    "reflectances",
    "srgb_basis",
    "srgb_to_linear",
]
