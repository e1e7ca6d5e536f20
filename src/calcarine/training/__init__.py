"""Training: one driver for everything that learns, by gradient or by local rule.

task       what is learned            Task, GradientTask, Step, Probed
settings   how long, fast and often   TrainingSettings, Phase, default_snapshots
fit        the loop: schedule, gradient guard, logs, checkpoints, resuming
weights    of a finished run          load_weights, snapshot_ages, read_log
"""

from __future__ import annotations

from calcarine.training.driver import FitResult, fit
from calcarine.training.loggers import Logger, read_log
from calcarine.training.run import Run, open_run
from calcarine.training.schedule import learning_rate
from calcarine.training.settings import Phase, TrainingSettings, default_snapshots
from calcarine.training.snapshots import load_weights, snapshot_ages
from calcarine.training.task import GradientTask, Probed, Step, Task

__all__ = [
    "FitResult",
    "GradientTask",
    "Logger",
    "Phase",
    "Probed",
    "Run",
    "Step",
    "Task",
    "TrainingSettings",
    "default_snapshots",
    "fit",
    "learning_rate",
    "load_weights",
    "open_run",
    "read_log",
    "snapshot_ages",
]
