"""Planes slid over planes: on the CPU in a compiled kernel, else in torch operations.

    correlate    out[y, x] = sum over i, j of kernel[i, j] planes[y + i, x + j]     inside only
    compare      mean over y, x of |first[y + dy, x + dx] - second[y, x]| where both are known
    halve        mean of the known ones of 2 x 2

One channel is the worst case of libraries made for many. Torch operations do whatever the kernel
does not cover: other devices, compiled models, forward mode, ``torch.func``, and computers without
a compiler. Both agree to the rounding of the dtype.

Axes    B items | H W plane | k l kernel | N shifts (dx, dy) of every item | S around each of them
Source  ours
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.native import Kernel, plain

__all__ = ["compare", "correlate", "halve", "kernel_status", "neighbours"]

_GRAIN = 200_000  # products or differences, some ten microseconds, worth a thread; ours

Window = tuple[slice, slice]


class _Sliding(ctypes.Structure):
    """A correlation; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("is_double", "items", "height", "width")),
        *((name, ctypes.c_int64) for name in ("rows", "columns", "threads")),
        *((name, ctypes.c_void_p) for name in ("planes", "kernel", "gradient", "out")),
    )


class _Shifted(ctypes.Structure):
    """A comparison; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("is_double", "items", "height", "width", "tried")),
        *((name, ctypes.c_int64) for name in ("top", "left", "rows", "columns", "masks")),
        *((name, ctypes.c_int64) for name in ("threads", "first_step", "second_step")),
        *((name, ctypes.c_void_p) for name in ("first", "second", "known", "shifts")),
        *((name, ctypes.c_void_p) for name in ("difference", "count")),
    )


class _Halving(ctypes.Structure):
    """A halving; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("is_double", "items", "height", "width", "step")),
        *((name, ctypes.c_int64) for name in ("masks", "threads")),
        *((name, ctypes.c_void_p) for name in ("planes", "known", "halved", "all_known")),
    )


