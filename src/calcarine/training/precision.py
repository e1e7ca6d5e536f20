"""In which precision convolutions and matrix products multiply; sums and weights stay as is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from calcarine.errors import UnknownNameError

__all__ = ["Precision", "multiply_in", "resolve_precision"]

Precision = Literal["auto", "fp32", "bf16"]


@lru_cache(maxsize=1)
def _cpu_has_bf16_matrix_unit() -> bool:
    """Whether the processor has AMX tiles for bf16; without them bf16 is slower than fp32."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Turn ``"auto"`` into what suits the hardware.

    Raises:
        UnknownNameError: If there is no such precision.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise UnknownNameError("precision", precision, ["auto", "fp32", "bf16"])
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16_matrix_unit() else "fp32"


def multiply_in(
    precision: Literal["fp32", "bf16"], device: torch.device
) -> AbstractContextManager[None]:
    """Return a context in which convolutions and matrix products multiply in ``precision``."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
