"""A still picture as trains of spikes, four codes that the classifier chooses from by name.

    current   tau v' = -v + gain p, a spike and back to 0 at v > 1      rate and latency both tell p
    latency   one spike at t = window (1 - p), none where p = 0         bright pixels come first
    poisson   a spike in every step with probability rate p dt
    events    the picture shakes on a circle; log-intensity changes     an event camera's view of it

p is the value of a pixel. ``current`` passes gradients on to the picture, through the surrogate
gradient of its neurons; the other codes do not.

Axes    T time | B batch | H W rows down, columns right | N channels of the code, 2 for events
        (brighter, darker) and 1 otherwise, times H W
Units   milliseconds, hertz, pixels
Source  lichtsteiner2008 (events); window, rate, path and contrast are ours
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from calcarine.spiking import latency_spikes, linear_latency_ms
from calcarine.stimuli import events_from_frames

__all__ = ["Encoding", "event_code", "latency_code", "poisson_code"]

Encoding = Literal["current", "latency", "poisson", "events"]

_WINDOW = 0.8  # share of the time within which latencies lie; ours: the rest is left to answer in
_SHAKES = 2  # turns on the circle
_SHAKE_PX = 0.75  # its radius
_DARK = 0.1  # paper in linear intensity where ink is 1: the logarithm needs some light
_THRESHOLD = 0.5  # of events, in natural-log units


@torch.no_grad()
def latency_code(
    picture: Float[Tensor, "B 1 H W"], steps: int, dt_ms: float
) -> Float[Tensor, "T B N"]:
    """Return one spike per pixel that is not black, the brighter the earlier."""
    value = picture.flatten(1).clamp(0, 1).nan_to_num()
    latency = linear_latency_ms(value, duration_ms=_WINDOW * steps * dt_ms)
    return latency_spikes(latency, steps, dt_ms)


@torch.no_grad()
def poisson_code(
    picture: Float[Tensor, "B 1 H W"], chance: Float[Tensor, "T #B H W"], expected: float
) -> Float[Tensor, "T B N"]:
    """Return spikes where a uniform number is below what a pixel's rate makes likely in a step.

    Args:
        picture: Pixels in [0, 1].
        chance: Uniform numbers in [0, 1), the caller's: drawn for the occasion, or frozen.
        expected: Spikes per step of a pixel of value 1, at most 1.
    """
    return (chance < expected * picture[:, 0]).to(picture).flatten(2)


@torch.no_grad()
def event_code(
    picture: Float[Tensor, "B 1 H W"], steps: int, dt_ms: float
) -> Float[Tensor, "T B N"]:
    """Return what an event camera reports while the picture shakes, at most one spike per step.

    The pictures of a batch lie below each other on one sensor: its pixels know nothing of their
    neighbours, so each picture gets the events that it would get alone.
    """
    batch, _, height, width = picture.shape
    light = _DARK + (1 - _DARK) * _shaken(picture.clamp(0, 1).nan_to_num(), steps)
    sensor = light.reshape(steps, batch * height, width)
    events = events_from_frames(sensor.cpu(), threshold=_THRESHOLD, dt_ms=dt_ms)
    counts = events.frames(dt_ms=dt_ms, polarity="split", steps=steps).to(picture)
    spikes = counts.clamp(max=1).reshape(steps, 2, batch, height, width)
    return spikes.transpose(1, 2).flatten(2)


def _shaken(picture: Float[Tensor, "B 1 H W"], steps: int) -> Float[Tensor, "T B H W"]:
    """Move pictures on a circle, interpolated linearly, black around them."""
    batch, _, height, width = picture.shape
    angle = torch.arange(steps).to(picture) * (2 * math.pi * _SHAKES / steps)
    x, y = _SHAKE_PX * angle.sin(), _SHAKE_PX * (1 - angle.cos())
    affine = picture.new_zeros(steps, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = 1
    affine[:, 0, 2], affine[:, 1, 2] = 2 * x / width, 2 * y / height
    grid = functional.affine_grid(affine, [steps, batch, height, width], align_corners=False)
    frames = picture[:, 0].expand(steps, batch, height, width)
    return functional.grid_sample(frames, grid, align_corners=False)
