"""Letting CordsNet settle on an image, and the gradient of where it settles.

    r* = F(r*)      F(r) = relu(W * r + f(r, image)), where the rates tend

Found by Euler steps without a graph; differentiated implicitly.

Axes    B batch | c channels of the image | H W rows down, columns right
Source  soo2024 (network); bai2019 (gradient)
"""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError
from calcarine.models._cordsnet_dynamics import NetworkWeights, Rates, largest_change, unroll
from calcarine.models._implicit import SolveReport, implicit_fixed_point

__all__ = ["CHECK_EVERY", "Settled", "settle"]

CHECK_EVERY = 5
"""Steps between two looks at whether the network has settled. Ours."""

MOST_PRODUCTS = 500
"""Vector-Jacobian products before the backward pass gives up. Ours."""


class Settled(NamedTuple):
    """Rates with the gradient of the fixed point, and how they were reached."""

    rates: Rates
    steps: int
    residual: float
    adjoint: SolveReport


def settle(
    weights: NetworkWeights,
    rates: Rates,
    images: Float[Tensor, "B c H W"],
    *,
    tolerance: float,
    limit: int,
) -> Settled:
    """Step until the largest relative change is within the tolerance, or warn.

    Args:
        weights: Of the network; gradients reach them.
        rates: Where to start.
        images: What it sees.
        tolerance: Of the change in one step, and of the linear system of the backward pass.
        limit: Most steps.

    Raises:
        InputError: If the tolerance is not positive.
    """
    if not tolerance > 0:
        raise InputError(f"CordsNet expected a tolerance above 0, got {tolerance}.")
    residual, taken = math.inf, 0
    with torch.no_grad():
        for after in unroll(weights.detached(), rates, images, limit):
            taken += 1
            if taken % CHECK_EVERY == 0 or taken == limit:
                residual = float(largest_change(rates, after))
            rates = after
            if residual <= tolerance:
                break
    if not residual <= tolerance:
        warnings.warn(
            f"CordsNet has not settled within {taken} steps: rates still change by "
            f"{residual:.2g} of the largest per step, expected {tolerance:g}. Show the image "
            "longer; a gradient at the fixed point is not reliable here.",
            CalcarineWarning,
            stacklevel=3,
        )
    report = SolveReport()
    return Settled(_at_rest(weights, rates, images, tolerance, report), taken, residual, report)


def _at_rest(
    weights: NetworkWeights, rates: Rates, images: Tensor, tolerance: float, report: SolveReport
) -> Rates:
    """Return the same rates with the gradient of the fixed point."""
    if not torch.is_grad_enabled():
        return rates
    drive = weights.drive(images)
    counts = [r[0].numel() for r in rates]

    def parted(z: Tensor) -> Rates:
        parts = z.split(counts, 1)
        return tuple(p.reshape(r.shape) for p, r in zip(parts, rates, strict=True))

    def target(z: Tensor) -> Tensor:
        return torch.cat([r.flatten(1) for r in weights.target(parted(z), drive)], 1)

    z = torch.cat([r.flatten(1) for r in rates], 1)
    return parted(
        implicit_fixed_point(
            target, z, tolerance=tolerance, max_iterations=MOST_PRODUCTS, report=report
        )
    )
