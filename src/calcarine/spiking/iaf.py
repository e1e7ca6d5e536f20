"""Integrate-and-fire without a leak: a counter of its input.

    v' = v + dt / tau_mem x
    z  = 1 where v' > v_th, else 0
    v  = (1 - z) v' + z v_reset        reset "value"
    v  = v' - z v_th                   reset "subtract"

It is LIFBox without the leak term, so constant x > 0 gives the interval
tau_mem (v_th - v_reset) / x; with tau_mem = dt every frame is added as it is. With reset "subtract"
nothing of the input is lost between spikes.

Axes    B batch | remaining axes one neuron each; potentials in units of the threshold
Source  gerstner2014, section 1.3 (neuron); zenke2018 (surrogate gradient)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.constants import Value
from calcarine.spiking._scan import Update, scan
from calcarine.spiking.membrane import (
    Learnable,
    Refractory,
    Reset,
    check_frame,
    check_reset,
    check_step,
    learned_names,
    level,
    reset_potential,
    time_constant,
)
from calcarine.spiking.surrogate import Surrogate, check_surrogate, spike
from calcarine.stage import FusedStage

__all__ = ["IAF", "IAFState"]


class IAFState(NamedTuple):
    """Potential, and steps left of the refractory period, of every neuron."""

    v: Float[Tensor, "B ..."]
    refractory: Int[Tensor, "B ..."]


class IAF(FusedStage):
    """Integrate-and-fire neurons without a leak; one step of dt per call.

    Args:
        tau_mem_ms: Time in which an input of 1 charges the membrane by 1, ms, at least ``dt_ms``.
        v_th: Potential above which a neuron fires.
        v_reset: Potential at the start, and after a spike with ``reset="value"``.
        reset: ``"value"`` sets the potential to ``v_reset``; ``"subtract"`` takes ``v_th`` off.
        dt_ms: Duration of one step, ms.
        refractory_ms: Time after a spike without integration, ms.
        surrogate: Slope of the spike in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope. zenke2018: 100.
        learnable: Constants to learn: ``True`` for all, or names of arguments above.

    Raises:
        InputError: If a constant is not finite or the time constant shorter than one step.
        UnknownNameError: If ``reset``, ``surrogate`` or ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("gerstner2014", "zenke2018")

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        v_th: Value | Tensor = 1.0,
        v_reset: Value | Tensor = 0.0,
        reset: Reset = "value",
        dt_ms: float = 1.0,
        refractory_ms: Value | Tensor = 0.0,
        surrogate: Surrogate = "superspike",
        alpha: float = 100.0,
        learnable: Learnable = False,
    ) -> None:
        super().__init__()
        check_step("IAF", dt_ms)
        check_reset("IAF", reset, 0.0)
        check_surrogate(surrogate, alpha)
        self.tau_mem_ms, self.v_th = tau_mem_ms, v_th
        self.v_reset, self.reset = v_reset, reset
        self.dt_ms, self.refractory_ms = float(dt_ms), refractory_ms
        self.surrogate, self.alpha, self.learnable = surrogate, float(alpha), learnable
        learned = learned_names("IAF", learnable, ("tau_mem_ms", "v_th", "v_reset"))
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.v_threshold = level("v_th", v_th, learned=learned)
        self.v_after_spike = level("v_reset", v_reset, learned=learned)
        self.refractory = Refractory(refractory_ms, dt_ms)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> IAFState:
        """Return every neuron at ``v_reset``, for input of the shape of ``like``."""
        v = torch.zeros_like(like) + self.v_after_spike(like)
        return IAFState(v, self.refractory.initial(like))

    def forward(
        self, x: Float[Tensor, "B ..."], state: IAFState
    ) -> tuple[Float[Tensor, "B ..."], IAFState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...), in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("IAF", x, state.v)
        change, threshold = self.dt_ms / self.tau_mem(x) * x, self.v_threshold(x)
        v = state.v + self.refractory.gate(change, state.refractory)
        z = spike(v - threshold, self.surrogate, self.alpha)
        z = self.refractory.gate(z, state.refractory)
        v = reset_potential(v, z, self.reset, threshold, self.v_after_spike(x))
        return z, IAFState(v, self.refractory.after(z, state.refractory))

    def scan(
        self, movie: Float[Tensor, "T B ..."], state: IAFState
    ) -> tuple[Float[Tensor, "T B ..."], IAFState]:
        """Integrate a movie in one pass: the same numbers as step by step."""
        x = movie[0]
        update = Update(
            rate=self.dt_ms / self.tau_mem(x),
            v_th=self.v_threshold(x), v_reset=self.v_after_spike(x), reset=self.reset,
            surrogate=self.surrogate, alpha=self.alpha,
        )  # fmt: skip
        return scan(self, movie, state, update if self.refractory.none(x) else None)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return (
            f"reset={self.reset!r}, dt_ms={self.dt_ms:g}, surrogate={self.surrogate!r}, "
            f"alpha={self.alpha:g}"
        )
