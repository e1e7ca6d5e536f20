"""Leaky integrate-and-fire with an adaptive threshold: the neuron of LSNNs.

    i' = i + x
    v' = v + dt / tau_mem ((v_leak - v) + i')
    i  = i' (1 - dt / tau_syn)
    b' = b (1 - dt / tau_adapt)
    z  = 1 where v' > v_th + b', else 0
    v  = (1 - z) v' + z v_reset        reset "value"
    v  = v' - z (v_th + b')            reset "subtract": the threshold that was crossed
    b  = b' + beta z

Every spike raises the threshold by beta, which then falls back over tau_adapt: under constant drive
the intervals between spikes lengthen until each jump makes up for the decay.

Axes    B batch | remaining axes one neuron each; potentials and currents in units of the threshold
Source  bellec2018 (adaptation, default constants); zenke2018 (surrogate gradient)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.constants import Value
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

__all__ = ["AdaptiveLIF", "AdaptiveLIFState"]

_LEARNABLE = ("tau_mem_ms", "tau_syn_ms", "tau_adapt_ms", "beta", "v_th", "v_leak", "v_reset")


class AdaptiveLIFState(NamedTuple):
    """Potential, current, rise of the threshold, and refractory steps left, of every neuron."""

    v: Float[Tensor, "B ..."]
    i: Float[Tensor, "B ..."]
    b: Float[Tensor, "B ..."]
    refractory: Int[Tensor, "B ..."]


class AdaptiveLIF(DynamicStage):
    """Integrate-and-fire neurons whose threshold rises with every spike; one step of dt per call.

    Args:
        tau_mem_ms: Membrane time constant, ms, at least ``dt_ms``.
        tau_syn_ms: Time constant of the synaptic current, ms, at least ``dt_ms``.
        tau_adapt_ms: Time constant of the threshold, ms, at least ``dt_ms``. bellec2018: 700.
        beta: Rise of the threshold at a spike. bellec2018: 1.8 (1 - exp(-1 / 700)) where v_th is
            0.01, that is 0.26 v_th.
        v_th: Threshold of a neuron that has long been silent.
        v_leak: Potential at rest.
        v_reset: Potential after a spike with ``reset="value"``.
        reset: ``"value"`` sets the potential to ``v_reset``; ``"subtract"`` takes the threshold
            off that was crossed.
        dt_ms: Duration of one step, ms.
        refractory_ms: Time after a spike in which the potential stands still, ms; current and
            threshold go on.
        surrogate: Slope of the spike in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope. zenke2018: 100.
        learnable: Constants to learn: ``True`` for all, or names of arguments above.

    Raises:
        InputError: If a constant is not finite or a time constant shorter than one step.
        UnknownNameError: If ``reset``, ``surrogate`` or ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("bellec2018", "gerstner2014", "zenke2018")

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        tau_syn_ms: Value | Tensor = 5.0,
        tau_adapt_ms: Value | Tensor = 700.0,
        beta: Value | Tensor = 0.26,
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
        check_step("AdaptiveLIF", dt_ms)
        check_reset("AdaptiveLIF", reset, v_reset)
        check_surrogate(surrogate, alpha)
        self.tau_mem_ms, self.tau_syn_ms = tau_mem_ms, tau_syn_ms
        self.tau_adapt_ms, self.beta = tau_adapt_ms, beta
        self.v_th, self.v_leak, self.v_reset, self.reset = v_th, v_leak, v_reset, reset
        self.dt_ms, self.refractory_ms = float(dt_ms), refractory_ms
        self.surrogate, self.alpha, self.learnable = surrogate, float(alpha), learnable
        learned = learned_names("AdaptiveLIF", learnable, _LEARNABLE)
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.tau_syn = time_constant("tau_syn_ms", tau_syn_ms, learned=learned, dt_ms=dt_ms)
        self.tau_adapt = time_constant("tau_adapt_ms", tau_adapt_ms, learned=learned, dt_ms=dt_ms)
        self.jump = level("beta", beta, learned=learned)
        self.v_threshold = level("v_th", v_th, learned=learned)
        self.v_resting = level("v_leak", v_leak, learned=learned)
        self.v_after_spike = level("v_reset", v_reset, learned=learned)
        self.refractory = Refractory(refractory_ms, dt_ms)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> AdaptiveLIFState:
        """Return neurons at rest, not adapted, for input of the shape of ``like``."""
        i, b = torch.zeros_like(like), torch.zeros_like(like)
        waiting = self.refractory.initial(like)
        return AdaptiveLIFState(i + self.v_resting(like), i, b, waiting)

    def forward(
        self, x: Float[Tensor, "B ..."], state: AdaptiveLIFState
    ) -> tuple[Float[Tensor, "B ..."], AdaptiveLIFState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...): jump of the current, in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("AdaptiveLIF", x, state.v)
        current = state.i + x
        change = self.dt_ms / self.tau_mem(x) * ((self.v_resting(x) - state.v) + current)
        v = state.v + self.refractory.gate(change, state.refractory)
        b = state.b * (1 - self.dt_ms / self.tau_adapt(x))
        threshold = self.v_threshold(x) + b
        z = spike(v - threshold, self.surrogate, self.alpha)
        z = self.refractory.gate(z, state.refractory)
        v = reset_potential(v, z, self.reset, threshold, self.v_after_spike(x))
        i = current * (1 - self.dt_ms / self.tau_syn(x))
        waiting = self.refractory.after(z, state.refractory)
        return z, AdaptiveLIFState(v, i, b + self.jump(x) * z, waiting)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return (
            f"reset={self.reset!r}, dt_ms={self.dt_ms:g}, surrogate={self.surrogate!r}, "
            f"alpha={self.alpha:g}"
        )
