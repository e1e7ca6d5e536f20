"""A Krylov space of a polynomial of an operator, which grows, and shrinks to its better part.

    p(A) V = V H + v b^T     V orthonormal, on the operator's device; H and b small, on the host
    shrink                   H = Z T Z^T, real Schur form, wanted first; V Z[:, :s] stays

Axes    m vectors of the space | s of them kept | n components
Source  stewart2002
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.probes._products import Product
from calcarine.probes._spectral_filters import SpectralFilter

__all__ = ["Key", "KrylovSpace"]

Key = Callable[[np.ndarray], np.ndarray]


class KrylovSpace:
    """Orthonormal vectors, and what the polynomial does to them.

    Args:
        product: The operator.
        filter: The polynomial.
        start: First vector, any length.
        room: Vectors at most.
        generator: Source of directions where the space turns out to be invariant.
    """

    def __init__(
        self,
        product: Product,
        filter: SpectralFilter,
        start: Float[Tensor, " n"],
        room: int,
        generator: torch.Generator,
    ) -> None:
        self.product, self.filter, self.room = product, filter, room
        self.generator, self.filled = generator, 0
        self.basis = start.new_zeros(room + 1, product.size)
        self.basis[0] = start / start.norm()
        self.table = np.zeros((room + 1, room))

    def grow(self, max_products: int, vectors: int | None = None) -> None:
        """Add vectors: as many as there is room for, or fewer; and as the products allow."""
        tiny = torch.finfo(self.basis.dtype).eps
        goal = self.room if vectors is None else min(self.room, self.filled + vectors)
        while self.filled < goal:
            if self.product.count + len(self.filter.gains) > max_products:
                return
            m = self.filled + 1
            image = self.filter(self.product, self.basis[m - 1])
            rest, inside = self._outside(image, m)
            length, whole = (float(x.norm()) for x in (rest, self.product.finite(image)))
            self.table[:m, m - 1] = inside.double().cpu().numpy()
            if length > 10 * tiny * whole:
                self.table[m, m - 1] = length
            elif m < self.product.size:  # invariant: go on in a direction that is still unknown
                noise = torch.randn(self.product.size, generator=self.generator)
                rest, _ = self._outside(noise.to(rest), m)
                length = float(rest.norm())
            self.basis[m] = rest / max(length, tiny)
            self.filled = m

    def _outside(self, vector: Tensor, m: int) -> tuple[Tensor, Tensor]:
        """Return what of a vector lies outside the first m, and its coordinates in them."""
        known, inside = self.basis[:m], vector.new_zeros(m)
        for _ in range(2):  # the second pass makes up for what rounding left inside
            part = known @ vector
            vector, inside = vector - part @ known, inside + part
        return vector, inside

    def ritz(self, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """Return Ritz values of p(A), largest key first, and their residuals.

        Residuals are relative to the largest modulus.
        """
        m = self.filled
        values, small = np.linalg.eig(self.table[:m, :m])
        order = np.argsort(-key(values), kind="stable")
        left = np.abs(self.table[m, :m] @ small[:, order])
        return values[order], left / max(np.abs(values).max(), np.finfo(float).tiny)

    def leading(self, count: int, key: Key) -> Float[Tensor, "s n"]:
        """Return an orthonormal basis of the space that belongs to the largest keys.

        It has ``count`` vectors, or one more where a conjugate pair would be cut.
        """
        return self._rotated(self._schur(count, key)[1])

    def shrink(self, count: int, key: Key) -> None:
        """Keep the part of the space that belongs to the largest keys, and let it grow from there.

        Args:
            count: Vectors to keep; one more where a conjugate pair would be cut.
            key: What is largest, of Ritz values.
        """
        m = self.filled
        triangle, turn = self._schur(count, key)
        s = turn.shape[1]
        row = self.table[m, :m] @ turn
        self.basis[:s] = self._rotated(turn)
        self.basis[s] = self.basis[m].clone()
        self.table[:] = 0.0
        self.table[:s, :s], self.table[s, :s] = triangle, row
        self.filled = s

    def _rotated(self, turn: np.ndarray) -> Tensor:
        return torch.from_numpy(turn.T.copy()).to(self.basis) @ self.basis[: self.filled]

    def _schur(self, count: int, key: Key) -> tuple[np.ndarray, np.ndarray]:
        """Return the leading block of the ordered Schur form, and its Schur vectors."""
        from scipy.linalg import schur

        m = self.filled
        square = self.table[:m, :m]
        keys = np.sort(key(np.linalg.eigvals(square)))[::-1]
        last = keys[min(count, m) - 1]
        least = last - 1e-9 * max(abs(last), np.abs(keys).max())

        def wanted(real: float, imag: float = 0.0) -> bool:
            return bool(key(np.asarray(complex(real, imag))) >= least)

        triangle, turn, s = schur(square, output="real", sort=wanted)
        s = min(max(s, 1), m)
        return triangle[:s, :s], turn[:, :s]
