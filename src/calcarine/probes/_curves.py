"""Reading widths off sampled curves, all units at once.

Axes    U units | n samples of a curve, in growing order
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["distance_to_fall", "value_across"]


def distance_to_fall(
    curve: Float[Tensor, "U n"],
    places: Float[Tensor, " n"],
    level: float,
    step: int,
    period: float | None = None,
) -> Float[Tensor, " U"]:
    """Walk from the peak until the curve falls to a share of it, interpolating linearly.

    Args:
        curve: Heights.
        places: Where they were taken, growing.
        level: Share of the peak.
        step: 1 to walk up the axis, -1 to walk down.
        period: Length of a circular axis; ``None`` for one with two ends.

    Returns:
        The distance, NaN where the curve does not fall that far.
    """
    n = len(places)
    walk = curve.argmax(1).cpu()[:, None] + step * torch.arange(n)
    inside = torch.ones_like(walk, dtype=torch.bool)
    if period is None:
        inside = (walk >= 0) & (walk < n)
    walk = walk.remainder(n) if period is not None else walk.clamp(0, n - 1)
    heights = curve.gather(1, walk) / curve.amax(1, keepdim=True)
    distances = step * (places[walk] - places[walk[:, :1]])
    distances = distances if period is None else distances.remainder(period)
    below = (heights < level) & inside
    after = below.to(torch.long).argmax(1, keepdim=True).clamp(max=n - 1, min=min(1, n - 1))
    far, near = distances.gather(1, after), distances.gather(1, (after - 1).clamp(min=0))
    low, high = heights.gather(1, after), heights.gather(1, (after - 1).clamp(min=0))
    crossing = near + (far - near) * (high - level) / (high - low)
    return torch.where(below.any(1, keepdim=True), crossing, math.nan).squeeze(1)


def value_across(curve: Float[Tensor, "U n"], angles_deg: Float[Tensor, " n"]) -> Tensor:
    """Return the height 90 degrees from the peak of a curve over orientation, interpolated."""
    order = angles_deg.remainder(180).argsort()
    angles, curve = angles_deg.remainder(180)[order], curve[:, order]
    peak = angles[curve.argmax(1)]
    angles = torch.cat([angles, angles[:1] + 180])
    curve = torch.cat([curve, curve[:, :1]], 1)
    across = (peak + 90 - angles[0]).remainder(180) + angles[0]
    after = torch.searchsorted(angles, across, right=True).clamp(1, len(angles) - 1)
    share = (across - angles[after - 1]) / (angles[after] - angles[after - 1])
    before = curve.gather(1, after[:, None] - 1).squeeze(1)
    return torch.lerp(before, curve.gather(1, after[:, None]).squeeze(1), share)
