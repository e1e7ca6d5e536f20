"""Affine couplings read from tables: one pass over the points on the CPU, else torch operations.

    block k     moved <- moved S_k(kept) + T_k(kept)      S, T linear between knots, and beyond them
    along       x (0), y (1), or a diagonal: (x + y) / sqrt 2 (2), (x - y) / sqrt 2 (3)

The compiled kernel takes every point through all blocks at once and keeps nothing for the way
back but the points. Torch operations do whatever it does not cover: other devices, compiled
models, forward mode, ``torch.func``, and computers without a compiler. Both agree to the rounding
of the dtype.

Axes    N 1 or B | B items | H W points | K blocks | J knots
Source  dinh2017 (affine coupling); tables and kernel are ours
"""

from __future__ import annotations

import ctypes
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.native import Kernel, plain

__all__ = ["Tables", "couple", "kernel_status", "mirrored"]

CHUNKS = 16
"""Pieces of work at most, whatever the threads, so that sums do not depend on these. Ours."""

_GRAIN = 8192  # points worth a piece, and a thread; ours


class Tables(NamedTuple):
    """Couplings at knots of equal distance, in the order in which they act."""

    values: Float[Tensor, "K J 2"]
    """S and T."""
    low: Float[Tensor, " K"]
    """The kept coordinate at the first knot."""
    rate: Float[Tensor, " K"]
    """Knots per unit of the kept coordinate."""
    along: tuple[int, ...]
    """Which coordinate every block moves."""


class _Job(ctypes.Structure):
    """What the kernel is told; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("is_double", "blocks", "knots")),
        *((name, ctypes.c_int64) for name in ("items", "shared", "points", "chunks", "threads")),
        ("along", ctypes.POINTER(ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in ("start", "offset", "tables", "low", "rate", "end")),
        *((name, ctypes.c_void_p) for name in ("grad_end", "grad_start", "grad_offset")),
        *((name, ctypes.c_void_p) for name in ("grad_tables", "scratch")),
    )


def kernel_status() -> str:
    """Return what maps cells of the colour cortex on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def couple(
    points: Float[Tensor, "N 2 H W"], tables: Tables, offset: Float[Tensor, "B 2"] | None = None
) -> Float[Tensor, "B 2 H W"]:
    """Take points through all couplings.

    Args:
        points: Where to start.
        tables: The couplings.
        offset: Added to all points of an item at first; the result has one item per offset.
    """
    tensors = (points, *tables[:3], *(() if offset is None else (offset,)))
    if points.is_cpu and points.numel() and plain(tensors) and _KERNEL.library() is not None:
        out: Tensor = _Couplings.apply(points, offset, *tables)
        return out
    return _by_torch(points, tables, offset)


class _Couplings(torch.autograd.Function):
    """All couplings in the compiled kernel."""

    @staticmethod
    def forward(
        ctx: Any, points: Tensor, offset: Tensor | None, values: Tensor, low: Tensor,
        rate: Tensor, along: tuple[int, ...],
    ) -> Tensor:  # fmt: skip
        kept = [x if x is None else x.contiguous() for x in (points, offset, values, low, rate)]
        items = len(points) if offset is None else len(offset)
        end = points.new_empty((items, *points.shape[1:]))
        job = _job(kept, along, end.shape)
        job.end = end.data_ptr()
        _KERNEL.loaded().coupling_forward(ctypes.byref(job))
        ctx.save_for_backward(*kept)
        ctx.along = along
        return end

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = ctx.saved_tensors
        points, offset, values = kept[:3]
        gradient = gradient.contiguous()
        job = _job(kept, ctx.along, gradient.shape)
        scratch = values.new_empty(_KERNEL.loaded().coupling_scratch(ctypes.byref(job)))
        to_tables = torch.empty_like(values)
        to_points = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        to_offset = torch.empty_like(offset) if ctx.needs_input_grad[1] else None
        job.grad_end, job.scratch = gradient.data_ptr(), scratch.data_ptr()
        job.grad_tables = to_tables.data_ptr()
        job.grad_start = None if to_points is None else to_points.data_ptr()
        job.grad_offset = None if to_offset is None else to_offset.data_ptr()
        _KERNEL.loaded().coupling_backward(ctypes.byref(job))
        return to_points, to_offset, to_tables, None, None, None


