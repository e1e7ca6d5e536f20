"""Events as frames: counts per time step, and voxel grids that share events between instants.

    frames[k, c, y, x] = number of events with floor((t - start) / dt) = k
    voxels[b, c, y, x] = sum of s max(0, 1 - |b - (bins - 1) (t - start) / (stop - start)|)

with s = 1, or in a signed grid +1 for ON and -1 for OFF.

Axes    T frames | C channel: 1, or 2 with OFF 0 and ON 1 | H W rows down, columns right
Source  zhu2019 (voxel grid)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from calcarine.errors import InputError, UnknownNameError
from calcarine.stimuli._checks import checked_dtype
from calcarine.stimuli._event_checks import count, microseconds, positive

if TYPE_CHECKING:
    from calcarine.stimuli.events import EventStream

__all__ = ["count_frames", "voxel_grid"]

MOST_VALUES = 2**33
"""Largest dense result, in numbers; ours: 34 GB in single precision."""

CHUNK = 1 << 20
"""Events handled at once, which bounds the memory beyond the result."""


def count_frames(
    stream: EventStream,
    dt_ms: float,
    polarity: str,
    sparse: bool,
    steps: int | None,
    start_ms: float,
    dtype: torch.dtype | None,
) -> Float[Tensor, "T C H W"]:
    """Count events, see :meth:`calcarine.stimuli.EventStream.frames`."""
    dtype = checked_dtype("frames", dtype)
    dt_us = positive("frames", "dt_ms", dt_ms) * 1000
    start = microseconds("frames", "start_ms", start_ms)
    channels = _channels("frames", polarity, ("merge", "split"))
    if len(stream) and stream.t_us[0] < start:
        raise InputError(
            f"frames starts at start_ms={start_ms}, but the first event is at {stream.start_ms} ms."
            f" Pass start_ms={stream.start_ms}, or leave earlier events out with between()."
        )
    needed = int(_step(stream.t_us[-1:] - start, dt_us)) + 1 if len(stream) else 0
    steps = needed if steps is None else count("frames", "steps", steps, least=0)
    shape = (steps, channels, *stream.size)
    _check_room("frames", shape, sparse)
    if steps < needed:
        stream = stream[: int((_step(stream.t_us - start, dt_us) < steps).sum())]
    if sparse:
        index = torch.stack(
            [_step(stream.t_us - start, dt_us), _channel(stream, channels), stream.y, stream.x]
        )
        ones = torch.ones(len(stream), dtype=dtype)
        return torch.sparse_coo_tensor(index, ones, shape, check_invariants=False).coalesce()
    out = torch.zeros(shape, dtype=dtype)
    for part in _parts(stream):
        index = _flat(part, _step(part.t_us - start, dt_us), channels)
        out.view(-1).index_add_(0, index, torch.ones(len(part), dtype=dtype))
    return out


def voxel_grid(
    stream: EventStream,
    bins: int,
    polarity: str,
    start_ms: float | None,
    stop_ms: float | None,
    dtype: torch.dtype | None,
) -> Float[Tensor, "bins C H W"]:
    """Share events between instants, see :meth:`calcarine.stimuli.EventStream.voxel_grid`."""
    dtype = checked_dtype("voxel_grid", dtype)
    bins = count("voxel_grid", "bins", bins)
    channels = _channels("voxel_grid", polarity, ("signed", "merge", "split"))
    shape = (bins, channels, *stream.size)
    _check_room("voxel_grid", shape, False)
    out = torch.zeros(shape, dtype=dtype)
    if not len(stream):
        return out
    start, stop = _window(stream, start_ms, stop_ms)
    for part in _parts(stream):
        # differences of whole microseconds are exact, however late the clock is
        place = (part.t_us - start).double() * ((bins - 1) / max(stop - start, 1))
        low = place.floor().long().clamp_(max=max(bins - 2, 0))
        share = (place - low).to(dtype)
        sign = torch.ones_like(share)
        if polarity == "signed":
            sign = torch.where(part.polarity, sign, -sign)
        out.view(-1).index_add_(0, _flat(part, low, channels), sign * (1 - share))
        if bins > 1:
            out.view(-1).index_add_(0, _flat(part, low + 1, channels), sign * share)
    return out


def _window(stream: EventStream, start_ms: float | None, stop_ms: float | None) -> tuple[int, int]:
    first, last = int(stream.t_us[0]), int(stream.t_us[-1])
    start = first if start_ms is None else microseconds("voxel_grid", "start_ms", start_ms)
    stop = last if stop_ms is None else microseconds("voxel_grid", "stop_ms", stop_ms)
    if first < start or last > stop:
        raise InputError(
            f"voxel_grid expected all events from start_ms={start / 1000} to "
            f"stop_ms={stop / 1000}, got events from {first / 1000} to {last / 1000} ms. "
            "Leave others out with between()."
        )
    return start, stop


def _channels(owner: str, polarity: object, known: tuple[str, ...]) -> int:
    if not isinstance(polarity, str) or polarity not in known:
        raise UnknownNameError(f"polarity of {owner}", str(polarity), known)
    return 2 if polarity == "split" else 1


def _check_room(owner: str, shape: tuple[int, ...], sparse: bool) -> None:
    values = 1
    for n in shape:
        values *= n
    if values > (2**62 if sparse else MOST_VALUES):
        raise InputError(
            f"{owner} would make {values:.3g} numbers with axes (time, channel, height, width) = "
            f"{shape}. Does the clock of the recording start long before it (start_ms="
            "stream.start_ms)? Otherwise use longer steps, crop(), between() or sparse=True."
        )


def _parts(stream: EventStream) -> list[EventStream]:
    return [stream[i : i + CHUNK] for i in range(0, len(stream), CHUNK)]


def _step(us: Int64[Tensor, " N"], dt_us: float) -> Int64[Tensor, " N"]:
    """Return the frame of each time; exact whole-number division where dt allows it."""
    whole = round(dt_us)
    if whole and abs(dt_us - whole) < 1e-9 * dt_us:
        return us.div(whole, rounding_mode="floor")
    return us.double().div_(dt_us).floor_().long()


def _channel(stream: EventStream, channels: int) -> Int64[Tensor, " N"]:
    if channels == 1:
        return torch.zeros(len(stream), dtype=torch.long)
    return stream.polarity.long()


def _flat(stream: EventStream, step: Int64[Tensor, " N"], channels: int) -> Int64[Tensor, " N"]:
    """Return each event's place in a flattened (time, channel, height, width) tensor."""
    height, width = stream.size
    place = step * channels + _channel(stream, channels)
    return place.mul_(height).add_(stream.y).mul_(width).add_(stream.x)
