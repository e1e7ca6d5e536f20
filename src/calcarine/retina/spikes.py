"""Spikes of the optic nerve: leaky integrate-and-fire on the strength of the bipolar signal.

    v <- (1 - dt / tau) v + |b|;    a spike where v > threshold;    v <- 0 there

Horizontal cells may drive a bipolar cell above or below rest. Without ON and OFF channels the sign
is lost, as in kotani2024; with them the ON cell integrates max(b, 0) and the OFF cell max(-b, 0).

Axes    B batch | remaining axes one cell each, for example H W | with ON/OFF channels a second
        axis of 2, ON first
Source  kotani2024 (parameters), gerstner2014 (form), zenke2018 (surrogate gradient)
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.stage import DynamicStage

__all__ = ["RetinalSpikes", "RetinalSpikesState"]


class RetinalSpikesState(NamedTuple):
    """Membrane potential of every ganglion cell, of the shape of the output."""

    v: Tensor


class RetinalSpikes(DynamicStage):
    """Ganglion cells that fire when their summed input passes a threshold; one step of dt per call.

    Spikes are exactly 0 or 1. Their gradient is that of the fast sigmoid
    ``u / (1 + alpha |u|)``, u = v - threshold; the reset carries none.

    Args:
        tau_ms: Membrane time constant, ms. kotani2024: 0.9 remain after one step of 1 ms.
        threshold: Potential above which a cell fires, in units of the bipolar signal. kotani2024.
        dt_ms: Duration of one step, ms; smaller than ``tau_ms``.
        on_off: Two channels that keep the sign, instead of one that loses it.
        alpha: Steepness of the surrogate gradient. zenke2018 uses 100; ours is 10, wide enough
            for gradients to reach cells well below threshold.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "gerstner2014", "zenke2018")

    def __init__(
        self,
        *,
        tau_ms: float = 10.0,
        threshold: float = 0.5,
        dt_ms: float = 1.0,
        on_off: bool = False,
        alpha: float = 10.0,
    ) -> None:
        super().__init__()
        if not 0 < dt_ms <= tau_ms:
            raise InputError(
                f"RetinalSpikes expected 0 < dt_ms <= tau_ms, got dt_ms={dt_ms} and "
                f"tau_ms={tau_ms}. A step must not outlast the membrane."
            )
        if not threshold > 0 or not alpha > 0:
            raise InputError(
                f"RetinalSpikes expected threshold > 0 and alpha > 0, got {threshold} and {alpha}."
            )
        self.tau_ms, self.dt_ms = float(tau_ms), float(dt_ms)
        self.threshold, self.alpha = float(threshold), float(alpha)
        self.on_off = bool(on_off)

    def initial_state(self, like: Float[Tensor, "B ..."]) -> RetinalSpikesState:
        """Return the potential at rest, 0, for bipolar signals of the shape of ``like``."""
        return RetinalSpikesState(torch.zeros_like(self._drive(like)))

    def forward(
        self, x: Float[Tensor, "B ..."], state: RetinalSpikesState
    ) -> tuple[Float[Tensor, "B ..."], RetinalSpikesState]:
        """Integrate one frame of the bipolar signal.

        Args:
            x: Bipolar signal, axes (batch, ...).
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, with a second axis of 2 for ON/OFF channels;
            and the new state.

        Raises:
            ShapeError: If the state belongs to inputs of another shape.
        """
        drive = self._drive(x)
        if state.v.shape != drive.shape:
            raise ShapeError(
                f"RetinalSpikes expected a state of shape {tuple(drive.shape)} for input of shape "
                f"{tuple(x.shape)}, got {tuple(state.v.shape)}. Use initial_state(frame)."
            )
        v = torch.add(drive, state.v, alpha=1 - self.dt_ms / self.tau_ms)
        above = v - self.threshold
        fired = (above > 0).to(v)
        smooth = above / (1 + self.alpha * above.abs())
        spikes = fired + (smooth - smooth.detach())
        return spikes, RetinalSpikesState(v * (1 - fired))

    def _drive(self, x: Tensor) -> Tensor:
        if x.ndim < 1 or not x.is_floating_point():
            raise ShapeError(
                "RetinalSpikes expected a floating-point bipolar signal with axes (batch, ...), "
                f"got {x.dtype} of shape {tuple(x.shape)}."
            )
        if self.on_off:
            return torch.stack([x, -x], 1).clamp(min=0)
        return x.abs()

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"tau_ms={self.tau_ms}, threshold={self.threshold}, dt_ms={self.dt_ms}, "
            f"on_off={self.on_off}, alpha={self.alpha}"
        )
