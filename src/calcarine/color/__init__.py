"""Colorimetry: cone fundamentals, and the way between sRGB, spectra and cone signals."""

from calcarine.color.fundamentals import cone_fundamentals, lens_density
from calcarine.color.space import ConeSpace
from calcarine.color.tables import cie_1931, daylight, default_wavelengths
from calcarine.color.transfer import linear_to_srgb, srgb_to_linear

__all__ = [
    "ConeSpace",
    "cie_1931",
    "cone_fundamentals",
    "daylight",
    "default_wavelengths",
    "lens_density",
    "linear_to_srgb",
    "srgb_to_linear",
]
