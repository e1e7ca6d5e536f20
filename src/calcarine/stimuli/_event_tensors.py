"""Events in a tensor that torch.save wrote: (time, x, y), sparse or dense, non-zero where one is.

    event = (t = frame * dt, x, y, value > 0)

Only tensors are unpacked: a file that wants to run code is refused.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from calcarine.errors import CalcarineWarning, FileFormatError
from calcarine.files import load_tensors
from calcarine.stimuli._event_names import RawEvents

__all__ = ["is_tensor_file", "read_tensor"]

_ACCEPTED = (
    "Accepted is one tensor with axes (time, x, y), sparse (COO) or dense, as torch.save wrote it, "
    "non-zero where an event is"
)
_STARTS = (b"PK\x03\x04", b"\x80\x02")
"""First bytes of what torch.save writes, now and before 1.6."""


def is_tensor_file(path: Path) -> bool:
    """Say whether a file starts as torch.save starts it."""
    with path.open("rb") as file:
        return file.read(4).startswith(_STARTS)


def read_tensor(path: Path, label: str, dt_ms: float) -> RawEvents:
    """Read a tensor of events, one per non-zero value, frame k at ``k * dt_ms``.

    Raises:
        FileFormatError: If the file is damaged, wants to run code, or holds anything else.
    """
    tensor = load_tensors(
        path,
        lambda reason: FileFormatError(
            f"Cannot read {label} as a tensor: it is damaged, incomplete, or holds objects that "
            f"would run code ({reason}). {_ACCEPTED}."
        ),
    )
    if not isinstance(tensor, Tensor):
        raise FileFormatError(f"{label} holds a {type(tensor).__name__}. {_ACCEPTED}.")
    if tensor.layout not in (torch.strided, torch.sparse_coo) or tensor.ndim != 3:
        raise FileFormatError(
            f"{label} holds a tensor of layout {tensor.layout} and shape {tuple(tensor.shape)}. "
            f"{_ACCEPTED}."
        )
    if tensor.is_complex() or tensor.is_quantized:
        raise FileFormatError(f"{label} holds values of {tensor.dtype}. {_ACCEPTED}.")
    if tensor.dtype == torch.bool:
        tensor = tensor.to(torch.uint8)
    if tensor.shape[0] * dt_ms * 1000 > 2**62:
        raise FileFormatError(f"{label} has too many frames for dt_ms={dt_ms}: times overflow.")
    index, values = _entries(tensor, label)
    if values.is_floating_point() and not torch.isfinite(values).all():
        raise FileFormatError(f"{label} holds NaN or infinite values. {_ACCEPTED}.")
    if values.numel() and not (values.abs() == 1).all():
        warnings.warn(
            f"{label} holds values from {values.min().item()} to {values.max().item()}; each "
            "non-zero value becomes one event, whatever its size.",
            CalcarineWarning,
            stacklevel=4,
        )
    times = (
        (index[0] * (dt_ms * 1000)).round().long() if dt_ms % 1 else index[0] * int(dt_ms * 1000)
    )
    size = (tensor.shape[2], tensor.shape[1])
    return RawEvents(times, index[1], index[2], values > 0, size, "non-zero value {}".format)


def _entries(tensor: Tensor, label: str) -> tuple[Int64[Tensor, "3 N"], Tensor]:
    """Return indices and values of what is not zero, by time."""
    if tensor.layout == torch.strided:
        index = tensor.nonzero().t()
        return index, tensor[index[0], index[1], index[2]]
    index, values = tensor._indices(), tensor._values()
    if values.ndim != 1 or index.shape != (3, len(values)):
        raise FileFormatError(
            f"{label} holds a sparse tensor with {values.ndim - 1} dense axes. {_ACCEPTED}."
        )
    # an unpacked tensor is only as right as the file: check before anything uses the indices
    end = torch.tensor(tensor.shape)[:, None]
    if ((index < 0) | (index >= end)).any():
        raise FileFormatError(f"{label} has indices outside its shape {tuple(tensor.shape)}.")
    here = values != 0
    index, values = index[:, here], values[here]
    order = index[0].argsort(stable=True)
    return index[:, order], values[order]
