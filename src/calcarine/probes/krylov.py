"""Krylov spaces of a symmetric operator: its extremal eigenpairs from products alone.

    F q_j = sum_i t_ij q_i         q_1 ... q_m orthonormal, t_ij = <q_i, F q_j>
    T y = theta y                  Ritz value theta, Ritz vector v = sum_j y_j q_j
    ||F v - theta v|| = ||R y||    R: the rows of t below T; no further product needed

Lanczos with blocks and full reorthogonalisation. A full space is replaced by its Ritz vectors at
both ends (thick restart), which keeps these relations, so memory is bounded. Where the operator
does not lead out of the space, a random direction follows, so that degenerate and rank-deficient
operators need no special case. A block of b vectors finds b copies of a repeated eigenvalue.

Axes    B batch, one operator per item | m vectors | n components
Source  wu2000 (thick restart), golub1977 (blocks)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import NonFiniteError

__all__ = ["KrylovSpace", "RitzPairs", "length", "not_finite"]


class RitzPairs(NamedTuple):
    """Approximate eigenpairs in a Krylov space, on the CPU in float64, values ascending.

    Attributes:
        values: Ritz values.
        coordinates: Ritz vectors in the basis of the space, one per column.
        residuals: Norms of F v - theta v.
    """

    values: Float[Tensor, "B m"]
    coordinates: Float[Tensor, "B m m"]
    residuals: Float[Tensor, "B m"]


def not_finite(where: str) -> NonFiniteError:
    """Return the error that says where NaN or infinity appeared."""
    return NonFiniteError(
        f"NaN or infinity appeared {where}. The derivative of the model is not finite at this "
        "image: look for square roots, logarithms and divisions at zero."
    )


def length(vectors: Float[Tensor, "*B n"]) -> Float[Tensor, "*B 1"]:
    """Return the norm of every vector, to the precision of its type.

    ``Tensor.norm`` adds float32 numbers in few long sums: for smooth vectors of 65536 numbers it
    is off by 1e-5, which would show as a residual of that size.
    """
    largest = vectors.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
    return largest * (vectors / largest).square().sum(-1, keepdim=True).sqrt()


class KrylovSpace:
    """An orthonormal basis that grows by products, one per batch item.

    Args:
        product: The operator, (B, b, n) -> (B, b, n), b vectors at once.
        start: The first b vectors.
        capacity: Vectors to multiply at most between two restarts.
        generator: Where directions come from that the operator does not lead to.

    Attributes:
        done: Vectors of the basis that were multiplied.
        count: Vectors of the basis.
        products: Vectors multiplied since the beginning.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        start: Float[Tensor, "B b n"],
        capacity: int,
        generator: torch.Generator,
    ) -> None:
        batch, block, size = start.shape
        self._product = product
        self.capacity = min(capacity, size)
        self._room = min(self.capacity + block, size)
        self._basis = start.new_zeros(batch, self._room, size)
        self._table = start.new_zeros(batch, self._room, self.capacity)
        noise = torch.randn(size, generator=generator, device=generator.device, dtype=torch.float64)
        self._noise = (noise / noise.norm()).to(start)
        self.count = self.done = self.products = self._appended = 0
        for j in range(block):
            self._append(start[:, j])

    @property
    def full(self) -> bool:
        """Whether the next block needs a restart before it."""
        return self.count > self.capacity

    @property
    def exhausted(self) -> bool:
        """Whether the space is the whole space, and its pairs are exact."""
        return self.done == self.count

    def extend(self) -> None:
        """Multiply the vectors that were not multiplied yet."""
        images = self._product(self._basis[:, self.done : self.count])
        for j in range(images.shape[1]):
            known = self.count
            inside, outside = self._append(images[:, j])
            self._table[:, :known, self.done] = inside
            if self.count > known:
                self._table[:, known, self.done] = outside
            self.done += 1
            self.products += 1

    def _append(self, vector: Float[Tensor, "B n"]) -> tuple[Tensor, Tensor]:
        """Add the direction of what is outside the space; return the parts inside, its norm."""
        info = torch.finfo(vector.dtype)
        self._appended += 1
        inside, rest = self._split(vector)
        # Noise as large as the rounding errors, another one each time: where nothing is left of a
        # vector, this is what becomes the next direction. It takes a third pass to make that one
        # orthogonal, as the second one starts from errors of its own size.
        size = info.eps * length(vector) + info.tiny**0.5
        rest = rest + size * self._noise.roll(17 * self._appended)
        for _ in range(2):
            more, rest = self._split(rest)
            inside = inside + more
        norm = length(rest)
        if self.count < self._room:
            self._basis[:, self.count] = rest / norm
            self.count += 1
        return inside, norm[:, 0]

    def _split(self, vector: Float[Tensor, "B n"]) -> tuple[Tensor, Tensor]:
        """Return the coordinates of a vector in the space, and what is outside."""
        known = self._basis[:, : self.count]
        inside = torch.einsum("bmn,bn->bm", known, vector)
        return inside, vector - torch.einsum("bm,bmn->bn", inside, known)

    def ritz(self) -> RitzPairs:
        """Return the eigenpairs of the operator within the space; reads numbers off the device.

        Raises:
            NonFiniteError: If a product was NaN or infinite, with its number.
        """
        table = self._numbers()
        inner = table[:, : self.done]
        values, coordinates = torch.linalg.eigh((inner + inner.mT) / 2)
        return RitzPairs(values, coordinates, (table[:, self.done :] @ coordinates).norm(dim=1))

    def vectors(self, coordinates: Float[Tensor, "B m k"]) -> Float[Tensor, "B k n"]:
        """Return the vectors with the given coordinates."""
        return coordinates.mT.to(self._basis) @ self._basis[:, : self.done]

    def restart(self, kept: Sequence[int]) -> None:
        """Keep the Ritz pairs with these places, and the vectors that were not multiplied yet."""
        ritz, below = self.ritz(), self._numbers()[:, self.done :]
        chosen, size = ritz.coordinates[..., kept], len(kept)
        ahead = self._basis[:, self.done : self.count].clone()
        new = size + ahead.shape[1]
        self._basis[:, :size] = self.vectors(chosen)
        self._basis[:, size:new] = ahead
        self._table.zero_()
        self._table[:, :size, :size] = torch.diag_embed(ritz.values[..., kept]).to(self._table)
        self._table[:, size:new, :size] = (below @ chosen).to(self._table)
        self.done, self.count = size, new

    def _numbers(self) -> Float[Tensor, "B m j"]:
        table = self._table[:, : self.count, : self.done].cpu().double()
        broken = (~torch.isfinite(table)).any(dim=1).any(dim=0).nonzero()
        if len(broken):
            step = self.products - (self.done - int(broken[0])) + 1
            raise not_finite(f"in product {step} with the Fisher matrix")
        return table
