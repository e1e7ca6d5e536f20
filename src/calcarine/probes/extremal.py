"""Eigenpairs at both ends of a symmetric positive semidefinite operator.

    exact      eigh of the matrix itself
    lanczos    one Krylov space serves both ends
    power      v <- F v, then v <- F v - lambda_max v; vectors found before are projected out

All work on a batch of operators at once, judge a pair by ||F v - theta v|| / lambda_max, and
return the vectors of the k largest, then of the k smallest eigenvalues, descending.

At the small end every method that knows F by its products alone applies a polynomial in F, and
the Ritz vector of a Krylov space has the smallest v^T F v that any of them can reach. Measured on
the front ends of berardino2017 at 256 x 256, to a residual of 1e-5: locally optimal conjugate
gradients (LOBPCG) needed as many products for one end as this for both; Chebyshev filters half as
many, for values v^T F v fourteen times as large; inverse iteration by conjugate gradients as many,
for values three times as large.

Axes    B batch, one operator per item | k pairs per end | p = 2 k | n components
Source  berardino2017 (power), wu2000 (lanczos)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.probes.krylov import KrylovSpace, length, not_finite

__all__ = ["Watch", "exact_ends", "lanczos_ends", "power_ends"]

Watch = Callable[[int, float], bool]
"""Told the iterations done and the largest relative residual; answers whether to stop early."""


def exact_ends(matrix: Float[Tensor, "B n n"], k: int) -> Float[Tensor, "B p n"]:
    """Return eigenvectors of the matrix, on the CPU in float64.

    Raises:
        NonFiniteError: If the matrix holds NaN or infinity.
    """
    if not torch.isfinite(matrix).all():
        raise not_finite("in the Fisher matrix")
    vectors = torch.linalg.eigh(matrix.cpu().double())[1].mT.flip(1)
    return torch.cat([vectors[:, :k], vectors[:, vectors.shape[1] - k :]], dim=1)


def lanczos_ends(
    space: KrylovSpace,
    k: int,
    *,
    tolerance: float,
    max_iter: int,
    watch: Watch,
    check_every: int = 8,
) -> tuple[Float[Tensor, "B p n"], int, bool]:
    """Grow a Krylov space until k pairs at both ends reach the tolerance.

    Args:
        space: The space; another call goes on with it.
        k: Pairs per end.
        tolerance: Relative residual, as the space estimates it.
        max_iter: Blocks to multiply at most, though at least as many as give 2 k pairs.
        watch: Called whenever numbers are read off the device.
        check_every: Blocks between two such readings; more in a space of many vectors, whose
            Ritz pairs cost more.

    Returns:
        The vectors, the blocks multiplied, and whether the estimates reached the tolerance.

    Raises:
        NonFiniteError: If a product was NaN or infinite, with its number.
    """
    iteration, looked, residual = 0, 0, 0.0
    while not space.exhausted:
        if space.full:
            space.restart(_kept(space, k, tolerance))
        space.extend()
        iteration += 1
        last = iteration >= max_iter
        look = last or space.full or iteration >= looked + max(check_every, space.done // 8)
        if space.done < 2 * k or not look:
            continue
        looked = iteration
        residual = _worst(space, k)
        if watch(iteration, residual) or residual <= tolerance or last:
            break
    ends = [*range(space.done - 1, space.done - 1 - k, -1), *range(k - 1, -1, -1)]
    vectors = space.vectors(space.ritz().coordinates[..., ends])
    return vectors, iteration, space.exhausted or residual <= tolerance


def _worst(space: KrylovSpace, k: int) -> float:
    """Return the largest relative residual of the wanted pairs."""
    return max(_relative_residuals(space, k))


def _relative_residuals(space: KrylovSpace, k: int) -> tuple[float, float]:
    """Return the largest relative residual at the small and at the large end."""
    values, _, residuals = space.ritz()
    relative = residuals / values[:, -1:].clamp_min(torch.finfo(values.dtype).tiny)
    return float(relative[:, :k].max()), float(relative[:, -k:].max())


def _kept(space: KrylovSpace, k: int, tolerance: float) -> list[int]:
    """Return which Ritz vectors survive a restart: the wanted ones, and half of the others.

    The others go where they speed things up: to an end that has not converged.
    """
    small, large = _relative_residuals(space, k)
    others = (space.done - 2 * k) // 2
    at_small = others // 2 if (small > tolerance) == (large > tolerance) else others
    at_small = 0 if small <= tolerance < large else at_small
    first, last = k + at_small, k + others - at_small
    return [*range(first), *range(space.done - last, space.done)]


def power_ends(
    product: Callable[[Tensor], Tensor],
    start: Float[Tensor, "B p n"],
    *,
    tolerance: float,
    max_iter: int,
    watch: Watch,
    check_every: int = 10,
) -> Float[Tensor, "B p n"]:
    """Find the pairs one after the other by power iteration, the large end first.

    Args:
        product: The operator, (B, 1, n) -> (B, 1, n).
        start: First guesses, in the order of the result.
        tolerance: Relative residual at which a pair is left.
        max_iter: Iterations per pair.
        watch: Called whenever numbers are read off the device.
        check_every: Iterations between two such readings.

    Raises:
        NonFiniteError: If a product was NaN or infinite, with its number.
    """
    pairs = start.shape[1]
    order = [*range(pairs // 2), *range(pairs - 1, pairs // 2 - 1, -1)]
    found: dict[int, Tensor] = {}
    largest = start.new_zeros(start.shape[0], 1)
    residuals: list[Tensor] = []
    for index in order:
        shift = largest if index >= pairs // 2 else torch.zeros_like(largest)
        vector = _without(start[:, index], found)
        for iteration in range(1, max_iter + 1):
            image = product(vector[:, None])[:, 0]
            value = (vector * image).sum(-1, keepdim=True)
            scale = largest if found else value
            residuals.append(_largest_ratio(length(image - value * vector), scale))
            vector = _without(image - shift * vector, found)
            if iteration % check_every == 0 or iteration == max_iter:
                residual = _latest(residuals)
                if watch(len(residuals), residual) or residual <= tolerance:
                    break
        largest = largest if found else value
        found[index] = vector
    return torch.stack([found[index] for index in range(pairs)], dim=1)


def _without(vector: Tensor, found: dict[int, Tensor]) -> Tensor:
    """Return the direction of a vector outside the vectors found before."""
    for other in found.values():
        vector = vector - (vector * other).sum(-1, keepdim=True) * other
    return vector / length(vector).clamp_min(torch.finfo(vector.dtype).tiny)


def _largest_ratio(norm: Tensor, scale: Tensor) -> Tensor:
    return (norm / scale.clamp_min(torch.finfo(scale.dtype).tiny)).max()


def _latest(residuals: list[Tensor]) -> float:
    values = torch.stack(residuals[-100:]).cpu().double()
    broken = (~torch.isfinite(values)).nonzero()
    if len(broken):
        step = len(residuals) - len(values) + int(broken[0]) + 1
        raise not_finite(f"in product {step} with the Fisher matrix")
    return float(values[-1])
