"""Steerable pyramid: an image split into oriented bands one octave apart, and put together again.

    highpass   = X high_0
    band s, b  = X t_s high_(s+1) (-i)^n steer_b,     t_s = low_0 low_1 ... low_s
    lowpass    = X t_S                                S scales, n = order, b = 0..n

X is the Fourier transform of the image; ``high``, ``low`` and ``steer`` are the profiles of
:mod:`calcarine.v1._spectra`. The squares of all filters sum to one at every frequency, so the same
filters applied once more give the image back. A complex band adds the quadrature partner as its
imaginary part: its modulus is the local amplitude, its argument the local phase.

Axes    B batch | C channel, treated independently | O orientation | h w the band's size
Units   band ``b`` follows contours at ``orientations_deg[b]`` (0 = horizontal, counter-clockwise on
        screen); scale 0 is centred between 1/4 and 1/2 cycle per pixel, every further one an octave
        lower
Source  simoncelli1995; portilla2000, appendix A (complex bands)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError
from calcarine.v1._bank import FilterBank
from calcarine.v1._spectra import (
    crop,
    frequency_grid,
    half_size,
    high,
    oriented,
    pad,
    passed,
    to_image,
    to_spectrum,
)

__all__ = ["SteerablePyramid"]

Level = int | Literal["residual_highpass", "residual_lowpass"]

_HIGHEST_ORDER = 15  # beyond, the profiles are narrower than the frequency grid; ours


class SteerablePyramid(nn.Module):
    """Oriented band-pass filters at octave spacing, in the frequency domain, with exact inverse.

    Any image size works, odd ones too. Without ``tight_frame`` a down-sampled band keeps the values
    of its part of the spectrum, so a constant grows by 4 per scale (by 2 without down-sampling).

    Args:
        image_shape: Height and width of the images in pixels.
        height: Number of scales; ``"auto"`` takes as many as fit (the smallest side of the
            low-pass residual is then 4 to 8 pixels).
        order: Order of the directional derivative; there are ``order + 1`` orientations.
        is_complex: Add the quadrature partner as imaginary part. Needs ``order >= 1``.
        downsample: Halve the size of the bands from scale to scale.
        tight_frame: Keep energy instead of spectrum values: the squares of all bands sum to the
            squares of the image.

    Attributes:
        levels: The keys of the bands, from fine to coarse.
        orientations_deg: Preferred contour of every orientation, in degrees.

    Raises:
        InputError: If the settings are out of range or the image is too small for the height.
    """

    sources: ClassVar[tuple[str, ...]] = ("simoncelli1995", "portilla2000")

    def __init__(
        self,
        image_shape: tuple[int, int],
        height: int | Literal["auto"] = "auto",
        order: int = 3,
        is_complex: bool = False,
        downsample: bool = True,
        tight_frame: bool = False,
    ) -> None:
        super().__init__()
        self.image_shape = _checked_shape(image_shape)
        self.height = _checked_height(height, self.image_shape)
        self.order = _checked_order(order, is_complex)
        self.is_complex, self.downsample, self.tight_frame = is_complex, downsample, tight_frame
        self.levels: tuple[Level, ...] = (
            "residual_highpass",
            *range(self.height),
            "residual_lowpass",
        )
        self.orientations_deg = tuple((90 - 180 * b / (order + 1)) % 180 for b in range(order + 1))
        self.filters = FilterBank(self._filters)

    def size(self, level: Level) -> tuple[int, int]:
        """Return height and width of the bands of a level."""
        if level == "residual_highpass" or not self.downsample:
            return self.image_shape
        halvings = self.height if level == "residual_lowpass" else level
        assert isinstance(halvings, int)
        return half_size(self.image_shape, halvings)

    def forward(
        self, image: Float[Tensor, "B C H W"], scales: Sequence[Level] | None = None
    ) -> dict[Level, Tensor]:
        """Split images into bands.

        Args:
            image: Images of size ``image_shape``.
            scales: The levels wanted; ``None`` for all.

        Returns:
            Level -> band from fine to coarse: ``"residual_highpass"``, 0, 1, ...,
            ``"residual_lowpass"``. Residuals have axes (B, C, h, w), scales (B, C, O, h, w).

        Raises:
            ShapeError: If the images have another size.
            InputError: If a wanted level does not exist.
        """
        self._check_image(image)
        wanted = self.levels if scales is None else self._checked_levels(scales)
        spectrum = torch.fft.fft2(image) if self.is_complex else to_spectrum(image)
        return {level: self._band(spectrum, level) for level in wanted}

    def reconstruct(
        self,
        bands: Mapping[Level, Tensor],
        levels: Sequence[Level] | None = None,
        orientations: Sequence[int] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Put images together again, from all bands or some.

        Args:
            bands: What :meth:`forward` returned, possibly changed.
            levels: Levels to use; ``None`` for all.
            orientations: Orientations to use; ``None`` for all.

        Raises:
            InputError: If a level or an orientation to use is missing.
            ShapeError: If a band has another size.
        """
        wanted = self.levels if levels is None else self._checked_levels(levels)
        total: Tensor | None = None
        for level in wanted:
            if level not in bands:
                raise InputError(
                    f"SteerablePyramid expected the level {level!r} among the bands, got "
                    f"{list(bands)}. Call forward without scales, or name the levels to use."
                )
            part = self._spectrum_of(bands[level], level, orientations)
            total = part if total is None else total + part
        if total is None:
            raise InputError("SteerablePyramid expected at least one level to reconstruct from.")
        return to_image(total, self.image_shape[1])

    def pack(self, bands: Mapping[Level, Tensor]) -> Float[Tensor, "B N H W"]:
        """Lay all bands of equal size side by side as channels.

        ``lambda image: pyramid.pack(pyramid(image))`` is a model that probes can take. The channels
        of one image channel follow each other: level by level, orientation by orientation, a
        complex orientation as real and imaginary part.

        Raises:
            ShapeError: If the bands differ in size.
        """
        sizes = {tuple(band.shape[-2:]) for band in bands.values()}
        if len(sizes) != 1:
            raise ShapeError(
                "pack expected bands of one size, got "
                f"{', '.join(f'{h} x {w}' for h, w in sorted(sizes)) or 'no bands'}. Build the "
                "pyramid with downsample=False, or pack one level at a time."
            )
        return torch.cat([_as_channels(band) for band in bands.values()], dim=2).flatten(1, 2)

    def unpack(
        self, packed: Float[Tensor, "B N H W"], scales: Sequence[Level] | None = None
    ) -> dict[Level, Tensor]:
        """Undo :meth:`pack`.

        Args:
            packed: What :meth:`pack` returned.
            scales: The levels it holds; ``None`` for all.

        Raises:
            ShapeError: If the channels are not a multiple of what these levels hold.
        """
        wanted = self.levels if scales is None else self._checked_levels(scales)
        parts = (self.order + 1) * (2 if self.is_complex else 1)
        counts = [1 if isinstance(level, str) else parts for level in wanted]
        if packed.ndim != 4 or packed.shape[1] % sum(counts):
            raise ShapeError(
                f"unpack expected axes (batch, a multiple of {sum(counts)} channels, height, "
                f"width) for the levels {list(wanted)}, got shape {tuple(packed.shape)}."
            )
        pieces = packed.unflatten(1, (-1, sum(counts))).split(counts, dim=2)
        return {
            level: self._as_band(piece, level) for level, piece in zip(wanted, pieces, strict=True)
        }

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"image_shape={self.image_shape}, height={self.height}, order={self.order}, "
            f"is_complex={self.is_complex}, downsample={self.downsample}, "
            f"tight_frame={self.tight_frame}"
        )

    def _as_band(self, piece: Tensor, level: Level) -> Tensor:
        if isinstance(level, str):
            return piece.squeeze(2)
        if not self.is_complex:
            return piece
        real, imaginary = piece.unflatten(2, (-1, 2)).unbind(3)
        return torch.complex(real, imaginary)

    def _gain(self, level: Level) -> float:
        """Return what the values of a level are multiplied by."""
        if not self.tight_frame:
            octaves = self.height if level == "residual_lowpass" else level
            return 1.0 if self.downsample or isinstance(octaves, str) else 2.0**octaves
        gain = math.sqrt(math.prod(self.size(level)) / math.prod(self.image_shape))
        return gain / math.sqrt(2) if self.is_complex and not isinstance(level, str) else gain

    def _filters(self) -> dict[str, Tensor]:
        """Compute the filters of all levels on half spectra, and those of complex bands."""
        return {f"real_{level}": self._filter(level) for level in self.levels} | {
            f"complex_{level}": self._complex_filter(level)
            for level in (self.levels[1:-1] if self.is_complex else ())
        }

    def _filter(self, level: Level) -> Tensor:
        grid = frequency_grid(self.size(level), self.image_shape)
        if level == "residual_highpass":
            filters = high(grid.radius, 0)[None] + 0j
        elif level == "residual_lowpass":
            filters = passed(grid.radius, self.height)[None] + 0j
        else:
            filters = oriented(grid, level, self.order)
        return self._gain(level) * filters

    def _complex_filter(self, level: Level) -> Tensor:
        grid = frequency_grid(self.size(level), self.image_shape, half=False)
        real, imaginary = oriented(grid, int(level), self.order, quadrature=True).chunk(2)
        return self._gain(level) * (real + 1j * imaginary)

    def _band(self, spectrum: Tensor, level: Level) -> Tensor:
        size, dtype = self.size(level), spectrum.real.dtype
        if self.is_complex and not isinstance(level, str):
            inner = crop(spectrum, size, half=False)[:, :, None]
            return torch.fft.ifft2(inner * self.filters.table(f"complex_{level}", dtype))
        inner = crop(spectrum[..., : self.image_shape[1] // 2 + 1], size)[:, :, None]
        band = to_image(inner * self.filters.table(f"real_{level}", dtype), size[1])
        return band.squeeze(2) if isinstance(level, str) else band

    def _spectrum_of(
        self, band: Tensor, level: Level, orientations: Sequence[int] | None
    ) -> Tensor:
        """Return the part of the image's spectrum that a band stands for."""
        self._check_band(band, level)
        # The quadrature partner holds nothing that the real part does not.
        band = band.real if band.is_complex() else band
        filters = self.filters.table(f"real_{level}", band.dtype).conj() / self._gain(level) ** 2
        if isinstance(level, str):
            return pad(to_spectrum(band) * filters[0], self.image_shape)
        if orientations is not None:
            chosen = self._checked_orientations(orientations)
            band, filters = band[:, :, chosen], filters[chosen]
        return pad((to_spectrum(band) * filters).sum(dim=2), self.image_shape)

    def _check_image(self, image: Tensor) -> None:
        if image.ndim != 4 or not image.is_floating_point():
            raise ShapeError(
                "SteerablePyramid expected floating-point images with axes (batch, channel, "
                f"height, width), got {image.dtype} of shape {tuple(image.shape)}. For one grey "
                "image pass image[None, None]."
            )
        if tuple(image.shape[-2:]) != self.image_shape:
            raise ShapeError(
                f"SteerablePyramid expected images of {_times(self.image_shape)} pixels, got "
                f"{_times(image.shape[-2:])}. Build one for this size, or resize the image."
            )

    def _check_band(self, band: Tensor, level: Level) -> None:
        oriented = () if isinstance(level, str) else (self.order + 1,)
        expected = (*oriented, *self.size(level))
        if band.ndim != 2 + len(expected) or tuple(band.shape[2:]) != expected:
            raise ShapeError(
                f"SteerablePyramid expected the level {level!r} with axes (batch, channel, "
                f"{', '.join(map(str, expected))}), got shape {tuple(band.shape)}."
            )

    def _checked_levels(self, levels: Sequence[Level]) -> tuple[Level, ...]:
        unknown = [level for level in levels if level not in self.levels]
        if unknown or isinstance(levels, str):
            raise InputError(
                f"SteerablePyramid expected a sequence of levels among {list(self.levels)}, got "
                f"{levels!r}."
            )
        return tuple(level for level in self.levels if level in levels)

    def _checked_orientations(self, orientations: Sequence[int]) -> list[int]:
        chosen = list(orientations)
        if not all(0 <= b <= self.order for b in chosen):
            raise InputError(
                f"SteerablePyramid expected orientations between 0 and {self.order}, got {chosen}."
            )
        return chosen


def _times(size: Iterable[int]) -> str:
    return " x ".join(str(side) for side in size)


def _as_channels(band: Tensor) -> Tensor:
    """Return a band with axes (B, C, channels, h, w), complex values as two channels."""
    if band.ndim == 4:
        return band[:, :, None]
    if band.is_complex():
        return torch.stack([band.real, band.imag], dim=3).flatten(2, 3)
    return band


def _checked_shape(image_shape: Any) -> tuple[int, int]:
    sides = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
        raise InputError(
            "SteerablePyramid expected image_shape=(height, width) in whole pixels, got "
            f"{image_shape!r}."
        )
    return sides


def _checked_height(height: int | Literal["auto"], image_shape: tuple[int, int]) -> int:
    # The coarsest band then has at least 8 pixels per side, which holds one period of it.
    highest = min(image_shape).bit_length() - 3
    if highest < 0 or (highest < 1 and height == "auto"):
        raise InputError(
            f"SteerablePyramid expected images of at least 8 x 8 pixels, got {_times(image_shape)}."
        )
    if height == "auto":
        return highest
    if not isinstance(height, int) or isinstance(height, bool) or not 0 <= height <= highest:
        raise InputError(
            f"SteerablePyramid expected a height between 0 and {highest} for images of "
            f"{_times(image_shape)} pixels (or 'auto'), got {height!r}."
        )
    return height


def _checked_order(order: int, is_complex: bool) -> int:
    if not isinstance(order, int) or isinstance(order, bool) or not 0 <= order <= _HIGHEST_ORDER:
        raise InputError(
            f"SteerablePyramid expected an order between 0 and {_HIGHEST_ORDER}, got {order!r}."
        )
    if order == 0 and is_complex:
        raise InputError(
            "SteerablePyramid expected order >= 1 for complex bands: a filter without orientation "
            "has no quadrature partner. Pass order=1 or more, or is_complex=False."
        )
    return order
