"""Adaptive exponential integrate-and-fire: a soft threshold and an adaptation current.

    i' = i + x
    e  = delta_t exp(min((v - v_th) / delta_t, upswing))
    v' = v + dt / tau_mem ((v_leak - v) + e - b + i')
    i  = i' (1 - dt / tau_syn)
    b' = b + dt / tau_adapt (coupling (v - v_leak) - b)
    z  = 1 where v' > v_peak, else 0,    v_peak = v_th + upswing delta_t
    v  = (1 - z) v' + z v_reset        reset "value"
    v  = v' - z v_peak                 reset "subtract"
    b  = b' + beta z

At v_th the potential starts to run away; the spike is noted at v_peak. The exponential is capped at
its value there, so one explicit Euler step adds at most dt / tau_mem delta_t exp(upswing) by it and
cannot overflow, whatever the input did to v. Left out is the rise beyond v_peak, which takes less
than tau_mem exp(-upswing), 0.07 ms by default.

The defaults are the neuron of brette2005 in units of V_T - E_L = 20.2 mV above E_L: delta_t = 2 mV,
coupling = 4 nS / 30 nS, beta = 80.5 pA / (30 nS 20.2 mV), tau_adapt = 144 ms.

Axes    B batch | remaining axes one neuron each; potentials and currents in units of the threshold
Source  brette2005; gerstner2014, chapter 6 (firing patterns); zenke2018 (surrogate gradient)
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.constants import Constant, Value
from calcarine.errors import InputError
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
from calcarine.stage import DynamicStage

__all__ = ["AdEx", "AdExState"]

_LEARNABLE = (
    "tau_mem_ms",
    "tau_syn_ms",
    "tau_adapt_ms",
    "delta_t",
    "coupling",
    "beta",
    "v_th",
    "v_leak",
    "v_reset",
)
_SHARPEST, _SOFTEST = 1e-3, 1e3


class AdExState(NamedTuple):
    """Potential, synaptic and adaptation current, and refractory steps left, of every neuron."""

    v: Float[Tensor, "B ..."]
    i: Float[Tensor, "B ..."]
    b: Float[Tensor, "B ..."]
    refractory: Int[Tensor, "B ..."]


class AdEx(DynamicStage):
    """Exponential integrate-and-fire neurons with adaptation; one step of dt per call.

    Args:
        tau_mem_ms: Membrane time constant, ms, at least ``dt_ms``.
        tau_syn_ms: Time constant of the synaptic current, ms, at least ``dt_ms``.
        tau_adapt_ms: Time constant of the adaptation current, ms. brette2005: 144.
        delta_t: Sharpness of the upswing, in units of the potential. brette2005: 0.1.
        coupling: Adaptation current per potential above rest. brette2005: 0.13.
        beta: Rise of the adaptation current at a spike. brette2005: 0.13.
        upswing: Height of the peak above ``v_th``, in units of ``delta_t``. Ours.
        v_th: Potential above which the upswing runs away.
        v_leak: Potential at rest.
        v_reset: Potential after a spike with ``reset="value"``.
        reset: ``"value"`` sets the potential to ``v_reset``; ``"subtract"`` takes the peak off.
        dt_ms: Duration of one step, ms.
        refractory_ms: Time after a spike in which the potential stands still, ms; the currents
            go on.
        surrogate: Slope of the spike in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope. zenke2018: 100.
        learnable: Constants to learn: ``True`` for all but ``upswing``, or names of arguments
            above.

    Raises:
        InputError: If a constant is not finite, ``delta_t`` or ``upswing`` not positive, or a
            time constant shorter than one step.
        UnknownNameError: If ``reset``, ``surrogate`` or ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("brette2005", "gerstner2014", "zenke2018")

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        tau_syn_ms: Value | Tensor = 5.0,
        tau_adapt_ms: Value | Tensor = 144.0,
        delta_t: Value | Tensor = 0.1,
        coupling: Value | Tensor = 0.13,
        beta: Value | Tensor = 0.13,
        upswing: float = 5.0,
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
        check_step("AdEx", dt_ms)
        check_reset("AdEx", reset, v_reset)
        check_surrogate(surrogate, alpha)
        if not 0 < upswing < math.inf:
            raise InputError(f"AdEx expected 0 < upswing < inf, got upswing={upswing}.")
        self.tau_mem_ms, self.tau_syn_ms, self.tau_adapt_ms = tau_mem_ms, tau_syn_ms, tau_adapt_ms
        self.delta_t, self.coupling, self.beta = delta_t, coupling, beta
        self.upswing = float(upswing)
        self.v_th, self.v_leak, self.v_reset, self.reset = v_th, v_leak, v_reset, reset
        self.dt_ms, self.refractory_ms = float(dt_ms), refractory_ms
        self.surrogate, self.alpha, self.learnable = surrogate, float(alpha), learnable
        learned = learned_names("AdEx", learnable, _LEARNABLE)
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.tau_syn = time_constant("tau_syn_ms", tau_syn_ms, learned=learned, dt_ms=dt_ms)
        self.tau_adapt = time_constant("tau_adapt_ms", tau_adapt_ms, learned=learned, dt_ms=dt_ms)
        self.sharpness = Constant(
            "delta_t", delta_t, learnable="delta_t" in learned, low=_SHARPEST, high=_SOFTEST
        )
        self.adaptation_coupling = level("coupling", coupling, learned=learned)
        self.jump = level("beta", beta, learned=learned)
        self.v_threshold = level("v_th", v_th, learned=learned)
        self.v_resting = level("v_leak", v_leak, learned=learned)
        self.v_after_spike = level("v_reset", v_reset, learned=learned)
        self.refractory = Refractory(refractory_ms, dt_ms)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> AdExState:
        """Return neurons at ``v_leak``, not adapted, for input of the shape of ``like``."""
        i, b = torch.zeros_like(like), torch.zeros_like(like)
        waiting = self.refractory.initial(like)
        return AdExState(i + self.v_resting(like), i, b, waiting)

    def forward(
        self, x: Float[Tensor, "B ..."], state: AdExState
    ) -> tuple[Float[Tensor, "B ..."], AdExState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...): jump of the current, in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("AdEx", x, state.v)
        current, rest, sharpness = state.i + x, self.v_resting(x), self.sharpness(x)
        threshold = self.v_threshold(x)
        rise = sharpness * ((state.v - threshold) / sharpness).clamp(max=self.upswing).exp()
        change = self.dt_ms / self.tau_mem(x) * ((rest - state.v) + rise - state.b + current)
        v = state.v + self.refractory.gate(change, state.refractory)
        target = self.adaptation_coupling(x) * (state.v - rest)
        b = state.b + self.dt_ms / self.tau_adapt(x) * (target - state.b)
        peak = threshold + self.upswing * sharpness
        z = self.refractory.gate(spike(v - peak, self.surrogate, self.alpha), state.refractory)
        v = reset_potential(v, z, self.reset, peak, self.v_after_spike(x))
        i = current * (1 - self.dt_ms / self.tau_syn(x))
        waiting = self.refractory.after(z, state.refractory)
        return z, AdExState(v, i, b + self.jump(x) * z, waiting)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return (
            f"upswing={self.upswing:g}, reset={self.reset!r}, dt_ms={self.dt_ms:g}, "
            f"surrogate={self.surrogate!r}, alpha={self.alpha:g}"
        )
