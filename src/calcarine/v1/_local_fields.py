"""Which sources each unit of a sheet sees, as runs along the rows of the source sheet.

    unit (i, j) sees (y, x) where  (y - p_i)^2 + (x - q_j)^2 <= radius^2
    p = linspace(margin, H - 1 - margin, h)     crop: what lies outside the source is left out
    p_i = i H / h                               wrap: the source is a torus (ours; the same as
                                                crop without a margin when the sizes are equal)

Weights lie unit after unit (row by row), each unit's row after row of the source.

Axes    U = h w units | N = H W sources | R runs | n weights
Units   source pixels
Source  miikkulainen2005 (circular fields); the layout is ours
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.errors import InputError

__all__ = ["Border", "Shape", "Tables", "inside", "margins", "positions", "sheet", "tables"]

Border = Literal["crop", "wrap"]
Shape = tuple[int, int]

_BLOCK = 2**18  # weights
_ROUNDING = 1e-12  # relative; a distance equal to the radius counts, whatever its rounding


class Tables(NamedTuple):
    """Where every weight belongs.

    Attributes:
        offsets: Where each unit's weights begin, int64, and the number of weights.
        first: Where each unit's runs begin, int32, and the number of runs.
        runs: Row, column and length of every run, int16.
    """

    offsets: Int[Tensor, "U+1"]
    first: Int[Tensor, "U+1"]
    runs: Int[Tensor, "R 3"]

    def units(self) -> Int[Tensor, " n"]:
        """Return the unit that every weight belongs to."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    def columns(self, width: int) -> Int[Tensor, " n"]:
        """Return the source (row times width plus column) that every weight reads, int32."""
        row, column, length = self.runs.int().unbind(1)
        before = length.cumsum(0) - length
        start = row * width + column - before.int()
        every = torch.arange(int(length.sum()), device=length.device, dtype=torch.int32)
        return every + torch.repeat_interleave(start, length)

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Return the units and their weights in blocks small enough for the processor's cache."""
        ends = self.offsets.tolist()
        widest = max(end - begin for begin, end in itertools.pairwise(ends))
        step = max(1, _BLOCK // widest)
        for begin in range(0, len(ends) - 1, step):
            end = min(begin + step, len(ends) - 1)
            yield slice(begin, end), slice(ends[begin], ends[end])

    def part(self, begin: int, end: int) -> Tables:
        """Return the layout of the units from ``begin`` to ``end`` alone."""
        offsets, first = self.offsets[begin : end + 1], self.first[begin : end + 1]
        runs = self.runs[int(first[0]) : int(first[-1])]
        return Tables(offsets - offsets[0], first - first[0], runs)


def sheet(owner: str, name: str, shape: Shape) -> Shape:
    """Return (height, width) of a sheet.

    Raises:
        InputError: If these are not two positive whole numbers below 32768.
    """
    try:
        height, width = (int(side) for side in shape)
        fits = 0 < height < 2**15 and 0 < width < 2**15 and (height, width) == tuple(shape)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError(
            f"{owner} expected {name} as (height, width) in units, each from 1 to 32767, got "
            f"{shape!r}. For example {name}=(48, 48)."
        )
    return height, width


def margins(
    owner: str, margin: float | tuple[float, float], source: Shape, border: Border
) -> tuple[float, float]:
    """Return the margins along rows and columns.

    Raises:
        InputError: If they are negative, leave nothing of the source, or a torus has one.
    """
    if border not in ("crop", "wrap"):
        raise InputError(f"{owner} expected border 'crop' or 'wrap', got {border!r}.")
    pair = tuple(margin) if isinstance(margin, (tuple, list)) else (margin, margin)
    fits = len(pair) == 2 and all(0 <= 2 * m <= n - 1 for m, n in zip(pair, source, strict=True))
    if not fits or (border == "wrap" and pair != (0, 0)):
        raise InputError(
            f"{owner} expected margins from 0 to half the source sheet of {source[0]} x "
            f"{source[1]} (and 0 on a torus, which has no border), got {margin!r}."
        )
    return float(pair[0]), float(pair[1])


def positions(
    size: int, units: int, margin: float = 0.0, border: Border = "crop"
) -> Float[Tensor, " units"]:
    """Return where the units look along one axis of the source, in source pixels, float64."""
    if border == "wrap":
        return torch.arange(units, dtype=torch.float64) * (size / units)
    if units == 1:
        return torch.full((1,), (size - 1) / 2, dtype=torch.float64)
    return torch.linspace(margin, size - 1 - margin, units, dtype=torch.float64)


def inside(squared: Tensor, radius: float) -> Tensor:
    """Return which squared distances lie within the radius."""
    return squared <= radius**2 * (1 + _ROUNDING)


def tables(
    source: Shape,
    target: Shape,
    radius: float,
    margin: tuple[float, float] = (0.0, 0.0),
    border: Border = "crop",
) -> Tables:
    """Lay out the fields of every unit.

    Raises:
        InputError: If a unit would see nothing.
    """
    (height, width), (rows, columns) = source, target
    y, squared = _near(positions(height, rows, margin[0], border), radius)
    half = (radius**2 * (1 + _ROUNDING) - squared).clamp(min=0).sqrt()
    seen = inside(squared, radius)
    if border == "crop":
        seen &= (y >= 0) & (y < height)
    x = positions(width, columns, margin[1], border)[None, :, None]
    begin = (x - half[:, None]).ceil().long()
    end = torch.where(seen[:, None], (x + half[:, None]).floor().long() + 1, begin)
    if border == "crop":
        runs = torch.stack([begin.clamp(0, width), end.clamp(0, width)], dim=-1)[..., None, :]
    else:
        runs = _wrapped(begin, end, width)
    lengths = (runs[..., 1] - runs[..., 0]).clamp(min=0)
    counts = lengths.sum(dim=(2, 3)).flatten()
    _check_fields(counts, radius, columns)
    kept = lengths > 0
    rows_of_runs = (y % height)[:, None, :, None].expand(lengths.shape)
    table = torch.stack([rows_of_runs[kept], runs[..., 0][kept], lengths[kept]], dim=1)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    first = kept.sum(dim=(2, 3)).flatten().cumsum(0)
    return Tables(
        offsets, torch.cat([first.new_zeros(1), first]).int(), table.to(torch.int16).contiguous()
    )


def _near(centers: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Return the rows that may lie within the radius of each centre, and their squared distance."""
    reach = math.ceil(radius) + 1
    near = torch.arange(-reach, reach + 1)
    y = centers.round().long()[:, None] + near
    return y, (y - centers[:, None]).square()


def _wrapped(begin: Tensor, end: Tensor, width: int) -> Tensor:
    """Split runs that cross the seam of the torus; axes (..., two parts, begin and end)."""
    length = end - begin
    start = begin % width
    head = torch.stack([start, (start + length).clamp(max=width)], dim=-1)
    tail = torch.stack([torch.zeros_like(start), (start + length - width).clamp(min=0)], dim=-1)
    return torch.stack([head, tail], dim=-2)


def _check_fields(counts: Tensor, radius: float, columns: int) -> None:
    empty = (counts == 0).nonzero()
    if len(empty):
        unit = int(empty[0])
        raise InputError(
            f"LocalConnection expected every unit to see at least one source, but {len(empty)} "
            f"of {len(counts)} fields are empty at radius {radius}, the first of unit "
            f"(row {unit // columns}, column {unit % columns}). Units between two sources need "
            "a radius of 0.71 source pixels or more."
        )
