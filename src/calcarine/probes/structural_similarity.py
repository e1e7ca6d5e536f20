"""Structural similarity of two images, at one scale and at several.

    l  = (2 mx my + C1) / (mx^2 + my^2 + C1)          luminance,             C1 = (0.01 L)^2
    cs = (2 sxy + C2) / (sx^2 + sy^2 + C2)            contrast and structure, C2 = (0.03 L)^2
    ssim    = mean(l cs)          or, weighted, sum(w l cs) / sum(w),
              w = log((1 + sx^2 / C2) (1 + sy^2 / C2))
    ms_ssim = (mean(l cs) at the coarsest scale)^aM * product over finer scales of mean(cs)^ai,
              0 if a mean is negative

Local means m, variances s^2 and covariance sxy are taken under an 11 x 11 Gaussian window of
standard deviation 1.5 px, where it fits entirely into the image. L is the range of the values. The
next coarser scale holds the means of 2 x 2 pixels; an odd edge is repeated once.

Axes    B batch | C channel (independent of each other) | H W rows down, columns right
Units   similarity in [-1, 1]: 1 for identical images
Source  wang2004 (window, constants); wang2008 (weights); wang2003 (scales, exponents)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.probes._pairs import check_pair, warn_outside

__all__ = ["MS_SSIM_EXPONENTS", "ms_ssim", "ssim"]

WINDOW_PX, WINDOW_STD_PX = 11, 1.5  # wang2004
K1, K2 = 0.01, 0.03  # wang2004

_BELL = [math.exp(-(((k - WINDOW_PX // 2) / WINDOW_STD_PX) ** 2) / 2) for k in range(WINDOW_PX)]
_TAPS = tuple(value / sum(_BELL) for value in _BELL)

MS_SSIM_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Importance of the scales to human observers, finest first. wang2003."""


def ssim(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    data_range: float = 1.0,
    weighted: bool = False,
) -> Float[Tensor, "B C"]:
    """Return the structural similarity: 1 for identical images; ``1 - ssim`` is a distance.

    Values outside the range warn where that is free: on the CPU, outside of an optimisation.

    Args:
        x: Images.
        y: Images of the same shape, dtype and device.
        data_range: Largest possible value; values lie in [0, data_range].
        weighted: Whether places with more contrast count more, as in wang2008.

    Raises:
        ShapeError: If the shapes differ, are not 4-D, or a side is below 11 px.
        InputError: If dtypes or devices differ, or ``data_range`` is not above 0.
    """
    _check("ssim", x, y, data_range, scales=1)
    warn_outside("ssim", data_range, x, y)
    luminance, structure, weight = _maps(x, y, data_range, weighted=weighted)
    similarity = luminance * structure
    if weight is None:
        return similarity.mean((-2, -1))
    return (similarity * weight).sum((-2, -1)) / weight.sum((-2, -1))


def ms_ssim(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    *,
    data_range: float = 1.0,
    exponents: Sequence[float] = MS_SSIM_EXPONENTS,
) -> Float[Tensor, "B C"]:
    """Return the multi-scale structural similarity: 1 for identical images.

    Values outside the range warn where that is free: on the CPU, outside of an optimisation.

    Args:
        x: Images.
        y: Images of the same shape, dtype and device.
        data_range: Largest possible value; values lie in [0, data_range].
        exponents: One per scale, finest first.

    Raises:
        ShapeError: If the shapes differ, are not 4-D, or the coarsest scale (161 px at first, for
            five scales) is below 11 px.
        InputError: If dtypes or devices differ, ``data_range`` is not above 0, or there are no
            exponents.
    """
    if not exponents:
        raise InputError("ms_ssim expected at least one exponent, one per scale, got none.")
    _check("ms_ssim", x, y, data_range, scales=len(exponents))
    warn_outside("ms_ssim", data_range, x, y)
    *finer, coarsest = exponents
    similarity = x.new_ones(x.shape[:2])
    for exponent in finer:
        _, structure, _ = _maps(x, y, data_range)
        similarity = similarity * _power(structure.mean((-2, -1)), exponent)
        x, y = _halved(x), _halved(y)
    luminance, structure, _ = _maps(x, y, data_range)
    return similarity * _power((luminance * structure).mean((-2, -1)), coarsest)


def _check(owner: str, x: Tensor, y: Tensor, data_range: float, *, scales: int) -> None:
    check_pair(owner, x, y, ranks=(4,))
    if x.is_complex():
        raise InputError(f"{owner} expected real images, got {x.dtype}. Use mse for those.")
    if not 0 < data_range < math.inf:
        raise InputError(f"{owner} expected a finite data_range > 0, got {data_range!r}.")
    smallest = (WINDOW_PX - 1) * 2 ** (scales - 1) + 1
    if min(x.shape[-2:]) < smallest:
        fewer = " or pass fewer exponents" if scales > 1 else ""
        raise ShapeError(
            f"{owner} expected sides of at least {smallest} px, so that its {WINDOW_PX} x "
            f"{WINDOW_PX} window fits {'the coarsest scale' if scales > 1 else 'the image'}, got "
            f"height {x.shape[-2]} and width {x.shape[-1]}. Enlarge the images{fewer}."
        )


def _maps(
    x: Tensor, y: Tensor, data_range: float, *, weighted: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the maps of luminance, of contrast and structure, and (on request) of weights."""
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    squares = (x * x, y * y) if weighted else (x * x + y * y,)
    means = _windowed(torch.stack([x, y, x * y, *squares]))
    mx, my, mxy = means[0], means[1], means[2]
    product, power = mx * my, mx * mx + my * my
    both = means[3:].sum(0) - power
    luminance = (2 * product + c1) / (power + c1)
    structure = (2 * (mxy - product) + c2) / (both + c2)
    if not weighted:
        return luminance, structure, None
    # Rounding may leave a variance just below zero; two flat images get one weight everywhere.
    vx, vy = F.relu(means[3] - mx * mx), F.relu(means[4] - my * my)
    weight = torch.log1p(vx / c2) + torch.log1p(vy / c2) + torch.finfo(x.dtype).eps
    return luminance, structure, weight


def _windowed(images: Tensor) -> Tensor:
    """Return local means under the window, where it fits.

    Sums of shifted images: ten times faster than one-channel convolutions, and twenty times on the
    way back.
    """
    middle = WINDOW_PX // 2
    for axis in (-2, -1):
        size = images.shape[axis] - 2 * middle
        mean = images.narrow(axis, middle, size) * _TAPS[middle]
        for k in range(middle):
            pair = images.narrow(axis, k, size) + images.narrow(axis, 2 * middle - k, size)
            mean = torch.add(mean, pair, alpha=_TAPS[k])
        images = mean
    return images


def _halved(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    if height % 2 or width % 2:
        images = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(images, 2)


def _power(mean: Tensor, exponent: float) -> Tensor:
    """Return ``max(mean, 0) ** exponent`` with a gradient of zero, not NaN, below zero."""
    positive = mean > 0
    return torch.where(positive, mean, 1).pow(exponent) * positive
