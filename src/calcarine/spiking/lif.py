"""Leaky integrate-and-fire with an exponential synaptic current.

    i' = i + x
    v' = v + dt / tau_mem ((v_leak - v) + i')
    i  = i' (1 - dt / tau_syn)
    z  = 1 where v' > v_th, else 0
    v  = (1 - z) v' + z v_reset        reset "value"
    v  = v' - z v_th                   reset "subtract"

Input jumps the current, so one spike of weight w moves a membrane by about w tau_syn / tau_mem, and
the drive of constant x per step is x tau_syn / dt.

Axes    B batch | remaining axes one neuron each; potentials and currents in units of the threshold
Source  gerstner2014, chapter 1 (neuron, synaptic current); zenke2018 (surrogate gradient)
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

__all__ = ["LIF", "LIFState"]


class LIFState(NamedTuple):
    """Potential, synaptic current, and steps left of the refractory period, of every neuron."""

    v: Float[Tensor, "B ..."]
    i: Float[Tensor, "B ..."]
    refractory: Int[Tensor, "B ..."]


class LIF(FusedStage):
    """Leaky integrate-and-fire neurons with synaptic current; one step of dt per call.

    >>> neuron = LIF(tau_mem_ms=20.0, reset="subtract")
    >>> z, state = simulate.run(neuron, torch.full((100, 1, 3), 1.5))
    >>> z.shape
    torch.Size([100, 1, 3])

    Args:
        tau_mem_ms: Membrane time constant, ms, at least ``dt_ms``.
        tau_syn_ms: Time constant of the synaptic current, ms, at least ``dt_ms``.
        v_th: Potential above which a neuron fires.
        v_leak: Potential at rest.
        v_reset: Potential after a spike with ``reset="value"``.
        reset: ``"value"`` sets the potential to ``v_reset``; ``"subtract"`` takes ``v_th`` off.
        dt_ms: Duration of one step, ms.
        refractory_ms: Time after a spike in which the potential stands still, ms; the current
            goes on.
        surrogate: Slope of the spike in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope. zenke2018: 100.
        learnable: Constants to learn: ``True`` for all, or names of arguments above.

    Raises:
        InputError: If a constant is not finite or a time constant shorter than one step.
        UnknownNameError: If ``reset``, ``surrogate`` or ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("gerstner2014", "zenke2018")

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        tau_syn_ms: Value | Tensor = 5.0,
        v_th: Value | Tensor = 1.0,
        v_leak: Value | Tensor = 0.0,
        v_reset: Value | Tensor = 0.0,
        reset: Reset = "value",
        dt_ms: float = 1.0,
        refractory_ms: Value | Tensor = 0.0,
        surrogate: Surrogate = "superspike",
        alpha: float = 100.0,
        learnable: Learnable = False,
    ) -> None:
        super().__init__()
        check_step("LIF", dt_ms)
        check_reset("LIF", reset, v_reset)
        check_surrogate(surrogate, alpha)
        self.tau_mem_ms, self.tau_syn_ms, self.v_th = tau_mem_ms, tau_syn_ms, v_th
        self.v_leak, self.v_reset, self.reset = v_leak, v_reset, reset
        self.dt_ms, self.refractory_ms = float(dt_ms), refractory_ms
        self.surrogate, self.alpha, self.learnable = surrogate, float(alpha), learnable
        names = ("tau_mem_ms", "tau_syn_ms", "v_th", "v_leak", "v_reset")
        learned = learned_names("LIF", learnable, names)
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.tau_syn = time_constant("tau_syn_ms", tau_syn_ms, learned=learned, dt_ms=dt_ms)
        self.v_threshold = level("v_th", v_th, learned=learned)
        self.v_resting = level("v_leak", v_leak, learned=learned)
        self.v_after_spike = level("v_reset", v_reset, learned=learned)
        self.refractory = Refractory(refractory_ms, dt_ms)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> LIFState:
        """Return neurons at rest, ``v_leak``, without current, for input like ``like``."""
        i = torch.zeros_like(like)
        return LIFState(i + self.v_resting(like), i, self.refractory.initial(like))

    def forward(
        self, x: Float[Tensor, "B ..."], state: LIFState
    ) -> tuple[Float[Tensor, "B ..."], LIFState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...): jump of the current, in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("LIF", x, state.v)
        rate, threshold = self.dt_ms / self.tau_mem(x), self.v_threshold(x)
        current = state.i + x
        change = rate * ((self.v_resting(x) - state.v) + current)
        v = state.v + self.refractory.gate(change, state.refractory)
        z = spike(v - threshold, self.surrogate, self.alpha)
        z = self.refractory.gate(z, state.refractory)
        v = reset_potential(v, z, self.reset, threshold, self.v_after_spike(x))
        i = current * (1 - self.dt_ms / self.tau_syn(x))
        return z, LIFState(v, i, self.refractory.after(z, state.refractory))

    def scan(
        self, movie: Float[Tensor, "T B ..."], state: LIFState
    ) -> tuple[Float[Tensor, "T B ..."], LIFState]:
        """Integrate a movie in one pass: the same numbers as step by step."""
        x = movie[0]
        update = Update(
            rate=self.dt_ms / self.tau_mem(x), v_leak=self.v_resting(x),
            decay=1 - self.dt_ms / self.tau_syn(x),
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
