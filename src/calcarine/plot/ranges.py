"""What is black and what is white: ranges of values of one picture, or shared by several.

    "shared"   lowest to highest value of all grey pictures, and of all colour pictures apart
    "each"     lowest to highest value of every picture
    (lo, hi)   given

The codes of published figures; x are the values of all grey pictures together for ``auto``, of
every picture by itself for ``indep``:

    auto0   indep0   -m .. m, m = max |x|; grey pictures are red above zero and blue below
    auto1   indep1   min x .. max x; ``auto`` is short for ``auto1``
    auto2   indep2   mean x - 2 s .. mean x + 2 s, s the standard deviation of x (over n, not n - 1)
    auto3   indep3   q10 - d .. q90 + d, d = (q90 - q10) / 8: the 10 % and 90 % quantiles of x come
                     to lie at 10 % and 90 % of the scale

Colour pictures with values in [0, 1] are shown as they are unless a range is given: stretching
would change their colours. Other colour pictures (differences, say) are stretched as grey ones are,
with a range of their own where one is shared; published figures clip those.

Axes    N pictures | C channel, 1 grey or 3 sRGB | H W rows down, columns right
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, suggestion

__all__ = ["Limits", "is_shared", "is_signed", "picture_ranges", "range_text"]

_Code = Literal[
    "shared", "each", "auto", "auto0", "auto1", "auto2", "auto3", "indep0", "indep1", "indep2",
    "indep3",
]  # fmt: skip
Limits = _Code | tuple[float, float]
"""How the range of pictures is chosen, see the module."""


def picture_ranges(
    pictures: Sequence[Float[Tensor, "C H W"]], limits: Limits
) -> list[tuple[float, float]]:
    """Return what is black and what is white in every picture, the first below the second.

    Args:
        pictures: Finite pictures in double precision.
        limits: See the module.

    Raises:
        InputError: If there is no such code, or a pair does not ascend.
    """
    if isinstance(limits, tuple):
        if len(limits) != 2 or not -math.inf < limits[0] < limits[1] < math.inf:
            raise InputError(f"image_grid expected limits as (low, high), got {limits!r}.")
        return [limits] * len(pictures)
    if limits not in get_args(_Code):
        close = suggestion(str(limits), get_args(_Code))
        raise InputError(
            f"image_grid expected limits as a pair (low, high) or one of "
            f"{', '.join(get_args(_Code))}, got {limits!r}.{close}"
        )
    chosen = []
    for picture in pictures:
        color = picture.shape[0] == 3
        if color and limits != "shared" and _is_plain(picture):
            chosen.append((0.0, 1.0))
            continue
        group = [p for p in pictures if (p.shape[0] == 3) == color]
        if color and limits != "shared":
            group = [p for p in group if not _is_plain(p)]
        alike = [p.flatten() for p in (group if is_shared(limits) else [picture])]
        low, high = _range(torch.cat(alike), limits)
        if color and limits == "shared" and low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        chosen.append((low, high if high > low else low + 1e-9 + abs(low) * 1e-6))
    return chosen


def is_shared(limits: Limits) -> bool:
    """Whether all grey pictures get the same range."""
    return isinstance(limits, tuple) or limits == "shared" or limits.startswith("auto")


def is_signed(limits: Limits) -> bool:
    """Whether the range is symmetric about zero, and drawn in red and blue."""
    return limits in ("auto0", "indep0")


def range_text(low: float, high: float) -> str:
    """Return a range as text for people, three digits each."""
    return f"[{low:.3g}, {high:.3g}]"


def _is_plain(picture: Tensor) -> bool:
    """Whether all values are in [0, 1]."""
    return bool(picture.min() >= 0 and picture.max() <= 1)


def _range(values: Float[Tensor, " N"], code: str) -> tuple[float, float]:
    """Return the range of values by the last character of a code."""
    kind = code[-1]
    if kind == "0":
        most = float(values.abs().max())
        return -most, most
    if kind == "2":
        mean, spread = float(values.mean()), float(values.std(correction=0))
        return mean - 2 * spread, mean + 2 * spread
    if kind == "3":
        # kthvalue-based interpolation: torch.quantile refuses more than 16 million values.
        low, high = _quantile(values, 0.1), _quantile(values, 0.9)
        return low - (high - low) / 8, high + (high - low) / 8
    return float(values.min()), float(values.max())


def _quantile(values: Float[Tensor, " N"], share: float) -> float:
    """Return a quantile, between two values by linear interpolation."""
    place = share * (values.numel() - 1)
    below = math.floor(place)
    low = float(values.kthvalue(below + 1).values)
    if place == below:
        return low
    return low + (place - below) * (float(values.kthvalue(below + 2).values) - low)
