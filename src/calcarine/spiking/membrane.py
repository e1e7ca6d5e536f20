"""What neurons share: their constants, the reset and the refractory period.

    reset "value"       v <- (1 - z) v' + z v_reset
    reset "subtract"    v <- v' - z threshold
    refractory          n = round(refractory_ms / dt_ms) steps after a spike, v stands still and
                        z = 0, so that spikes are at least refractory_ms + dt_ms apart

Both resets pass gradients through the spike z as well as through the potential v'. Whether a
neuron is refractory depends on whole spikes and passes none.

Axes    B batch | remaining axes one neuron each
Source  gerstner2014, section 1.3 (reset, refractory period)
"""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calcarine.constants import Constant, Value
from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError

__all__ = [
    "LONGEST_TAU_MS",
    "Learnable",
    "Refractory",
    "Reset",
    "check_frame",
    "check_reset",
    "check_step",
    "learned_names",
    "level",
    "reset_potential",
    "time_constant",
]

Learnable = bool | tuple[str, ...]
"""Which constants optimisers may change: all, none, or those named."""

Reset = Literal["value", "subtract"]
"""What a spike does to the potential: set it to ``v_reset``, or take the threshold off."""

LONGEST_TAU_MS = 10_000.0
"""Upper bound of a learned time constant, ms. Ours: beyond the slowest adaptation of neurons."""


def learned_names(owner: str, learnable: Learnable, known: tuple[str, ...]) -> frozenset[str]:
    """Return which of the constants ``known`` are to be learned.

    Raises:
        UnknownNameError: If ``learnable`` names a constant that the neuron ``owner`` lacks.
        InputError: If it is one string instead of a tuple of names.
    """
    if isinstance(learnable, str):
        raise InputError(
            f"{owner} expected learnable as True, False or a tuple of names, got {learnable!r}. "
            f"Pass ({learnable!r},)."
        )
    if isinstance(learnable, bool):
        return frozenset(known if learnable else ())
    for name in learnable:
        if name not in known:
            raise UnknownNameError(f"learnable constant of {owner}", name, known)
    return frozenset(learnable)


def time_constant(
    name: str, value: Value | Tensor, *, learned: frozenset[str], dt_ms: float
) -> Constant:
    """Return a time constant in ms that never falls below one step, learned or not."""
    learn = name in learned
    high = LONGEST_TAU_MS if learn else math.inf
    return Constant(name, value, learnable=learn, low=float(dt_ms), high=high)


def level(name: str, value: Value | Tensor, *, learned: frozenset[str]) -> Constant:
    """Return a constant without bounds, such as a threshold."""
    return Constant(name, value, learnable=name in learned)


def check_step(owner: str, dt_ms: float) -> None:
    """Refuse a step that is not a positive, finite duration."""
    if not 0 < dt_ms < math.inf:
        raise InputError(f"{owner} expected 0 < dt_ms < inf, got dt_ms={dt_ms}.")


def check_reset(owner: str, reset: str, v_reset: Value | Tensor) -> None:
    """Refuse an unknown reset; warn where ``v_reset`` has no effect."""
    if reset not in ("value", "subtract"):
        raise UnknownNameError("reset", reset, ("value", "subtract"))
    if reset == "subtract" and bool(torch.as_tensor(v_reset).any()):
        warnings.warn(
            f"{owner} has reset='subtract', so v_reset={v_reset} has no effect. Leave it out, or "
            "pass reset='value'.",
            CalcarineWarning,
            stacklevel=3,
        )


def check_frame(owner: str, x: Tensor, v: Tensor) -> None:
    """Refuse input that is not a batch of real numbers, or a state of another shape.

    Raises:
        ShapeError: If ``x`` has no batch axis, is not floating point or does not fit ``v``.
    """
    if x.ndim < 1 or not x.is_floating_point():
        raise ShapeError(
            f"{owner} expected floating-point input with axes (batch, ...), got {x.dtype} of "
            f"shape {tuple(x.shape)}. Pass spikes as x.to(torch.get_default_dtype())."
        )
    if v.shape != x.shape:
        raise ShapeError(
            f"{owner} expected a state of shape {tuple(x.shape)} as its input, got "
            f"{tuple(v.shape)}. Use initial_state(frame)."
        )


def reset_potential(
    v: Float[Tensor, "B ..."],
    z: Float[Tensor, "B ..."],
    reset: Reset,
    threshold: Tensor | float,
    v_reset: Tensor | float,
) -> Float[Tensor, "B ..."]:
    """Return the potential after the spikes ``z``; exactly ``v`` where there is none.

    Args:
        v: Potential before the reset.
        z: Spikes, 0 or 1.
        reset: Which reset.
        threshold: What ``"subtract"`` takes off.
        v_reset: What ``"value"`` sets; reached exactly, without rounding.

    Returns:
        Potential after the reset, of the shape of ``v``.
    """
    if reset == "subtract":
        return v - z * threshold
    return (1 - z) * v + z * v_reset


class Refractory(nn.Module):
    """The time after a spike in which a neuron neither integrates nor fires.

    Args:
        refractory_ms: Its duration, ms, rounded to whole steps; 0 for none.
        dt_ms: Duration of one step, ms.

    Raises:
        InputError: If the duration is negative or not finite.
    """

    def __init__(self, refractory_ms: Value | Tensor, dt_ms: float) -> None:
        super().__init__()
        self.duration = Constant("refractory_ms", refractory_ms, low=0.0)
        self.dt_ms = float(dt_ms)

    def none(self, like: Float[Tensor, "B ..."]) -> bool:
        """Say whether neurons of the shape of ``like`` never wait: nothing needs computing."""
        return isinstance(duration := self.duration(like), float) and duration == 0

    def initial(self, like: Float[Tensor, "B ..."]) -> Int[Tensor, "B ..."]:
        """Return the steps left to wait at the start: 0 everywhere."""
        return torch.zeros_like(like, dtype=torch.int32)

    def gate(
        self, value: Float[Tensor, "B ..."], left: Int[Tensor, "B ..."]
    ) -> Float[Tensor, "B ..."]:
        """Return ``value``, set to 0 where a neuron still has steps ``left`` to wait."""
        return value if self.none(value) else value.masked_fill(left > 0, 0)

    def after(self, z: Float[Tensor, "B ..."], left: Int[Tensor, "B ..."]) -> Int[Tensor, "B ..."]:
        """Return the steps left to wait after the spikes ``z`` of this step."""
        if self.none(z):
            return left
        duration = self.duration(z)
        fired = z.detach() > 0
        if isinstance(duration, float):
            return (left - 1).clamp(min=0).masked_fill(fired, round(duration / self.dt_ms))
        steps = (duration / self.dt_ms).round().to(left.dtype)
        return torch.where(fired, steps, (left - 1).clamp(min=0))
