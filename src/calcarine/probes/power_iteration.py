"""Power iteration with several starts side by side, which sees whether there is a gap.

    V <- Q of (A V = Q R)       V orthonormal; the eigenvalues of V^T A V approach the leading ones

Where two eigenvalues share the largest modulus (a conjugate pair, opposite signs, a multiple one)
there is nothing that repeated application tends to, and this is what is said then.

Source  saad2011 (subspace iteration)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes._products import Operator, Product, seeded

__all__ = ["PowerIteration", "power_iteration"]

_SETTLED = 10  # ours: iterations over which the second eigenvalue must hold still


class PowerIteration(NamedTuple):
    """The leading eigenpair by power iteration, or the reason why there is none.

    Attributes:
        value: The leading eigenvalue, or the modulus that several share without a gap.
        vector: Its unit eigenvector, of the operator's shape; ``None`` unless converged.
        residual: ``||A v - lambda v||``.
        ratio: Modulus of the second eigenvalue over that of the first, as far as was seen.
        iterations: Iterations done.
        status: ``"converged"``, ``"no spectral gap"`` when several eigenvalues share the largest
            modulus (a conjugate pair, a sign, a multiple), or ``"max_iter"``.
    """

    value: float
    vector: Tensor | None
    residual: float
    ratio: float
    iterations: int
    status: Literal["converged", "no spectral gap", "max_iter"]


def power_iteration(
    operator: Operator,
    shape: Sequence[int],
    *,
    starts: int = 4,
    max_iter: int = 1000,
    tolerance: float = 1e-6,
    gap: float = 1e-4,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> PowerIteration:
    """Find the eigenvector that repeated application of an operator tends to.

    Several starts run side by side and are kept orthogonal; they show the next eigenvalues too, and
    so whether there is one leading eigenvalue at all.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on.
        starts: Vectors side by side, at least 2 where there are 2 components.
        max_iter: Iterations at most.
        tolerance: Residual relative to the eigenvalue at which to stop.
        gap: The second eigenvalue must be smaller by this share at least.
        dtype: Precision the operator works in; torch's default.
        device: Where the operator works.
        generator: Source of the starts; seeded with 0 by default.

    Raises:
        InputError: If there are fewer than two starts for an operator of several components.
        ShapeError: If the operator changes the shape.
        NonFiniteError: If a product is not finite.
    """
    product = Product(operator, shape, dtype or torch.get_default_dtype(), device)
    if starts < min(2, product.size) or max_iter < 1:
        raise InputError(
            f"power_iteration expected at least two starts and one iteration, got {starts} and "
            f"{max_iter}. A single start cannot see whether there is a spectral gap."
        )
    count = min(starts, product.size)
    noise = torch.randn(product.size, count, dtype=torch.float64, generator=seeded(generator))
    block, _ = torch.linalg.qr(noise.to(product.device, product.dtype))
    value, ratio, residual, settled = math.nan, math.nan, math.inf, 0
    for iteration in range(1, max_iter + 1):
        images = torch.stack([product.finite(product(column)) for column in block.unbind(1)], 1)
        values, small = np.linalg.eig((block.mT @ images).double().cpu().numpy())
        moduli = np.sort(np.abs(values))[::-1]
        lead = int(np.abs(values).argmax())
        before, ratio = ratio, float(moduli[1] / moduli[0]) if count > 1 and moduli[0] else 0.0
        weights = torch.from_numpy(small[:, lead].real.copy()).to(block)
        vector = block @ weights
        length = vector.norm().clamp_min(torch.finfo(block.dtype).tiny)
        value = float(values[lead].real)
        residual = float((images @ weights - value * vector).norm() / length)
        # Equal moduli that stay equal: more iterations will not tell them apart.
        settled = settled + 1 if abs(ratio - before) < gap else 0
        if settled >= _SETTLED and ratio > 1 - gap:
            return PowerIteration(
                float(moduli[0]), None, residual, ratio, iteration, "no spectral gap"
            )
        small_enough = residual <= tolerance * max(abs(value), torch.finfo(block.dtype).tiny)
        if small_enough and settled >= _SETTLED:
            unit = (vector / length).reshape(product.shape)
            return PowerIteration(value, unit, residual, ratio, iteration, "converged")
        block, _ = torch.linalg.qr(images)
    return PowerIteration(value, None, residual, ratio, max_iter, "max_iter")
