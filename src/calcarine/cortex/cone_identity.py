"""C, what the cortex believes about the spectral type of every cell of the optic nerve.

    unit      = C / (|C| + 1e-5)                     one vector of `latent` numbers per cell
    inject    scalar signal s  ->  s * unit
    sample    percept p        ->  <unit, p>

Every cell starts with the same vector (1, 0, ..., 0): nothing is known about cone types, and all
that a percept can express is one-dimensional.

Axes    B batch | K latent | H W lattice of cells, rows down, columns right
Source  kotani2024, section 3.2
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["ConeIdentity"]

NORM_FLOOR = 1e-5  # kotani2024, public code


class ConeIdentity(nn.Module):
    """Learned spectral identity of every cell.

    Args:
        size: Cells per side, or (height, width).
        latent: Numbers per cell; an upper bound on the dimensions that colour can have.
        plasticity: How fast identities turn, relative to the other weights. The vectors start at
            length 1 / plasticity; only their direction counts, and a step of Adam has the same
            length everywhere. kotani2024: 1.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(
        self, size: int | tuple[int, int], latent: int = 8, plasticity: float = 1.0
    ) -> None:
        super().__init__()
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width, latent) < 1:
            raise InputError(
                f"ConeIdentity expected positive sizes, got size {size} and latent {latent}."
            )
        if not 0 < plasticity <= 100:
            raise InputError(f"ConeIdentity expected 0 < plasticity <= 100, got {plasticity}.")
        # The latent axis is innermost in memory, where norms and dot products run along it.
        vectors = torch.zeros(height, width, latent).permute(2, 0, 1)
        vectors[0] = 1.0 / plasticity
        self.vectors = nn.Parameter(vectors)

    def unit(self) -> Float[Tensor, "K H W"]:
        """Return the identity vectors at (almost) unit length."""
        return self.vectors / (torch.linalg.vector_norm(self.vectors, dim=0) + NORM_FLOOR)

    def inject(
        self, signal: Float[Tensor, "B 1 H W"], unit: Float[Tensor, "K H W"] | None = None
    ) -> Float[Tensor, "B K H W"]:
        """Attach the identity to every cell's signal.

        Args:
            signal: One number per cell.
            unit: What ``unit()`` returned, where several calls can share it.

        Raises:
            ShapeError: If the signal does not fit the lattice.
        """
        self._check(signal, channels=1)
        return signal * (self.unit() if unit is None else unit)

    def sample(
        self, percept: Float[Tensor, "B K H W"], unit: Float[Tensor, "K H W"] | None = None
    ) -> Float[Tensor, "B 1 H W"]:
        """Read from a percept what every cell would report about it.

        Args:
            percept: What is seen at every cell.
            unit: What ``unit()`` returned, where several calls can share it.

        Raises:
            ShapeError: If the percept does not fit the lattice.
        """
        self._check(percept, channels=self.vectors.shape[0])
        return (percept * (self.unit() if unit is None else unit)).sum(dim=1, keepdim=True)

    def metric(self, border: int = 0) -> Float[Tensor, "K K"]:
        """Return Sigma = mean of C C^T over cells: which percept differences can be expressed.

        Args:
            border: Cells left out at every edge.
        """
        height, width = self.vectors.shape[1:]
        unit = self.unit()[:, border : height - border, border : width - border].flatten(1)
        return unit @ unit.T / unit.shape[1]

    def _check(self, x: Tensor, channels: int) -> None:
        expected = (channels, *self.vectors.shape[1:])
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            raise ShapeError(
                "ConeIdentity expected axes (batch, channel, height, width) with "
                f"{expected} after the batch, got shape {tuple(x.shape)}."
            )
