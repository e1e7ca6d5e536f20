"""Transposed convolution that doubles a map's sides, on the CPU in float32 by a compiled kernel.

    y[2h + v, 2w + u, o] = b[o] + sum over i of x[h, w, i] W[i, o, v, u]

A row of the output is one product of a row of the input, and is written where it belongs. Plain
torch operations do whatever the kernel does not cover: see _reflect_kernel.py. What the kernel
gives does not depend on the number of threads.

Axes    B batch | I inputs | O outputs | H W grid
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex._reflect_kernel import computable, laid_out
from calcarine.native import Kernel

__all__ = ["kernel_status", "upsample"]

_LANES = 16
"""Channels side by side, as in the C++ file."""

_PARTS = 32
"""Rows whose gradients have sums of their own, at most. Ours."""

_GRAIN = 2_000_000
"""Products for which a thread is worth waking. Ours."""


class _Layer(ctypes.Structure):
    """One convolution; the same order as in the C++ file."""

    _fields_ = (
        *((n, ctypes.c_int64) for n in ("batch", "height", "width", "inputs", "outputs")),
        *((n, ctypes.c_int64) for n in ("parts", "threads")),
        *((n, ctypes.c_void_p) for n in ("x", "weight", "bias", "gradient")),
        *((n, ctypes.c_void_p) for n in ("y", "x_gradient", "sums")),
    )


def kernel_status() -> str:
    """Return what doubles the sides of maps on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def upsample(
    x: Float[Tensor, "B I H W"], weight: Float[Tensor, "I O 2 2"], bias: Float[Tensor, " O"]
) -> Float[Tensor, "B O 2*H 2*W"]:
    """Double the sides by a transposed convolution without overlap."""
    inputs, outputs = weight.shape[:2]
    if (
        computable((x, weight, bias))
        and inputs % _LANES == 0
        and 2 * outputs % _LANES == 0
        and _KERNEL.library() is not None
    ):
        return _Upsampling.apply(x, weight, bias)
    return F.conv_transpose2d(x, weight, bias, stride=2)


class _Upsampling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        batch, _, height, width = x.shape
        shape = (batch, weight.shape[1], 2 * height, 2 * width)
        y = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
        x, twice = laid_out(x), bias.repeat(2)
        layer, packed = _layer(x, weight), _packed(weight)
        layer.weight, layer.bias, layer.y = packed.data_ptr(), twice.data_ptr(), y.data_ptr()
        _KERNEL.loaded().upsampling_forward(ctypes.byref(layer))
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        inputs, outputs = weight.shape[:2]
        x, gradient = laid_out(x), laid_out(gradient)
        layer, packed = _layer(x, weight), _packed_transposed(weight)
        layer.weight, layer.gradient = packed.data_ptr(), gradient.data_ptr()
        to_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        layer.x_gradient = None if to_x is None else to_x.data_ptr()
        size = 4 * outputs * (inputs + 1)
        sums = x.new_empty((layer.parts, size)) if any(ctx.needs_input_grad[1:]) else None
        layer.sums = None if sums is None else sums.data_ptr()
        _KERNEL.loaded().upsampling_backward(ctypes.byref(layer))
        if sums is None:
            return to_x, None, None
        to_weight, to_bias = sums[0, : -4 * outputs], sums[0, -4 * outputs :]
        return to_x, _unpacked(to_weight, weight), to_bias.view(4, outputs).sum(0)


def _layer(x: Tensor, weight: Tensor) -> _Layer:
    batch, _, height, width = x.shape
    products = x.numel() * weight[0].numel()
    threads = max(1, min(torch.get_num_threads(), products // _GRAIN))
    parts = max(1, min(_PARTS, batch * height))
    return _Layer(batch, height, width, *weight.shape[:2], parts, threads, x.data_ptr())


def _packed(weight: Tensor) -> Tensor:
    """From (input, output, v, u) to (v, part of u and output, input, LANES)."""
    rows = weight.permute(2, 0, 3, 1).reshape(2, len(weight), -1, _LANES)
    return rows.permute(0, 2, 1, 3).contiguous()


def _packed_transposed(weight: Tensor) -> Tensor:
    """From (input, output, v, u) to (part of input, v, u and output, LANES)."""
    rows = weight.permute(2, 3, 1, 0).reshape(4 * weight.shape[1], -1, _LANES)
    return rows.permute(1, 0, 2).contiguous()


def _unpacked(sums: Tensor, like: Tensor) -> Tensor:
    """Undo ``_packed``, in the layout of the weight."""
    inputs, outputs = like.shape[:2]
    rows = sums.view(2, -1, inputs, _LANES).permute(0, 2, 1, 3).reshape(2, inputs, 2, outputs)
    return torch.empty_like(like).copy_(rows.permute(1, 3, 0, 2))


def _declare(built: ctypes.CDLL) -> None:
    for call in (built.upsampling_forward, built.upsampling_backward):
        call.argtypes, call.restype = (ctypes.POINTER(_Layer),), None


_KERNEL = Kernel(
    "upsampling",
    Path(__file__).with_name("_upsampling_kernel.cpp"),
    headers=(
        Path(__file__).with_name("_reflect_kernel_tiles.h"),
        Path(__file__).parent.parent / "v1" / "_local_numbers.h",
    ),
    flags=("-fno-trapping-math", "-ffp-contract=fast"),
    declare=_declare,
)
