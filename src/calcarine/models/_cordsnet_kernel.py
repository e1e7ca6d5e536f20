"""One step of all areas of CordsNet in a compiled kernel: on the CPU, in float32, for inference.

    r_k <- r_k + dt / tau (relu(W_k * r_k + f_k) - r_k)      f_k as in _cordsnet_dynamics

3 x 3 convolutions of stride 1 are computed tile by tile in the transform domain, where they need
a quarter (tiles of 4 x 4) or four ninths (2 x 2) of the products. The weights are brought there
once per set of weights; that takes as long as a few steps, and 2 to 4 times their memory. Plain
torch operations do whatever the kernel does not cover: other devices and dtypes, gradients,
``torch.func``, autocast, and computers without a compiler. Both agree to the rounding of float32,
and what the kernel gives does not depend on the batch or the number of threads.

Axes    B batch | C channels | H W rows down, columns right
Source  soo2024 (network); lavin2016 (transforms)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex.recurrent_area import AreaWeights
from calcarine.models._baseline_cache import same
from calcarine.native import Kernel, transformed

__all__ = ["PackCache", "Packed", "Stepper", "covered", "kernel_status", "laid_out"]

_SMALL_TILE_FROM = 256
"""Channels from which tiles are 2 x 2: larger ones have more weights than memory delivers. Ours."""

_ITEMS_TOGETHER = 4
"""Images whose tiles are multiplied together. Ours."""

_GRAIN = 10_000_000  # products, a fifth of a millisecond, for which a thread is worth waking; ours


class _Area(ctypes.Structure):
    """One area as the kernel is told; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("channels", "height", "width", "tile")),
        *((name, ctypes.c_void_p) for name in ("rates", "bias", "speed")),
        *((name, ctypes.c_void_p) for name in ("inside", "down", "skip", "after")),
        ("bias_stride", ctypes.c_int64),
        ("rate", ctypes.c_float),
    )


class _Network(ctypes.Structure):
    """All areas; the same order as in the C++ file."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("count", "batch", "group", "threads")),
        ("scratch", ctypes.c_void_p),
        ("areas", _Area * 8),
    )


def kernel_status() -> str:
    """Return what computes the steps of CordsNet on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def covered(tensors: Sequence[Tensor]) -> bool:
    """Return whether the kernel can take steps from and with these tensors."""
    return (
        not torch.compiler.is_compiling()
        and _plain(tensors)
        and not torch.is_autocast_enabled("cpu")
        and not transformed()
        and _KERNEL.library() is not None
    )


def _plain(tensors: Sequence[Tensor]) -> bool:
    recording = torch.is_grad_enabled()
    return all(
        type(x) in (Tensor, torch.nn.Parameter)
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and not (recording and x.requires_grad)
        for x in tensors
    )


