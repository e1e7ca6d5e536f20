"""Several processes that learn as one: each takes its share of every batch, and they agree on sums.

    torchrun --nproc-per-node 2 -m calcarine train NAME

torchrun says in the environment how many processes there are; Hugging Face accelerate sets up their
group, over gloo for tensors on the CPU and NCCL for those on GPUs. Without it there is one process,
and nothing here costs anything.

    sum       y = sum over processes of x;  dL/dx = sum over processes of dL/dy
    average   gradients and losses after the backward pass, one exchange per number format

The wrapper of torch that averages gradients while the backward pass still runs is not used. In
backpropagation through time every gradient is complete only when the pass ends, so there is nothing
to overlap, and each use of a weight would have to be known to the wrapper.

Axes    B batch | C channel | H W image grid
Source  ioffe2015 (batch normalisation; here over the batches of all processes)
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from calcarine import errors
from calcarine.errors import CalcarineError, InputError, RunError, require

__all__ = ["SyncedBatchNorm2d", "World", "echoed", "join", "leave", "world"]

T = TypeVar("T")

_PATIENCE = 10.0  # seconds
_ECHO = "Raised by process 0, which writes the run; repeated here."


@dataclass(frozen=True)
class World:
    """The processes that learn together.

    Every method but ``part`` is a meeting: all processes have to call it, in the same order, and a
    ``RunError`` says that one did not come.

    Args:
        rank: Number of this process.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process computes: its GPU if there is one for each, else the CPU."""
        if not torch.cuda.is_available() or (self.size > 1 and not _has_nccl()):
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())

    def part(self, x: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "b ..."]:
        """Return this process's rows of a batch: the rank-th of ``size`` equal runs of rows.

        Raises:
            InputError: If the rows cannot be shared equally.
        """
        rows = len(x)
        if rows % self.size:
            raise InputError(
                f"A batch shared by {self.size} processes is expected to have a multiple of "
                f"{self.size} rows, got {rows}. Choose another batch size or number of processes."
            )
        share = rows // self.size
        return x[self.rank * share : (self.rank + 1) * share]

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of ``x`` over the processes; gradients flow back to all of them."""
        return x if self.size == 1 else _Sum.apply(x)

    def mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their means over the processes, one exchange per number format."""
        if self.size == 1:
            return
        buckets: dict[tuple[torch.dtype, torch.device], list[Tensor]] = defaultdict(list)
        for tensor in tensors:
            buckets[tensor.dtype, tensor.device].append(tensor.detach())
        for bucket in buckets.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            _reduce(flat)
            flat /= self.size
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag))
        _reduce(votes, torch.distributed.ReduceOp.MAX)
        return bool(votes)

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.any(False)  # torch's own wants to know a device

    def on_writer(self, action: Callable[[], T]) -> T | None:
        """Let the writer do something while the others wait.

        Returns:
            What it returned, on the writer; ``None`` elsewhere.

        Raises:
            CalcarineError: Where the writer failed, in every process, of the same class and with
                the same message (:func:`echoed` tells them apart).
        """
        if self.size == 1:
            return action()
        result, failure = None, None
        if self.is_writer:
            try:
                result = action()
            except Exception as error:
                failure = error
        told = _told("" if failure is None else f"{type(failure).__name__} {failure}")
        if failure is not None:
            raise failure
        if told:
            raise _repeated(*told.split(" ", 1))
        return result

    def equalise(self, modules: Mapping[str, nn.Module]) -> None:
        """Give every process the parameters and buffers of the writer."""
        if self.size == 1:
            return
        with torch.no_grad():
            for name in sorted(modules):
                for tensor in modules[name].state_dict().values():
                    shared = tensor.detach().contiguous()
                    _exchange(torch.distributed.broadcast, shared, src=0)
                    tensor.copy_(shared)


def world() -> World:
    """Return the processes that learn together; a single one unless a launcher started several.

    The first call in a launched process waits for the others.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return World(torch.distributed.get_rank(), torch.distributed.get_world_size())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    return join()


