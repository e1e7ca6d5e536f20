"""Handwriting by other hands: pictures turned, sheared, stretched and moved a little, at random.

    x_source = R(angle) diag(stretch) S(shear) x + shift      bilinear, black around the picture

The result may have another size than the picture: it is then enlarged and distorted in one go, so
that nothing is interpolated twice.

Axes    B batch | C channel | H W rows down, columns right | h w the same, of the result
Units   degrees, pixels of the picture; stretch and shear relative; all uniform in -+ their limit
Source  simard2003 (affine distortion of digits); the limits are ours
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["drawn_affine", "jittered", "resampled"]


def drawn_affine(
    batch: int,
    generator: torch.Generator,
    *,
    size: tuple[int, int],
    rotation_deg: float,
    shear: float,
    stretch: float,
    shift_px: float,
) -> Float[Tensor, "B 2 3"]:
    """Draw the affine maps of a batch, from places in the result to places in the picture.

    Args:
        batch: How many.
        generator: CPU generator; six numbers per picture are drawn.
        size: Height and width of the pictures, px.
        rotation_deg: Largest angle.
        shear: Largest shear of columns along rows.
        stretch: Largest relative change of height and width.
        shift_px: Largest shift along rows and columns.

    Returns:
        Maps between coordinates that run from -1 to 1 over a picture, in double precision.
    """
    height, width = size
    drawn = 2 * torch.rand(6, batch, generator=generator, dtype=torch.float64) - 1
    angle = drawn[0] * math.radians(rotation_deg)
    across, down = 1 + stretch * drawn[2], 1 + stretch * drawn[3]
    slant = shear * drawn[1]
    cosine, sine = angle.cos(), angle.sin()
    x = [cosine * across, slant * cosine * across - sine * down, 2 * shift_px / width * drawn[4]]
    y = [sine * across, slant * sine * across + cosine * down, 2 * shift_px / height * drawn[5]]
    return torch.stack([torch.stack(x, -1), torch.stack(y, -1)], 1)


def resampled(
    pictures: Float[Tensor, "B C H W"],
    affine: Float[Tensor, "B 2 3"],
    size: tuple[int, int],
) -> Float[Tensor, "B C h w"]:
    """Return pictures seen through affine maps, at a size of choice.

    Args:
        pictures: What to distort.
        affine: A map for each, as :func:`drawn_affine` returns them.
        size: Height and width of the result, px.
    """
    shape = [*pictures.shape[:2], *size]
    grid = functional.affine_grid(affine.to(pictures), shape, align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)


def jittered(
    pictures: Float[Tensor, "B C H W"],
    generator: torch.Generator,
    *,
    rotation_deg: float,
    shear: float,
    stretch: float,
    shift_px: float,
) -> Float[Tensor, "B C H W"]:
    """Return pictures each distorted in its own way, their size kept.

    Args:
        pictures: What to distort.
        generator: CPU generator; six numbers per picture are drawn.
        rotation_deg: Largest angle.
        shear: Largest shear of columns along rows.
        stretch: Largest relative change of height and width.
        shift_px: Largest shift along rows and columns.
    """
    size = pictures.shape[-2], pictures.shape[-1]
    limits = {"rotation_deg": rotation_deg, "shear": shear, "stretch": stretch}
    affine = drawn_affine(len(pictures), generator, size=size, **limits, shift_px=shift_px)
    return resampled(pictures, affine, size)
