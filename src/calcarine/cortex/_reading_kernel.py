"""Images read at points of the lattice: on the CPU in a compiled kernel, else in torch operations.

    value = the four cells around, bilinearly; the outermost cells go on beyond the border
    known = |u|, |v| up to given edges; all other values are 0

Torch operations do whatever the kernel does not cover: other devices, compiled models, forward
mode, ``torch.func``, and computers without a compiler. Both agree to the rounding of the dtype; no
second derivatives from either.

Axes    B images | N points for every image or one set for all | K channels | H W cells | R C points
Source  ours
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from calcarine.native import Kernel, plain

__all__ = ["kernel_status", "read"]


_GRAIN = 4096  # points, some ten microseconds, worth a thread; ours


class _Reading(ctypes.Structure):
    """What the kernel is told; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("is_double", "items", "channels", "height")),
        *((name, ctypes.c_int64) for name in ("width", "points", "shared", "together", "threads")),
        *((name, ctypes.c_double) for name in ("edge_u", "edge_v")),
        *((name, ctypes.c_void_p) for name in ("image", "lattice", "gradient")),
        *((name, ctypes.c_void_p) for name in ("values", "known", "grad_image", "grad_lattice")),
    )


def kernel_status() -> str:
    """Return what moves percepts on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def read(
    image: Float[Tensor, "B K H W"], lattice: Float[Tensor, "N 2 R C"], edge: tuple[float, float]
) -> tuple[Float[Tensor, "B K R C"], Bool[Tensor, "N 1 R C"]]:
    """Return values at points (u, v), and whether they are known.

    Args:
        image: One value per cell and channel.
        lattice: Where to read.
        edge: Largest |u| and |v| that are known.
    """
    tensors = (image, lattice)
    covered = image.is_cpu and image.numel() and lattice.numel() and plain(tensors)
    if covered and _KERNEL.library() is not None:
        values, known = _Read.apply(image, lattice, edge)
        return values, known
    u, v = lattice.detach().unbind(1)
    known = ((u.abs() <= edge[0]) & (v.abs() <= edge[1]))[:, None]
    grid = lattice.permute(0, 2, 3, 1).expand(image.shape[0], -1, -1, -1)
    values = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    return values * known, known


class _Read(torch.autograd.Function):
    """Reading in the compiled kernel."""

    @staticmethod
    def forward(
        ctx: Any, image: Tensor, lattice: Tensor, edge: tuple[float, float]
    ) -> tuple[Tensor, Tensor]:
        layout = _layout(image)
        image, lattice = image.contiguous(memory_format=layout), lattice.contiguous()
        shape = (*image.shape[:2], *lattice.shape[2:])
        values = torch.empty(shape, dtype=image.dtype, memory_format=layout)
        known = torch.empty((len(lattice), 1, *lattice.shape[2:]), dtype=torch.bool)
        job = _job(image, lattice, edge)
        job.values, job.known = values.data_ptr(), known.data_ptr()
        _KERNEL.loaded().reading_forward(ctypes.byref(job))
        ctx.save_for_backward(image, lattice)
        ctx.edge = edge
        ctx.mark_non_differentiable(known)
        return values, known

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        image, lattice = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=_layout(image))
        to_image = torch.empty_like(image) if ctx.needs_input_grad[0] else None
        to_lattice = None
        job = _job(image, lattice, ctx.edge)
        job.gradient = gradient.data_ptr()
        if ctx.needs_input_grad[1]:
            to_lattice = lattice.new_empty((len(image), *lattice.shape[1:]))
            job.grad_lattice = to_lattice.data_ptr()
        job.grad_image = None if to_image is None else to_image.data_ptr()
        _KERNEL.loaded().reading_backward(ctypes.byref(job))
        if to_lattice is not None and len(lattice) < len(image):
            to_lattice = to_lattice.sum(dim=0, keepdim=True)
        return to_image, to_lattice, None


def _layout(image: Tensor) -> torch.memory_format:
    inner = image.shape[1] > 1 and image.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if inner else torch.contiguous_format


def _job(image: Tensor, lattice: Tensor, edge: tuple[float, float]) -> _Reading:
    points = lattice.shape[2] * lattice.shape[3]
    job = _Reading(image.dtype == torch.float64, *image.shape, points, len(lattice) == 1)
    job.together = _layout(image) == torch.channels_last
    job.edge_u, job.edge_v = edge
    job.image, job.lattice = image.data_ptr(), lattice.data_ptr()
    job.threads = max(1, min(torch.get_num_threads(), len(image) * points // _GRAIN))
    return job


def _declare(built: ctypes.CDLL) -> None:
    for function in (built.reading_forward, built.reading_backward):
        function.argtypes, function.restype = (ctypes.POINTER(_Reading),), None


_KERNEL = Kernel("reading", Path(__file__).with_name("_reading_kernel.cpp"), declare=_declare)
