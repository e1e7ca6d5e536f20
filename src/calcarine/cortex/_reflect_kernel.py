"""Rectified 3 x 3 convolutions and their gradients in a compiled kernel: on the CPU, in float32.

    y = max(0, W * pad(x)),     dx and dW of it

Computed tile by tile in the transform domain, where 4 x 4 outputs need 36 products per pair of
channels instead of 144. A tile goes through all steps within the cache of one thread, reads the
sources where they are and gives every source its own gradient: no padded copy is made, and nothing
is kept for the backward pass. Plain torch operations do whatever the kernel does not cover: other
devices and dtypes, ``torch.func``, forward mode, autocast, ``torch.compile``, few channels, and
computers without a compiler. Both agree to the rounding of float32: against double precision the
largest error is below 3e-6 of the largest number, of outputs and of gradients. What the kernel
gives does not depend on the number of threads, and no item on the others. A number that is not
finite reaches all 4 x 4 outputs of the tiles that read it.

Axes    B batch | I inputs, over all sources | O outputs | H W grid
Source  lavin2016 (transforms)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.native import Kernel, plain

__all__ = ["backward", "computable", "covered", "forward", "kernel_status", "laid_out"]

_MOST_SOURCES = 8
"""As in the C++ file."""

_FEWEST_PAIRS = 48
"""Pairs of channels below which torch operations are faster. Ours."""

_PAIRS_PER_TILE = 1024
"""Pairs of channels whose weights are transformed in the time that a tile saves. Ours."""

_GRAIN = 2_000_000
"""Products for which a thread is worth waking. Ours."""


class _Layer(ctypes.Structure):
    """One convolution; the same order as in the C++ file."""

    _fields_ = (
        *((n, ctypes.c_int64) for n in ("batch", "height", "width", "outputs", "count", "threads")),
        ("channels", ctypes.c_int64 * _MOST_SOURCES),
        ("sources", ctypes.c_void_p * _MOST_SOURCES),
        ("source_gradients", ctypes.c_void_p * _MOST_SOURCES),
        *((n, ctypes.c_void_p) for n in ("weight", "gradient", "y", "weight_gradient", "scratch")),
    )


def kernel_status() -> str:
    """Return what computes rectified convolutions on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def covered(weight: Tensor, sources: Sequence[Tensor]) -> bool:
    """Return whether the kernel can compute this convolution and would be the faster way."""
    return (
        computable((weight, *sources))
        and len(sources) <= _MOST_SOURCES
        and _pays(weight, sources[0])
        and _KERNEL.library() is not None
    )


def computable(tensors: Sequence[Tensor]) -> bool:
    """Return whether these are what a kernel can compute with, and nothing watches operations."""
    return (
        plain(tensors)
        and all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
        and not torch.is_autocast_enabled("cpu")
    )


def _pays(weight: Tensor, source: Tensor) -> bool:
    batch, _, height, width = source.shape
    tiles, pairs = batch * -(-height // 4) * -(-width // 4), weight.shape[0] * weight.shape[1]
    return _FEWEST_PAIRS <= pairs <= _PAIRS_PER_TILE * tiles


def forward(
    weight: Float[Tensor, "O I 3 3"], sources: Sequence[Float[Tensor, "B _ H W"]]
) -> Float[Tensor, "B O H W"]:
    """Return the rectified convolution of the joined sources; channels lie side by side."""
    first = sources[0]
    shape = (first.shape[0], weight.shape[0], *first.shape[2:])
    y = torch.empty(shape, dtype=weight.dtype, memory_format=torch.channels_last)
    weight, *sources = (laid_out(x) for x in (weight, *sources))
    layer = _layer(weight, sources, y)
    _run(layer, weight.dtype, backward=False)
    return y


def backward(
    gradient: Float[Tensor, "B O H W"],
    y: Float[Tensor, "B O H W"],
    weight: Float[Tensor, "O I 3 3"],
    sources: Sequence[Float[Tensor, "B _ H W"]],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of the weight and of every source, of those that are wanted."""
    gradient, y, weight, *sources = (laid_out(x) for x in (gradient, y, weight, *sources))
    given = [
        torch.empty_like(x, memory_format=torch.channels_last) if want else None
        for x, want in zip((weight, *sources), wanted, strict=True)
    ]
    layer = _layer(weight, sources, y)
    layer.gradient = gradient.data_ptr()
    layer.weight_gradient, *pointers = (None if x is None else x.data_ptr() for x in given)
    for index, pointer in enumerate(pointers):
        layer.source_gradients[index] = pointer
    _run(layer, weight.dtype, backward=True)
    return tuple(given)


def laid_out(x: Tensor) -> Tensor:
    """Return the same tensor with channels side by side in memory."""
    return x.contiguous(memory_format=torch.channels_last)


def _layer(weight: Tensor, sources: Sequence[Tensor], y: Tensor) -> _Layer:
    """Tell the kernel of tensors that must be kept until it has run."""
    layer = _Layer(y.shape[0], *y.shape[2:], y.shape[1], len(sources))
    products = 4 * y.numel() * weight[0].numel() // 9  # of all points, per tile of 16
    layer.threads = max(1, min(torch.get_num_threads(), products // _GRAIN))
    for index, source in enumerate(sources):
        layer.channels[index], layer.sources[index] = source.shape[1], source.data_ptr()
    layer.weight, layer.y = weight.data_ptr(), y.data_ptr()
    return layer


def _run(layer: _Layer, dtype: torch.dtype, backward: bool) -> None:
    library = _KERNEL.loaded()
    room = library.reflect_scratch(ctypes.byref(layer), backward)
    scratch = torch.empty(room, dtype=dtype)
    layer.scratch = scratch.data_ptr()
    call = library.reflect_backward if backward else library.reflect_forward
    call(ctypes.byref(layer))


def _declare(built: ctypes.CDLL) -> None:
    layer = ctypes.POINTER(_Layer)
    built.reflect_scratch.argtypes = (layer, ctypes.c_int64)
    built.reflect_scratch.restype = ctypes.c_int64
    for call in (built.reflect_forward, built.reflect_backward):
        call.argtypes, call.restype = (layer,), None


_KERNEL = Kernel(
    "reflect",
    Path(__file__).with_name("_reflect_kernel.cpp"),
    headers=(
        Path(__file__).with_name("_reflect_kernel_maps.h"),
        Path(__file__).with_name("_reflect_kernel_tiles.h"),
        Path(__file__).parent.parent / "v1" / "_local_numbers.h",
    ),
    flags=("-fno-trapping-math", "-ffp-contract=fast"),
    declare=_declare,
)
