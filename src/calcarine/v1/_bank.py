"""Fixed tables of a model, exact in every precision the model is converted to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

__all__ = ["FilterBank"]


class FilterBank(nn.Module):
    """Tables that follow their model's dtype and device, computed anew in double precision.

    A buffer cast from single to double precision would keep the rounding of the first cast. The
    tables are not part of the state dict: the settings of the model say what they are.

    Args:
        compute: Returns name -> float64 or complex128 table.
    """

    def __init__(self, compute: Callable[[], Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.compute = compute
        self._complex: set[str] = set()
        for name, table in compute().items():
            if table.is_complex():
                self._complex.add(name)
            real = _real(table).to(torch.get_default_dtype())
            self.register_buffer(name, real, persistent=False)

    def table(self, name: str, dtype: torch.dtype) -> Tensor:
        """Return a table, with ``dtype`` the precision of its real numbers."""
        values = self.get_buffer(name).to(dtype)
        return torch.view_as_complex(values) if name in self._complex else values

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FilterBank:
        super()._apply(fn, recurse)
        for name, table in self.compute().items():
            self.get_buffer(name).copy_(_real(table))
        return self


def _real(table: Tensor) -> Tensor:
    # Module.to would drop the imaginary part of a complex buffer.
    return torch.view_as_real(table) if table.is_complex() else table
