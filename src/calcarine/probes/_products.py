"""Products with a linear operator that is only given as a function, counted and checked.

    flat vector of n components -> tensor of the operator's shape -> A -> flat vector

Axes    n components of the operator's tensor, row-major
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calcarine.errors import NonFiniteError, ShapeError

__all__ = ["Operator", "Product", "seeded"]

Operator = Callable[[Tensor], Tensor]


class Product:
    """An operator on flat vectors.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on.
        dtype: Precision the operator works in.
        device: Where it works.

    Raises:
        ShapeError: If the shape has no components.
    """

    def __init__(
        self, operator: Operator, shape: Sequence[int], dtype: torch.dtype, device: Any
    ) -> None:
        self.operator, self.shape = operator, tuple(shape)
        self.dtype, self.device = dtype, torch.device(device)
        self.size, self.count = math.prod(self.shape), 0
        if not self.shape or self.size < 1:
            raise ShapeError(f"A spectrum expected a shape with components, got {self.shape}.")

    @torch.no_grad()
    def __call__(self, flat: Tensor) -> Tensor:
        """Apply the operator to one flat vector of its dtype, on its device.

        Raises:
            ShapeError: If the operator changes the shape.
        """
        image = self.operator(flat.reshape(self.shape))
        self.count += 1
        if image.shape != self.shape:
            raise ShapeError(
                f"The operator expected to map {self.shape} to itself, but returned "
                f"{tuple(image.shape)}. A convolution needs as many channels out as in, stride 1 "
                "and padding that keeps the size."
            )
        return image.detach().reshape(-1)

    def finite(self, image: Tensor) -> Tensor:
        """Return what a product gave, if it is finite.

        Not asked after every product: on a GPU it would wait for each of them.

        Raises:
            NonFiniteError: If it is not.
        """
        if not image.isfinite().all():
            raise NonFiniteError(
                f"Product {self.count} with the operator, or one before, was NaN or infinite."
            )
        return image

    def numpy(self, flat: np.ndarray) -> np.ndarray:
        """Apply the operator to a NumPy vector, real or complex, and return double precision."""
        if np.iscomplexobj(flat):
            return self.numpy(flat.real) + 1j * self.numpy(flat.imag)
        vector = torch.from_numpy(np.ascontiguousarray(flat).ravel())
        return self.finite(self(vector.to(self.device, self.dtype))).double().cpu().numpy()


def seeded(generator: torch.Generator | None) -> torch.Generator:
    """Return the generator, or one seeded with 0."""
    return torch.Generator().manual_seed(0) if generator is None else generator
