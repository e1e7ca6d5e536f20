"""How sure a share is that was counted: Wilson's interval.

    centre +- half = (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)      p = k/n

Unlike p +- z sqrt(p (1 - p)/n) it stays within 0..1 and has a width where p is 0 or 1.

Source  wilson1927
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from calcarine.errors import InputError

__all__ = ["standard_error", "wilson"]


def wilson(
    counted: Shaped[Tensor, "*S"], of: Tensor | int, level: float = 0.95
) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """Return the lower and the upper end of the interval that holds a share.

    Args:
        counted: How many were counted.
        of: Out of how many; NaN comes out where this is 0.
        level: Share of repetitions in which the interval holds the true share.

    Raises:
        InputError: If the level is not within 0 and 1.
    """
    if not 0 < level < 1:
        raise InputError(f"A confidence interval expected 0 < level < 1, got {level!r}.")
    z = NormalDist().inv_cdf((1 + level) / 2)
    n = torch.as_tensor(of).double()
    p = counted.double() / n
    scale = 1 + z**2 / n
    half = z * (p * (1 - p) / n + z**2 / (4 * n**2)).sqrt() / scale
    centre = (p + z**2 / (2 * n)) / scale
    return (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)


def standard_error(counted: Shaped[Tensor, "*S"], of: int) -> Float[Tensor, "*S"]:
    """Return the binomial standard error sqrt(p (1 - p) / n) of a share."""
    p = counted.double() / of if of else torch.full_like(counted.double(), math.nan)
    return (p * (1 - p) / of).sqrt() if of else p
