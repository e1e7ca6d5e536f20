"""Code values of images and the light they stand for.

    Y      = 0.2126 R + 0.7152 G + 0.0722 B      luminance, of linear values

Files store code values, which are roughly even steps for the eye; averaging and weighting belong to
light. So images are made grey and made smaller here on linear values, and encoded again.

Axes    B batch | C channel, red green blue | H W rows down, columns right
Source  iec61966 (encoding, primaries and white point of sRGB)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from calcarine.color.transfer import linear_to_srgb, srgb_to_linear

__all__ = [
    "encoded_at",
    "luminance",
    "resize",
    "work_dtype",
]

LUMINANCE = (0.2126, 0.7152, 0.0722)


def luminance(code: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
    """Return the grey of equal luminance, as code values.

    The weights act on linear light and the result is encoded again, so an image whose channels are
    equal keeps its values. Weighting the code values themselves, as many libraries do, makes
    saturated colours too dark.
    """
    weights = code.new_tensor(LUMINANCE).reshape(3, 1, 1)
    return linear_to_srgb((srgb_to_linear(code) * weights).sum(-3, keepdim=True))


def resize(code: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Resize by averaging light under a triangle as wide as the reduction (no aliasing).

    The triangle cannot overshoot: the sharper cubic filters add bright and dark bands along edges,
    which a centre-surround cell would take for contrast.

    Args:
        code: sRGB code values in [0, 1].
        size: Height and width of the result [px].
    """
    if tuple(code.shape[-2:]) == size:
        return code
    return encoded_at(srgb_to_linear(code), size)


def encoded_at(linear: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Resize linear light in [0, 1] as :func:`resize` does, and return code values."""
    light = F.interpolate(linear, size=size, mode="bilinear", antialias=True, align_corners=False)
    return linear_to_srgb(light).clamp(0.0, 1.0)


def work_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the type to compute in: ``dtype`` itself, or double precision for the short ones."""
    return dtype if torch.finfo(dtype).bits >= 32 else torch.double
