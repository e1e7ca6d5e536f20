"""Which models have memory, and how long one of their steps is.

Units   time in ms
"""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from calcarine.errors import InputError
from calcarine.stage import DynamicStage, Pathway

__all__ = ["has_memory", "step_ms"]


def has_memory(model: Any) -> bool:
    """Return whether what a model answers depends on time; a pathway by its stages."""
    if isinstance(model, Pathway):
        return any(has_memory(model.get_submodule(name)) for name in model.order)
    return isinstance(model, DynamicStage)


def step_ms(owner: str, model: nn.Module, given: float | None = None) -> float:
    """Return the time that one call of a model with memory stands for.

    Args:
        owner: Who asks, for the message.
        model: The model.
        given: The time if it is known; else it is that of its stages.

    Raises:
        InputError: If the time is not positive, or the stages have none or several.
    """
    if given is not None:
        if not 0 < given < math.inf:
            raise InputError(f"{owner} expected dt_ms > 0, got {given!r}.")
        return given
    # The contract does not ask for a step: only stages with time constants have one.
    steps = [getattr(p, "dt_ms", None) for p in model.modules() if isinstance(p, DynamicStage)]
    found = {float(step) for step in steps if isinstance(step, int | float)}
    if len(found) != 1:
        several = f"stages have steps of {', '.join(map(str, sorted(found)))} ms"
        raise InputError(
            f"{owner} expected one time step, but {several if found else 'no stage has a dt_ms'}. "
            "Pass dt_ms, the time that one call of the model stands for."
        )
    return found.pop()
