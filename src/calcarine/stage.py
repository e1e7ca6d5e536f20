"""The two contracts that every part of a visual system keeps, and how parts are chained.

    Stage           y        = stage(x)
    DynamicStage    y, state = stage(x, state)      one step of dt
    FusedStage      the same, and ys, state = stage.scan(xs, state) over a whole sequence
    Pathway         named stages in order, itself a DynamicStage

State is a value. Nothing about the past is kept on a module, so nothing needs a reset, leaks from
one network into another, or stays behind on the wrong device. The loop over time is
:func:`calcarine.simulate.run`.

Axes    B batch, first axis of one step | T time, first axis of a movie
Units   time in ms
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from calcarine.errors import InputError

__all__ = [
    "DynamicStage",
    "FusedStage",
    "Pathway",
    "PathwayState",
    "Stage",
    "detach_state",
    "state_tensors",
    "steps_of",
]


class Stage(nn.Module, ABC):
    """A part without memory: tensors in, tensors out.

    ``forward`` has no side effects, leaves its input untouched, treats batch items independently,
    follows the dtype and device of its input, and is deterministic in ``eval()``. Noise belongs to
    ``train()`` and draws from the ``generator`` that the call passes on.

    Attributes:
        sources: Keys into ``references.bib`` of the papers the stage implements.
    """

    sources: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Map one batch of inputs to one batch of outputs."""


class DynamicStage(nn.Module, ABC):
    """A part with memory, advanced one time step per call.

    ``forward(x, state) -> (y, state)`` computes one step and returns a *new* state.

    Attributes:
        sources: Keys into ``references.bib`` of the papers the stage implements.
    """

    sources: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def initial_state(self, like: Tensor) -> Any:
        """Return the state at rest for inputs of the shape, dtype and device of ``like``.

        Args:
            like: One frame with axes (batch, ...), as ``forward`` takes it.

        Returns:
            A ``NamedTuple`` of tensors (nested ones are allowed).
        """

    @abstractmethod
    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Advance by one step: ``(frame, state) -> (output, new state)``."""


class FusedStage(DynamicStage):
    """A part with memory that can also do a whole sequence faster than step by step."""

    @abstractmethod
    def scan(self, movie: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Advance over a movie with axes (time, batch, ...): the same numbers as step by step."""


class PathwayState(NamedTuple):
    """States of the dynamic stages of a pathway, in order; ``None`` for a stage without memory."""

    stages: tuple[Any, ...]


class Pathway(DynamicStage):
    """Named stages in order, each reading the output of the one before within the same step.

    >>> retina_to_v1 = Pathway(lgn=CenterSurround(kernel_size=31), v1=LIFBox())

    Inner stages are attributes (``pathway.lgn``), so recordings and readouts name them the same
    way. A pathway whose stages have no memory has an empty state and may be called as
    ``pathway(x)``.

    Args:
        **stages: The parts, in the order in which the signal passes them.
    """

    def __init__(self, **stages: nn.Module) -> None:
        super().__init__()
        if not stages:
            raise InputError("Pathway expected at least one named stage, as in Pathway(lgn=...).")
        for name, stage in stages.items():
            if not isinstance(stage, nn.Module):
                raise InputError(
                    f"Pathway expected modules, but {name!r} is a {type(stage).__name__}. "
                    "Wrap a function in a small Stage whose forward calls it."
                )
            self.add_module(name, stage)
        self.order = tuple(stages)

    def _parts(self) -> list[nn.Module]:
        return [getattr(self, name) for name in self.order]

    def initial_state(self, like: Tensor) -> PathwayState:
        """Pass one frame through to learn the shape in front of every dynamic stage."""
        states: list[Any] = []
        x = like
        with torch.no_grad():
            for stage in self._parts():
                if isinstance(stage, DynamicStage):
                    state = stage.initial_state(x)
                    states.append(state)
                    x, _ = stage(x, state)
                else:
                    states.append(None)
                    x = stage(x)
        return PathwayState(tuple(states))

    def forward(self, x: Tensor, state: PathwayState | None = None) -> Any:
        """Advance every stage by one step.

        Args:
            x: Input of the first stage, axes (batch, ...).
            state: What the last step returned, or ``initial_state(x)``. May be left out when no
                stage has memory; then only the output is returned.

        Returns:
            ``(output, state)``, or the output alone when ``state`` was left out.

        Raises:
            InputError: If ``state`` is left out although a stage has memory.
        """
        if state is None:
            dynamic = [n for n in self.order if isinstance(getattr(self, n), DynamicStage)]
            if dynamic:
                raise InputError(
                    f"Pathway expected a state because {', '.join(dynamic)} has memory. Pass "
                    "pathway.initial_state(x), or use calcarine.simulate.run for a movie."
                )
            for stage in self._parts():
                x = stage(x)
            return x
        after: list[Any] = []
        for stage, before in zip(self._parts(), state.stages, strict=True):
            if isinstance(stage, DynamicStage):
                x, new = stage(x, before)
                after.append(new)
            else:
                x = stage(x)
                after.append(None)
        return x, PathwayState(tuple(after))


def state_tensors(state: Any) -> list[Tensor]:
    """Return every tensor inside a state, depth first."""
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, tuple):
        return [tensor for part in state for tensor in state_tensors(part)]
    return []


def detach_state(state: Any) -> Any:
    """Return the same state cut off from the graph that computed it (truncated backpropagation)."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple):
        parts = [detach_state(part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def steps_of(owner: str, name: str, time_ms: float, dt_ms: float, *, least: int = 0) -> int:
    """Return how many steps a time lasts, and refuse what is not a whole number of them.

    Args:
        owner: Who asks, for the message.
        name: What the time is called there.
        time_ms: The time, which may miss a whole number of steps by rounding (1e-6 of it, ours).
        dt_ms: Duration of one step.
        least: Fewest steps.

    Raises:
        InputError: If the time is not a multiple of the step, or of fewer steps than ``least``.
    """
    steps = round(time_ms / dt_ms) if math.isfinite(time_ms) else -1
    if steps < least or not math.isclose(steps * dt_ms, time_ms, rel_tol=1e-6, abs_tol=1e-6):
        raise InputError(
            f"{owner} expected {name} as a multiple of the step of {dt_ms:g} ms, at least "
            f"{least * dt_ms:g} ms, got {time_ms!r}. Choose {name} to be a multiple of "
            f"dt_ms={dt_ms:g}, for example {max(steps, least, 1) * dt_ms:g}."
        )
    return steps
