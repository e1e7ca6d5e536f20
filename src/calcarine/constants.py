"""Physical constants of a stage: a number, one per channel or one per unit; fixed or learned.

    fixed     the value as given
    learned   value = low (high / low)^s(raw)      where low > 0
              value = low + (high - low) s(raw)    otherwise, s the logistic function
              value = raw                          without bounds

A learned constant stays between its bounds whatever the optimiser does, and one with a positive
lower bound moves by ratios, as time constants should. Everything is part of the state dict.

Axes    a value's axes are the first ones after the batch of what it acts on: a tuple of C values
        acts per channel on (batch, C, height, width), nested ones (C, H, W) per unit
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["Constant", "Value"]

Value = float | Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]]
"""What a constructor takes for a constant: a number, or (nested) numbers per channel or unit."""


class Constant(nn.Module):
    """One physical constant of a stage.

    >>> tau = Constant("tau_mem_ms", 10.0, low=1.0, high=1000.0, learnable=True)
    >>> tau
    Constant(tau_mem_ms=10, learned)

    Args:
        name: Name of the constructor argument, with its unit; for messages and printing.
        value: A number, or numbers per channel or unit.
        learnable: Whether it is a parameter that optimisers may change.
        low: Lower bound; excluded when learned.
        high: Upper bound; excluded when learned.
        strict: Whether a fixed value must differ from the lower bound, too.

    Raises:
        InputError: If a value is not finite or beyond its bounds, or a learned one has one bound
            without the other.
    """

    value: Tensor

    def __init__(
        self,
        name: str,
        value: Value | Tensor,
        *,
        learnable: bool = False,
        low: float = -math.inf,
        high: float = math.inf,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.learnable, self.low, self.high = name, bool(learnable), low, high
        given = self._checked(value, strict=strict or self.learnable)
        self._number: float | None = None
        if self.learnable:
            self._check_bounds()
            self.raw = nn.Parameter(self._raw(given).to(torch.get_default_dtype()))
        else:
            # Kept in double precision: a time constant of 0.1 ms is not to be rounded by .half().
            self.register_buffer("value", given)
            self._remember()
            self.register_load_state_dict_post_hook(lambda module, _: module._remember())

    def forward(self, like: Tensor) -> Tensor | float:
        """Return the value for acting on ``like``.

        Args:
            like: One frame with axes (batch, ...); it says dtype and device.

        Returns:
            A float where the value is one fixed number; a tensor that broadcasts against ``like``
            otherwise.

        Raises:
            ShapeError: If the values do not fit the axes of ``like``.
        """
        if self._number is not None:
            return self._number
        value = self.current().to(device=like.device, dtype=like.dtype)
        if value.ndim == 0:
            return value
        if like.shape[1 : 1 + value.ndim] != value.shape:
            raise ShapeError(
                f"{self.name} has values of shape {tuple(value.shape)}, expected the first axes "
                f"after the batch of an input of shape {tuple(like.shape)}. Give one number, one "
                "per channel, or one per unit."
            )
        return value.reshape(value.shape + (1,) * (like.ndim - 1 - value.ndim))

    def current(self) -> Tensor:
        """Return the value as a tensor of its own shape, in its unit; differentiable if learned."""
        if not self.learnable:
            return self.value
        if math.isinf(self.low):
            return self.raw
        share = torch.sigmoid(self.raw)
        if self.low > 0:
            return self.low * (self.high / self.low) ** share
        return self.low + (self.high - self.low) * share

    def extra_repr(self) -> str:
        """Show the value, or the range of several."""
        value = self.current().detach()
        several = f"{value.min():.4g} .. {value.max():.4g}" if value.numel() > 1 else None
        return f"{self.name}={several or f'{value:.4g}'}" + ", learned" * self.learnable

    def _checked(self, value: Value | Tensor, *, strict: bool) -> Tensor:
        given = torch.as_tensor(value, dtype=torch.float64).detach().clone()
        inside = (given > self.low) | (given == self.low) & (not strict)
        if not (given.isfinite() & inside & (given <= self.high)).all() or not given.numel():
            least = f"> {self.low:g}" if strict else f">= {self.low:g}"
            most = "" if math.isinf(self.high) else f" and <= {self.high:g}"
            raise InputError(f"{self.name} expected finite values {least}{most}, got {value!r}.")
        return given

    def _check_bounds(self) -> None:
        if math.isinf(self.low) != math.isinf(self.high):
            raise InputError(
                f"{self.name} expected two bounds or none to be learned, got {self.low} and "
                f"{self.high}."
            )

    def _raw(self, given: Tensor) -> Tensor:
        if math.isinf(self.low):
            return given
        if self.low > 0:
            share = (given / self.low).log() / math.log(self.high / self.low)
        else:
            share = (given - self.low) / (self.high - self.low)
        return torch.logit(share.clamp(1e-6, 1 - 1e-6))

    def _remember(self) -> None:
        self._number = self.value.item() if self.value.ndim == 0 else None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Let a fixed value follow its module's device, but not its dtype."""
        if self.learnable:
            return super()._apply(fn, recurse)
        device = fn(torch.empty(0, dtype=self.value.dtype, device=self.value.device)).device
        self.value = self.value.to(device)
        return self
