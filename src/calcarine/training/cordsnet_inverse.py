"""A recurrence that reproduces a feed-forward step: the second step of training a CordsNet.

    r_0 = fed + b      r <- A * r + b + fed, three times      minimise
    mean (r_3 - z)^2 + 10 mean (A * A * A * (fed + b))^2

r_3 is the sum of the first four terms of (I - A)^-1 (fed + b), where the linear recurrence settles;
the second part keeps the terms after them small. fed and z are what an area of the folded twin
receives and makes of it, so every area learns on its own, whatever the others do.

Axes    B batch | C channels | H W rows down, columns right
Source  soo2024
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex.recurrent_area import AreaWeights

__all__ = ["InverseLoss", "inverse_loss"]


class InverseLoss(NamedTuple):
    """Both parts of the loss, without weights; ``power`` is that of the target, for comparison."""

    error: Float[Tensor, ""]
    remainder: Float[Tensor, ""]
    power: Float[Tensor, ""]

    def total(self, remainder_weight: float) -> Float[Tensor, ""]:
        """Return what is minimised."""
        return self.error + remainder_weight * self.remainder


def inverse_loss(
    area: AreaWeights,
    fed: Float[Tensor, "B C H W"],
    target: Float[Tensor, "B C H W"],
    terms: int = 3,
) -> InverseLoss:
    """Say how far the linear recurrence of an area is from a target.

    Args:
        area: The weights; its feed-forward kernel is not used.
        fed: What arrives through the feed-forward kernel.
        target: Where the recurrence should settle.
        terms: How often the recurrence acts. soo2024: 3.
    """
    start = fed + area.bias
    # A^n (fed + b) one after another: their sum is r_n, and the last is what must vanish.
    term, total = start, start
    for _ in range(terms):
        term = F.conv2d(term, area.recurrent, padding=1)
        total = total + term
    with torch.no_grad():
        power = target.square().mean()
    return InverseLoss((total - target).square().mean(), term.square().mean(), power)
