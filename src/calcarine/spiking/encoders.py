"""Turning values into spikes: by rate, by the time of one spike, by a population of units.

    rate         z[t] ~ Bernoulli(rate dt)                        exact mean, one per step at most
    latency      t1 = tau ln(x / (x - v_th)), x > v_th            first spike of a LIF neuron
                 t1 = T (1 - x), x > threshold                    linear
    population   a_k = exp(-(x - c_k)^2 / (2 sigma^2))            Gaussian receptive fields
                 c_k = low + (k - 1/2) s, s = (high - low) / (K - 2), sigma = s / overlap

A population's responses, between 0 and 1, go on into the rate or the latency code.

Axes    T time | B batch | K units of the population, last
Units   rates in Hz, latencies and steps in ms; a latency of infinity is no spike
Source  gerstner2014 (Poisson trains, latency of the LIF neuron), bohte2002 (population)
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.stage import Stage

__all__ = [
    "PopulationCode",
    "latency_spikes",
    "lif_latency_ms",
    "linear_latency_ms",
    "poisson_spikes",
]


def poisson_spikes(
    rate_hz: Float[Tensor, "B ..."],
    steps: int,
    dt_ms: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "T B ..."]:
    """Draw a spike train of the given rate for every value.

    In each step a unit fires with probability ``rate dt``, so that the expected number of spikes
    is exact; a Poisson process is its limit for small steps.

    Args:
        rate_hz: Rates, Hz, of any shape; at most one spike per step, ``rate_hz <= 1000 / dt_ms``.
        steps: Length of the trains.
        dt_ms: Duration of one step, ms.
        generator: Source of randomness; torch's own if left out. It may live on the CPU while the
            rates are elsewhere.

    Returns:
        Spikes, 0 or 1, of the dtype and device of the rates, time first.

    Raises:
        InputError: If a rate is negative or asks for more than one spike per step, or if there are
            no steps.
        NonFiniteError: If a rate is NaN or infinite.
    """
    _check_values("poisson_spikes", "rate_hz", rate_hz)
    _check_steps("poisson_spikes", steps, dt_ms)
    chance = rate_hz.detach() * (dt_ms / 1000.0)
    if not ((chance >= 0) & (chance <= 1)).all():
        raise InputError(
            f"poisson_spikes expected rates between 0 and {1000.0 / dt_ms:g} Hz (one spike per "
            f"step of {dt_ms:g} ms), got {rate_hz.min():g} to {rate_hz.max():g}. Lower the rate "
            "or the step."
        )
    device = rate_hz.device if generator is None else generator.device
    drawn = torch.rand(
        (steps, *rate_hz.shape), generator=generator, dtype=rate_hz.dtype, device=device
    )
    return (drawn.to(rate_hz.device) < chance).to(rate_hz.dtype)


def lif_latency_ms(
    x: Float[Tensor, "B ..."], *, tau_mem_ms: float = 10.0, v_th: float = 1.0
) -> Float[Tensor, "B ..."]:
    """Return when a leaky integrate-and-fire neuron at rest fires first under a constant drive.

    Closed form of ``tau dv/dt = x - v``, v(0) = 0; differentiable wherever it is finite.

    Args:
        x: Drive, in units of the threshold's.
        tau_mem_ms: Membrane time constant, ms.
        v_th: Threshold, above 0.

    Returns:
        Latencies, ms, of the shape of ``x``; infinite where ``x <= v_th``.

    Raises:
        InputError: If a constant is not positive.
        NonFiniteError: If the drive holds NaN or infinity.
    """
    if not tau_mem_ms > 0 or not v_th > 0:
        raise InputError(
            f"lif_latency_ms expected tau_mem_ms > 0 and v_th > 0, got {tau_mem_ms} and {v_th}."
        )
    _check_values("lif_latency_ms", "x", x)
    fires = x > v_th
    # A harmless drive where nothing fires: the unused branch must not put NaN into gradients.
    drive = torch.where(fires, x, 2.0 * v_th)
    return torch.where(fires, -tau_mem_ms * torch.log1p(-v_th / drive), math.inf)


def linear_latency_ms(
    x: Float[Tensor, "B ..."], *, duration_ms: float, threshold: float = 0.0
) -> Float[Tensor, "B ..."]:
    """Return latencies that fall linearly with the value: 0 for 1, ``duration_ms`` towards 0.

    Args:
        x: Values between 0 and 1.
        duration_ms: Latency of the weakest value, ms.
        threshold: Values up to this one give no spike.

    Returns:
        Latencies, ms, of the shape of ``x``; infinite where ``x <= threshold``.

    Raises:
        InputError: If a value lies beyond 0..1, or ``duration_ms`` is not positive.
        NonFiniteError: If a value is NaN or infinite.
    """
    if not duration_ms > 0:
        raise InputError(f"linear_latency_ms expected duration_ms > 0, got {duration_ms}.")
    _check_values("linear_latency_ms", "x", x)
    if not ((x >= 0) & (x <= 1)).all():
        raise InputError(
            f"linear_latency_ms expected values between 0 and 1, got {x.min():g} to {x.max():g}. "
            "Scale them first."
        )
    return torch.where(x > threshold, duration_ms * (1.0 - x), math.inf)


def latency_spikes(
    latency_ms: Float[Tensor, "B ..."], steps: int, dt_ms: float = 1.0
) -> Float[Tensor, "T B ..."]:
    """Put one spike per unit into the step that its latency falls in.

    Step n lasts from ``n dt`` up to but not including ``(n + 1) dt``. Units whose latency lies
    beyond the last step, infinite ones among them, stay silent.

    Args:
        latency_ms: Latencies, ms, at least 0.
        steps: Length of the trains.
        dt_ms: Duration of one step, ms.

    Returns:
        Spikes, 0 or 1, time first. They carry no gradient: counting steps has none.

    Raises:
        InputError: If a latency is negative or NaN, or if there are no steps.
        ShapeError: If the latencies are no floating-point values.
    """
    _check_floating("latency_spikes", "latency_ms", latency_ms)
    _check_steps("latency_spikes", steps, dt_ms)
    if not (latency_ms >= 0).all():
        raise InputError(
            "latency_spikes expected latencies of at least 0 ms (infinite: no spike), got some "
            "that are negative or NaN."
        )
    step = torch.floor(latency_ms.detach() / dt_ms)
    clock = torch.arange(steps, device=step.device).reshape(-1, *(1,) * step.ndim)
    return (step == clock).to(latency_ms.dtype)


class PopulationCode(Stage):
    """Every value as the responses of a row of units with Gaussian receptive fields.

    The outermost centres lie half a spacing beyond the range, so that its ends are covered as well
    as its middle. ``poisson_spikes(responses * 100.0, ...)`` and ``latency_spikes`` of
    ``linear_latency_ms(responses, ...)`` make spikes of the responses;
    :func:`calcarine.spiking.population_value` reads them out again.

    Args:
        units: Units per value, K, at least 3.
        low: Lower end of the range that the receptive fields cover.
        high: Upper end.
        overlap: Spacing of the centres over the width sigma of a receptive field. bohte2002: 1.5.

    Raises:
        InputError: If there are fewer than 3 units, the range is empty, or the overlap is not
            positive.
    """

    sources: ClassVar[tuple[str, ...]] = ("bohte2002",)

    def __init__(
        self, *, units: int = 8, low: float = 0.0, high: float = 1.0, overlap: float = 1.5
    ) -> None:
        super().__init__()
        if units < 3 or not math.isfinite(high - low) or not low < high or not overlap > 0:
            raise InputError(
                "PopulationCode expected units >= 3, low < high and overlap > 0, got "
                f"units={units}, low={low}, high={high}, overlap={overlap}."
            )
        self.units, self.low, self.high, self.overlap = units, low, high, overlap

    @property
    def width(self) -> float:
        """Standard deviation of a receptive field, in units of the values."""
        return self._spacing / self.overlap

    @property
    def _spacing(self) -> float:
        return (self.high - self.low) / (self.units - 2)

    def centers(self, like: Tensor) -> Float[Tensor, "K"]:
        """Return the preferred values, with the dtype and device of ``like``."""
        k = torch.arange(self.units, dtype=like.dtype, device=like.device)
        return self.low + (k - 0.5) * self._spacing

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ... K"]:
        """Return the response of every unit, between 0 and 1, units last.

        Raises:
            ShapeError: If ``x`` is no floating-point tensor with a batch axis.
        """
        _check_floating("PopulationCode", "x", x)
        distance = (x[..., None] - self.centers(x)) / self.width
        return torch.exp(-0.5 * distance.square())

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"units={self.units}, low={self.low}, high={self.high}, overlap={self.overlap}"


def _check_floating(name: str, argument: str, values: Tensor) -> None:
    if values.ndim < 1 or not values.is_floating_point():
        raise ShapeError(
            f"{name} expected {argument} as floating-point values with axes (batch, ...), got "
            f"{values.dtype} of shape {tuple(values.shape)}."
        )


def _check_values(name: str, argument: str, values: Tensor) -> None:
    _check_floating(name, argument, values)
    if not values.isfinite().all():
        raise NonFiniteError(f"{name} expected finite values of {argument}, got NaN or infinity.")


def _check_steps(name: str, steps: int, dt_ms: float) -> None:
    if steps < 1 or not 0 < dt_ms < math.inf:
        raise InputError(f"{name} expected steps >= 1 and dt_ms > 0, got {steps} and {dt_ms}.")
