"""Gain control: a response divided by what surrounds it.

    n = c / (1 + luminance_scalar * lum)
    v = n / (1 + contrast_scalar * (sqrt(G(contrast_std) * n^2) + 1e-6))

Axes    B batch | C channel | H W image
Source  berardino2017
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.lgn.gaussian import Gaussian

__all__ = ["contrast_gain", "luminance_gain"]

_FLOOR = 1e-6
"""Added to the local contrast, so that it is never zero. berardino2017."""


def luminance_gain(
    linear: Float[Tensor, "B C H W"],
    luminance: Float[Tensor, "B C H W"],
    scalar: Float[Tensor, "C"],
) -> Float[Tensor, "B C H W"]:
    """Divide a linear response by the local luminance."""
    return linear / (1 + scalar.to(linear.dtype)[:, None, None] * luminance)


def contrast_gain(
    response: Float[Tensor, "B C H W"], pool: Gaussian, scalar: Float[Tensor, "C"]
) -> Float[Tensor, "B C H W"]:
    """Divide a response by the local contrast, the root of its pooled square."""
    power = pool(response * response, positive=True)
    # The root has no slope at zero: where nothing responds, contrast has no gradient either.
    contrast = power.clamp_min(torch.finfo(power.dtype).tiny).sqrt() + _FLOOR
    return response / (1 + scalar.to(response.dtype)[:, None, None] * contrast)
