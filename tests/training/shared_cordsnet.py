"""A few updates of every phase of CordsNet: ``torchrun ... shared_cordsnet.py <folder>``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from calcarine import distributed, recipe
from calcarine.training import FitResult, TrainingSettings, fit
from calcarine.training.cordsnet_task import PHASES

OVERRIDES = [
    "data.size=12", "model.image_size=12", "batch_size=48", "trial_batch_size=4",
    "warmup_ms=8", "stimulus_ms=10", "off_ms=6", "readout_steps=3", "settle_steps=2",
]  # fmt: skip


def learn(folder: Path) -> FitResult:
    """Learn in every phase, from the same weights in any number of processes."""
    torch.manual_seed(0)
    task = recipe.load("cordsnet-digits", OVERRIDES).build_task()
    phases = [
        {"name": name, "updates": 2, "accumulate": 2 if name == "finetune" else 1}
        for name in PHASES
    ]
    settings = TrainingSettings(
        phases=phases, optimiser="sgd", learning_rate=0.02, schedule="constant", warmup_updates=0,
        log_every=1, checkpoint_every=2, keep_checkpoints=9, snapshots=(), loggers=("local",),
        clip_norm=1.0,
    )  # fmt: skip
    return fit(task, settings, folder, recipe={}, seed=3, progress=False, device="cpu")


if __name__ == "__main__":
    torch.set_num_threads(1)
    learn(Path(sys.argv[1]))
    distributed.leave()
