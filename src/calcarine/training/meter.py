"""How long an update takes on a GPU, and how much of its memory training needs at most.

Both depend on the machine, not on what is learned, so they are logged on a GPU only: there a run is
planned by them, and the log of a CPU run is the same on every machine.
"""

from __future__ import annotations

import time

import torch

__all__ = ["Meter"]

_MIB = 2**20


class Meter:
    """Measures a training from now on.

    Args:
        device: Where it learns.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        self._since, self._done = time.perf_counter(), -1

    def line(self, done: int) -> dict[str, float]:
        """Return what to log after ``done`` updates: nothing on the CPU.

        Updates since the last line are timed; the host has just waited for the GPU, to log.
        """
        if not self._on_gpu:
            return {}
        now, before = time.perf_counter(), self._done
        seconds = (now - self._since) / (done - before) if 0 <= before < done else None
        self._since, self._done = now, done
        peak = {"gpu/peak_memory_mib": self.peak_memory_bytes / _MIB}
        return peak if seconds is None else {"gpu/seconds_per_update": seconds, **peak}

    @property
    def peak_memory_bytes(self) -> int:
        """Largest memory that tensors took on the GPU; 0 on the CPU."""
        return torch.cuda.max_memory_allocated(self._device) if self._on_gpu else 0
