"""Leading eigenpairs by a restarted Arnoldi method for a polynomial of the operator.

    1. one plain round, p(A) = A; its Ritz values choose p
    2. rounds with p(A), each from the better half of the one before
    3. Rayleigh-Ritz with A itself in the space of the leading few; p(A) once more on this space
       takes away what rounding has left in it

Everything of length n stays on the operator's device, in its precision.

Axes    n components | s vectors of the extracted space
Source  stewart2002 (restarts); saad2011 (Rayleigh-Ritz, subspace iteration)
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.probes._krylov_space import KrylovSpace
from calcarine.probes._products import Product
from calcarine.probes._spectral_filters import ENDS, PLAIN, SpectralFilter, choose_filter

__all__ = ["restarted_arnoldi"]

Pairs = tuple[np.ndarray, np.ndarray]

_ROOM = 60  # ours: vectors of the space; fewer cost products, more cost orthogonalisation
_GUARD = 4  # ours: vectors extracted beyond those asked for
_LOOK = 5  # ours: vectors between two looks at the residuals
_POLISHES = 2  # ours: of one extraction, before the space is improved instead


def restarted_arnoldi(
    product: Product,
    start: Float[Tensor, " n"],
    k: int,
    which: str,
    tolerance: float,
    max_products: int,
    generator: torch.Generator,
) -> Pairs:
    """Return k eigenvalues, the wanted ones first, and their vectors (n, k), as far as they got.

    Args:
        product: The operator.
        start: Vector to start from.
        k: Number of eigenpairs.
        which: The end of the spectrum.
        tolerance: Residual relative to the largest modulus.
        max_products: When to stop.
        generator: Source of directions where a space turns out to be invariant.
    """
    room = min(product.size, max(_ROOM, 3 * k))
    space = KrylovSpace(product, PLAIN, start, room, generator)
    space.grow(max_products)
    values, left = space.ritz(ENDS[which])
    chosen = choose_filter(values, k, which)
    first = 3 * k  # vectors before the first look: fewer cannot hold k pairs and what is near
    out = product.count + first * len(chosen.gains) > max_products or room == product.size
    if out or (left[:k] <= tolerance).all():
        settled, pairs = _tried(space, k, which, tolerance)
        if settled or out:
            return pairs
    if chosen is not PLAIN:
        better = space.leading(k, ENDS[which]).sum(0)
        space = KrylovSpace(product, chosen, better, room, generator)
        space.grow(max_products, first)
    return _rounds(space, k, which, tolerance, max_products)


def _rounds(space: KrylovSpace, k: int, which: str, tolerance: float, max_products: int) -> Pairs:
    """Restart until the extracted pairs are good enough, or the products are used up."""
    degree = len(space.filter.gains)
    key = ENDS[which] if space.filter is PLAIN else np.abs
    goal, least = 0.5 * tolerance * space.filter.steepness, torch.finfo(space.basis.dtype).eps
    while True:
        _, left = space.ritz(key)
        last = space.product.count + degree > max_products or goal < least
        if last or (left[:k] <= goal).all():
            settled, pairs = _tried(space, k, which, tolerance)
            if settled or last:
                return pairs
            goal *= 0.3
        if space.filled == space.room:
            space.shrink(k + (space.room - k) // 2, key)
        space.grow(max_products, _LOOK)


def _tried(space: KrylovSpace, k: int, which: str, tolerance: float) -> tuple[bool, Pairs]:
    """Extract pairs; whether the residuals of the first k are small enough."""
    key = ENDS[which] if space.filter is PLAIN else np.abs
    vectors = space.leading(min(k + _GUARD, space.filled), key)
    for _ in range(_POLISHES):
        pairs, worst = _rayleigh_ritz(space.product, vectors, k, which)
        if worst <= tolerance or worst > 3 * tolerance:
            break
        vectors = _again(space.product, space.filter, vectors)
    return worst <= tolerance, pairs


def _again(
    product: Product, chosen: SpectralFilter, vectors: Float[Tensor, "s n"]
) -> Float[Tensor, "s n"]:
    """Return an orthonormal basis of what the polynomial makes of a space."""
    images = torch.stack([chosen(product, vector) for vector in vectors], 1)
    return torch.linalg.qr(images)[0].mT


def _rayleigh_ritz(
    product: Product, vectors: Float[Tensor, "s n"], k: int, which: str
) -> tuple[Pairs, float]:
    """Return the k leading pairs of the operator in a space, and the largest relative residual."""
    images = product.finite(torch.stack([product(vector) for vector in vectors]))
    # In double precision: what products of rounded vectors miss would show as a residual.
    wide, images = vectors.double(), images.double()
    gram, mixed = ((wide @ other.mT).cpu().numpy() for other in (wide, images))
    values, turn = np.linalg.eig(np.linalg.solve(gram, mixed))
    order = np.argsort(-ENDS[which](values), kind="stable")[:k]
    values, turn = values[order].astype(complex), turn[:, order].astype(complex)
    weights, scales = (torch.from_numpy(x).to(wide.device) for x in (turn.T.copy(), values))
    found = weights @ wide.to(weights.dtype)
    rest = weights @ images.to(weights.dtype) - scales[:, None] * found
    lengths = (rest.norm(dim=1) / found.norm(dim=1)).cpu().numpy()
    scale = max(np.abs(values).max(), np.finfo(float).tiny)
    worst = float(lengths.max() / scale) if len(values) == k else float("inf")
    return (values, found.cpu().numpy().T), worst
