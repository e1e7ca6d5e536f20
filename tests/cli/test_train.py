"""``calcarine train``: begins, continues, refuses, stops."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
import yaml

from calcarine.training import snapshot_ages
from calcarine.training.checkpoint import checkpoint_updates

from .conftest import sets

PUBLISHED = Path(__file__).parents[1] / "data" / "published_sandbox.yaml"


def test_a_run_lands_where_it_says_and_names_the_next_commands(calcarine):
    done = calcarine("train", *sets(), "--run", "here")
    assert done.code == 0
    assert "Written to here" in done.out
    assert "color-sandbox: 6 updates in " in done.out
    assert "cortex " in done.out
    for verb in ("colour-match here", "see sample:coffee --run here", "report here"):
        assert f"  calcarine {verb}\n" in done.out
    assert checkpoint_updates(Path("here"))[-1] == 6
    assert snapshot_ages("here") == (0, 4)
    assert yaml.safe_load(Path("here/recipe.yaml").read_text())["retina"]["size"] == 16


def test_the_folder_is_named_after_the_recipe(calcarine):
    assert calcarine("train", *sets("name=mine"), "--quiet").code == 0
    assert Path("runs/mine/recipe.yaml").is_file()


def test_quiet_is_quiet(calcarine):
    done = calcarine("train", *sets(), "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_an_existing_run_is_left_alone(calcarine, run):
    before = (run / "log.jsonl").read_bytes()
    done = calcarine("train", *sets(), "--run", run)
    assert done.code == 2
    assert "already holds a run of 6 updates. Continue it with --resume" in done.error
    assert (run / "log.jsonl").read_bytes() == before


def test_resuming_takes_the_recipe_of_the_run(calcarine, run):
    done = calcarine("train", "--run", run, "--resume", "--set", "training.updates=9")
    assert done.code == 0
    assert "3 updates in " in done.out
    assert checkpoint_updates(run)[-1] == 9


def test_a_finished_run_has_nothing_left_to_do(calcarine, run):
    done = calcarine("train", "--run", run, "--resume")
    assert done.code == 0
    assert "nothing left to do: all 6 updates" in done.out


def test_resuming_what_is_not_there_begins_anew_and_says_so(calcarine):
    done = calcarine("train", *sets(), "--resume", "--run", "new")
    assert done.code == 0
    assert "There is nothing to resume in new; beginning a new run." in done.out
    assert checkpoint_updates(Path("new"))[-1] == 6


def test_another_recipe_cannot_continue_a_run(calcarine, run):
    done = calcarine("train", "color-sandbox", "--run", run, "--resume")
    assert done.code == 1
    assert "was started differently" in done.error


def test_a_recipe_file_of_your_own(calcarine, tmp_path):
    printed = calcarine("recipes", "color-sandbox").out
    (tmp_path / "mine.yaml").write_text(printed)
    for words in (["mine.yaml"], ["-f", "mine.yaml"], ["-f", "mine"]):
        folder = f"run-{len(words)}-{words[-1]}"
        assert calcarine("train", *words, *sets(), "--run", folder, "--quiet").code == 0
        assert checkpoint_updates(Path(folder))[-1] == 6


def test_the_published_format_is_translated(calcarine, tmp_path):
    (tmp_path / "Sandbox.yaml").write_text(PUBLISHED.read_text())
    done = calcarine("train", "-f", "Sandbox.yaml", *sets())
    assert done.code == 0
    assert "warning: Sandbox.yaml: the data set ImageNet64x64 does not come with" in done.err
    recipe = yaml.safe_load(Path("runs/Sandbox/recipe.yaml").read_text())
    assert recipe["training"]["schedule"] == "constant"
    assert recipe["task"] == "color_vision_task"


def test_a_source_of_your_own_needs_no_warning(calcarine, tmp_path):
    (tmp_path / "Sandbox.yaml").write_text(PUBLISHED.read_text())
    done = calcarine("train", "-f", "Sandbox.yaml", *sets(), "--set", "stimuli.source=samples")
    assert done.code == 0
    assert "warning" not in done.err


def test_published_keys_that_are_not_supported_are_named(calcarine, tmp_path):
    text = PUBLISHED.read_text().replace("type: Sandbox", "type: Default")
    (tmp_path / "full.yaml").write_text(text)
    done = calcarine("train", "-f", "full.yaml")
    assert done.code == 2
    assert "full.yaml has 2 mistake(s)" in done.error
    assert "CorticalModel.cortex_learn_spatial_sampling.type: 'Default' is not part" in done.err
    assert "CorticalModel.cortex_learn_demosaicing.type: 'Default' is not part" in done.err
    assert not Path("runs").exists()


def test_device_cpu_is_always_there(calcarine):
    assert calcarine("train", *sets(), "--device", "cpu", "--quiet").code == 0


def test_a_gpu_is_used_when_asked_for_or_missed_in_one_line(calcarine):
    done = calcarine("train", *sets(), "--device", "cuda", "--quiet")
    assert done.code == (0 if torch.cuda.is_available() else 2)
    assert torch.cuda.is_available() or "to device 'cuda'" in done.error


def test_ctrl_c_saves_and_says_how_to_go_on(calcarine, environment, tmp_path):
    """The command that an interrupted run prints continues it."""
    changes = sets("training.updates=1000000", "training.log_every=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "calcarine", "train", "--run", "runs/long run", *changes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    log = tmp_path / "runs" / "long run" / "log.jsonl"
    deadline = time.monotonic() + 100
    while not (log.is_file() and log.stat().st_size) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "  calcarine train --resume --run 'runs/long run'\n" in out
    reached = checkpoint_updates(tmp_path / "runs" / "long run")[-1]
    assert json.loads(log.read_text().splitlines()[-1])["update"] == reached > 0

    more = f"training.updates={reached + 2}"
    done = calcarine("train", "--resume", "--run", "runs/long run", "--set", more)
    assert done.code == 0
    assert "2 updates in " in done.out
