"""The colour space of an eye: how strongly each cone type responds to a display or to a spectrum.

    XYZ    = A linear                                   linear sRGB, white point D65
    cones  = M^T XYZ,  M = argmin ||xyz-bar M - fundamentals||^2      400..700 nm, 1 nm
    cones  = sum_lambda spectrum fundamental / sum_lambda y-bar       spectral light

The scale is that of luminance: a spectrum of radiance 1 at every wavelength has Y = 1, as has the
white (1, 1, 1) of linear sRGB, so both ways into cone space can be compared.

Axes    channel is the third axis from the end of an image, (..., channel, H, W), and the last
        axis of a vector, (..., channel) | N wavelengths | T cone types
Source  iec61966 (primaries and curve), cie1931 (observer), carroll2000 and stockman1999
        (fundamentals), kotani2024 (least-squares map)
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.color.fundamentals import LENS_FIRST_NM, check_peaks, cone_fundamentals
from calcarine.color.tables import Wavelengths, cie_1931, grid
from calcarine.color.transfer import linear_to_srgb, srgb_to_linear
from calcarine.errors import InputError, ShapeError

__all__ = ["ConeSpace"]

# Linear sRGB to CIE XYZ, iec61966.
RGB_TO_XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))


class ConeSpace(nn.Module):
    """Conversions between sRGB, linear sRGB, spectra and the signals of a set of cones.

    The matrices are float64 buffers; every conversion follows the dtype and device of its input.

    Args:
        peaks_nm: Wavelength at which the pigment of each cone type absorbs most, nm. The default
            is the human L, M and S; the order of the peaks is the order of the channels.

    Attributes:
        fundamentals: Sensitivities on the default grid (301, types).
        linear_to_cones_matrix: (types, 3), applied to a column of linear R, G, B.
        white_point: Cone signals of the display's white, (types,).
    """

    sources: ClassVar[tuple[str, ...]] = (
        "kotani2024",
        "carroll2000",
        "stockman1999",
        "cie1931",
        "iec61966",
    )

    fundamentals: Tensor
    linear_to_cones_matrix: Tensor
    white_point: Tensor

    def __init__(self, peaks_nm: tuple[float, ...] = (560.0, 530.0, 419.0)) -> None:
        super().__init__()
        self.peaks_nm = check_peaks(peaks_nm)
        fundamentals, matrix = _matrices(self.peaks_nm)
        # Derived from the peaks alone, hence no part of a checkpoint.
        self.register_buffer("fundamentals", fundamentals.clone(), persistent=False)
        self.register_buffer("linear_to_cones_matrix", matrix.clone(), persistent=False)
        self.register_buffer("white_point", matrix.sum(1), persistent=False)

    @property
    def types(self) -> int:
        """Number of cone types, the size of the channel axis in cone space."""
        return len(self.peaks_nm)

    def srgb_to_linear(self, srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Decode sRGB display values into linear light; see :func:`srgb_to_linear`."""
        return srgb_to_linear(srgb)

    def linear_to_srgb(self, linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Encode linear light as sRGB display values; see :func:`linear_to_srgb`."""
        return linear_to_srgb(linear)

    def linear_to_cones(self, linear: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B T H W"]:
        """Cone signals evoked by an image in linear sRGB.

        Raises:
            ShapeError: If the third axis from the end does not hold R, G and B.
        """
        _check_image(linear, 3, "linear_to_cones", "(R, G, B)")
        return _mix(self.linear_to_cones_matrix, linear)

    def cones_to_linear(self, cones: Float[Tensor, "*B T H W"]) -> Float[Tensor, "*B 3 H W"]:
        """Linear sRGB image that evokes the given signals in three cone types.

        Values outside [0, 1] are colours that no display shows; they are not clipped.

        Raises:
            InputError: If this space has not exactly three cone types.
            ShapeError: If the third axis from the end does not hold the cone types.
        """
        if self.types != 3:
            raise InputError(
                f"cones_to_linear needs three cone types, this space has {self.types} "
                f"(peaks_nm={self.peaks_nm}): then no or many RGB colours evoke the same signals. "
                "Fit a linear read-out instead, or convert with a trichromatic ConeSpace()."
            )
        _check_image(cones, 3, "cones_to_linear", "one channel per cone type")
        return _mix(torch.linalg.inv(self.linear_to_cones_matrix.double()), cones)

    def spectra_to_cones(
        self, spectra: Float[Tensor, "*B N H W"], wavelengths_nm: Wavelengths = None
    ) -> Float[Tensor, "*B T H W"]:
        """Cone signals evoked by an image that holds a spectrum in every pixel.

        Args:
            spectra: Spectral radiance, wavelengths on the third axis from the end. For spectra
                without image axes use :meth:`spectrum_to_cones`.
            wavelengths_nm: What the channels stand for, ascending, within 390..830 nm; 400..700 nm
                in steps of 1 nm when left out.

        Raises:
            ShapeError: If the number of channels differs from the number of wavelengths.
        """
        weights = self._spectral_weights(wavelengths_nm)
        _check_image(spectra, weights.shape[1], "spectra_to_cones", "wavelengths")
        return _mix(weights, spectra)

    def spectrum_to_cones(
        self, spectrum: Float[Tensor, "*B N"], wavelengths_nm: Wavelengths = None
    ) -> Float[Tensor, "*B T"]:
        """Cone signals evoked by spectra given as vectors, wavelengths on the last axis.

        Args:
            spectrum: Spectral radiance, axes (..., wavelengths).
            wavelengths_nm: As for :meth:`spectra_to_cones`.

        Raises:
            ShapeError: If the last axis differs from the number of wavelengths.
        """
        weights = self._spectral_weights(wavelengths_nm)
        if spectrum.ndim < 1 or spectrum.shape[-1] != weights.shape[1]:
            raise ShapeError(
                "spectrum_to_cones expected axes (..., wavelengths) with "
                f"{weights.shape[1]} wavelengths, got shape {tuple(spectrum.shape)}. Pass "
                "wavelengths_nm if the grid is another one, or spectra_to_cones for images."
            )
        _check_floating(spectrum, "spectrum_to_cones")
        return spectrum @ weights.to(spectrum).T

    def _spectral_weights(self, wavelengths_nm: Wavelengths) -> Tensor:
        """Weight of every sample in every cone signal, (types, wavelengths)."""
        wavelengths = grid(wavelengths_nm, LENS_FIRST_NM)
        return _spectral_weights(self.peaks_nm, tuple(wavelengths.tolist()))

    def extra_repr(self) -> str:
        """Show the peaks in the printed module."""
        return f"peaks_nm={self.peaks_nm}"


@lru_cache(maxsize=32)
def _matrices(peaks: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    fundamentals = cone_fundamentals(peaks)
    xyz_to_cones = torch.linalg.lstsq(cie_1931(), fundamentals).solution
    rgb_to_xyz = torch.tensor(RGB_TO_XYZ, dtype=torch.float64)
    return fundamentals, xyz_to_cones.T @ rgb_to_xyz


@lru_cache(maxsize=32)
def _spectral_weights(peaks: tuple[float, ...], wavelengths: tuple[float, ...]) -> Tensor:
    at = torch.tensor(wavelengths, dtype=torch.float64)
    luminance = cie_1931()[:, 1].sum()  # of radiance 1 per nm over the default grid
    return cone_fundamentals(peaks, at).T * _widths(at) / luminance


def _widths(wavelengths: Tensor) -> Tensor:
    """Width of the band that each sample stands for, nm."""
    if wavelengths.numel() == 1:
        return torch.ones_like(wavelengths)
    return torch.gradient(wavelengths)[0]


def _mix(matrix: Tensor, image: Tensor) -> Tensor:
    """Apply ``matrix`` (out, in) to the channel axis -3."""
    return (matrix.to(image) @ image.flatten(-2)).unflatten(-1, image.shape[-2:])


def _check_image(image: Tensor, channels: int, name: str, meaning: str) -> None:
    if image.ndim < 3 or image.shape[-3] != channels:
        raise ShapeError(
            f"{name} expected an image with axes (..., channel, height, width) and {channels} "
            f"channels ({meaning}), got shape {tuple(image.shape)}. For channels on the last axis "
            "pass image.movedim(-1, -3)."
        )
    _check_floating(image, name)


def _check_floating(values: Tensor, name: str) -> None:
    if not values.is_floating_point():
        raise InputError(f"{name} expected floating-point numbers, got {values.dtype}.")
