"""Texture statistics: what pooling over the whole image leaves of oriented filter responses.

    z_sb             complex band of scale s and orientation b of the steerable pyramid
    a_sb             |z_sb| less its mean
    l_s              the image's content below scale s, down to the low-pass residual, less its mean
    d_sb = z^2/|z|   with z band b of scale s + 1 on the grid of scale s: phase doubled
    pixels           mean, variance, skewness, kurtosis, range
    per scale        autocorrelation, standard deviation and cross-correlation of a_sb;
                     correlation of a_sb with |d_sb'| and of Re z_sb with Re d_sb', Im d_sb';
                     skewness, kurtosis, autocorrelation and standard deviation of l_s

All averages are over the whole image, which is taken to wrap around. Values have the scale of the
pyramid without ``tight_frame``: amplitudes grow by 4 per scale.

Axes    B batch | C channel | n statistic;  inside: N batch and channel, O orientation, L lag
Source  portilla2000
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.models._texture_layout import TextureScale, kept_lags, layout
from calcarine.models._texture_moments import (
    autocorrelation,
    column_waves,
    inverse_deviation,
    moments,
    pixel_statistics,
    power,
    root,
    row_waves,
)
from calcarine.stage import Stage
from calcarine.v1._bank import FilterBank
from calcarine.v1._spectra import (
    crop,
    frequency_grid,
    half_weights,
    high,
    oriented,
    passed,
    to_image,
    to_spectrum,
)
from calcarine.v1.steerable_pyramid import SteerablePyramid

__all__ = ["PortillaSimoncelli"]

_ROUNDING = 30.0  # rounding errors, in units of the dtype's epsilon, that no statistic sees; ours


class PortillaSimoncelli(Stage):
    """All statistics of a texture in one vector.

    Any image size works, as long as the low-pass residual is as large as the window of the
    autocorrelations. Where an image has no content at a scale, correlations are 0, skewness is 0
    and kurtosis 3.

    Args:
        image_shape: Height and width of the images in pixels.
        n_scales: Scales of the pyramid. portilla2000.
        n_orientations: Orientations of the pyramid, at least 2. portilla2000.
        spatial_corr_width: Side of the window of lags of the autocorrelations, in samples of each
            scale. portilla2000 uses 9 in most examples.

    Attributes:
        scales: Groups of statistics in coarse-to-fine order, for ``forward(scales=)``.
        statistic_names: The keys of the dict form in the order of the vector.
        statistic_scales: The scale of every entry of the vector.

    Raises:
        InputError: If the settings are out of range or the image is too small for them.
    """

    sources: ClassVar[tuple[str, ...]] = ("portilla2000", "simoncelli1995")
    _lags: Tensor
    _pairs: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int],
        n_scales: int = 4,
        n_orientations: int = 4,
        spatial_corr_width: int = 9,
    ) -> None:
        super().__init__()
        _check_counts(n_scales, n_orientations, spatial_corr_width)
        pyramid = SteerablePyramid(image_shape, n_scales, n_orientations - 1, is_complex=True)
        self.image_shape, self.n_scales = pyramid.image_shape, n_scales
        self.n_orientations, self.spatial_corr_width = n_orientations, spatial_corr_width
        self._sizes = [pyramid.size(level) for level in pyramid.levels[1:]]
        if min(self._sizes[-1]) < spatial_corr_width:
            raise InputError(
                f"PortillaSimoncelli expected a spatial_corr_width of at most "
                f"{min(self._sizes[-1])}, the smaller side of the low-pass residual of "
                f"{self.image_shape[0]} x {self.image_shape[1]} pixels after {n_scales} scales, "
                f"got {spatial_corr_width}. Take larger images, fewer scales or a smaller width."
            )
        self.scales: tuple[TextureScale, ...] = (
            "pixel_statistics",
            "residual_lowpass",
            *reversed(range(n_scales)),
            "residual_highpass",
        )
        self._parts = layout(n_scales, n_orientations, spatial_corr_width)
        self.statistic_names = tuple(part.name for part in self._parts)
        self.statistic_scales = tuple(s for part in self._parts for s in part.kept_scales)
        self.tables = FilterBank(self._tables)
        lags = kept_lags(spatial_corr_width)
        self.register_buffer("_lags", lags, persistent=False)
        pairs = torch.tril_indices(n_orientations, n_orientations, -1)
        self.register_buffer("_pairs", pairs, persistent=False)

    def forward(
        self, image: Float[Tensor, "B C H W"], scales: Sequence[TextureScale] | None = None
    ) -> Float[Tensor, "B C n"]:
        """Measure the statistics of every image and channel.

        Args:
            image: Images of size ``image_shape``.
            scales: Groups of statistics to keep, some of ``self.scales``; ``None`` keeps all.

        Raises:
            ShapeError: If the images have another size.
            InputError: If a wanted scale does not exist.
        """
        self._check_image(image)
        pixels = image.flatten(0, 1)
        floor = _rounding_floor(pixels)
        spectrum = to_spectrum(pixels)
        measured = {"pixel_statistics": pixel_statistics(pixels, floor)}
        measured |= _stacked([self._content(spectrum, s, floor) for s in range(self.n_scales + 1)])
        bands = [self._bands(spectrum, scale, floor) for scale in range(self.n_scales)]
        measured |= _stacked(bands)
        weights = self.tables.table("highpass", pixels.dtype)
        measured["var_highpass_residual"] = (power(spectrum) * weights).sum((-2, -1))[:, None]
        ordered = [measured[name].flatten(1) for name in self.statistic_names]
        vector = torch.cat(ordered, dim=1).unflatten(0, image.shape[:2])
        return vector if scales is None else self.keep(vector, scales)

    def keep(
        self, vector: Float[Tensor, "B C n"], scales: Sequence[TextureScale]
    ) -> Float[Tensor, "B C m"]:
        """Return the entries of a vector that belong to some groups of statistics.

        Raises:
            InputError: If a wanted scale does not exist.
        """
        unknown = [scale for scale in scales if scale not in self.scales]
        if unknown or isinstance(scales, str):
            raise InputError(
                f"PortillaSimoncelli expected a sequence of scales among {list(self.scales)}, got "
                f"{scales!r}."
            )
        kept = [i for i, scale in enumerate(self.statistic_scales) if scale in scales]
        return vector[..., torch.tensor(kept, device=vector.device)]

    def statistics(self, image: Float[Tensor, "B C H W"]) -> dict[str, Tensor]:
        """Return the statistics by name; see :meth:`to_dict`."""
        return self.to_dict(self(image))

    def to_dict(self, vector: Float[Tensor, "B C n"]) -> dict[str, Tensor]:
        """Sort the entries of the vector into arrays by name.

        Entries that symmetry makes redundant, and those that are always one, are NaN. Lags run
        along two axes from ``-(width // 2)``; scales run along the last axis, fine to coarse.

        Raises:
            ShapeError: If the vector does not hold all statistics.
        """
        if vector.ndim != 3 or vector.shape[-1] != len(self.statistic_scales):
            raise ShapeError(
                "PortillaSimoncelli expected a vector with axes (batch, channel, "
                f"{len(self.statistic_scales)}), got shape {tuple(vector.shape)}. The vector of "
                "some scales only has no dict form."
            )
        pieces = vector.split([part.length for part in self._parts], dim=-1)
        arrays = {}
        for part, piece in zip(self._parts, pieces, strict=True):
            array = vector.new_full((*vector.shape[:2], *part.kept.shape), float("nan"))
            array[:, :, part.kept.to(vector.device)] = piece
            arrays[part.name] = array
        return arrays

    def to_vector(self, statistics: Mapping[str, Tensor]) -> Float[Tensor, "B C n"]:
        """Undo :meth:`to_dict`.

        Raises:
            InputError: If names are missing or unknown.
            ShapeError: If an array has other axes.
        """
        if set(statistics) != set(self.statistic_names):
            raise InputError(
                f"PortillaSimoncelli expected the statistics {', '.join(self.statistic_names)}, "
                f"got {', '.join(statistics) or 'none'}."
            )
        pieces = []
        for part in self._parts:
            array = statistics[part.name]
            if tuple(array.shape[2:]) != tuple(part.kept.shape):
                raise ShapeError(
                    f"PortillaSimoncelli expected {part.name} with axes (batch, channel, "
                    f"{', '.join(map(str, part.kept.shape))}), got shape {tuple(array.shape)}."
                )
            pieces.append(array[:, :, part.kept.to(array.device)])
        return torch.cat(pieces, dim=-1)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"image_shape={self.image_shape}, n_scales={self.n_scales}, "
            f"n_orientations={self.n_orientations}, spatial_corr_width={self.spatial_corr_width}"
        )

    def _content(self, spectrum: Tensor, scale: int, floor: Tensor) -> dict[str, Tensor]:
        """Measure what the image holds below a scale."""
        size = self._sizes[scale]
        content = crop(spectrum, size) * self.tables.table(f"content_{scale}", floor.dtype)
        lags, variance = self._autocorrelation(power(content), scale)
        floor = floor * 16.0**scale
        skew, kurtosis = moments(to_image(content, size[1]), variance, variance > floor)
        return {
            "auto_correlation_reconstructed": lags
            * inverse_deviation(variance, floor)[:, None] ** 2,
            "std_reconstructed": root(variance, floor),
            "skew_reconstructed": skew,
            "kurtosis_reconstructed": kurtosis,
        }

    def _bands(self, spectrum: Tensor, scale: int, floor: Tensor) -> dict[str, Tensor]:
        """Measure the bands of a scale, and how they go with those of the next coarser one."""
        size = self._sizes[scale]
        floor = floor[:, None] * 16.0**scale
        cropped = crop(spectrum, size)[:, None]
        real, imaginary = self._band(cropped, f"bands_{scale}")
        centred = _centred(_modulus(real, imaginary))
        lags, variance = self._autocorrelation(power(to_spectrum(centred)), scale)
        inverse = inverse_deviation(variance, floor)
        correlation = _correlation(centred, centred, inverse, inverse)
        measured = {
            "auto_correlation_magnitude": (lags * inverse[:, :, None] ** 2).mT,
            "cross_orientation_correlation_magnitude": correlation[
                :, self._pairs[0], self._pairs[1]
            ],
            "magnitude_std": root(variance, floor),
        }
        if scale < self.n_scales - 1:
            parts = self._band(cropped, f"coarser_{scale}")
            modulus = _modulus(*parts)
            other = _centred(modulus)
            measured["cross_scale_correlation_magnitude"] = _correlation(
                centred, other, inverse, inverse_deviation(_mean_square(other), floor)
            )
            inverse = inverse_deviation(_mean_square(real), floor)
            measured["cross_scale_correlation_real"] = torch.cat(
                [
                    _correlation(real, d, inverse, inverse_deviation(_mean_square(d), floor))
                    for d in _phase_doubled(*parts, modulus)
                ],
                dim=-1,
            )
        return measured

    def _band(self, cropped: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Return real and imaginary parts of the bands of one scale on the grid of ``cropped``."""
        width = self._sizes[int(name.split("_")[1])][1]
        filters = self.tables.table(name, cropped.real.dtype)
        real, imaginary = filters.chunk(2)
        return to_image(cropped * real, width), to_image(cropped * imaginary, width)

    def _autocorrelation(self, powers: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        rows = self.tables.table(f"rows_{scale}", powers.dtype)
        columns = self.tables.table(f"columns_{scale}", powers.dtype)
        return autocorrelation(powers, rows, columns, self._lags)

    def _tables(self) -> dict[str, Tensor]:
        """Compute the filters on the grid of every scale and the waves of its lags."""
        order, reach = self.n_orientations - 1, self.spatial_corr_width // 2 + 1
        tables = {}
        for scale, size in enumerate(self._sizes):
            grid = frequency_grid(size, self.image_shape)
            # Filtered twice, as by a pyramid taken apart and put together, and without the mean.
            content = passed(grid.radius, scale) ** 2 * (grid.radius > 0)
            tables[f"content_{scale}"] = content + 0j
            tables[f"rows_{scale}"] = row_waves(size[0], reach)
            tables[f"columns_{scale}"] = column_waves(size[1], reach)
            if scale < self.n_scales:
                tables[f"bands_{scale}"] = oriented(grid, scale, order, quadrature=True)
            if scale < self.n_scales - 1:
                tables[f"coarser_{scale}"] = oriented(grid, scale + 1, order, quadrature=True)
        height, width = self.image_shape
        residual = high(frequency_grid((height, width), (height, width)).radius, 0) ** 2
        tables["highpass"] = (
            residual * half_weights(width) / (height * width) ** 2
        ).repeat_interleave(2, 1)
        return tables

    def _check_image(self, image: Tensor) -> None:
        if image.ndim != 4 or not image.is_floating_point():
            raise ShapeError(
                "PortillaSimoncelli expected floating-point images with axes (batch, channel, "
                f"height, width), got {image.dtype} of shape {tuple(image.shape)}."
            )
        if tuple(image.shape[-2:]) != self.image_shape:
            height, width = self.image_shape
            raise ShapeError(
                f"PortillaSimoncelli expected images of {height} x {width} pixels, got "
                f"{image.shape[-2]} x {image.shape[-1]}. Build one for this size, or resize the "
                "image."
            )


def _nothing(dtype: torch.dtype) -> float:
    """Return a power far below any that can be told from zero beside a pixel value of one."""
    return torch.finfo(dtype).eps ** 3


def _rounding_floor(pixels: Tensor) -> Float[Tensor, "N"]:
    """Return the variance up to which the finest scale may hold nothing but rounding errors."""
    share = (_ROUNDING * torch.finfo(pixels.dtype).eps) ** 2
    return share * pixels.square().mean((-2, -1)) + _nothing(pixels.dtype)


def _stacked(measured: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join the statistics of all scales along a last axis; some lack the coarsest."""
    return {
        name: torch.stack([scale[name] for scale in measured if name in scale], dim=-1)
        for name in measured[0]
    }


def _modulus(real: Tensor, imaginary: Tensor) -> Tensor:
    # The modulus has no gradient at zero: the addend gives it one, far below any value.
    return (real * real + imaginary * imaginary + _nothing(real.dtype)).sqrt()


def _centred(signals: Tensor) -> Tensor:
    return signals - signals.mean((-2, -1), keepdim=True)


def _mean_square(signals: Tensor) -> Tensor:
    return (signals * signals).mean((-2, -1))


def _phase_doubled(real: Tensor, imaginary: Tensor, modulus: Tensor) -> tuple[Tensor, Tensor]:
    """Return real and imaginary parts of ``z^2 / |z|``."""
    inverse = 1 / modulus
    cosine, sine = real * inverse, imaginary * inverse
    return real * cosine - imaginary * sine, 2 * (real * sine)


def _correlation(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    """Correlate every signal in ``a`` with every one in ``b``, given one over their deviations."""
    products = a.flatten(-2) @ b.flatten(-2).mT / (a.shape[-2] * a.shape[-1])
    return products * of_a[:, :, None] * of_b[:, None, :]


def _check_counts(n_scales: int, n_orientations: int, spatial_corr_width: int) -> None:
    counts = {
        "n_scales": (n_scales, 1),
        "n_orientations": (n_orientations, 2),
        "spatial_corr_width": (spatial_corr_width, 1),
    }
    for name, (value, least) in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(
                f"PortillaSimoncelli expected {name} to be a whole number of at least {least}, got "
                f"{value!r}."
            )
