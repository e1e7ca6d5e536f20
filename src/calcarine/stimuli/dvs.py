"""What a silicon retina would report of a movie: an event each time a pixel's brightness moves on.

    L(t) = log(intensity(t) + dark)           linear in time from frame to frame
    ON   when L >= memory + threshold_on      OFF  when L <= memory - threshold_off

After an event the pixel remembers the level that it just reported, so a large step gives several
events, each at the moment its level is crossed. With a refractory period the pixel is held in reset
for as long and then remembers the brightness that it finds.

Axes    T frames | H W rows down, columns right
Units   intensity linear (not a gamma-coded image), 1 = white; time ms
Source  lichtsteiner2008, section II (pixel); hu2021 (between frames, mismatch, noise)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.stimuli._event_checks import MOST_PIXELS, positive
from calcarine.stimuli.events import EventStream

__all__ = ["events_from_frames"]

_LEAST_THRESHOLD = 0.01
_ROUNDING = 1e-9
"""Log intensity by which a crossing may be missed, so that an exact multiple of the threshold
counts whichever way it was rounded."""


class _Pixels(NamedTuple):
    """Every pixel of the sensor, flattened."""

    memory: Tensor
    on: Tensor
    off: Tensor
    ready_us: Tensor
    """When the pixel leaves its reset; minus infinity if it never was in one."""
    asleep: Tensor
    """Whether that moment is still to come, so that it has to look anew then."""


class _Interval(NamedTuple):
    """Log intensity of every pixel at both ends of the time between two frames."""

    before: Tensor
    after: Tensor
    start_us: float
    dt_us: float

    def level(self, pixel: Tensor, time_us: Tensor) -> Tensor:
        share = (time_us - self.start_us) / self.dt_us
        return torch.lerp(self.before[pixel], self.after[pixel], share)


def events_from_frames(
    movie: Float[Tensor, "T ... H W"],
    threshold: float = 0.2,
    dt_ms: float = 1.0,
    *,
    threshold_off: float | None = None,
    refractory_ms: float = 0.0,
    mismatch: float = 0.0,
    noise_hz: float = 0.0,
    dark: float = 1e-3,
    generator: Generator | None = None,
) -> EventStream:
    """Turn a movie into events; frame k is shown at ``k * dt_ms`` and the first gives none.

    Args:
        movie: Linear intensity >= 0, axes (time, height, width) or (time, 1, height, width).
        threshold: Change of log intensity that makes an ON event; 0.2 is a contrast of 22 %.
            hu2021.
        dt_ms: Time from frame to frame, ms.
        threshold_off: The same for OFF events. ``None``: as for ON.
        refractory_ms: How long a pixel is held in reset after an event, ms.
        mismatch: Spread of thresholds from pixel to pixel, as a share of the threshold;
            lichtsteiner2008 measured about 0.02 of contrast. No threshold falls below 0.01.
        noise_hz: Rate of events without cause, per pixel and second, half of them ON.
        dark: Intensity that a pixel in the dark seems to see, as a share of white. Ours.
        generator: Source of mismatch and noise. ``None``: the default one of torch.

    Returns:
        Events sorted by time, rounded to whole microseconds.

    Raises:
        ShapeError: If the movie has other axes or no frames.
        NonFiniteError: If it holds NaN or infinity.
        InputError: If an intensity is negative or a setting impossible.
    """
    frames = _checked_movie(movie)
    on = positive("events_from_frames", "threshold", threshold)
    off = (
        on
        if threshold_off is None
        else positive("events_from_frames", "threshold_off", threshold_off)
    )
    dt_us = 1000 * positive("events_from_frames", "dt_ms", dt_ms)
    dark = positive("events_from_frames", "dark", dark)
    for name, value in (
        ("refractory_ms", refractory_ms),
        ("mismatch", mismatch),
        ("noise_hz", noise_hz),
    ):
        if not 0 <= value < math.inf:
            raise InputError(f"events_from_frames expected {name} >= 0, got {value!r}.")
    height, width = frames.shape[-2:]
    before = _log(frames[0], dark)
    pixels = _rested(before, on, off, mismatch, generator)
    found = []
    for k in range(1, len(frames)):
        interval = _Interval(before, _log(frames[k], dark), (k - 1) * dt_us, dt_us)
        pixels, events = _watched(pixels, interval, 1000 * refractory_ms)
        if noise_hz > 0:
            events.append(_noise(interval, noise_hz, generator))
        found.append(_in_order(events))
        before = interval.after
    time, pixel, sign = _in_order(found) if found else _nothing()
    return EventStream(time, pixel % width, pixel // width, sign, size=(height, width))


Events = tuple[Tensor, Tensor, Tensor]
"""Times in microseconds, flat pixel numbers, and whether ON."""


def _checked_movie(movie: Tensor) -> Float[Tensor, "T H W"]:
    shape = tuple(movie.shape) if isinstance(movie, Tensor) else None
    if shape is not None and len(shape) == 4 and shape[1] == 1:
        movie = movie[:, 0]
    if (
        shape is None
        or movie.ndim != 3
        or 0 in shape
        or max(shape[-2:]) > MOST_PIXELS
        or not movie.is_floating_point()
    ):
        raise ShapeError(
            "events_from_frames expected floating-point frames with axes (time, height, width) or "
            f"(time, 1, height, width), none of them empty, got {type(movie).__name__} of shape "
            f"{shape}. For a colour movie pass its luminance."
        )
    for k, frame in enumerate(movie):
        if not torch.isfinite(frame).all():
            raise NonFiniteError(f"events_from_frames got NaN or infinity in frame {k}.")
        if (frame < 0).any():
            raise InputError(
                f"events_from_frames expected intensities >= 0, but frame {k} falls to "
                f"{frame.min().item():.4g}. Is it a filtered or normalised movie?"
            )
    return movie.detach()


def _log(frame: Tensor, dark: float) -> Float[Tensor, " HW"]:
    """Return log intensity in double precision, so that rounding makes no events."""
    return (frame.to("cpu", torch.float64).flatten() + dark).log()


def _rested(
    level: Tensor, on: float, off: float, mismatch: float, generator: Generator | None
) -> _Pixels:
    thresholds = []
    for mean in (on, off):
        spread = torch.zeros_like(level)
        if mismatch > 0:
            spread = _draw(torch.randn, len(level), generator)
        # a mean below the least threshold is what was asked for; chance must not go below it
        least = min(mean, _LEAST_THRESHOLD)
        thresholds.append((mean * (1 + mismatch * spread)).clamp(min=least))
    never = torch.full_like(level, -math.inf)
    awake = torch.zeros_like(level, dtype=torch.bool)
    return _Pixels(level.clone(), thresholds[0], thresholds[1], never, awake)


def _watched(
    pixels: _Pixels, interval: _Interval, refractory_us: float
) -> tuple[_Pixels, list[Events]]:
    """Follow every pixel from one frame to the next."""
    memory, on, off, ready, asleep = pixels
    memory, ready, asleep = memory.clone(), ready.clone(), asleep.clone()
    stop = interval.start_us + interval.dt_us
    waking = (asleep & (ready <= stop)).nonzero().squeeze(1)
    memory[waking] = interval.level(waking, ready[waking])
    asleep[waking] = False
    events: list[Events] = []
    # between frames brightness moves one way, so whoever crosses a level is beyond it at the end
    change = interval.after - memory
    beyond = (change >= on - _ROUNDING) | (change <= _ROUNDING - off)
    active = (beyond & ~asleep).nonzero().squeeze(1)
    while len(active):
        rising = interval.after[active] > memory[active]
        target = memory[active] + torch.where(rising, on[active], -off[active])
        span = interval.after[active] - interval.before[active]
        share = ((target - interval.before[active]) / span).clamp(0, 1)
        time = interval.start_us + share * interval.dt_us
        events.append((time.round().long(), active, rising))
        if refractory_us > 0:
            ready[active] = time + refractory_us
            asleep[active] = ready[active] > stop
            active = active[~asleep[active]]
            memory[active] = interval.level(active, ready[active])
        else:
            memory[active] = target
        change = interval.after[active] - memory[active]
        active = active[(change >= on[active] - _ROUNDING) | (change <= _ROUNDING - off[active])]
    return _Pixels(memory, on, off, ready, asleep), events


def _noise(interval: _Interval, noise_hz: float, generator: Generator | None) -> Events:
    """Return events that nothing caused: their number is Poisson, all else uniform."""
    count = len(interval.after)
    device = "cpu" if generator is None else generator.device
    mean = torch.tensor(count * noise_hz * interval.dt_us / 1e6, dtype=torch.float64, device=device)
    total = int(torch.poisson(mean, generator=generator))
    time = interval.start_us + interval.dt_us * (1 - _draw(torch.rand, total, generator))
    pixel = (_draw(torch.rand, total, generator) * count).long().clamp(max=count - 1)
    return time.round().long(), pixel, _draw(torch.rand, total, generator) < 0.5


def _draw(kind: object, count: int, generator: Generator | None) -> Float[Tensor, " N"]:
    assert callable(kind)
    device = "cpu" if generator is None else generator.device
    numbers = kind(count, dtype=torch.float64, generator=generator, device=device)
    assert isinstance(numbers, Tensor)
    return numbers.to("cpu")


def _nothing() -> Events:
    none = torch.zeros(0, dtype=torch.long)
    return none, none, none.bool()


def _in_order(events: list[Events]) -> Events:
    if not events:
        return _nothing()
    time, pixel, sign = (torch.cat(column) for column in zip(*events, strict=True))
    order = time.argsort(stable=True)
    return time[order], pixel[order], sign[order]