def laid_out(x: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"]) -> Float[Tensor, "B C H W"]:
    """Return the same tensor with channels side by side in memory."""
    return (x if x.ndim == 4 else x[None]).contiguous(memory_format=torch.channels_last)


class Packed:
    """One set of weights in the layout of the kernel.

    Args:
        areas: Weights of every area.
        skips: Weights from two areas below, of every second area.
    """

    def __init__(self, areas: Sequence[AreaWeights], skips: Sequence[Tensor]) -> None:
        self.areas = [_PackedArea(k, area, skips[k // 2]) for k, area in enumerate(areas)]
        self.shapes = [tuple(area.bias.shape) for area in areas]
        self.products = sum(area.recurrent.numel() * area.bias[0].numel() for area in areas)


class PackCache:
    """Packed weights of one network, as long as the weights have the values they came from.

    Compared by value, as in ``BaselineCache`` and for the same reasons. Copies and pickles of it
    are empty.
    """

    def __init__(self) -> None:
        self._known: tuple[tuple[Tensor, ...], list[float], Packed] | None = None

    def __reduce__(self) -> tuple[type[PackCache], tuple[()]]:
        return PackCache, ()

    def get(self, areas: Sequence[AreaWeights], skips: Sequence[Tensor]) -> Packed:
        """Return the weights in the layout of the kernel, packed anew if any value has changed."""
        tensors = [*skips, *(t for area in areas for t in area.tensors())]
        numbers = [area.rate for area in areas if not isinstance(area.rate, Tensor)]
        known = self._known
        if known is None or numbers != known[1] or not same(tensors, known[0]):
            # Inference mode would leave tensors that later comparisons may not touch.
            with torch.inference_mode(False), torch.no_grad():
                kept = tuple(t.detach().clone() for t in tensors)
                known = self._known = kept, numbers, Packed(areas, skips)
        return known[2]


class _PackedArea:
    """Weights of one area; ``None`` where it has no such connection."""

    def __init__(self, k: int, area: AreaWeights, skip: Tensor) -> None:
        self.tile = 2 if len(area.bias) >= _SMALL_TILE_FROM else 4
        inside = [area.recurrent, area.feedforward] if k % 2 else [area.recurrent]
        self.inside = _packed(self.tile, inside)
        self.down = _packed(0, [area.feedforward]) if k >= 2 and k % 2 == 0 else None
        self.skip = _packed(0, [skip]) if k >= 2 and k % 2 else None
        self.bias = laid_out(area.bias)
        rate, several = area.rate, isinstance(area.rate, Tensor) and area.rate.numel() > 1
        self.rate = 0.0 if several else float(rate)
        self.speed = laid_out(rate.expand(area.bias.shape)) if several else None  # type: ignore[union-attr]


def _packed(tile: int, kernels: Sequence[Tensor]) -> Tensor:
    """Return convolutions that are summed as the weights of one product."""
    library = _KERNEL.loaded()
    outputs, inputs = kernels[0].shape[0], sum(kernel.shape[1] for kernel in kernels)
    side = kernels[0].shape[-1]
    rows = inputs * (1 if tile else side * side)
    out = kernels[0].new_empty(library.cordsnet_packed(tile, outputs, rows))
    offset = 0
    for kernel in kernels:
        library.cordsnet_pack(
            kernel.contiguous().data_ptr(), tile, outputs, kernel.shape[1], side, offset, rows,
            out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        offset += kernel.shape[1]
    return out


class Stepper:
    """Steps of one network at one batch size; not to be shared between threads.

    Args:
        packed: Its weights.
        batch: Number of items.
        learned: Whether a weight requires a gradient, which steps without one may ignore.
    """

    def __init__(self, packed: Packed, batch: int, learned: bool = False) -> None:
        library = _KERNEL.loaded()
        self.packed, self.batch, self.learned = packed, batch, learned
        self._call = library.cordsnet_step
        group = min(batch, _ITEMS_TOGETHER)
        threads = max(1, min(torch.get_num_threads(), group * packed.products // _GRAIN))
        self._network = _Network(len(packed.areas), batch, group, threads)
        for told, area, shape in zip(
            self._network.areas, packed.areas, packed.shapes, strict=False
        ):
            told.channels, told.height, told.width = shape
            told.tile, told.rate = area.tile, area.rate
            for name in ("speed", "inside", "down", "skip"):
                tensor = getattr(area, name)
                setattr(told, name, None if tensor is None else tensor.data_ptr())
        room = library.cordsnet_scratch(ctypes.byref(self._network))
        self._scratch = packed.areas[0].bias.new_empty(room)
        self._network.scratch = self._scratch.data_ptr()

    def takes(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the kernel can take a step with these rates and drives."""
        if self.learned and torch.is_grad_enabled():
            return False
        return _plain(tensors) and all(
            x.ndim == 3 or x.shape[0] in (1, self.batch) for x in tensors
        )

    def step(self, rates: Sequence[Tensor], first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        """Return the rates one step later; ``first`` and ``second`` drive the first two areas."""
        before = [laid_out(r) for r in rates]
        drives = [laid_out(first), laid_out(second), *(a.bias for a in self.packed.areas[2:])]
        after = tuple(torch.empty_like(r) for r in before)
        for told, r, bias, out in zip(self._network.areas, before, drives, after, strict=False):
            told.rates, told.bias, told.after = r.data_ptr(), bias.data_ptr(), out.data_ptr()
            told.bias_stride = bias[0].numel() if bias.shape[0] > 1 else 0
        self._call(ctypes.byref(self._network))
        return after


def _declare(built: ctypes.CDLL) -> None:
    network, count, pointer = ctypes.POINTER(_Network), ctypes.c_int64, ctypes.c_void_p
    built.cordsnet_scratch.argtypes, built.cordsnet_scratch.restype = (network,), count
    built.cordsnet_step.argtypes, built.cordsnet_step.restype = (network,), None
    built.cordsnet_packed.argtypes, built.cordsnet_packed.restype = (count,) * 3, count
    built.cordsnet_pack.argtypes = (pointer, *(count,) * 6, pointer, count)
    built.cordsnet_pack.restype = None


_KERNEL = Kernel(
    "cordsnet",
    Path(__file__).with_name("_cordsnet_kernel.cpp"),
    headers=(
        Path(__file__).with_name("_cordsnet_kernel_tiles.h"),
        Path(__file__).parent.parent / "v1" / "_local_numbers.h",
    ),
    flags=("-fno-trapping-math", "-ffp-contract=fast"),
    declare=_declare,
)
