"""The products of local connections and their learning step: compiled kernel or torch operations.

On the CPU the compiled kernel reads every weight once; without it, and on other devices, sparse
matrices in torch do the same work at twice the memory traffic. Both give the same numbers to
rounding. Nothing here is differentiable: see ``_local_ops.py``.

Axes    B batch | U units | N sources | n weights
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calcarine.v1._local_compiler import Fields, library
from calcarine.v1._local_fields import Shape, Tables

__all__ = ["Connections", "forward", "hebbian", "outer", "transpose", "uses_library"]

_GRAIN = 50_000  # products of two numbers that take as long as waking a thread; ours
_BLOCK = 2**17  # weights that torch operations work on at a time; ours
_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


@dataclass(eq=False)
class Connections:
    """The layout of a connection.

    Attributes:
        tables: Where every weight belongs.
        columns: The source of every weight, for torch operations; empty where they are not used.
        source: Height and width of the source sheet.
        count: Number of weights.
        longest: Length of the longest run.
    """

    tables: Tables
    columns: Tensor
    source: Shape
    count: int
    longest: int

    @classmethod
    def of(
        cls, offsets: Tensor, first: Tensor, runs: Tensor, columns: Tensor, height: int,
        width: int, count: int, longest: int,
    ) -> Connections:  # fmt: skip
        """Put together what an operator was given piece by piece."""
        return cls(Tables(offsets, first, runs), columns, (height, width), count, longest)

    @property
    def units(self) -> int:
        """Number of units."""
        return self.tables.offsets.shape[0] - 1

    @property
    def sources(self) -> int:
        """Number of sources."""
        return self.source[0] * self.source[1]

    def fields(self) -> Fields:
        """Return the layout as the compiled kernel reads it."""
        height, width = self.source
        offsets, first, runs = self.tables
        return Fields(
            offsets.data_ptr(), first.data_ptr(), runs.data_ptr(),
            self.units, self.sources, width, height, self.longest,
        )  # fmt: skip

    def sparse(self, weight: Tensor) -> Tensor:
        """Return the weights as a sparse (U, N) matrix."""
        _silence_sparse()
        columns = self.columns if len(self.columns) else self.tables.columns(self.source[1])
        rows = self.tables.offsets.int()
        return torch.sparse_csr_tensor(rows, columns, weight, (self.units, self.sources))

    def indices(self) -> tuple[Tensor, Tensor]:
        """Return unit and source of every weight."""
        columns = self.columns if len(self.columns) else self.tables.columns(self.source[1])
        return self.tables.units(), columns


@functools.cache
def _silence_sparse() -> None:
    """Let torch say once, unheard, that its sparse matrices are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = torch.ones(1)
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), one, (1, 1)).t()


def uses_library(device: torch.device) -> bool:
    """Return whether the compiled kernel does the work on a device."""
    return device.type == "cpu" and library() is not None


def forward(connections: Connections, weight: Tensor, x: Tensor) -> Tensor:
    """Return y (B, U) in the dtype of x."""
    y = x.new_empty((x.shape[0], connections.units))
    if x.device.type == "meta":
        return y
    if uses_library(x.device):
        _run("local_forward", connections, weight, x, y)
        return y
    matrix = connections.sparse(weight.to(x.dtype))
    # One stimulus as a vector takes a third of the time that it takes as a matrix of one column.
    return (matrix @ x[0])[None] if len(x) == 1 else (matrix @ x.t()).t().contiguous()


def transpose(connections: Connections, weight: Tensor, y: Tensor) -> Tensor:
    """Return x (B, N) in the dtype of y."""
    x = y.new_empty((y.shape[0], connections.sources))
    if y.device.type == "meta":
        return x
    if uses_library(y.device):
        _run("local_transpose", connections, weight, y, x)
        return x
    units, columns = connections.indices()
    x.zero_()
    for into, values in zip(x, y, strict=True):
        into.index_add_(0, columns, values[units] * weight.to(y.dtype))
    return x


def outer(connections: Connections, x: Tensor, y: Tensor) -> Tensor:
    """Return one number per weight, in the dtype of x."""
    if x.device.type == "meta":
        return x.new_empty(connections.count)
    if uses_library(x.device):
        x, y = x.contiguous(), y.contiguous()
        result = x.new_empty(connections.count)
        fields = connections.fields()
        _done(
            _kernel().local_outer(
                ctypes.byref(fields), _TYPES[x.dtype], result.data_ptr(), x.data_ptr(),
                y.data_ptr(), x.shape[0], _threads(connections.count * x.shape[0]),
            )
        )  # fmt: skip
        return result
    units, columns = connections.indices()
    result = x.new_zeros(connections.count)
    for before, after in zip(x, y, strict=True):
        result.addcmul_(before[columns], after[units])
    return result


