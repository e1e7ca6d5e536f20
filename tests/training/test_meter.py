"""Time and memory of a training on a GPU, and nothing on a CPU."""

from __future__ import annotations

import pytest
import torch

from calcarine.training import meter
from calcarine.training.meter import Meter


def test_a_cpu_run_logs_nothing_that_depends_on_the_machine():
    made = Meter(torch.device("cpu"))
    assert made.line(1) == {}
    assert made.peak_memory_bytes == 0


def test_time_is_that_between_two_lines(monkeypatch):
    now = iter([0.0, 60.0, 70.0, 70.5])
    monkeypatch.setattr(meter.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    made = Meter(torch.device("cuda"))
    assert made.line(1) == {"gpu/peak_memory_mib": 3.0}  # compiling counts for no update
    assert made.line(21) == {"gpu/seconds_per_update": 0.5, "gpu/peak_memory_mib": 3.0}
    assert made.line(22)["gpu/seconds_per_update"] == pytest.approx(0.5)
    assert made.peak_memory_bytes == 3 * 2**20