def kernel_status() -> str:
    """Return what blurs and compares signals on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def correlate(
    planes: Float[Tensor, "B 1 H W"], kernel: Float[Tensor, "k l"]
) -> Float[Tensor, "B 1 h w"]:
    """Correlate every plane with one kernel, wherever the kernel lies inside."""
    if _covered(planes, kernel):
        out: Tensor = _Correlate.apply(planes, kernel)
        return out
    return F.conv2d(planes, kernel[None, None])


def compare(
    first: Float[Tensor, "B H W"],
    second: Float[Tensor, "B H W"],
    shifts: Int[Tensor, "B N 2"],
    reach: int,
    known: Float[Tensor, "_ H W"] | None = None,
    window: Window | None = None,
    least: float = 0.0,
) -> Float[Tensor, "B N S"]:
    """Return how much two signals differ on average, for shifts and their neighbours.

    Args:
        first: Read at y + dy, x + dx.
        second: Read at y, x.
        shifts: The middles (dx, dy) of what is tried.
        reach: How far around them; S = (2 reach + 1)^2, row by row.
        known: 1 where there are signals, 0 elsewhere, one plane for all items or one for each.
        window: Rows and columns of ``second`` that count; all by default.
        least: Share of the window that has to be known in both; infinite where it is less.
    """
    rows, columns = window or (slice(0, first.shape[1]), slice(0, first.shape[2]))
    with torch.no_grad():
        given = (first, second) if known is None else (first, second, known)
        step = _compare_by_kernel if _covered(*given) else _compare_by_torch
        difference, count = step(first, second, shifts, reach, known, (rows, columns))
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return torch.where(count >= max(least * area, 1), difference / count, torch.inf)


def halve(
    planes: Float[Tensor, "B 1 H W"], known: Float[Tensor, "_ 1 H W"]
) -> tuple[Float[Tensor, "B 1 h w"], Float[Tensor, "_ 1 h w"]]:
    """Return signals at half the resolution, and where all four pixels were known. No gradient.

    Args:
        planes: Signals.
        known: 1 where there are signals, 0 elsewhere, one plane for all items or one for each.
    """
    with torch.no_grad():
        if not _covered(planes, known):
            share = F.avg_pool2d(known, 2)
            halved = F.avg_pool2d(planes * known, 2) / share.clamp(min=0.25)
            return halved, (share > 0.99).to(known)
        planes, known = _whole(planes[:, 0]), known.contiguous()
        items, height, width = planes.shape
        halved = planes.new_empty(items, 1, height // 2, width // 2)
        all_known = known.new_empty(len(known), 1, height // 2, width // 2)
        job = _Halving(planes.dtype == torch.float64, *planes.shape, planes.stride(0), len(known))
        job.threads = _threads(planes.numel())
        job.planes, job.known = planes.data_ptr(), known.data_ptr()
        job.halved, job.all_known = halved.data_ptr(), all_known.data_ptr()
        _KERNEL.loaded().sliding_halve(ctypes.byref(job))
        return halved, all_known


def neighbours(reach: int, device: torch.device) -> Int[Tensor, "S 2"]:
    """Return all (dx, dy) in reach, row by row."""
    axis = torch.arange(-reach, reach + 1, device=device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1).view(-1, 2)


def _covered(*tensors: Tensor) -> bool:
    first = tensors[0]
    return first.is_cpu and first.numel() > 0 and plain(tensors) and _KERNEL.library() is not None


class _Correlate(torch.autograd.Function):
    """Correlation in the compiled kernel."""

    @staticmethod
    def forward(ctx: Any, planes: Tensor, kernel: Tensor) -> Tensor:
        ctx.save_for_backward(planes, kernel)
        return _slide(planes, kernel)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        planes, kernel = ctx.saved_tensors
        rows, columns = kernel.shape
        to_planes = to_kernel = None
        if ctx.needs_input_grad[0]:
            border = (columns - 1, columns - 1, rows - 1, rows - 1)
            to_planes = _slide(F.pad(gradient, border), kernel.flip(0, 1))
        if ctx.needs_input_grad[1]:
            to_kernel = torch.empty_like(kernel, memory_format=torch.contiguous_format)
            planes, gradient = planes.contiguous(), gradient.contiguous()
            job = _sliding(planes, kernel)
            job.gradient, job.out = gradient.data_ptr(), to_kernel.data_ptr()
            _KERNEL.loaded().sliding_to_kernel(ctypes.byref(job))
        return to_planes, to_kernel


def _slide(planes: Tensor, kernel: Tensor) -> Tensor:
    planes, kernel = planes.contiguous(), kernel.contiguous()
    height, width = (n - k + 1 for n, k in zip(planes.shape[2:], kernel.shape, strict=True))
    out = planes.new_empty(len(planes), 1, height, width)
    job = _sliding(planes, kernel)
    job.kernel, job.out = kernel.data_ptr(), out.data_ptr()
    _KERNEL.loaded().sliding_correlate(ctypes.byref(job))
    return out


def _sliding(planes: Tensor, kernel: Tensor) -> _Sliding:
    items, _, *sides = planes.shape
    job = _Sliding(planes.dtype == torch.float64, items, *sides, *kernel.shape)
    job.planes = planes.data_ptr()
    job.threads = _threads(planes.numel() * kernel.numel())
    return job


def _compare_by_kernel(
    first: Tensor, second: Tensor, shifts: Tensor, reach: int, known: Tensor | None, window: Window
) -> tuple[Tensor, Tensor]:
    first, second = _whole(first), _whole(second)
    tried = (shifts[:, :, None] + neighbours(reach, shifts.device)).contiguous()
    known = None if known is None else known.contiguous()
    difference, count = first.new_empty(tried.shape[:3]), first.new_empty(tried.shape[:3])
    rows, columns = window
    job = _Shifted(first.dtype == torch.float64, *first.shape, tried[0, ..., 0].numel())
    job.first_step, job.second_step = first.stride(0), second.stride(0)
    job.top, job.left = rows.start, columns.start
    job.rows, job.columns = rows.stop - rows.start, columns.stop - columns.start
    job.first, job.second, job.shifts = first.data_ptr(), second.data_ptr(), tried.data_ptr()
    if known is not None:
        job.masks, job.known = len(known), known.data_ptr()
    job.difference, job.count = difference.data_ptr(), count.data_ptr()
    job.threads = _threads(tried[..., 0].numel() * job.rows * job.columns)
    _KERNEL.loaded().sliding_compare(ctypes.byref(job))
    return difference, count


def _compare_by_torch(
    first: Tensor, second: Tensor, shifts: Tensor, reach: int, known: Tensor | None, window: Window
) -> tuple[Tensor, Tensor]:
    """Read the surroundings of every shift once, and slide along them as views."""
    (batch, height, width), (rows, columns) = first.shape, window
    at = [torch.arange(s.start - reach, s.stop + reach, device=first.device) for s in window]
    y, x = at[0] + shifts[..., 1:], at[1] + shifts[..., :1]
    mask = ((y >= 0) & (y < height))[..., None] & ((x >= 0) & (x < width))[..., None, :]
    # Looked up by two indices: of flattened ones the compiler of torch makes no code.
    y, x = y.clamp(0, height - 1)[..., None], x.clamp(0, width - 1)[..., None, :]
    item = torch.arange(batch, device=first.device)[:, None, None, None]
    before = first[item, y, x]
    after, usable = second[:, None, None, rows, columns], mask.to(first.dtype)
    if known is not None:
        usable = usable * known[item if len(known) == batch else item * 0, y, x]
    sums = []
    for row in range(2 * reach + 1):  # one row of candidates at once
        band = (..., slice(row, row + rows.stop - rows.start), slice(None))
        step = columns.stop - columns.start
        both = usable[band].unfold(3, step, 1).movedim(3, 2)
        if known is not None:
            both = both * known[:, None, None, rows, columns]
        difference = (before[band].unfold(3, step, 1).movedim(3, 2) - after).abs_()
        sums.append((difference.mul_(both).sum(dim=(3, 4)), both.sum(dim=(3, 4))))
    difference, count = (torch.cat(every, dim=2) for every in zip(*sums, strict=True))
    return difference, count


def _whole(planes: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Return planes without gaps in themselves; there may be some between them."""
    return planes if planes.stride()[1:] == (planes.shape[2], 1) else planes.contiguous()


def _threads(work: int) -> int:
    return max(1, min(torch.get_num_threads(), work // _GRAIN))


def _declare(built: ctypes.CDLL) -> None:
    for function in (built.sliding_correlate, built.sliding_to_kernel):
        function.argtypes, function.restype = (ctypes.POINTER(_Sliding),), None
    built.sliding_compare.argtypes = (ctypes.POINTER(_Shifted),)
    built.sliding_halve.argtypes = (ctypes.POINTER(_Halving),)
    built.sliding_compare.restype = built.sliding_halve.restype = None


_KERNEL = Kernel("sliding", Path(__file__).with_name("_sliding_kernel.cpp"), declare=_declare)
