"""How well a cortex tells how its eye has moved, and what it will see next.

    exact        share of movements that come out right to the pixel, both ways
    error [px]   mean length of the difference
    prediction   sum (predicted - actual)^2 / sum (actual - mean)^2     over cells that are known

A prediction of 1 is no better than expecting the mean signal; the noise of the retina cannot be
predicted, so 0 is never reached.

Axes    N movements (dx, dy), x right and y down, in halves of the field of view | B batch
Source  kotani2024 (movements are whole pixels of the field of view); the measures are ours
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError

__all__ = ["MovementReadout", "movement_readout", "unexplained_variance"]


class MovementReadout(NamedTuple):
    """How well movements are told: share that is exact to the pixel, and mean error in pixels."""

    exact: float
    error_px: float


@torch.no_grad()
def movement_readout(
    told: Float[Tensor, "... 2"], true: Float[Tensor, "... 2"], *, field_px: int
) -> MovementReadout:
    """Compare movements as a cortex tells them with the true ones.

    Args:
        told: Movements that the cortex tells.
        true: Movements that the eye has made.
        field_px: Side of the field of view, px.

    Raises:
        ShapeError: If there is not one (dx, dy) for each of the same movements.
        InputError: If there are none.
    """
    if told.shape != true.shape or true.ndim < 2 or true.shape[-1] != 2:
        raise ShapeError(
            "movement_readout expected movements with axes (..., 2), as many told as true, got "
            f"shapes {tuple(told.shape)} and {tuple(true.shape)}."
        )
    if true.numel() == 0:
        raise InputError("movement_readout expected at least one movement, got none.")
    off = (told.double() - true.double()).flatten(0, -2) * (field_px / 2)
    exact = (off.abs() < 0.5).all(dim=1).double().mean()
    return MovementReadout(float(exact), float(torch.linalg.vector_norm(off, dim=1).mean()))


@torch.no_grad()
def unexplained_variance(
    predicted: Float[Tensor, "B 1 H W"],
    actual: Float[Tensor, "B 1 H W"],
    known: Float[Tensor, "B 1 H W"] | None = None,
) -> float:
    """Return the squared error of predicted signals, relative to their variance.

    Args:
        predicted: Signals as predicted.
        actual: Signals as they came.
        known: Weight of every cell, 1 where it can be predicted; all by default.

    Raises:
        ShapeError: If the three do not fit.
        InputError: If the actual signals do not vary, or nothing is known.
    """
    weight = torch.ones_like(actual) if known is None else known
    if not predicted.shape == actual.shape == weight.shape:
        raise ShapeError(
            "unexplained_variance expected signals and weights of one shape, got "
            f"{tuple(predicted.shape)}, {tuple(actual.shape)} and {tuple(weight.shape)}."
        )
    weight, actual = weight.double(), actual.double()
    total = weight.sum()
    spread = weight * (actual - (weight * actual).sum() / total.clamp(min=1)).square()
    if total == 0 or spread.sum() == 0:
        raise InputError("unexplained_variance expected signals that vary where they are known.")
    return float((weight * (predicted.double() - actual).square()).sum() / spread.sum())
