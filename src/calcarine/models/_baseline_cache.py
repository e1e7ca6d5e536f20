"""The input-free state of a network, kept as long as the weights have the values it came from.

The weights are compared by value with a copy, not by identity or version counter: those miss
writes through ``.data`` and shared memory. Comparing costs about one reading of the weights, a
hundredth of one answer; the copy costs their memory once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["BaselineCache", "same"]

Rates = tuple[Tensor, ...]


class BaselineCache:
    """States without input, by their number of steps, for one set of weights.

    Copies and pickles of it are empty: they belong to another network.
    """

    def __init__(self) -> None:
        self._weights: tuple[Tensor, ...] = ()
        self._setting: Any = None
        self._known: dict[int, Rates] = {}

    def __reduce__(self) -> tuple[type[BaselineCache], tuple[()]]:
        return BaselineCache, ()

    def get(
        self, weights: Sequence[Tensor], setting: Any, steps: int, compute: Callable[[], Rates]
    ) -> Rates:
        """Return the state after ``steps`` steps, computed anew if any value has changed.

        Args:
            weights: Every tensor the state depends on.
            setting: Whatever else it depends on.
            steps: How many steps without input.
            compute: Computes the state.
        """
        # Tensors made in inference mode could not be used for training later.
        with torch.inference_mode(False), torch.no_grad():
            if setting != self._setting or not same(weights, self._weights):
                self._weights = tuple(w.detach().clone() for w in weights)
                self._setting, self._known = setting, {}
            if steps not in self._known:
                self._known[steps] = compute()
            return self._known[steps]


def same(now: Sequence[Tensor], kept: Sequence[Tensor]) -> bool:
    """Return whether tensors are equal in number, shape, dtype, device and values."""
    return len(now) == len(kept) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
        for a, b in zip(now, kept, strict=True)
    )
