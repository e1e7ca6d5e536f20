"""Channels, sides and strides of the areas, which CordsNet and its feed-forward twin share.

    stem, pool    side -> half -> half
    area          1   2   3    4    5    6    7    8
    channels     64  64  128  128  256  256  512  512
    stride        1   1   2    1    2    1    2    1
    skip             3x3      1x1      1x1      1x1     from two areas below; to area 2, the pool

Halves are rounded up.

Axes    H W rows down, columns right
Source  soo2024
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from calcarine.cortex.recurrent_area import half_side

__all__ = ["CHANNELS", "AreaLayout", "area_layouts", "new_skip", "new_stem"]

CHANNELS = (64, 64, 128, 128, 256, 256, 512, 512)
"""Channels of the eight areas. soo2024."""


class AreaLayout(NamedTuple):
    """What an area is connected to, and how large it is.

    Attributes:
        number: Its number, from 1.
        below: Channels of what it is fed.
        channels: Its own channels.
        size: Its height and width in units.
        stride: Stride of its feed-forward convolution.
        skipped: Channels that reach it past the area below through a convolution of their own
            with stride 2; 0 where there is none, and for area 2, whose skip keeps the size.
    """

    number: int
    below: int
    channels: int
    size: tuple[int, int]
    stride: int
    skipped: int


def area_layouts(depth: int, size: tuple[int, int]) -> tuple[AreaLayout, ...]:
    """Return the layout of every area, first to last.

    Args:
        depth: Number of areas.
        size: Height and width of the images, px.
    """
    side = _halved(_halved(size))
    areas = []
    for k in range(depth):
        stride = 2 if k in (2, 4, 6) else 1
        side = _halved(side) if stride == 2 else side
        skipped = CHANNELS[k - 2] if k in (3, 5, 7) else 0
        below = CHANNELS[max(k - 1, 0)]
        areas.append(AreaLayout(k + 1, below, CHANNELS[k], side, stride, skipped))
    return tuple(areas)


def new_stem(channels: int) -> nn.Conv2d:
    """Return a new stem for images of so many channels."""
    return nn.Conv2d(channels, CHANNELS[0], 7, stride=2, padding=3, bias=False)


def new_skip(area: AreaLayout | None = None) -> nn.Conv2d:
    """Return a new skip to an area that has one with stride 2; without an area, that to area 2."""
    if area is None:
        return nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, padding=1, bias=False)
    return nn.Conv2d(area.skipped, area.channels, 1, stride=2, bias=False)


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return half_side(size[0]), half_side(size[1])
