"""Velocity tuning: how often each channel of a model spikes at the centre of a disk of some speed.

    response(channel, v) = spikes per frame within ``near_px`` of the centre of one disk

One disk at a time crosses a sensor with noise, in several directions, each seed another one. The
mean over seeds comes with its standard error.

Axes    C channel | V speed
Units   spikes per frame; speeds in px per frame
Source  ours
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.simulate import run
from calcarine.stimuli.moving_disks import moving_disks

__all__ = ["VelocityTuning", "velocity_tuning"]


class VelocityTuning(NamedTuple):
    """Tuning curves of the channels.

    Attributes:
        speeds: Speeds shown, px per frame.
        responses: Spikes per frame at the disk, mean over seeds.
        sem: Standard error of that mean.
    """

    speeds: Float[Tensor, " V"]
    responses: Float[Tensor, "C V"]
    sem: Float[Tensor, "C V"]


def velocity_tuning(
    model: nn.Module,
    speeds: Sequence[float] = (0.15, 0.2, 0.3, 0.42, 0.6, 0.85, 1.2, 1.7),
    directions: Sequence[float] | None = None,
    *,
    seeds: Sequence[int] = tuple(range(8)),
    frames: int = 120,
    settle: int = 30,
    near_px: float = 4.0,
    size: int | tuple[int, int] = (50, 50),
    radius_px: float = 5.0,
    noise: float = 0.05,
    event_probability: float = 1.0,
) -> VelocityTuning:
    """Measure the tuning of a model whose output is spikes (batch, channel, height, width).

    Args:
        model: Takes frames of events (batch, 1, height, width) step by step.
        speeds: Speeds to show, px per frame.
        directions: Directions in degrees, one seed after the other taking the next; ``None`` draws
            one for every seed.
        seeds: Seeds of the recordings; at least two.
        frames: Frames of every recording.
        settle: First frames that are not counted.
        near_px: Spikes within this distance of the centre are counted.
        size: Side, or (height, width), of the sensor.
        radius_px: Radius of the disk.
        noise: Share of all events that is noise.
        event_probability: Share of a disk's events that the sensor does not miss.

    Raises:
        InputError: If there are no speeds, fewer than two seeds, or no frames left to count.
    """
    if not len(speeds) or len(seeds) < 2 or not 0 <= settle < frames or directions == ():
        raise InputError(
            "velocity_tuning expected speeds, at least two seeds and settle < frames, got "
            f"{len(speeds)} speeds, {len(seeds)} seeds, settle={settle} and frames={frames}."
        )
    curves = []
    for speed in speeds:
        shown = [
            moving_disks(
                size=size,
                radius_px=radius_px,
                speeds=(speed,),
                frames=frames,
                noise=noise,
                event_probability=event_probability,
                direction_deg=None if directions is None else directions[k % len(directions)],
                generator=torch.Generator().manual_seed(seed),
            )
            for k, seed in enumerate(seeds)
        ]
        movie = torch.stack([d.events.frames(steps=frames) for d in shown], 1)
        centers = torch.stack([d.truth.center_px[:, 0] for d in shown], 1)
        with torch.no_grad():
            spikes, _ = run(model, movie, engine="plain")
        curves.append(_counted(spikes[settle:], centers[settle:], near_px))
    values = torch.stack(curves, -1)
    sem = values.std(0) / len(seeds) ** 0.5
    return VelocityTuning(torch.tensor(speeds, dtype=torch.double), values.mean(0), sem)


def _counted(
    spikes: Float[Tensor, "T B C H W"], centers: Float[Tensor, "T B 2"], near: float
) -> Float[Tensor, "B C"]:
    y = torch.arange(spikes.shape[-2], dtype=torch.double)[:, None]
    x = torch.arange(spikes.shape[-1], dtype=torch.double)
    dx, dy = x - centers[..., 0, None, None], y - centers[..., 1, None, None]
    inside = torch.hypot(dx, dy) <= near
    return (spikes.cpu().double() * inside[:, :, None]).sum((-1, -2)).mean(0)
