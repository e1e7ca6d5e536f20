"""Normalised Laplacian pyramid distance: early vision as subtraction and division.

    z_k = band k of the Laplacian pyramid (6 scales, means kept)          subtract the mean
    n_k = z_k / (sigma_k + w_k * |z_k|)                                   divide by the contrast
    nlpd(x, y) = mean over k of r(mean over pixels (n_k(x) - n_k(y))^2),  r(m) = sqrt(m + eps)
                                                                                 - sqrt(eps)

w_k are 5 x 5 weights of neighbours, zero beyond the border; with sigma_k they stand in
``normalized_laplacian.json`` as published with the papers, where they were fitted to photographs.
Every scale counts the same, so a pixel of a coarse scale counts more than one of a fine scale.
The root of the papers is r without eps; eps gives it a slope at identical images.

Axes    B batch | C channel (independent of each other) | H W rows down, columns right
Units   made for grey values in [0, 1]
Source  laparra2016 (model, distance); laparra2017 (the same for rendering)
"""

from __future__ import annotations

import json
from importlib import resources
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.probes._pairs import check_pair, smooth_root, warn_outside
from calcarine.v1.laplacian_pyramid import LaplacianPyramid

__all__ = ["nlpd", "normalized_laplacian"]


class Neighbour(NamedTuple):
    """Weight of a neighbour, so many pixels below and to the right."""

    down: int
    right: int
    weight: float


class Normalization(NamedTuple):
    """Division at one scale."""

    sigma: float
    neighbours: tuple[Neighbour, ...]


def nlpd(
    x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], *, epsilon: float = 1e-10
) -> Float[Tensor, "B C"]:
    """Return the normalised Laplacian pyramid distance: 0 for identical images.

    Values outside the range warn where that is free: on the CPU, outside of an optimisation.

    Args:
        x: Images with values in [0, 1], sides of at least 33 px.
        y: Images of the same shape, dtype and device.
        epsilon: Mean square below which the root bends into a parabola. Ours: 1e-10.

    Raises:
        ShapeError: If the shapes differ, are not 4-D, or a side is below 33 px.
        InputError: If dtypes or devices differ, or ``epsilon`` is not above 0.
    """
    check_pair("nlpd", x, y, ranks=(4,))
    if x.is_complex():
        raise InputError(f"nlpd expected real images, got {x.dtype}. Use mse for those.")
    if not epsilon > 0:
        raise InputError(f"nlpd expected epsilon > 0, got {epsilon!r}.")
    warn_outside("nlpd", 1.0, x, y)
    distances = []
    for band in normalized_laplacian(torch.cat([x, y])):
        ours, theirs = band.chunk(2)
        distances.append(smooth_root((ours - theirs).square().mean((-2, -1)), epsilon))
    return torch.stack(distances).mean(0)


def normalized_laplacian(image: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B C h w"]]:
    """Return the six normalised bands of an image, fine to coarse.

    Raises:
        ShapeError: If the image is not 4-D, or a side is below 33 px.
    """
    pyramid = LaplacianPyramid(len(_SCALES), keep_mean=True)
    if image.ndim == 4 and min(image.shape[-2:]) < pyramid.smallest_size:
        raise ShapeError(
            f"The normalised Laplacian pyramid (nlpd) expected sides of at least "
            f"{pyramid.smallest_size} px, so that its {len(_SCALES)} scales fit, got height "
            f"{image.shape[-2]} and width {image.shape[-1]}. Enlarge the images."
        )
    bands = pyramid(image)
    return [_divided(band, scale) for band, scale in zip(bands, _SCALES, strict=True)]


def _divided(band: Tensor, scale: Normalization) -> Tensor:
    height, width = band.shape[-2:]
    # Two pixels on every side, the reach of the published weights.
    contrast = F.pad(band.abs(), (2, 2, 2, 2))
    pool = torch.full_like(band, scale.sigma)
    for down, right, weight in scale.neighbours:
        shifted = contrast.narrow(-2, 2 + down, height).narrow(-1, 2 + right, width)
        pool = torch.add(pool, shifted, alpha=weight)
    return band / pool


def _read() -> tuple[Normalization, ...]:
    file = resources.files("calcarine.probes") / "normalized_laplacian.json"
    published = json.loads(file.read_text(encoding="utf-8"))
    scales = []
    for sigma, weights in zip(published["sigma"], published["filters"], strict=True):
        neighbours = [
            Neighbour(row - 2, column - 2, weight)
            for row, line in enumerate(weights)
            for column, weight in enumerate(line)
            if weight
        ]
        scales.append(Normalization(sigma, tuple(neighbours)))
    return tuple(scales)


# Read once, here: a file cannot be read inside a compiled graph, nor a cache looked up.
_SCALES = _read()