def _job(kept: Any, along: tuple[int, ...], shape: torch.Size) -> _Job:
    points, offset, values, low, rate = kept
    items, count = shape[0], shape[2] * shape[3]
    chunks = max(1, min(CHUNKS, items * count // _GRAIN))
    job = _Job(values.dtype == torch.float64, *values.shape[:2], items)
    job.shared, job.points, job.chunks = len(points) == 1, count, chunks
    job.threads = min(torch.get_num_threads(), chunks)
    job.along = (ctypes.c_int64 * len(along))(*along)
    job.start, job.tables = points.data_ptr(), values.data_ptr()
    job.low, job.rate = low.data_ptr(), rate.data_ptr()
    job.offset = None if offset is None else offset.data_ptr()
    return job


def _by_torch(points: Tensor, tables: Tables, offset: Tensor | None) -> Tensor:
    if offset is not None:
        points = points + offset[:, :, None, None]
    joined = plain((points, tables.values))
    moved = list(points.unbind(1))
    for k, (values, along) in enumerate(zip(tables.values, tables.along, strict=True)):
        axis = along % 2
        moved = mirrored(moved, along)
        place = (moved[1 - axis] - tables.low[k]) * tables.rate[k]
        if joined:
            moved[axis] = _Couple.apply(moved[axis], place, values.T)
        else:  # the compiler joins plain operations by itself
            scale, shift = _read(values.T, *_split(place, values.T))
            moved[axis] = torch.addcmul(shift, moved[axis], scale)
        moved = mirrored(moved, along)
    return torch.stack(moved, dim=1)


def mirrored(xy: list[Tensor], along: int) -> list[Tensor]:
    """Return the coordinates of which a block moves one; or, out of these, x and y again."""
    if along < 2:
        return xy
    return [(xy[0] + xy[1]) * math.sqrt(0.5), (xy[0] - xy[1]) * math.sqrt(0.5)]


class _Couple(torch.autograd.Function):
    """moved scale(place) + shift(place), both linear between knots; place counts knots."""

    @staticmethod
    def forward(moved: Tensor, place: Tensor, table: Tensor) -> Tensor:
        scale, shift = _read(table, *_split(place, table))
        return torch.addcmul(shift, moved, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        moved, place, table = ctx.saved_tensors
        knot, share = _split(place, table)
        scale, _ = _read(table, knot, share)
        steeper, higher = table.diff(dim=1)[:, knot.flatten()].view(2, *place.shape)
        to_place = torch.addcmul(higher, moved, steeper).mul_(gradient)
        to_table = None
        if ctx.needs_input_grad[2]:
            weights = torch.stack([gradient * moved, gradient]).flatten(1)
            upper = weights * share.flatten()
            to_table = torch.zeros_like(table)
            to_table.index_add_(1, knot.flatten(), weights - upper)
            to_table.index_add_(1, knot.flatten() + 1, upper)
        return gradient * scale, to_place, to_table


def _split(place: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the knot below and how far it is to the next one."""
    # NaN must reach the output, not become an index.
    knot = place.detach().nan_to_num(0.0).clamp(0, table.shape[1] - 2).long()
    return knot, place - knot


def _read(table: Tensor, knot: Tensor, share: Tensor) -> Tensor:
    below = table[:, knot.flatten()].view(2, *knot.shape)
    step = table.diff(dim=1)[:, knot.flatten()].view(2, *knot.shape)
    return torch.addcmul(below, step, share)


def _declare(built: ctypes.CDLL) -> None:
    job = ctypes.POINTER(_Job)
    for function in (built.coupling_forward, built.coupling_backward):
        function.argtypes, function.restype = (job,), None
    built.coupling_scratch.argtypes, built.coupling_scratch.restype = (job,), ctypes.c_int64


_KERNEL = Kernel("coupling", Path(__file__).with_name("_coupling_kernel.cpp"), declare=_declare)
