"""Events of three disks that move at a slow, a medium and a fast speed, and the truth about them.

    s_k(t)    distance along a straight path, rising by v_k per frame; turned back at its ends
              ("bounce"), or begun again at the other side of the sensor ("cross")
    event     where a pixel's centre enters (ON) or leaves (OFF) the disks between two frames:
              about 4 r v_k events per frame and disk
    noise     events at random pixels and times, a given share of all

A disk's events carry a random time within their frame. Frames of ``dt_ms`` give the frames back.

Axes    T frame | N disk | places as x, y in px, the centre of the first pixel at 0, y down
Units   px, px per frame, ms; directions in degrees, 0 right, counter-clockwise on screen
Source  lichtsteiner2008 (events where intensity changes); ours: the disks
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_size
from calcarine.stimuli.events import EventStream

__all__ = ["DiskTruth", "MovingDisks", "moving_disks"]


class DiskTruth(NamedTuple):
    """Where the disks are.

    Attributes:
        center_px: Centres x, y in the middle of every frame.
        speed_px_per_frame: Speed of every disk.
        speed_class: Rank of that speed: 0 slow, 1 medium, 2 fast.
        visible: Whether a disk lies within the sensor as a whole.
    """

    center_px: Float[Tensor, "T N 2"]
    speed_px_per_frame: Float[Tensor, " N"]
    speed_class: Int[Tensor, " N"]
    visible: Bool[Tensor, "T N"]


class MovingDisks(NamedTuple):
    """Events of moving disks, and the truth about them."""

    events: EventStream
    truth: DiskTruth


def moving_disks(
    *,
    size: int | tuple[int, int] = (50, 50),
    radius_px: float = 5.0,
    speeds: Sequence[float] = (0.3, 0.6, 1.2),
    frames: int = 500,
    dt_ms: float = 1.0,
    noise: float = 0.05,
    event_probability: float = 1.0,
    motion: Literal["bounce", "cross"] = "bounce",
    lanes: bool = True,
    direction_deg: float | None = None,
    generator: torch.Generator | None = None,
) -> MovingDisks:
    """Make events of moving disks.

    >>> events, truth = moving_disks(generator=torch.Generator().manual_seed(0))

    Args:
        size: Side, or (height, width), of the sensor.
        radius_px: Radius of the disks.
        speeds: px per frame, one for each disk. Ours.
        frames: Number of frames.
        dt_ms: Duration of a frame, ms.
        noise: Share of all events that is noise, in [0, 1).
        event_probability: Share of a disk's events that the sensor does not miss, in (0, 1].
        motion: Whether disks turn back inside the border, or cross the sensor and come again.
        lanes: Disks side by side, all in one direction; or each with a path of its own, so that
            disks cover each other at times.
        direction_deg: Direction of all paths; ``None`` draws it.
        generator: Source of randomness; ``None`` is torch's own.

    Returns:
        Events with times from 0 to ``frames * dt_ms``, and the truth.

    Raises:
        InputError: If a setting is impossible, or the disks do not fit the sensor.
    """
    height, width = checked_size("moving_disks", size)
    _check(radius_px, speeds, frames, dt_ms, noise, event_probability, motion)
    borders = _paths(
        (height, width),
        radius_px,
        speeds,
        frames,
        motion == "bounce",
        lanes,
        direction_deg,
        generator,
    )
    signal = _flips(borders, (height, width), radius_px)
    if event_probability < 1:
        kept = torch.rand(len(signal), generator=generator) < event_probability
        signal = signal[kept]
    extra = round(len(signal) * noise / (1 - noise))
    events = _stream(signal, extra, (height, width), frames, dt_ms, generator)
    center = (borders[1:] + borders[:-1]) / 2
    far = torch.tensor([width - 1.0, height - 1.0]).to(center) - radius_px + 0.5
    visible = ((center >= radius_px - 0.5) & (center <= far)).all(-1)
    speed = torch.tensor(speeds, dtype=torch.double)
    rank = speed.argsort().argsort() if len(speeds) == 3 else torch.arange(len(speeds))
    return MovingDisks(events, DiskTruth(center, speed, rank, visible))


def _paths(
    size: tuple[int, int],
    radius: float,
    speeds: Sequence[float],
    frames: int,
    bounce: bool,
    lanes: bool,
    direction_deg: float | None,
    generator: torch.Generator | None,
) -> Float[Tensor, "t N 2"]:
    """Return the centres at the borders between frames, one more than there are frames."""
    drawn = torch.rand(len(speeds), 3, generator=generator, dtype=torch.double).tolist()
    order = torch.randperm(len(speeds), generator=generator).tolist()
    half = [n / 2 - radius - 0.5 if bounce else n / 2 + radius + 1 for n in reversed(size)]
    middle = torch.tensor([(n - 1) / 2 for n in reversed(size)], dtype=torch.double)
    gap = 2 * radius + 3
    paths = []
    for k, speed in enumerate(speeds):
        turn = drawn[0 if lanes else k][0]
        angle = 2 * math.pi * turn if direction_deg is None else math.radians(direction_deg)
        along = (math.cos(angle), -math.sin(angle))
        aside = (order[k] - (len(speeds) - 1) / 2) * gap if lanes else 20 * (drawn[k][1] - 0.5)
        offset = (-along[1] * aside, along[0] * aside)
        low, high = _chord(offset, along, half)
        s = 2 * drawn[k][2] * (high - low) + speed * torch.arange(frames + 1, dtype=torch.double)
        s = _folded(s, high - low, bounce) + low
        place = torch.tensor(offset, dtype=torch.double) + s[:, None] * torch.tensor(along).double()
        paths.append(middle + place)
    return torch.stack(paths, 1)


def _chord(
    offset: tuple[float, float], along: tuple[float, float], half: list[float]
) -> tuple[float, float]:
    """Return where a line enters and leaves the box of centres."""
    ends = [
        sorted(((-h - o) / d, (h - o) / d)) for o, d, h in zip(offset, along, half, strict=True)
        if abs(d) > 1e-9
    ]  # fmt: skip
    low, high = max(e[0] for e in ends), min(e[1] for e in ends)
    beyond = any(abs(o) > h for o, d, h in zip(offset, along, half, strict=True) if abs(d) <= 1e-9)
    if high - low < 1 or beyond:
        raise InputError(
            "moving_disks expected room for every disk, but a lane in this direction is outside "
            "the sensor. Use a larger size, a smaller radius_px, fewer speeds or lanes=False."
        )
    return low, high


def _folded(s: Tensor, length: float, bounce: bool) -> Tensor:
    if not bounce:
        return s.remainder(length)
    s = s.remainder(2 * length)
    return torch.where(s > length, 2 * length - s, s)


def _flips(
    borders: Float[Tensor, "t N 2"], size: tuple[int, int], radius: float
) -> Int[Tensor, "E 4"]:
    """Return frame, row, column and polarity where a pixel enters or leaves the disks."""
    y = torch.arange(size[0], dtype=torch.double)[:, None]
    x = torch.arange(size[1], dtype=torch.double)
    inside = torch.zeros(len(borders), *size, dtype=torch.bool)
    for path in borders.unbind(1):
        dx, dy = x - path[:, 0, None, None], y - path[:, 1, None, None]
        inside |= dx**2 + dy**2 < radius**2
    frame, row, column = torch.nonzero(inside[1:] != inside[:-1], as_tuple=True)
    return torch.stack([frame, row, column, inside[1:][frame, row, column].long()], 1)


def _stream(
    signal: Int[Tensor, "E 4"],
    extra: int,
    size: tuple[int, int],
    frames: int,
    dt_ms: float,
    generator: torch.Generator | None,
) -> EventStream:
    ends = (frames, *size, 2)
    noise = [torch.randint(end, (extra,), generator=generator) for end in ends]
    every = torch.cat([signal, torch.stack(noise, 1)])
    step_us = dt_ms * 1000
    late = torch.rand(len(every), generator=generator, dtype=torch.double)
    start, stop = (every[:, 0] * step_us).ceil(), ((every[:, 0] + 1) * step_us).ceil() - 1
    t_us = torch.minimum(((every[:, 0] + late) * step_us).ceil(), stop).maximum(start).long()
    t_us, order = t_us.sort(stable=True)
    _, row, column, polarity = every[order].unbind(1)
    return EventStream(t_us, column.short(), row.short(), polarity.bool(), size=size)


def _check(
    radius: float,
    speeds: Sequence[float],
    frames: int,
    dt_ms: float,
    noise: float,
    probability: float,
    motion: str,
) -> None:
    if not radius > 0 or not speeds or not all(0 < v < math.inf for v in speeds):
        raise InputError(
            f"moving_disks expected radius_px > 0 and speeds > 0 px per frame, got {radius} and "
            f"{speeds!r}."
        )
    if not isinstance(frames, int) or frames < 1 or not dt_ms >= 0.01:
        raise InputError(
            "moving_disks expected a whole number of frames >= 1 and dt_ms >= 0.01, got "
            f"{frames!r} and {dt_ms!r}."
        )
    if not 0 <= noise < 1 or not 0 < probability <= 1:
        raise InputError(
            "moving_disks expected 0 <= noise < 1 and 0 < event_probability <= 1, got "
            f"{noise} and {probability}."
        )
    if motion not in ("bounce", "cross"):
        raise InputError(f"moving_disks expected motion 'bounce' or 'cross', got {motion!r}.")