def join(device: Literal["auto", "cpu", "cuda"] = "auto") -> World:
    """Meet the other processes that the launcher started.

    Args:
        device: Where they compute: each on a GPU of its own, or all on the CPU; auto takes GPUs if
            there are any.

    Raises:
        MissingDependencyError: If accelerate is not installed.
        RunError: If they cannot meet.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    # A worker that loads data for one of the processes belongs to it and meets nobody.
    alone = size == 1 or multiprocessing.parent_process() is not None
    if alone or torch.distributed.is_initialized():
        return World(rank, size)
    accelerate = require("accelerate", extra="train", purpose="Training in several processes")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    # Left to itself, accelerate starts no group without a GPU, and only NCCL with one.
    backend = {} if on_cpu else {"backend": "cuda:nccl,cpu:gloo"}
    try:
        accelerate.PartialState(cpu=on_cpu, **backend)
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"Process {rank} of {size} could not meet the others ({error}). Start them with: "
            f"torchrun --nproc-per-node {size} -m calcarine train NAME"
        ) from error
    return world()


def leave() -> None:
    """End the group of processes, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def echoed(error: BaseException) -> bool:
    """Say whether an error only repeats the writer's, which the writer reports."""
    return _ECHO in getattr(error, "__notes__", ())


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of the whole batch, over all processes.

    In one process it is ``nn.BatchNorm2d``, whose arguments and state it has. Torch's own
    synchronised one refuses tensors on the CPU.
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Normalise each channel to mean 0 and variance 1, then scale and shift it."""
        place = world()
        if place.size == 1 or not (self.training or self.running_mean is None):
            return super().forward(input)
        self._check_input_dim(input)
        # Sums of many half-precision numbers would lose the small ones.
        x = input if input.dtype.itemsize >= 4 else input.float()
        mean, variance, count = _moments(x, place)
        if self.training and self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        y = (x - mean[:, None, None]) * scale[:, None, None]
        if self.affine:
            y = y + self.bias[:, None, None]
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked += 1
        weight: Any = self.momentum
        if weight is None:
            weight = (1 / self.num_batches_tracked).to(self.running_mean.dtype)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(variance.to(self.running_var.dtype), weight)


def _moments(x: Tensor, place: World) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance per channel and number of values, over all processes.

    Twice through the data, since a mean square less a squared mean loses what they have in common.
    """
    rows = x.new_full((1,), x.numel() // x.shape[1])
    total = place.sum(torch.cat([x.sum((0, 2, 3)), rows]))
    count = total[-1].detach()
    mean = total[:-1] / count
    spread = (x - mean[:, None, None]).square().sum((0, 2, 3))
    return mean, place.sum(spread) / count, count


class _Sum(torch.autograd.Function):
    """Sum over processes; the gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _summed(gradients[0])


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    _reduce(total)
    return total


def _told(text: str) -> str:
    """Send the writer's words to all."""
    words = torch.tensor(list(text.encode()), dtype=torch.uint8)
    length = torch.tensor(len(words))
    _exchange(torch.distributed.broadcast, length, src=0)
    words.resize_(int(length))
    if len(words):
        _exchange(torch.distributed.broadcast, words, src=0)
    return bytes(words.tolist()).decode()


def _reduce(x: Tensor, op: Any = None) -> None:
    op = torch.distributed.ReduceOp.SUM if op is None else op
    _exchange(torch.distributed.all_reduce, x, op=op)


def _exchange(collective: Callable[..., Any], x: Tensor, **arguments: Any) -> None:
    """Exchange a tensor in place, and wait until no thread but this one holds it.

    A thread of gloo drops its reference after it has reported the end or the failure. The count of
    torch falls first; then the thread takes the interpreter to let go of the Python object, and an
    interpreter that is shutting down by then aborts the process.
    """
    held = _holders(x)
    try:
        collective(x, async_op=True, **arguments).wait()
    except RuntimeError as error:
        raise RunError(
            "This process lost the others. As a rule one of them failed first and says why; resume "
            f"the run from its last checkpoint. ({error})"
        ) from error
    finally:
        patience = time.monotonic() + _PATIENCE
        while x.device.type == "cpu" and _holders(x) > held and time.monotonic() < patience:
            time.sleep(0)


def _holders(x: Tensor) -> int:
    """Count who holds a tensor, in torch and in Python."""
    return int(x._use_count()) + sys.getrefcount(x)  # type: ignore[attr-defined]


def _has_nccl() -> bool:
    return torch.distributed.is_initialized() and "nccl" in torch.distributed.get_backend_config()


def _repeated(kind: str, message: str) -> CalcarineError:
    """Make an error of the same class; one of ours may have a constructor of its own."""
    cls = vars(errors).get(kind, RunError)
    if not (isinstance(cls, type) and issubclass(cls, CalcarineError)):
        cls = RunError
    error = cls.__new__(cls, message)
    error.add_note(_ECHO)
    return error
