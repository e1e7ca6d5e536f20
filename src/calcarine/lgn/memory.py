"""What a filter computes from its parameters, kept until a parameter changes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Memory", "is_fixed"]

T = TypeVar("T")

_ENTRIES = 8
"""Results remembered at a time. Ours: a page of results shows few image sizes."""


class Memory:
    """Remembers what was built from fixed parameters.

    Nothing is remembered while a parameter collects gradients, inside a function transform, or
    under a compiler. Copies and pickles of a memory are empty.

    Every change of a parameter on the CPU is noticed. On other devices, reading values would wait
    for the device; there a change is noticed unless it is written in place through ``.data``.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, tuple[Any, Any, Any]] = {}

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, parameters: Sequence[Tensor], build: Callable[[], T]) -> T:
        """Return what ``build`` returns, from memory where nothing has changed.

        Args:
            key: What the result depends on beside the parameters.
            parameters: The parameters it is built from.
            build: Builds it.
        """
        if torch.compiler.is_compiling() or not is_fixed(parameters):
            return build()
        state = tuple(_state(p) for p in parameters)
        found = self._kept.get(key)
        if found is not None and found[0] == state:
            return found[1]
        made = build()
        if (
            torch._C._functorch.maybe_current_level() is None
            and not torch.is_inference_mode_enabled()
        ):
            while len(self._kept) >= _ENTRIES:
                self._kept.pop(next(iter(self._kept)))
            # Holding the values keeps their address from being used again by other values.
            self._kept[key] = (state, made, [p.detach() for p in parameters])
        return made


def is_fixed(parameters: Sequence[Tensor]) -> bool:
    """Say whether parameters are plain tensors that collect no gradients."""
    return all(_is_fixed(parameter) for parameter in parameters)


def _is_fixed(parameter: Tensor) -> bool:
    plain = type(parameter) in (nn.Parameter, Tensor)
    plain = plain and not torch._C._functorch.is_functorch_wrapped_tensor(parameter)
    return plain and not parameter.requires_grad and not parameter.is_inference()


def _state(parameter: Tensor) -> Hashable:
    """Return something that differs after any change, without waiting for a device."""
    if parameter.device.type == "cpu":
        return str(parameter.dtype), tuple(parameter.reshape(-1).tolist())
    return str(parameter.device), parameter.data_ptr(), parameter._version
