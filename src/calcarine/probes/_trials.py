"""Trials: any model with memory is left alone, sees images that stand still, and is left alone.

    warm-up    nothing is shown, until the network rests at its baseline
    stimulus   the image, or the image + noise drawn anew in every step
    off        nothing is shown

A moment is what there is after one step: the answer, and named activities. CordsNet takes its own
short way, with the warm-up from memory and the stem once per image; its activities are the rates of
``area1`` to ``area8``. Of any other model they are the tensors of its state, named by the fields
that lead there (``v``, ``areas.0.r``; stages of a pathway by their own names), and to show nothing
is to show zeros.

Axes    B batch | K classes | ... whatever an activity has
Units   time in ms
Source  soo2024 (trial)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.models._cordsnet_state import CordsNetState, as_state
from calcarine.models.soo2024 import CordsNet
from calcarine.probes._memory import has_memory, step_ms
from calcarine.stage import DynamicStage, Pathway, PathwayState, steps_of

__all__ = [
    "Moment",
    "Player",
    "chosen_areas",
    "drawn_like",
    "map_state",
    "player",
    "rows",
]


class Moment(NamedTuple):
    """What there is after one step: the state, and what the answer is computed from."""

    state: Any
    output: Any


class Player(ABC):
    """A model that can be taken through trials."""

    dt_ms: float

    @abstractmethod
    def baseline(self, images: Tensor, warmup_ms: float) -> Any:
        """Return the state of a batch after a time without input."""

    @abstractmethod
    def play(
        self,
        images: Tensor,
        state: Any,
        stimulus_ms: float,
        off_ms: float = 0.0,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Moment]:
        """Yield every moment from onset on; ``noise`` is added to the image anew in every step."""

    @abstractmethod
    def logits(self, moment: Moment) -> Tensor:
        """Return the answer of a moment, axes (batch, class)."""

    @abstractmethod
    def activities(self, state: Any) -> dict[str, Tensor]:
        """Return the activities of a state by name, first to last."""


class _CordsNetPlayer(Player):
    def __init__(self, model: CordsNet) -> None:
        self._model, self.dt_ms = model, model.dt_ms
        self._weights = model.folded()

    def baseline(self, images: Tensor, warmup_ms: float) -> CordsNetState:
        return self._model.baseline(images, warmup_ms)

    def play(
        self,
        images: Tensor,
        state: CordsNetState,
        stimulus_ms: float,
        off_ms: float = 0.0,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Moment]:
        trial = self._model.trial(
            images, 0.0, stimulus_ms, off_ms, state=state, noise=noise, generator=generator
        )
        for rates in trial:
            yield Moment(as_state(rates), rates)

    def logits(self, moment: Moment) -> Tensor:
        return self._weights.logits(moment.output)

    def activities(self, state: Any) -> dict[str, Tensor]:
        return {f"area{k}": area.r for k, area in enumerate(state.areas, start=1)}


class _StagePlayer(Player):
    def __init__(self, model: DynamicStage, dt_ms: float) -> None:
        self._model, self.dt_ms = model, dt_ms

    def baseline(self, images: Tensor, warmup_ms: float) -> Any:
        state, nothing = self._model.initial_state(images), torch.zeros_like(images)
        for _ in range(steps_of("A trial", "warmup_ms", warmup_ms, self.dt_ms)):
            _, state = self._model(nothing, state)
        return state

    def play(
        self,
        images: Tensor,
        state: Any,
        stimulus_ms: float,
        off_ms: float = 0.0,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Iterator[Moment]:
        for _ in range(steps_of("A trial", "stimulus_ms", stimulus_ms, self.dt_ms)):
            frame = images + noise * drawn_like(images, generator) if noise else images
            output, state = self._model(frame, state)
            yield Moment(state, output)
        nothing = torch.zeros_like(images)
        for _ in range(steps_of("A trial", "off_ms", off_ms, self.dt_ms)):
            output, state = self._model(nothing, state)
            yield Moment(state, output)

    def logits(self, moment: Moment) -> Tensor:
        logits = moment.output
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ShapeError(
                f"{type(self._model).__name__} expected to answer with logits of axes (batch, "
                f"class) in every step, got {got}. Put a readout behind it with a Pathway."
            )
        return logits

    def activities(self, state: Any) -> dict[str, Tensor]:
        return dict(_named(state, self._model))


def player(model: nn.Module, dt_ms: float | None = None) -> Player:
    """Return what takes a model through trials.

    Args:
        model: A model with memory.
        dt_ms: Its step; needed only if none of its stages has an attribute ``dt_ms``.

    Raises:
        InputError: If the model has no memory, or its step is not known.
    """
    if not has_memory(model):
        raise InputError(
            f"A trial expected a model with memory (a DynamicStage), got a {type(model).__name__}, "
            "whose answer does not depend on time."
        )
    if isinstance(model, CordsNet):
        if dt_ms is not None and dt_ms != model.dt_ms:
            raise InputError(f"CordsNet has a step of {model.dt_ms:g} ms, got dt_ms={dt_ms!r}.")
        return _CordsNetPlayer(model)
    assert isinstance(model, DynamicStage)
    return _StagePlayer(model, step_ms("A trial", model, dt_ms))


def chosen_areas(known: dict[str, Tensor], areas: Any) -> tuple[str, ...]:
    """Return names of activities, all of floating point where none are asked for.

    Raises:
        UnknownNameError: If there is no activity of a name.
        InputError: If there is nothing to measure.
    """
    if areas is None:
        areas = [name for name, t in known.items() if t.is_floating_point() and t.ndim]
    names = (areas,) if isinstance(areas, str) else tuple(areas)
    for name in names:
        if name not in known:
            raise UnknownNameError("activity", name, known)
    if not names:
        raise InputError("A trial expected at least one activity to measure, got none.")
    return names


def map_state(state: Any, change: Callable[[str, Tensor], Tensor], names: Iterator[str]) -> Any:
    """Return a state with every tensor changed; ``names`` are those of its tensors, in order."""
    if isinstance(state, Tensor):
        return change(next(names), state)
    if isinstance(state, tuple):
        parts = [map_state(part, change, names) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state


def drawn_like(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return standard normal noise of the shape of images."""
    shape, like = images.shape, {"dtype": images.dtype, "device": images.device}
    return torch.randn(shape, generator=generator, **like)  # type: ignore[call-overload]


def rows(activity: Tensor) -> Tensor:
    """Return an activity with axes (batch, unit), in single precision at least."""
    flat = activity.reshape(activity.shape[0], -1)
    return flat if flat.dtype == torch.double else flat.float()


def _named(state: Any, model: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state, depth first, with the fields that lead there."""
    if isinstance(state, Tensor):
        yield path or "state", state
    elif isinstance(state, PathwayState) and isinstance(model, Pathway):
        for name, part in zip(model.order, state.stages, strict=True):
            yield from _named(part, model.get_submodule(name), f"{path}.{name}".lstrip("."))
    elif isinstance(state, tuple):
        fields = getattr(state, "_fields", range(len(state)))
        for field, part in zip(fields, state, strict=True):
            yield from _named(part, None, f"{path}.{field}".lstrip("."))
