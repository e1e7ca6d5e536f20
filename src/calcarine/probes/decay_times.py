"""Time constants of activity: how fast units, channels or areas fall back after offset.

    y_i(t) = sqrt(mean over images of (r_i(t) - r_i*)^2)      distance from the baseline r*
    log y_i(t) = c_i - t / tau_i                              least squares where
                 low * peak_i <= y_i <= high * peak_i         after the peak

The part above ``high`` is left to faster modes, that below ``low`` to rounding. The fit streams
over time: six sums per unit, begun anew at every new peak.

A step of dt takes an Euler mode of the flow's time constant T down by 1 - dt / T, so that what is
seen is tau = -dt / log(1 - dt / T); ``flow_ms`` is T, the counterpart of 1 / -Re(mu) of an
eigenvalue mu of the flow.

Axes    T time | B batch | ... units, or channels, or nothing for an area as a whole
Units   ms
Source  soo2024 (activity after offset); ours: the fit and its bounds
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError, ShapeError, UnknownNameError
from calcarine.probes._trials import chosen_areas, player
from calcarine.stage import steps_of

__all__ = ["TimeConstants", "fit_decay", "time_constants"]

Per = Literal["unit", "channel", "area"]

_LEAST_POINTS = 3  # ours: a line through two points tells nothing about its fit


@dataclass(frozen=True)
class TimeConstants:
    """How fast activity falls back to its baseline.

    NaN where a unit was silent or fell too fast for three points; infinite where it did not fall.

    Attributes:
        tau_ms: Time constant seen.
        half_ms: Time from offset to half of the peak, after the peak.
        peak: Largest distance from the baseline.
        r_squared: Share of the variance of log y that one exponential explains.
        points: Steps that the fit stands on.
        dt_ms: Step of the model.
    """

    tau_ms: Float[Tensor, "..."]
    half_ms: Float[Tensor, "..."]
    peak: Float[Tensor, "..."]
    r_squared: Float[Tensor, "..."]
    points: Int[Tensor, "..."]
    dt_ms: float

    @property
    def flow_ms(self) -> Float[Tensor, "..."]:
        """Time constants of the flow that Euler steps of dt approximate."""
        return -self.dt_ms / torch.expm1(-self.dt_ms / self.tau_ms)

    def summary(self) -> tuple[float, float, float]:
        """Return the median and the quartiles around it of the finite time constants, ms."""
        found = self.tau_ms[self.tau_ms.isfinite()].flatten()
        if not len(found):
            return (float("nan"),) * 3
        low, middle, high = found.quantile(found.new_tensor([0.25, 0.5, 0.75])).tolist()
        return middle, low, high


class _Decay:
    """Sums of a straight line through log y over t, for every unit at once."""

    def __init__(self, y: Tensor, high: float, low: float) -> None:
        self.peak, self.high, self.low = y, high, low
        self.sums = torch.zeros(6, *y.shape, dtype=torch.double, device=y.device)
        self.inside = torch.ones_like(y, dtype=torch.bool)
        self.half = torch.full_like(y, torch.inf)
        self.last = y
        self.broken = ~y.isfinite().all()

    def add(self, y: Tensor, time: float, dt: float) -> None:
        """Take in one step."""
        self.broken = self.broken | ~y.isfinite().all()
        higher = y > self.peak
        self.peak = torch.where(higher, y, self.peak)
        self.sums = self.sums * ~higher
        self.inside = (self.inside | higher) & (y >= self.low * self.peak)
        self.half = torch.where(higher, torch.inf, self.half)
        crossing = (self.half == torch.inf) & (y <= self.peak / 2) & (self.peak > 0)
        # Straight within a step, which is shorter than any time constant.
        into = ((self.last - self.peak / 2) / (self.last - y).clamp_min(1e-300)).clamp(0, 1)
        self.half = torch.where(crossing, time - dt + into * dt, self.half)
        used = self.inside & (y <= self.high * self.peak) & (y > 0)
        log = torch.where(used, y, torch.ones_like(y)).log()
        t = torch.full_like(y, time)
        terms = torch.stack([torch.ones_like(y), t, t * t, log, log * t, log * log])
        self.sums = self.sums + terms * used
        self.last = y

    def fitted(self, dt: float, silent: float) -> TimeConstants:
        """Return what the sums say."""
        if self.broken:
            raise NonFiniteError("Activity became NaN or infinite after offset.")
        n, t, tt, v, vt, vv = self.sums
        spread_t, spread_v = n * tt - t * t, n * vv - v * v
        slope = (n * vt - t * v) / spread_t
        tau = torch.where(slope < 0, -1 / slope, torch.full_like(slope, torch.inf))
        r_squared = (n * vt - t * v) ** 2 / (spread_t * spread_v)
        nothing = (self.peak <= silent * self.peak.amax()) | (self.peak <= 0)
        none = torch.full_like(tau, torch.nan)
        few = (n < _LEAST_POINTS) & (self.last < self.low * self.peak)
        tau = torch.where(n < _LEAST_POINTS, torch.inf, tau)
        tau = torch.where(nothing | few, none, tau)
        half = torch.where(nothing, none, self.half)
        r_squared = torch.where(tau.isfinite(), r_squared.clamp(0, 1), none)
        tau, half, r_squared, peak = (x.cpu() for x in (tau, half, r_squared, self.peak))
        return TimeConstants(tau, half, peak, r_squared, n.long().cpu(), dt)


@torch.no_grad()
def fit_decay(
    activity: Iterable[Float[Tensor, "B ..."]],
    baseline: Float[Tensor, "#B ..."],
    dt_ms: float,
    *,
    per: Per = "unit",
    high: float = 0.5,
    low: float = 0.01,
    silent: float = 1e-3,
) -> TimeConstants:
    """Fit a time constant to activity that falls back to its baseline.

    Args:
        activity: Activity at offset and after every step from there on: a tensor with axes (time,
            batch, ...), or anything that yields the frames of one.
        baseline: Where it falls back to.
        dt_ms: Time between two frames.
        per: ``"unit"``; ``"channel"`` pools the axes behind the channel (by the sum of squares),
            ``"area"`` all units.
        high: Share of the peak below which the fit begins.
        low: Share of the peak above which it ends.
        silent: Units that stay below this share of the largest peak are left out.

    Raises:
        InputError: If not 0 < low < high <= 1, dt_ms is not positive, or there are fewer than two
            frames.
        ShapeError: If frames and baseline do not fit, or have no axis of channels to pool.
        NonFiniteError: If activity is NaN or infinite.
        UnknownNameError: If there is no such way of pooling.
    """
    _check(high, low, silent, dt_ms)
    decay, step = None, 0
    for step, frame in enumerate(activity):
        y = _distance(frame, baseline, per)
        if decay is None:
            decay = _Decay(y, high, low)
        else:
            decay.add(y, step * dt_ms, dt_ms)
    if decay is None or step < 1:
        raise InputError("fit_decay expected at least two frames of activity.")
    return decay.fitted(float(dt_ms), silent)


@torch.no_grad()
def time_constants(
    model: nn.Module,
    images: Float[Tensor, "B ..."],
    *,
    areas: Sequence[str] | None = None,
    per: Per = "unit",
    warmup_ms: float = 400.0,
    stimulus_ms: float = 200.0,
    off_ms: float = 400.0,
    dt_ms: float | None = None,
    high: float = 0.5,
    low: float = 0.01,
    silent: float = 1e-3,
) -> dict[str, TimeConstants]:
    """Measure how fast the areas of a network fall back once its images have gone.

    >>> found = time_constants(model, images, per="channel")
    >>> found["area2"].summary()

    Args:
        model: A ``DynamicStage``; put it into ``eval()`` first.
        images: Images, axes (batch, ...).
        areas: Names of activities to measure; ``None`` for all.
        per: As for :func:`fit_decay`.
        warmup_ms: Time without input, after which a network counts as at rest.
        stimulus_ms: How long the images are shown.
        off_ms: How long the network is followed.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.
        high: As for :func:`fit_decay`.
        low: As for :func:`fit_decay`.
        silent: As for :func:`fit_decay`.

    Raises:
        InputError: If a time is not a multiple of the step, the model has no memory, or not
            0 < low < high <= 1.
        UnknownNameError: If there is no such area; the message lists what there is.
        NonFiniteError: If a rate becomes NaN or infinite.
    """
    taken = player(model, dt_ms)
    _check(high, low, silent, taken.dt_ms)
    steps_of("time_constants", "off_ms", off_ms, taken.dt_ms, least=1)
    rest = taken.activities(taken.baseline(images[:1], warmup_ms))
    names = chosen_areas(rest, areas)
    on = steps_of("time_constants", "stimulus_ms", stimulus_ms, taken.dt_ms, least=1)
    decays: dict[str, _Decay] = {}
    state = taken.baseline(images, warmup_ms)
    for step, moment in enumerate(taken.play(images, state, stimulus_ms, off_ms), start=1 - on):
        if step < 0:
            continue
        found = taken.activities(moment.state)
        for name in names:
            y = _distance(found[name], rest[name], per)
            if step == 0:
                decays[name] = _Decay(y, high, low)
            else:
                decays[name].add(y, step * taken.dt_ms, taken.dt_ms)
    return {n: d.fitted(taken.dt_ms, silent) for n, d in decays.items()}


def _distance(frame: Tensor, baseline: Tensor, per: Per) -> Tensor:
    """Return the distance from the baseline, root mean square over images."""
    if frame.shape[1:] != baseline.shape[1:] or len(baseline) not in (1, len(frame)):
        raise ShapeError(
            "fit_decay expected frames (batch, ...) and a baseline of the same shape, or of one "
            f"item, got {tuple(frame.shape)} and {tuple(baseline.shape)}."
        )
    square = (frame.double() - baseline.double()).square().mean(0)
    if per == "channel":
        if square.ndim < 1:
            raise ShapeError("fit_decay expected an axis of channels to pool the others over.")
        square = square.reshape(square.shape[0], -1).sum(1)
    elif per == "area":
        square = square.sum()
    elif per != "unit":
        raise UnknownNameError("way of pooling", str(per), ("unit", "channel", "area"))
    return square.sqrt()


def _check(high: float, low: float, silent: float, dt_ms: float) -> None:
    if not 0 < low < high <= 1 or not 0 < dt_ms < math.inf or not 0 <= silent < 1:
        raise InputError(
            "A fit of decay expected 0 < low < high <= 1, 0 <= silent < 1 and dt_ms > 0, got "
            f"low={low}, high={high}, silent={silent} and dt_ms={dt_ms}."
        )
