"""The simple model of Izhikevich: a quadratic potential and a recovery variable.

    v  <- v + h (0.04 v^2 + slope v + offset - u + x)       substeps times, h = dt / substeps
    u' = u + dt a (b v - u)
    z  = 1 where v > 30 mV, else 0
    v  = (1 - z) v + z c
    u  = u' + z d

The published convention takes two half steps of the potential for each ms and one step of the
recovery, which sees the potential beyond the peak; that is ``dt_ms=1, substeps=2`` here. The
published code resets at the start of the next step, which gives the same spikes and potentials.
The quadratic is (0.04, 5, 140) except in two patterns of izhikevich2004.

Axes    B batch | remaining axes one neuron each; v, u in mV, time in ms, x in the published units
        of input (mV / ms)
Source  izhikevich2003 (model, first seven patterns), izhikevich2004 (other patterns);
        zenke2018 (surrogate gradient)
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.constants import Constant, Value
from calcarine.errors import InputError, UnknownNameError
from calcarine.spiking.izhikevich_patterns import IZHIKEVICH_PATTERNS
from calcarine.spiking.membrane import Learnable, check_frame, check_step, learned_names, level
from calcarine.spiking.surrogate import Surrogate, check_surrogate, spike
from calcarine.stage import DynamicStage

__all__ = ["Izhikevich", "IzhikevichState"]

_PEAK_MV = 30.0
_CURVATURE = 0.04
_NO_REST_MV = -65.0


class IzhikevichState(NamedTuple):
    """Potential and recovery of every neuron, mV."""

    v: Float[Tensor, "B ..."]
    u: Float[Tensor, "B ..."]


class Izhikevich(DynamicStage):
    """Neurons of the simple model, by default regular spiking; one step of dt per call.

    >>> Izhikevich.preset("chattering").c
    -50.0

    Args:
        a: Rate of the recovery, 1 / ms. izhikevich2003: 0.02.
        b: Sensitivity of the recovery to the potential. izhikevich2003: 0.2.
        c: Potential after a spike, mV. izhikevich2003: -65.
        d: Jump of the recovery at a spike, mV. izhikevich2003: 8.
        slope: Linear coefficient of the potential, 1 / ms. izhikevich2003: 5.
        offset: Constant coefficient of the potential, mV / ms. izhikevich2003: 140.
        dt_ms: Duration of one step, ms.
        substeps: Steps of the potential within one step. izhikevich2003: 2 for each ms.
        surrogate: Slope of the spike in the backward pass, see ``calcarine.spiking.spike``.
        alpha: Steepness of that slope, 1 / mV. Ours: wide enough for the span of the upswing.
        learnable: Constants to learn: ``True`` for ``a`` to ``offset``, or their names.

    Raises:
        InputError: If a constant is not finite, or ``substeps`` is not a positive whole number.
        UnknownNameError: If ``surrogate`` or ``learnable`` holds an unknown name.
    """

    sources: ClassVar[tuple[str, ...]] = ("izhikevich2003", "izhikevich2004", "zenke2018")

    def __init__(
        self,
        *,
        a: Value | Tensor = 0.02,
        b: Value | Tensor = 0.2,
        c: Value | Tensor = -65.0,
        d: Value | Tensor = 8.0,
        slope: Value | Tensor = 5.0,
        offset: Value | Tensor = 140.0,
        dt_ms: float = 1.0,
        substeps: int = 2,
        surrogate: Surrogate = "superspike",
        alpha: float = 1.0,
        learnable: Learnable = False,
    ) -> None:
        super().__init__()
        check_step("Izhikevich", dt_ms)
        check_surrogate(surrogate, alpha)
        if substeps < 1 or substeps != int(substeps):
            raise InputError(f"Izhikevich expected substeps >= 1, a whole number, got {substeps}.")
        self.a, self.b, self.c, self.d = a, b, c, d
        self.slope, self.offset = slope, offset
        self.dt_ms, self.substeps = float(dt_ms), int(substeps)
        self.surrogate, self.alpha, self.learnable = surrogate, float(alpha), learnable
        learned = learned_names("Izhikevich", learnable, ("a", "b", "c", "d", "slope", "offset"))
        self.recovery_rate = level("a", a, learned=learned)
        self.sensitivity = level("b", b, learned=learned)
        self.v_after_spike = level("c", c, learned=learned)
        self.recovery_jump = level("d", d, learned=learned)
        self.linear = level("slope", slope, learned=learned)
        self.constant: Constant = level("offset", offset, learned=learned)

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """Return neurons of a published firing pattern.

        Args:
            name: A key of ``IZHIKEVICH_PATTERNS``, for example ``"fast_spiking"``. The entry also
                holds the drive under which the pattern was published.
            **settings: Other arguments of the constructor, such as ``dt_ms``.

        Raises:
            UnknownNameError: If there is no pattern of this name.
            TypeError: If the constructor takes no such argument.
        """
        if name not in IZHIKEVICH_PATTERNS:
            raise UnknownNameError("firing pattern", name, IZHIKEVICH_PATTERNS)
        return cls(**(IZHIKEVICH_PATTERNS[name].constants() | settings))

    def initial_state(self, like: Float[Tensor, "B ..."]) -> IzhikevichState:
        """Return neurons at rest: the lower zero of the quadratic with u = b v.

        Neurons that are never at rest without input start at -65 mV, as in izhikevich2003.
        """
        with torch.no_grad():
            still = torch.zeros_like(like)
            b = still + self.sensitivity(like)
            slope = self.linear(like) - b
            under_root = slope**2 - 4 * _CURVATURE * self.constant(like)
            zero = (-slope - under_root.clamp(min=0).sqrt()) / (2 * _CURVATURE)
            v = zero.masked_fill(under_root < 0, _NO_REST_MV)
            return IzhikevichState(v, b * v)

    def forward(
        self, x: Float[Tensor, "B ..."], state: IzhikevichState
    ) -> tuple[Float[Tensor, "B ..."], IzhikevichState]:
        """Integrate one frame of input.

        Args:
            x: Input, axes (batch, ...), mV / ms.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes, 0 or 1, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If ``x`` has no batch axis or the state belongs to another shape.
        """
        check_frame("Izhikevich", x, state.v)
        v, slope, offset = state.v, self.linear(x), self.constant(x)
        for _ in range(self.substeps):
            change = _CURVATURE * (v * v) + slope * v + offset - state.u + x
            v = v + self.dt_ms / self.substeps * change
        u = state.u + self.dt_ms * self.recovery_rate(x) * (self.sensitivity(x) * v - state.u)
        z = spike(v - _PEAK_MV, self.surrogate, self.alpha)
        v = (1 - z) * v + z * self.v_after_spike(x)
        return z, IzhikevichState(v, u + z * self.recovery_jump(x))

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        return (
            f"dt_ms={self.dt_ms:g}, substeps={self.substeps}, surrogate={self.surrogate!r}, "
            f"alpha={self.alpha:g}"
        )