def hebbian(
    connections: Sequence[Connections],
    weights: Sequence[Tensor],
    pre: Sequence[Tensor],
    post: Tensor,
    rates: Sequence[float],
) -> None:
    """Change weights in place: Hebbian growth, then one division per unit over all connections.

    Args:
        connections: Layouts of the connections that are normalised together.
        weights: Their weights.
        pre: Activity of their sources, each (B, N).
        post: Activity of the units, (B, U).
        rates: Learning rates.
    """
    if post.device.type == "meta":
        return
    if not uses_library(post.device):
        _hebbian_torch(connections, weights, pre, post, rates)
        return
    pre, post, count = [each.contiguous() for each in pre], post.contiguous(), len(connections)
    pointers = ctypes.c_void_p * count
    _done(
        _kernel().local_hebbian(
            (Fields * count)(*[each.fields() for each in connections]),
            _TYPES[weights[0].dtype],
            pointers(*[each.data_ptr() for each in weights]),
            pointers(*[each.data_ptr() for each in pre]),
            (ctypes.c_double * count)(*rates),
            count, post.data_ptr(), post.shape[0],
            _threads(sum(each.count for each in connections) * post.shape[0]),
        )
    )  # fmt: skip


def _hebbian_torch(
    connections: Sequence[Connections],
    weights: Sequence[Tensor],
    pre: Sequence[Tensor],
    post: Tensor,
    rates: Sequence[float],
) -> None:
    columns = [
        each.columns if len(each.columns) else each.tables.columns(each.source[1])
        for each in connections
    ]
    units, step = post.shape[1], post.shape[1]
    if post.device.type == "cpu":  # blocks that the cache holds, and none without activity
        step = max(1, _BLOCK * units // sum(each.count for each in connections))
    for begin in range(0, units, step):
        after = post[:, begin : begin + step]
        if post.device.type == "cpu" and not after.any():
            continue
        grown, total = [], torch.zeros_like(after[0])
        spans = [_span(each, begin, after.shape[1]) for each in connections]
        for (span, offsets), weight, column, before, rate in zip(
            spans, weights, columns, pre, rates, strict=True
        ):
            grown.append(_grown(weight[span], before, column[span], after, offsets, rate))
            total += torch.segment_reduce(grown[-1], "sum", offsets=offsets)
        # A silent unit does not change; its sum may be a rounding error away from one.
        scale = torch.where((after != 0).any(dim=0) & (total > 0), 1 / total, 1)
        for (span, offsets), weight, new in zip(spans, weights, grown, strict=True):
            weight[span] = (new * torch.repeat_interleave(scale, offsets.diff())).to(weight.dtype)


def _span(connections: Connections, begin: int, units: int) -> tuple[slice, Tensor]:
    """Return which weights some units have, and where each unit's begin among them."""
    offsets = connections.tables.offsets[begin : begin + units + 1]
    if units == connections.units:  # all of them: nothing to read from the device
        return slice(0, connections.count), offsets
    return slice(int(offsets[0]), int(offsets[-1])), offsets - offsets[0]


def _grown(
    weight: Tensor, pre: Tensor, columns: Tensor, post: Tensor, offsets: Tensor, rate: float
) -> Tensor:
    wide, counts = weight.to(post.dtype), offsets.diff()
    grown = wide.clone()
    for before, after in zip(pre, post, strict=True):
        grown.addcmul_(before[columns], torch.repeat_interleave(after, counts), value=rate)
    return grown.masked_fill_(wide == 0, 0)


def _kernel() -> Any:
    kernel = library()
    assert kernel is not None
    return kernel


def _run(name: str, connections: Connections, weight: Tensor, x: Tensor, into: Tensor) -> None:
    weight, x, fields = weight.contiguous(), x.contiguous(), connections.fields()
    _done(
        getattr(_kernel(), name)(
            ctypes.byref(fields), _TYPES[weight.dtype], weight.data_ptr(), x.data_ptr(),
            into.data_ptr(), x.shape[0], _threads(connections.count * x.shape[0]),
        )
    )  # fmt: skip


def _threads(products: int) -> int:
    """Return how many threads are worth waking."""
    return max(1, min(torch.get_num_threads(), products // _GRAIN))


def _done(code: int) -> None:
    assert code == 0, "the kernel was called with a dtype it does not know"
