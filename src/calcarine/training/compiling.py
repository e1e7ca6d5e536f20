"""Whether and how one step of learning becomes code of its own.

    auto     on a GPU, where starting hundreds of small kernels takes longer than running them; on a
             CPU kernels of our own are faster than what a compiler makes, and ready at once
    true     always          false    never

Compiled losses agree with plain ones up to rounding, so a run is resumed with what it began with.
Compiling takes about a minute, at the first update.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch

from calcarine.errors import CalcarineWarning, InputError

__all__ = ["CompiledStep", "Compiling", "resolve_compiling"]

Compiling = bool | Literal["auto"]
T = TypeVar("T")


def resolve_compiling(compiling: Compiling, device: torch.device) -> bool:
    """Turn ``"auto"`` into what suits the device.

    Raises:
        InputError: If it is neither ``"auto"`` nor a truth value.
    """
    if not isinstance(compiling, bool) and compiling != "auto":
        raise InputError(f"compile is expected to be 'auto', true or false, got {compiling!r}.")
    return device.type == "cuda" if compiling == "auto" else compiling


class CompiledStep:
    """A function of tensors that runs compiled; where the compiler fails it runs as it is.

    Args:
        function: What to run. Everything random has to be among its arguments.
        backend: As for ``torch.compile``.
    """

    def __init__(self, function: Callable[..., T], backend: str = "inductor") -> None:
        self._plain = function
        self._compiled: Callable[..., Any] | None = torch.compile(
            function, dynamic=False, backend=backend
        )

    def __call__(self, *args: Any) -> Any:
        """Run on the arguments."""
        if self._compiled is None:
            return self._plain(*args)
        # One code object serves every task, so the usual limit of 8 variants would be met soon;
        # what the compiler warns about its own internals is not for the caller.
        with warnings.catch_warnings(), torch._dynamo.config.patch(recompile_limit=256):
            warnings.simplefilter("ignore")
            try:
                return self._compiled(*args)
            except Exception as error:
                if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise
                failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        self._compiled = None
        warnings.warn(
            f"torch.compile failed ({failure}); learning goes on without it. Set compile=false to "
            "silence this.",
            CalcarineWarning,
            stacklevel=2,
        )
        return self._plain(*args)
