"""A cyclic colour map for orientations that red-green blind readers can read too.

    a = r cos t, b = r sin t, L = L0 - s cos t      in OKLab, passed at constant speed

A circle of hues at constant lightness collapses for readers without red-green vision: t and -t look
the same to them, because only b is left. Here lightness follows a, so that (L, b), what they see,
is an ellipse too, and no two orientations look alike; the hues are those that the field is used to
in the order red, yellow, green, blue. Steps in orientation are equal steps in OKLab.

Axes    N colours, evenly spaced over one turn | 3 sRGB
Source  ottosson2020 (OKLab); ours: the ellipse
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import linear_to_srgb
from calcarine.errors import require

if TYPE_CHECKING:
    from matplotlib.colors import ListedColormap

__all__ = ["cyclic_colors", "cyclic_map"]

_LIGHT, _RADIUS, _TILT = 0.7, 0.13, 0.12
_START = math.pi / 9  # the hue of orientation 0, horizontal: red

_TO_CUBE_ROOTS = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
_TO_LINEAR = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def cyclic_colors(count: int) -> Float[Tensor, "N 3"]:
    """Return sRGB colours in [0, 1], the first one again after the last."""
    fine = torch.linspace(0, 2 * math.pi, 20 * max(count, 64) + 1, dtype=torch.double) + _START
    path = oklab(fine)
    lengths = torch.cat([path.new_zeros(1), path.diff(dim=0).norm(dim=1).cumsum(0)])
    wanted = lengths[-1] * torch.arange(count, dtype=torch.double) / count
    after = torch.searchsorted(lengths, wanted).clamp(1, len(lengths) - 1)
    share = (wanted - lengths[after - 1]) / (lengths[after] - lengths[after - 1])
    lab = torch.lerp(path[after - 1], path[after], share[:, None])
    cones = (lab @ lab.new_tensor(_TO_CUBE_ROOTS).T) ** 3
    return linear_to_srgb((cones @ lab.new_tensor(_TO_LINEAR).T).clamp(0, 1))


def oklab(t: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
    """Return points of the ellipse."""
    a, b = _RADIUS * t.cos(), _RADIUS * t.sin()
    # Dark on the green side would be muddy, so the red side is the dark one.
    return torch.stack([_LIGHT - _TILT * t.cos(), a, b], 1)


def cyclic_map(count: int = 256) -> ListedColormap:
    """Return the colours as a matplotlib colour map."""
    module = require("matplotlib.colors", extra="viz", purpose="Plotting")
    return module.ListedColormap(cyclic_colors(count).numpy(), name="orientation")
