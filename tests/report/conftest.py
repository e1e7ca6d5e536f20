from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from calcarine import recipe
from calcarine.report import write_report
from calcarine.stimuli import save_image
from calcarine.training import fit


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """A folder with one small colour photograph to learn from."""
    folder = tmp_path_factory.mktemp("photographs")
    draw = torch.Generator().manual_seed(1)
    save_image(torch.rand(1, 3, 40, 44, generator=draw), folder / "one.png")
    return folder


@pytest.fixture(scope="session")
def train(photographs) -> Callable[..., Path]:
    """Train a tiny colour cortex for a few updates; changes to the recipe as overrides."""

    def run(folder: Path, *overrides: str) -> Path:
        chosen = recipe.load(
            "color-sandbox",
            [
                f"stimuli.source={photographs}", "stimuli.size=20", "stimuli.scales=[1.0]",
                "retina.size=16", "retina.max_shift_px=2", "cortex.size=16",
                "cortex.widths=[4, 8]", "cortex.border=2", "batch_size=2", "training.updates=4",
                "training.snapshots=[0, 2, 4]", "training.log_every=1",
                "training.loggers=[local]", *overrides,
            ],
        )  # fmt: skip
        fit(
            chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(),
            seed=chosen.seed, progress=False,
        )  # fmt: skip
        return folder

    return run


@pytest.fixture(scope="session")
def tiny_run(train, tmp_path_factory) -> Path:
    """A finished run; tests that change it copy it first."""
    return train(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def page(tiny_run) -> str:
    """The page of the finished run, with small test photographs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calcarine.report.color_page._SIDE_PX", 24)
        return write_report(tiny_run).read_text(encoding="utf-8")
