"""Constants of the disk network by hand: what a leaky integrator makes of a passing outline.

An outline of radius r that moves by v per step flips 4 r v pixels per step, most of them where its
normal points along the motion: their share at angle a is |cos a| / 4. A ring of width s placed p
ahead of the disk's centre catches

    g(p) = 1/4 int_0^{2 pi} |cos a| exp(-(p cos a)^2 / (2 s^2)) da

of them. A leaky integrator with rate = dt / tau that waits at distance p behind the centre holds

    T_tau(p) = 4 r v P sum_{n >= 0} rate (1 - rate)^n g(p - v n),    P events per flipped pixel

T falls with tau, and falls the more the faster the disk: T_fast / T_slow rises with v from 1 to
tau_slow / tau_fast, whatever r and P are. So the ratio of two integrators tells the speed alone,
and two channels whose gains make them equal at the border of two bands divide the speeds there.

Units   px, steps (one frame each); speeds in px per frame
Source  gerstner2014 (leaky integrator); ours: the ratio, and every number below
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["DiskConstants", "band_borders", "closed_form", "integrator_profile"]

RING_WIDTH_PX = 0.8
PIXEL_VARIANCE = 1 / 12
FASTEST = 1.01
"""Steps: hardly any memory. A learned time constant has to be longer than one step."""
BIAS = (1.0, 1.1, 1.05)
"""Factors on the gains. Ours: noise takes from the medium channel on both sides."""


class DiskConstants(NamedTuple):
    """Constants of the three channels, slow first.

    Attributes:
        tau_integrator_ms: Time constants of the integrators that the channels compare, ms.
        gain: What every integrator is multiplied by before the comparison; 1 for slow.
        tau_mem_ms: Membrane time constants of the channels, ms.
        v_th: Thresholds of the channels.
        lag_steps: How many steps the strongest place is behind the disk.
    """

    tau_integrator_ms: tuple[float, float, float]
    gain: tuple[float, float, float]
    tau_mem_ms: tuple[float, float, float]
    v_th: tuple[float, float, float]
    lag_steps: float


def band_borders(speeds: Sequence[float]) -> tuple[float, float]:
    """Return the speeds between slow and medium and between medium and fast: geometric means."""
    slow, medium, fast = speeds
    return math.sqrt(slow * medium), math.sqrt(medium * fast)


def integrator_profile(
    place_px: Float[Tensor, " P"], speed: float, tau_steps: float, width_px: float = RING_WIDTH_PX
) -> Float[Tensor, " P"]:
    """Return T_tau(p) / (4 r v P) of the module's equation.

    Args:
        place_px: Distances behind the disk's centre, px.
        speed: px per step.
        tau_steps: Time constant in steps, at least 1.
        width_px: Standard deviation of the ring's profile, px.
    """
    angle = torch.arange(180, dtype=torch.double) * math.pi / 180
    across = angle.cos().abs()
    variance = width_px**2 + 2 * PIXEL_VARIANCE + speed**2 / 12
    rate = 1 / tau_steps
    steps = torch.arange(1 + math.ceil(12 * tau_steps), dtype=torch.double)
    offset = place_px.double()[:, None] - speed * steps
    caught = across * torch.exp(-((offset[..., None] * across) ** 2) / (2 * variance))
    return (rate * (1 - rate) ** steps * caught.sum(-1) / across.sum()).sum(1)


def strongest_place(speed: float, tau_steps: float, width_px: float = RING_WIDTH_PX) -> float:
    """Return how far behind the centre, in px, the integrator is fullest."""
    places = torch.linspace(0, 6, 241, dtype=torch.double)
    return places[integrator_profile(places, speed, tau_steps, width_px).argmax()].item()


def closed_form(
    speeds: Sequence[float] = (0.3, 0.6, 1.2),
    *,
    dt_ms: float = 1.0,
    width_px: float = RING_WIDTH_PX,
) -> DiskConstants:
    """Compute the constants for three speeds.

    Time constants are in proportion to how long a disk takes to cross the ring's width. Ours:
    three crossings for slow, two for medium and one frame for fast. The gains make
    neighbours equal at the border, at the place where the medium integrator is fullest, but for
    ``BIAS``.

    Args:
        speeds: Slow, medium and fast speed, px per frame.
        dt_ms: Duration of a frame, ms.
        width_px: Standard deviation of the ring's profile, px.
    """
    slow, medium, _ = speeds
    tau = [max(3.0 * width_px / slow, FASTEST), max(2.1 * width_px / medium, FASTEST), FASTEST]
    gain, lags = [1.0], []
    for border, pair in zip(band_borders(speeds), ((0, 1), (1, 2)), strict=True):
        place = torch.tensor([strongest_place(border, tau[1], width_px)])
        level = [integrator_profile(place, border, tau[k], width_px).item() for k in pair]
        gain.append(gain[-1] * level[0] / level[1])
        lags.append(place.item() / border)
    slow_tau, medium_tau, fast_tau = (dt_ms * t for t in tau)
    one, two, three = (b * g for b, g in zip(BIAS, gain, strict=True))
    return DiskConstants(
        (slow_tau, medium_tau, fast_tau),
        (one, two, three),
        (3.0 * dt_ms, 2.0 * dt_ms, FASTEST * dt_ms),
        (0.2, 0.2, 0.2),
        sum(lags) / len(lags),
    )
