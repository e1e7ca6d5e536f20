from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from calcarine.training import FitResult, fit
from calcarine.training.checkpoint import Checkpoint, read_checkpoint


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The toy tasks, as a module that subprocesses can run too."""
    spec = importlib.util.spec_from_file_location(
        "training_toy", Path(__file__).with_name("toy.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["training_toy"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(toy, tmp_path) -> Callable[..., FitResult]:
    """Train the toy task in ``tmp_path/<name>``; settings by keyword."""

    def run(name="run", task=None, *, resume=False, recipe=None, seed=3, **settings) -> FitResult:
        task = toy.ToyTask() if task is None else task
        recipe = toy.RECIPE if recipe is None else recipe
        return fit(
            task,
            toy.toy_settings(**settings),
            tmp_path / name,
            recipe=recipe,
            seed=seed,
            resume=resume,
            progress=False,
        )

    return run


def equal(a: Any, b: Any) -> bool:
    """Compare nested plain data and tensors exactly."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    return a == b


@pytest.fixture
def same_run() -> Callable[[Path, Path], None]:
    """Assert that two run folders hold the same result, bit for bit."""

    def check(one: Path, other: Path) -> None:
        first, second = read_checkpoint(one), read_checkpoint(other)
        assert first.update == second.update
        assert equal(first.weights, second.weights)
        assert equal(first.training, second.training)
        assert (one / "log.jsonl").read_bytes() == (other / "log.jsonl").read_bytes()
        ages = sorted(p.name for p in (one / "snapshots").iterdir())
        assert ages == sorted(p.name for p in (other / "snapshots").iterdir())
        for age in ages:
            snapshots = [(run / "snapshots" / age).read_bytes() for run in (one, other)]
            assert snapshots[0] == snapshots[1]

    return check


@pytest.fixture
def relabel() -> Callable[..., None]:
    """Change entries of a checkpoint's label."""

    def change(checkpoint: Checkpoint | Path, **entries: Any) -> None:
        path = checkpoint if isinstance(checkpoint, Path) else checkpoint.path
        label = json.loads((path / "checkpoint.json").read_text())
        (path / "checkpoint.json").write_text(json.dumps({**label, **entries}))

    return change
