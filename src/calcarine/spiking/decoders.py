"""Reading values out of spikes: by rate, by the first spike, by a population of units.

    rate          r   = sum_t z[t] / (window)
    first spike   t1  = dt sum_t prod_{s <= t} (1 - z[s])      steps survived without a spike
    population    x   = sum_k a_k c_k / sum_k a_k              centre of mass of the responses

All are differentiable with respect to the spikes, so surrogate gradients pass on through them. For
the first spike this is the gradient of the product: the spike itself may move, spikes that come
after it have no influence, and where there is none every step may bring one.

To classify, take the output unit of the highest rate, or of the earliest spike:
``firing_rate_hz(spikes).argmax(-1)``, ``first_spike_ms(spikes).argmin(-1)``; the rates, and the
latencies with a minus, are logits to learn from.

Axes    T time | B batch | K units of a population, last
Units   rates in Hz, times in ms
Source  gerstner2014 (rate and latency codes); the centre of mass is textbook
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError

__all__ = ["firing_rate_hz", "first_spike_ms", "population_value"]


def firing_rate_hz(
    spikes: Float[Tensor, "T B ..."],
    dt_ms: float = 1.0,
    *,
    start_ms: float = 0.0,
    stop_ms: float | None = None,
) -> Float[Tensor, "B ..."]:
    """Return the mean rate of every unit in a window of time.

    Args:
        spikes: Spike trains, 0 or 1, time first.
        dt_ms: Duration of one step, ms.
        start_ms: Where the window begins; rounded to a step.
        stop_ms: Where it ends; the end of the trains if left out.

    Raises:
        ShapeError: If the spikes have no time or batch axis.
        InputError: If the window is empty or reaches beyond the trains.
    """
    _check_trains("firing_rate_hz", spikes, dt_ms)
    duration_ms = spikes.shape[0] * dt_ms
    stop_ms = duration_ms if stop_ms is None else stop_ms
    if not (math.isfinite(start_ms) and math.isfinite(stop_ms)):
        raise InputError(f"firing_rate_hz expected a finite window, got {start_ms}..{stop_ms} ms.")
    first, end = round(start_ms / dt_ms), round(stop_ms / dt_ms)
    if not 0 <= first < end <= spikes.shape[0]:
        raise InputError(
            f"firing_rate_hz expected a window within the {duration_ms:g} ms of the trains and at "
            f"least one step long, got {start_ms:g} to {stop_ms:g} ms."
        )
    return spikes[first:end].mean(0) * (1000.0 / dt_ms)


def first_spike_ms(spikes: Float[Tensor, "T B ..."], dt_ms: float = 1.0) -> Float[Tensor, "B ..."]:
    """Return the time of the first spike of every unit: the start of its step.

    Args:
        spikes: Spike trains, 0 or 1, time first.
        dt_ms: Duration of one step, ms.

    Returns:
        Times, ms; the duration of the trains for units that stay silent.

    Raises:
        ShapeError: If the spikes have no time or batch axis.
        InputError: If ``dt_ms`` is not positive.
    """
    _check_trains("first_spike_ms", spikes, dt_ms)
    return dt_ms * torch.cumprod(1.0 - spikes, 0).sum(0)


def population_value(
    responses: Float[Tensor, "B ... K"], centers: Float[Tensor, "K"]
) -> Float[Tensor, "B ..."]:
    """Return the value that a population stands for: the centre of mass of its responses.

    Args:
        responses: Rates, counts or responses of the units, at least 0, units last.
        centers: Preferred values of the units, as :meth:`PopulationCode.centers` returns them.

    Returns:
        Values in the range of the centres; their mean where no unit answers.

    Raises:
        ShapeError: If there is not one centre per unit.
    """
    if responses.ndim < 2 or centers.shape != responses.shape[-1:]:
        raise ShapeError(
            "population_value expected responses with axes (batch, ..., unit) and one centre per "
            f"unit, got shapes {tuple(responses.shape)} and {tuple(centers.shape)}."
        )
    total = responses.sum(-1, keepdim=True)
    silent = total <= 0
    share = responses / torch.where(silent, torch.ones_like(total), total)
    even = torch.full_like(share, 1.0 / centers.shape[0])
    return (torch.where(silent, even, share) * centers).sum(-1)


def _check_trains(name: str, spikes: Tensor, dt_ms: float) -> None:
    if spikes.ndim < 2 or spikes.shape[0] == 0 or not spikes.is_floating_point():
        raise ShapeError(
            f"{name} expected floating-point spikes with axes (time, batch, ...) and at least one "
            f"step, got {spikes.dtype} of shape {tuple(spikes.shape)}."
        )
    if not 0 < dt_ms < math.inf:
        raise InputError(f"{name} expected dt_ms > 0, got {dt_ms}.")
