"""Leaky integrators: membranes that never fire, as read-outs of spiking layers.

    LeakyIntegratorBox      v  = v + dt / tau_mem ((v_leak - v) + x)

    LeakyIntegrator         i' = i + x
                            v  = v + dt / tau_mem ((v_leak - v) + i')
                            i  = i' (1 - dt / tau_syn)

The output is v. In continuous time the first answers a step of height x by
v_leak + x (1 - exp(-t / tau_mem)).

Axes    B batch | remaining axes one unit each
Source  gerstner2014, chapter 1
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.constants import Value
from calcarine.spiking._scan import Update, scan
from calcarine.spiking.membrane import (
    Learnable,
    check_frame,
    check_step,
    learned_names,
    level,
    time_constant,
)
from calcarine.stage import FusedStage

__all__ = [
    "LeakyIntegrator",
    "LeakyIntegratorBox",
    "LeakyIntegratorBoxState",
    "LeakyIntegratorState",
]


class LeakyIntegratorBoxState(NamedTuple):
    """Potential of every unit."""

    v: Float[Tensor, "B ..."]


class LeakyIntegratorState(NamedTuple):
    """Potential and synaptic current of every unit."""

    v: Float[Tensor, "B ..."]
    i: Float[Tensor, "B ..."]


class LeakyIntegratorBox(FusedStage):
    """Membranes driven by their input directly; one step of dt per call.

    Args:
        tau_mem_ms: Membrane time constant, ms, at least ``dt_ms``.
        v_leak: Potential at rest.
        dt_ms: Duration of one step, ms.
        learnable: Constants to learn: ``True`` for all, or names of arguments above.

    Raises:
        InputError: If a constant is not finite or a time constant shorter than one step.
        UnknownNameError: If ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("gerstner2014",)

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        v_leak: Value | Tensor = 0.0,
        dt_ms: float = 1.0,
        learnable: Learnable = False,
    ) -> None:
        super().__init__()
        check_step("LeakyIntegratorBox", dt_ms)
        self.tau_mem_ms, self.v_leak = tau_mem_ms, v_leak
        self.dt_ms, self.learnable = float(dt_ms), learnable
        learned = learned_names("LeakyIntegratorBox", learnable, ("tau_mem_ms", "v_leak"))
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.v_resting = level("v_leak", v_leak, learned=learned)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> LeakyIntegratorBoxState:
        """Return every unit at rest, ``v_leak``, for input of the shape of ``like``."""
        return LeakyIntegratorBoxState(torch.zeros_like(like) + self.v_resting(like))

    def forward(
        self, x: Float[Tensor, "B ..."], state: LeakyIntegratorBoxState
    ) -> tuple[Float[Tensor, "B ..."], LeakyIntegratorBoxState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...), in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Potential of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("LeakyIntegratorBox", x, state.v)
        rate = self.dt_ms / self.tau_mem(x)
        v = state.v + rate * ((self.v_resting(x) - state.v) + x)
        return v, LeakyIntegratorBoxState(v)

    def scan(
        self, movie: Float[Tensor, "T B ..."], state: LeakyIntegratorBoxState
    ) -> tuple[Float[Tensor, "T B ..."], LeakyIntegratorBoxState]:
        """Integrate a movie in one pass: the same numbers as step by step."""
        x = movie[0]
        update = Update(rate=self.dt_ms / self.tau_mem(x), v_leak=self.v_resting(x))
        return scan(self, movie, state, update)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return f"dt_ms={self.dt_ms:g}"


class LeakyIntegrator(FusedStage):
    """Membranes with an exponential synaptic current; one step of dt per call.

    Args:
        tau_mem_ms: Membrane time constant, ms, at least ``dt_ms``.
        tau_syn_ms: Time constant of the synaptic current, ms, at least ``dt_ms``.
        v_leak: Potential at rest.
        dt_ms: Duration of one step, ms.
        learnable: Constants to learn: ``True`` for all, or names of arguments above.

    Raises:
        InputError: If a constant is not finite or a time constant shorter than one step.
        UnknownNameError: If ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("gerstner2014",)

    def __init__(
        self,
        *,
        tau_mem_ms: Value | Tensor = 10.0,
        tau_syn_ms: Value | Tensor = 5.0,
        v_leak: Value | Tensor = 0.0,
        dt_ms: float = 1.0,
        learnable: Learnable = False,
    ) -> None:
        super().__init__()
        check_step("LeakyIntegrator", dt_ms)
        self.tau_mem_ms, self.tau_syn_ms, self.v_leak = tau_mem_ms, tau_syn_ms, v_leak
        self.dt_ms, self.learnable = float(dt_ms), learnable
        names = ("tau_mem_ms", "tau_syn_ms", "v_leak")
        learned = learned_names("LeakyIntegrator", learnable, names)
        self.tau_mem = time_constant("tau_mem_ms", tau_mem_ms, learned=learned, dt_ms=dt_ms)
        self.tau_syn = time_constant("tau_syn_ms", tau_syn_ms, learned=learned, dt_ms=dt_ms)
        self.v_resting = level("v_leak", v_leak, learned=learned)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> LeakyIntegratorState:
        """Return units at rest, ``v_leak``, without current, for input like ``like``."""
        i = torch.zeros_like(like)
        return LeakyIntegratorState(i + self.v_resting(like), i)

    def forward(
        self, x: Float[Tensor, "B ..."], state: LeakyIntegratorState
    ) -> tuple[Float[Tensor, "B ..."], LeakyIntegratorState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...): jump of the current, in units of the potential.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Potential of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("LeakyIntegrator", x, state.v)
        rate = self.dt_ms / self.tau_mem(x)
        current = state.i + x
        v = state.v + rate * ((self.v_resting(x) - state.v) + current)
        return v, LeakyIntegratorState(v, current * (1 - self.dt_ms / self.tau_syn(x)))

    def scan(
        self, movie: Float[Tensor, "T B ..."], state: LeakyIntegratorState
    ) -> tuple[Float[Tensor, "T B ..."], LeakyIntegratorState]:
        """Integrate a movie in one pass: the same numbers as step by step."""
        x = movie[0]
        update = Update(
            rate=self.dt_ms / self.tau_mem(x), v_leak=self.v_resting(x),
            decay=1 - self.dt_ms / self.tau_syn(x),
        )  # fmt: skip
        return scan(self, movie, state, update)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return f"dt_ms={self.dt_ms:g}"
