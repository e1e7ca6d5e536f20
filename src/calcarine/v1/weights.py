"""Initial connection weights between two sheets, as dense matrices to look at and to compare with.

    gaussian   w = exp(-d^2 / (2 sigma^2))
    cloud      w = exp(-d^2 / (2 sigma^2)) U(0, 1)
    difference w = G_center / sum G_center - G_surround / sum G_surround      both for d <= radius

d is the distance between a source and the point that the unit looks at. Sheets of different sizes
cover the same field, corner on corner: unit i of h looks at linspace(0, H - 1, h)[i].

Axes    U = h w units, row by row | N = H W sources, row by row
Units   distances, sigmas and radii in source pixels
Source  miikkulainen2005
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.v1._local_fields import Shape, inside, positions, sheet

__all__ = ["difference_of_gaussians_weights", "gaussian_cloud_weights", "gaussian_weights"]


def gaussian_weights(
    source: Shape, target: Shape, sigma: float, *, dtype: torch.dtype | None = None
) -> Float[Tensor, "U N"]:
    """Return a Gaussian of the distance for every pair of a unit and a source.

    Args:
        source: Height and width of the sheet that is looked at.
        target: Height and width of the sheet of units.
        sigma: Standard deviation in source pixels.
        dtype: Of the result; torch's default without it.

    Raises:
        InputError: If a size or sigma is not positive.
    """
    squared = _squared_distances("gaussian_weights", source, target)
    return _gaussian("gaussian_weights", squared, sigma).to(dtype or torch.get_default_dtype())


def gaussian_cloud_weights(
    source: Shape,
    target: Shape,
    sigma: float,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "U N"]:
    """Return Gaussian weights times uniform noise from 0 to 1.

    Args:
        source: Height and width of the sheet that is looked at.
        target: Height and width of the sheet of units.
        sigma: Standard deviation in source pixels.
        generator: Source of the noise; torch's global one without it.
        dtype: Of the result; torch's default without it.

    Raises:
        InputError: If a size or sigma is not positive.
    """
    smooth = gaussian_weights(source, target, sigma, dtype=dtype)
    return smooth * torch.rand(smooth.shape, generator=generator, dtype=smooth.dtype)


def difference_of_gaussians_weights(
    source: Shape,
    target: Shape,
    sigma_center: float,
    sigma_surround: float,
    radius: float | None = None,
    *,
    on: bool = True,
    normalized: bool = True,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "U N"]:
    """Return centre minus surround for every unit.

    Args:
        source: Height and width of the sheet that is looked at.
        target: Height and width of the sheet of units.
        sigma_center: Standard deviation of the centre in source pixels.
        sigma_surround: Standard deviation of the surround in source pixels.
        radius: Largest distance in source pixels; ``None`` reaches everywhere.
        on: Whether the centre excites; otherwise the sign is turned.
        normalized: Whether each Gaussian sums to one over the field of a unit.
        dtype: Of the result; torch's default without it.

    Raises:
        InputError: If a size, sigma or radius is not positive, or a field is empty.
    """
    owner = "difference_of_gaussians_weights"
    squared = _squared_distances(owner, source, target)
    center, surround = (_gaussian(owner, squared, s) for s in (sigma_center, sigma_surround))
    if radius is not None:
        if not 0 < radius < math.inf:
            raise InputError(f"{owner} expected radius > 0 in source pixels, got {radius!r}.")
        kept = inside(squared, radius)
        if not kept.any(dim=1).all():
            raise InputError(
                f"{owner} expected every unit to see at least one source, but some fields are "
                f"empty at radius {radius}. Units between two sources need 0.71 or more."
            )
        center, surround = center * kept, surround * kept
    if normalized:
        center = center / center.sum(dim=1, keepdim=True)
        surround = surround / surround.sum(dim=1, keepdim=True)
    difference = center - surround if on else surround - center
    return difference.to(dtype or torch.get_default_dtype())


def _squared_distances(owner: str, source: Shape, target: Shape) -> Float[Tensor, "U N"]:
    (height, width), (rows, columns) = (
        sheet(owner, "source", source),
        sheet(owner, "target", target),
    )
    y = (positions(height, rows)[:, None] - torch.arange(height)).square()
    x = (positions(width, columns)[:, None] - torch.arange(width)).square()
    return (y[:, None, :, None] + x[None, :, None, :]).reshape(rows * columns, height * width)


def _gaussian(owner: str, squared: Tensor, sigma: float) -> Tensor:
    if not 0 < sigma < math.inf:
        raise InputError(f"{owner} expected sigmas > 0 in source pixels, got {sigma!r}.")
    return torch.exp(squared / (-2 * sigma**2))
