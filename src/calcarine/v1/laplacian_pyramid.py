"""Laplacian pyramid: what every scale adds to the next coarser one.

    x_0 = image,   x_k+1 = D x_k,   band_k = x_k - U x_k+1,   last band = x_n-1
    D   blur with b (x) b, keep every second pixel      b = (1, 4, 6, 4, 1) / 16
    U   insert zeros, blur with 4 b (x) b

Reflecting borders; D keeps ceil(size / 2) pixels. Without ``keep_mean``, D is doubled and U halved,
so that filters on the way up and down have the same norm and band k grows by 2^k.

Axes    B batch | C channel (independent of each other) | H W rows down, columns right
Units   those of the image (times 2^k without ``keep_mean``)
Source  burt1983
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["LaplacianPyramid"]


class LaplacianPyramid(nn.Module):
    """Band-pass images from fine to coarse, and the low-pass rest; exactly invertible.

    Args:
        n_scales: Number of bands, the low-pass one included.
        keep_mean: Whether low-pass images keep the mean of the image (burt1983). Otherwise each one
            doubles it, as the filters of equal norm in common use do.
    """

    sources: ClassVar[tuple[str, ...]] = ("burt1983",)

    def __init__(self, n_scales: int = 5, *, keep_mean: bool = False) -> None:
        super().__init__()
        if not isinstance(n_scales, int) or n_scales < 1:
            raise InputError(
                f"LaplacianPyramid expected n_scales as a whole number of at least 1, got "
                f"{n_scales!r}."
            )
        self.n_scales, self.keep_mean = n_scales, bool(keep_mean)

    @property
    def smallest_size(self) -> int:
        """Smallest height or width that can be taken apart: every blurred image has 3 px."""
        return 1 if self.n_scales == 1 else 2 ** (self.n_scales - 1) + 1

    def forward(self, image: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B C h w"]]:
        """Take an image apart.

        Returns:
            Bands from fine to coarse; the last one is low-pass. Sizes halve, rounded up.

        Raises:
            ShapeError: If the image is not 4-D or too small for this number of scales.
        """
        self._check(image)
        bands = []
        for _ in range(self.n_scales - 1):
            coarse = self._down(image)
            bands.append(image - self._up(coarse, image.shape))
            image = coarse
        return [*bands, image]

    def reconstruct(self, bands: Sequence[Float[Tensor, "B C h w"]]) -> Float[Tensor, "B C H W"]:
        """Put the bands together again.

        Args:
            bands: As ``forward`` returns them.

        Raises:
            ShapeError: If there is another number of bands, or their sizes do not halve.
        """
        if len(bands) != self.n_scales:
            raise ShapeError(
                f"LaplacianPyramid.reconstruct expected {self.n_scales} bands, fine to coarse, got "
                f"{len(bands)}."
            )
        *finer, image = bands
        for band in reversed(finer):
            half = (*band.shape[:-2], *((size + 1) // 2 for size in band.shape[-2:]))
            if tuple(image.shape) != half:
                raise ShapeError(
                    f"LaplacianPyramid.reconstruct expected a band of shape {half} below one of "
                    f"shape {tuple(band.shape)}, got {tuple(image.shape)}."
                )
            image = band + self._up(image, band.shape)
        return image

    def _check(self, image: Tensor) -> None:
        if image.ndim != 4 or not image.is_floating_point():
            raise ShapeError(
                "LaplacianPyramid expected a floating-point image with axes (batch, channel, "
                f"height, width), got {image.dtype} of shape {tuple(image.shape)}. For one grey "
                "image pass image[None, None]."
            )
        if min(image.shape[-2:]) < self.smallest_size:
            raise ShapeError(
                f"LaplacianPyramid with n_scales={self.n_scales} expected sides of at least "
                f"{self.smallest_size} px, got height {image.shape[-2]} and width "
                f"{image.shape[-1]}. Take fewer scales or enlarge the image."
            )

    def _down(self, x: Tensor) -> Tensor:
        return _reduced(_reduced(x, -1), -2, 1.0 if self.keep_mean else 2.0)

    def _up(self, x: Tensor, shape: torch.Size) -> Tensor:
        gain = 1.0 if self.keep_mean else 0.5
        return _expanded(_expanded(x, -2, shape[-2]), -1, shape[-1], gain)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"n_scales={self.n_scales}, keep_mean={self.keep_mean}"


def _reflected(x: Tensor, axis: int, reach: int) -> Tensor:
    return F.pad(x, (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach), mode="reflect")


def _every_second(x: Tensor, axis: int, start: int, count: int) -> Tensor:
    stop = start + 2 * count - 1
    return x[..., start:stop:2] if axis == -1 else x[..., start:stop:2, :]


def _reduced(x: Tensor, axis: int, gain: float = 1.0) -> Tensor:
    """Blur along one axis and keep every second pixel."""
    count = (x.shape[axis] + 1) // 2
    padded = _reflected(x, axis, 2)
    taps = [_every_second(padded, axis, k, count) for k in range(5)]
    outer, inner = taps[0] + taps[4], taps[1] + taps[3]
    return (outer * (gain / 16)).add(inner, alpha=gain / 4).add(taps[2], alpha=gain * 6 / 16)


def _expanded(x: Tensor, axis: int, size: int, gain: float = 1.0) -> Tensor:
    """Double one axis to ``size`` pixels; even pixels see three old ones, odd pixels two."""
    count = x.shape[axis]
    padded = _reflected(x, axis, 1)
    before, after = padded.narrow(axis, 0, count), padded.narrow(axis, 2, count)
    even = ((before + after) * (gain / 8)).add(x, alpha=gain * 6 / 8)
    odd = (x + after) * (gain / 2)
    return torch.stack([even, odd], axis).flatten(axis - 1, axis).narrow(axis, 0, size)
