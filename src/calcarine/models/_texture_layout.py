"""Where every texture statistic stands in the vector, and which entries symmetry makes redundant.

An autocorrelation is the same at a lag and its opposite, a correlation matrix is symmetric with
ones on its diagonal, and the autocorrelation at lag zero is one: each number is kept once.

Axes    A lag rows | a lag columns, both from -(width // 2) | O orientation | S scale
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

__all__ = ["Part", "TextureScale", "kept_lags", "layout"]

TextureScale = int | Literal["pixel_statistics", "residual_lowpass", "residual_highpass"]


class Part(NamedTuple):
    """One family of statistics.

    Attributes:
        name: Its key in the dict form.
        kept: Which entries of the full array the vector holds, in row-major order.
        scales: The scale of every entry along the last axis of the array.
    """

    name: str
    kept: Tensor
    scales: tuple[TextureScale, ...]

    @property
    def length(self) -> int:
        """How many entries the vector holds."""
        return int(self.kept.sum())

    @property
    def kept_scales(self) -> list[TextureScale]:
        """The scale of every entry in the vector."""
        last = torch.arange(len(self.scales)).expand(self.kept.shape)[self.kept]
        return [self.scales[i] for i in last.tolist()]


def kept_lags(width: int) -> Tensor:
    """Return the lags (row, column) of an autocorrelation that are neither redundant nor zero.

    Of every pair of opposite lags the one further down is kept, and on the diagonal the one above
    the centre. An even width has a first row and column without opposite inside the window.
    """
    return torch.nonzero(_lag_mask(width)) - width // 2


def _lag_mask(width: int) -> Tensor:
    row, column = torch.meshgrid(torch.arange(width), torch.arange(width), indexing="ij")
    mask = (row > column) | ((row == column) & (row < width // 2))
    return mask | (row == 0) if width % 2 == 0 else mask


def layout(n_scales: int, n_orientations: int, width: int) -> tuple[Part, ...]:
    """Return all families of statistics in the order of the vector."""
    scales: tuple[TextureScale, ...] = tuple(range(n_scales))
    images: tuple[TextureScale, ...] = (*scales, "residual_lowpass")
    pairs = torch.ones(n_orientations, n_orientations, dtype=torch.bool).tril(-1)
    lags = _lag_mask(width)

    def every(*shape: int) -> Tensor:
        return torch.ones(shape, dtype=torch.bool)

    def along(mask: Tensor, *shape: int) -> Tensor:
        return mask.reshape(*mask.shape, *[1] * len(shape)).expand(*mask.shape, *shape)

    o, finer = n_orientations, scales[:-1]
    parts = [
        Part("pixel_statistics", every(6), ("pixel_statistics",) * 6),
        Part("auto_correlation_magnitude", along(lags, o, n_scales), scales),
        Part("skew_reconstructed", every(n_scales + 1), images),
        Part("kurtosis_reconstructed", every(n_scales + 1), images),
        Part("auto_correlation_reconstructed", along(lags, n_scales + 1), images),
        Part("std_reconstructed", every(n_scales + 1), images),
        Part("cross_orientation_correlation_magnitude", along(pairs, n_scales), scales),
        Part("magnitude_std", every(o, n_scales), scales),
        Part("cross_scale_correlation_magnitude", every(o, o, len(finer)), finer),
        Part("cross_scale_correlation_real", every(o, 2 * o, len(finer)), finer),
        Part("var_highpass_residual", every(1), ("residual_highpass",)),
    ]
    return tuple(part for part in parts if part.scales)
