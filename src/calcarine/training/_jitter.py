"""Handwriting by other hands: pictures turned, sheared, stretched and moved a little, at random.

    x_source = R(angle) diag(stretch) S(shear) x + shift      bilinear, black around the picture

Axes    B batch | C channel | H W rows down, columns right
Units   degrees, pixels; stretch and shear relative; all are uniform in -+ their limit
Source  simard2003 (affine distortion of digits); the limits are ours
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["jittered"]


def jittered(
    pictures: Float[Tensor, "B C H W"],
    generator: torch.Generator,
    *,
    rotation_deg: float,
    shear: float,
    stretch: float,
    shift_px: float,
) -> Float[Tensor, "B C H W"]:
    """Return pictures each distorted in its own way.

    Args:
        pictures: What to distort.
        generator: CPU generator; six numbers per picture are drawn.
        rotation_deg: Largest angle.
        shear: Largest shear of columns along rows.
        stretch: Largest relative change of height and width.
        shift_px: Largest shift along rows and columns.
    """
    batch, _, height, width = pictures.shape
    drawn = 2 * torch.rand(6, batch, generator=generator, dtype=torch.float64) - 1
    angle = drawn[0] * math.radians(rotation_deg)
    across, down = 1 + stretch * drawn[2], 1 + stretch * drawn[3]
    slant = shear * drawn[1]
    cosine, sine = angle.cos(), angle.sin()
    x = [cosine * across, slant * cosine * across - sine * down, 2 * shift_px / width * drawn[4]]
    y = [sine * across, slant * sine * across + cosine * down, 2 * shift_px / height * drawn[5]]
    affine = torch.stack([torch.stack(x, -1), torch.stack(y, -1)], 1).to(pictures)
    grid = functional.affine_grid(affine, list(pictures.shape), align_corners=False)
    return functional.grid_sample(pictures, grid, align_corners=False)
