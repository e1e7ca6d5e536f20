"""Time surfaces: how recently each pixel saw an event.

    S(p, y, x)   = exp(-(t - t_last(p, y, x)) / tau)
    S_i(p, u)    = exp(-(t_i - max {t_j : j <= i, pixel_j = pixel_i + u, p_j = p}) / tau)

The first is one picture of the whole sensor; the second, the descriptor of HOTS, one small picture
around each event, of only what happened before it.

Axes    N events | 2 polarity, OFF 0 and ON 1 | H W rows down, columns right | K K neighbourhood
Source  lagorce2017, eqs. 2-3
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_dtype
from calcarine.stimuli._event_checks import count, microseconds, positive

if TYPE_CHECKING:
    from calcarine.stimuli.events import EventStream

__all__ = ["last_times_surface", "surfaces_around"]

CHUNK = 1 << 20
"""Neighbours looked up at once, which bounds the memory beyond the result."""


def last_times_surface(
    stream: EventStream, tau_ms: float, at_ms: float | None, dtype: torch.dtype | None
) -> Float[Tensor, "2 H W"]:
    """Return the surface, see :meth:`calcarine.stimuli.EventStream.time_surface`."""
    dtype = checked_dtype("time_surface", dtype)
    tau_us = positive("time_surface", "tau_ms", tau_ms) * 1000
    shape = (2, *stream.size)
    if at_ms is not None:
        at = microseconds("time_surface", "at_ms", at_ms)
        stream = stream[: int(torch.searchsorted(stream.t_us, at, right=True))]
    elif len(stream):
        at = int(stream.t_us[-1])
    if not len(stream):
        return torch.zeros(shape, dtype=dtype)
    pixel = _pixel(stream)
    never = torch.iinfo(torch.int64).min
    last = torch.full((shape[0] * shape[1] * shape[2],), never)
    last.scatter_reduce_(0, pixel, stream.t_us, "amax")
    seen = last != never
    age = torch.where(seen, at - last, 0).to(torch.float64)
    return torch.where(seen, torch.exp(age / -tau_us), 0.0).to(dtype).view(shape)


def surfaces_around(
    stream: EventStream,
    radius_px: int,
    tau_ms: float,
    events: Tensor | None,
    dtype: torch.dtype | None,
) -> Float[Tensor, "M 2 K K"]:
    """Return surfaces, see :meth:`calcarine.stimuli.EventStream.local_surfaces`."""
    dtype = checked_dtype("local_surfaces", dtype)
    radius = count("local_surfaces", "radius_px", radius_px, least=0)
    tau_us = positive("local_surfaces", "tau_ms", tau_ms) * 1000
    chosen = _chosen(stream, events)
    side = 2 * radius + 1
    out = torch.zeros((len(chosen), 2, side, side), dtype=dtype)
    if not len(chosen):
        return out
    history = _history(stream)
    rows = max(1, CHUNK // out[0].numel())
    for first in range(0, len(chosen), rows):
        part = chosen[first : first + rows]
        age, seen = _ages(stream, history, part, radius)
        decayed = torch.exp(age.to(torch.float64) / -tau_us)
        out[first : first + rows] = torch.where(seen, decayed, 0.0).to(dtype)
    return out


def _chosen(stream: EventStream, events: Tensor | None) -> Int64[Tensor, " M"]:
    if events is None:
        return torch.arange(len(stream))
    chosen = torch.as_tensor(events, device="cpu")
    if chosen.ndim != 1 or chosen.dtype not in (torch.int64, torch.int32, torch.int16):
        raise InputError(
            "local_surfaces expected the numbers of events as whole numbers with axes (event,), "
            f"got {chosen.dtype} of shape {tuple(chosen.shape)}. For a mask pass "
            "mask.nonzero().squeeze(1)."
        )
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(stream)):
        raise InputError(
            f"local_surfaces expected event numbers from 0 to {len(stream) - 1}, got "
            f"{int(chosen.min())} to {int(chosen.max())}."
        )
    return chosen.long()


def _pixel(stream: EventStream) -> Int64[Tensor, " N"]:
    """Return each event's place in a flattened (polarity, height, width) map."""
    height, width = stream.size
    return stream.polarity.long().mul_(height).add_(stream.y).mul_(width).add_(stream.x)


def _history(stream: EventStream) -> Int64[Tensor, " N"]:
    """Return all events sorted by pixel, then by number, as pixel * N + number.

    The latest event at a pixel up to event i is then one binary search away, at any i.
    """
    number = torch.arange(len(stream))
    return _pixel(stream).mul_(len(stream)).add_(number).sort().values


def _ages(
    stream: EventStream, history: Tensor, events: Tensor, radius: int
) -> tuple[Int64[Tensor, "M 2 K K"], Tensor]:
    """Return the age in us of the latest event at each neighbour, and whether there was one."""
    height, width = stream.size
    total = len(stream)
    offset = torch.arange(-radius, radius + 1)
    y = (stream.y[events].long()[:, None] + offset)[:, None, :, None]
    x = (stream.x[events].long()[:, None] + offset)[:, None, None, :]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    polarity = torch.arange(2)[None, :, None, None]
    pixel = (polarity * height + y) * width + x
    found = torch.searchsorted(history, pixel * total + events[:, None, None, None], right=True) - 1
    latest = history[found.clamp(min=0)]
    seen = inside & (found >= 0) & (latest.div(total, rounding_mode="floor") == pixel)
    now = stream.t_us[events][:, None, None, None]
    return torch.where(seen, now - stream.t_us[latest.remainder(total)], 0), seen
