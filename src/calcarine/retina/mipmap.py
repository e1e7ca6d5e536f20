"""Sampling an image at scattered positions without aliasing.

    level   = log2(spacing in pixels), clamped to the pyramid
    sample  = (1 - f) bilinear(level l) + f bilinear(level l + 1),   l + f = level

Level 0 is the image; every further level averages 2 x 2 pixels of the one below, so that a cone
whose neighbours are 2^l pixels away reads an image blurred over 2^l pixels.

Axes    leading axes, C channels | R resolution of the square image | S cells along a side |
        positions (2, S, S) in [-1, 1], the border of the image at +-1
Source  williams1983
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import ShapeError

__all__ = ["check_square", "mipmap_sample", "resolution_for"]


def mipmap_sample(
    image: Float[Tensor, "*B C R R"],
    positions: Float[Tensor, "2 S S"],
    log2_spacing: Float[Tensor, "S S"],
    level_range: tuple[float, float],
) -> Float[Tensor, "*B C S S"]:
    """Sample a square image at every position, at the level of detail that its spacing asks for.

    Args:
        image: Any number of leading axes.
        positions: Where to sample.
        log2_spacing: Logarithm of the local spacing as a fraction of the width of the image.
        level_range: Smallest and largest ``log2_spacing``, as plain numbers, so that only the
            levels in use are visited and a GPU need not wait.
    """
    check_square(image)
    resolution = image.shape[-1]
    octaves = math.log2(resolution)
    top = int(octaves)
    level = (log2_spacing.to(image) + octaves).clamp(0, top)
    first = min(max(math.floor(level_range[0] + octaves), 0), top)
    last = min(max(math.ceil(level_range[1] + octaves), 0), top)
    pixels = image.flatten(0, -4) if image.ndim > 3 else image[None]
    grid = positions.to(image).movedim(0, -1).expand(pixels.shape[0], -1, -1, -1)
    sampled = None
    for index in range(last + 1):
        if index:
            # Halves an even side exactly, and spreads an odd one evenly.
            pixels = F.adaptive_avg_pool2d(pixels, (pixels.shape[-1] + 1) // 2)
        if index < first:
            continue
        samples = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        samples = samples * (1 - (level - index).abs()).clamp(min=0)
        sampled = samples if sampled is None else sampled + samples
    assert sampled is not None
    return sampled.reshape(*image.shape[:-2], *sampled.shape[-2:])


def resolution_for(smallest_spacing: float) -> int:
    """Power of two at which the closest cones are still a pixel apart.

    Args:
        smallest_spacing: Distance of the closest cones as a fraction of the width of the field.
    """
    # Rounding errors must not double the resolution of a regular lattice.
    return int(2 ** max(math.ceil(-math.log2(smallest_spacing) - 1e-6), 0))


def check_square(image: Tensor) -> None:
    """Raise ShapeError unless the image has axes (..., channel, height, width), height = width."""
    if image.ndim < 3 or image.shape[-1] != image.shape[-2]:
        raise ShapeError(
            "Cone sampling expected a square image with axes (..., channel, height, width), got "
            f"shape {tuple(image.shape)}. Crop the field of view first."
        )
