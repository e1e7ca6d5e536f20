"""Two processes learn what one learns, in every phase of CordsNet."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from calcarine.training import read_log
from calcarine.training.checkpoint import read_checkpoint

SCRIPT = Path(__file__).with_name("shared_cordsnet.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run in one process and of one in two."""
    folder = tmp_path_factory.mktemp("cordsnet_shared")
    spec = importlib.util.spec_from_file_location("training_shared_cordsnet", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.learn(folder / "one")
    done = subprocess.run(
        [*LAUNCH, str(SCRIPT), str(folder / "two")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "one", folder / "two"


@pytest.mark.parametrize("update", [2, 4, 6, 8, 10, 12])
def test_the_weights_are_the_same_after_every_phase(runs, update):
    one, two = (read_checkpoint(folder, update).weights for folder in runs)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_the_log_is_the_same(runs):
    one, two = (read_log(folder / "log.jsonl") for folder in runs)
    assert len(one) == len(two) == 12
    for mine, theirs in zip(one, two, strict=True):
        assert mine.keys() == theirs.keys()
        for name in ("held_out_accuracy", "answer", "slope", "loss/area2", "loss/direct"):
            if name in mine:
                assert theirs[name] == pytest.approx(mine[name], rel=1e-4), name
