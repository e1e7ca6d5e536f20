from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from calcarine import recipe
from calcarine.cli import main
from calcarine.training import fit

TINY = (
    "stimuli.size=20",
    "stimuli.names=[astronaut]",
    "stimuli.scales=[0.25]",
    "retina.size=16",
    "retina.max_shift_px=2",
    "cortex.size=16",
    "cortex.widths=[4, 8]",
    "batch_size=2",
    "training.updates=6",
    "training.warmup_updates=2",
    "training.schedule=constant",
    "training.snapshots=[0, 4]",
    "training.loggers=[local]",
)
"""Changes to color-sandbox that make a run of a fraction of a second."""


def sets(*changes: str) -> list[str]:
    return [word for change in (*TINY, *changes) for word in ("--set", change)]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The message of a command that is expected to have failed in the decent way."""
        assert self.code in (1, 2), (self.code, self.out, self.err)
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line


@pytest.fixture
def calcarine(tmp_path, monkeypatch, capsys) -> Callable[..., Done]:
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALCARINE_DEBUG", raising=False)

    def call(*words: object) -> Done:
        capsys.readouterr()
        code = main([str(word) for word in words])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A tiny run, to be copied before anything is written to it."""
    folder = tmp_path_factory.mktemp("trained") / "tiny"
    assert main(["train", *sets(), "--run", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of the tiny run as runs/tiny, relative to where commands are run."""
    shutil.copytree(trained, tmp_path / "runs" / "tiny")
    return Path("runs") / "tiny"


@pytest.fixture(scope="session")
def matched(trained, tmp_path_factory) -> tuple[Path, Done]:
    """The tiny run after ``colour-match --ages all``, and what that printed; to be copied."""
    folder = tmp_path_factory.mktemp("matched") / "tiny"
    shutil.copytree(trained, folder)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["colour-match", str(folder), "--ages", "all"])
    return folder, Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def measured(matched, tmp_path) -> Path:
    """A copy of the measured run as runs/tiny."""
    shutil.copytree(matched[0], tmp_path / "runs" / "tiny")
    return Path("runs") / "tiny"


@pytest.fixture
def environment() -> dict[str, str]:
    """Environment of a process of its own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "CALCARINE_DEBUG": ""}


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A run of a small network that has seen a few digits."""
    made = recipe.load(
        "cordsnet-digits",
        [
            "data.size=16", "model.image_size=16", "batch_size=8", "trial_batch_size=2",
            "warmup_ms=20", "stimulus_ms=20", "off_ms=20", "readout_steps=5", "settle_steps=2",
            "training.loggers=[local]", "training.phases.twin.updates=12",
            "training.phases.inverse.updates=2", "training.phases.linear.updates=0",
            "training.phases.annealing.updates=0", "training.phases.finetune.updates=1",
            "training.phases.direct.updates=1",
        ],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("runs") / "digits"
    fit(made.build_task(), made.training, folder, recipe=made.to_dict(), seed=0, progress=False)
    return folder
