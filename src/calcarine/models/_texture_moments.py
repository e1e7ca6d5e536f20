"""Sums that texture statistics are made of, with finite gradients everywhere.

    autocorrelation(d) = 1/n^2 sum over k of P(k) cos(2 pi k d / size)      P = |spectrum|^2

Only the lags wanted are computed: one small matrix product along every axis instead of an inverse
transform. A variance that rounding alone explains counts as zero: correlations with it are zero.

Axes    N image and channel | H K half spectrum | L lag
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from calcarine.v1._spectra import half_weights

__all__ = [
    "autocorrelation",
    "column_waves",
    "inverse_deviation",
    "moments",
    "pixel_statistics",
    "power",
    "root",
    "row_waves",
]


def power(spectrum: Complex[Tensor, "*B H K"]) -> Float[Tensor, "*B H 2K"]:
    """Return the squares of real and imaginary parts, column by column.

    Summing them here would be slower than having the sums over columns do it.
    """
    parts = torch.view_as_real(spectrum).flatten(-2)
    return parts * parts


def _waves(frequencies: Tensor, size: int, lags: int) -> Tensor:
    phase = 2 * math.pi / size * torch.outer(frequencies, torch.arange(lags, dtype=torch.float64))
    return torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)


def row_waves(height: int, lags: int) -> Float[Tensor, "2L H"]:
    """Return cosines, then sines, of the row frequencies at lags 0, 1, ..."""
    frequencies = torch.arange(height, dtype=torch.float64)
    return _waves(frequencies, height, lags).T / height**2


def column_waves(width: int, lags: int) -> Float[Tensor, "2K 2L"]:
    """Return cosines, then sines, of the column frequencies, weighted for the half spectrum.

    Every frequency comes twice, as in :func:`power`.
    """
    frequencies = torch.arange(width // 2 + 1, dtype=torch.float64)
    waves = half_weights(width)[:, None] * _waves(frequencies, width, lags) / width**2
    return waves.repeat_interleave(2, dim=0)


def autocorrelation(
    powers: Float[Tensor, "*B H 2K"],
    rows: Float[Tensor, "2r H"],
    columns: Float[Tensor, "2K 2r"],
    lags: Tensor,
) -> tuple[Float[Tensor, "*B L"], Float[Tensor, "*B"]]:
    """Return the autocorrelation at some lags, and at lag zero.

    Args:
        powers: :func:`power` of half spectra.
        rows: :func:`row_waves`.
        columns: :func:`column_waves`.
        lags: Lags (row, column) with axes (L, 2).
    """
    products = rows @ powers @ columns
    reach = rows.shape[0] // 2
    row, column = lags.abs().unbind(1)
    signs = lags.sign().prod(1).to(powers.dtype)
    even, odd = products[..., :reach, :reach], products[..., reach:, reach:]
    return even[..., row, column] - signs * odd[..., row, column], even[..., 0, 0]


def inverse_deviation(variance: Tensor, floor: Tensor) -> Tensor:
    """Return one over the standard deviation, zero where the variance is rounding."""
    present = variance > floor
    return torch.where(present, torch.where(present, variance, 1).rsqrt(), 0)


def root(variance: Tensor, floor: Tensor) -> Tensor:
    """Return the standard deviation, zero where the variance is rounding."""
    present = variance > floor
    return torch.where(present, torch.where(present, variance, 1).sqrt(), 0)


def moments(
    centred: Float[Tensor, "*B H W"], variance: Float[Tensor, "*B"], present: Bool[Tensor, "*B"]
) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
    """Return skewness and kurtosis; those of a Gaussian, 0 and 3, where nothing is present."""
    squares = centred * centred
    safe = torch.where(present, variance, 1)
    skew = (squares * centred).mean((-2, -1)) / safe**1.5
    kurtosis = squares.square().mean((-2, -1)) / safe**2
    return torch.where(present, skew, 0), torch.where(present, kurtosis, 3)


def pixel_statistics(
    pixels: Float[Tensor, "N H W"], floor: Float[Tensor, "N"]
) -> Float[Tensor, "N 6"]:
    """Return mean, variance (of the sample), skewness, kurtosis, minimum and maximum."""
    mean = pixels.mean((-2, -1))
    centred = pixels - mean[:, None, None]
    count = pixels[0].numel()
    variance = centred.square().sum((-2, -1)) / (count - 1)
    skew, kurtosis = moments(centred, variance, variance > floor)
    return torch.stack(
        [mean, variance, skew, kurtosis, pixels.amin((-2, -1)), pixels.amax((-2, -1))], dim=1
    )
