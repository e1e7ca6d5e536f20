from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from calcarine import recipe
from calcarine.errors import CheckpointError
from calcarine.training import fit, read_log
from calcarine.training.checkpoint import checkpoint_updates, read_checkpoint

POISON = (3, 24, 36, 37, 51)


@pytest.mark.parametrize("crash_at", [2, 25, 31, 38, 60])
def test_a_killed_and_resumed_run_equals_one_that_never_stopped(
    toy, train, tmp_path, same_run, crash_at
):
    straight = train("straight", toy.ToyTask(poison=POISON))
    with pytest.raises(toy.Killed):
        train("killed", toy.ToyTask(poison=POISON, crash_at=crash_at))
    saved = read_checkpoint(tmp_path / "killed").update
    assert saved == (crash_at - 1) // 10 * 10
    torch.rand(5)  # the caller's random state is not the run's
    resumed = train("killed", toy.ToyTask(poison=POISON), resume=True)
    same_run(tmp_path / "straight", tmp_path / "killed")
    assert resumed.skipped == straight.skipped == len(POISON)
    assert resumed.losses == straight.losses
    assert resumed.losses["net"] < read_log(tmp_path / "straight/log.jsonl")[0]["loss/net"] / 4


def test_an_interrupted_run_is_saved_where_it_stopped_and_goes_on_from_there(
    toy, train, tmp_path, same_run
):
    train("straight", toy.ToyTask(poison=POISON))
    first = train("run", toy.ToyTask(poison=POISON, signal_at=37))
    assert (first.status, first.updates) == ("interrupted", 37)
    assert checkpoint_updates(tmp_path / "run") == (30, 37)
    second = train("run", toy.ToyTask(poison=POISON), resume=True)
    assert (second.status, second.updates) == ("finished", 60)
    same_run(tmp_path / "straight", tmp_path / "run")


def test_a_run_interrupted_after_every_single_update_is_the_same(toy, train, tmp_path, same_run):
    settings = {"updates": 12, "snapshots": (0, 5, 12), "warmup_updates": 3}
    train("straight", **settings)
    for update in range(1, 13):
        task = toy.ToyTask(signal_at=update)
        assert train("pieces", task, resume=update > 1, **settings).updates == update
    same_run(tmp_path / "straight", tmp_path / "pieces")


def test_a_local_rule_resumes_like_a_gradient(toy, train, tmp_path, same_run):
    class Crashing(toy.OjaTask):
        def update(self, step):
            if step.done == 33:
                raise toy.Killed
            return super().update(step)

    task = toy.OjaTask(gain=2.5)
    train("straight", task)
    axis = torch.tensor([1.0, 1.0]) / 2**0.5
    assert torch.dot(task.unit.weight, axis).abs() == pytest.approx(1.0, abs=0.05)
    with pytest.raises(toy.Killed):
        train("run", Crashing(gain=2.5))
    train("run", toy.OjaTask(gain=2.5), resume=True)
    same_run(tmp_path / "straight", tmp_path / "run")


def test_a_finished_run_resumes_to_itself(train, tmp_path):
    first = train()
    log = (tmp_path / "run/log.jsonl").read_bytes()
    again = train(resume=True)
    assert (again.status, again.updates, again.losses) == ("finished", 60, first.losses)
    assert (tmp_path / "run/log.jsonl").read_bytes() == log


def test_settings_that_do_not_touch_what_is_learned_may_change(toy, train, tmp_path):
    recipe = {"size": 3, "training": {"log_every": 7, "learning_rate": 0.08}}
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25), recipe=recipe)
    recipe = {"size": 3, "training": {"log_every": 1, "learning_rate": 0.08}}
    changed = {"log_every": 1, "checkpoint_every": 3, "keep_checkpoints": 1, "snapshots": ()}
    result = train(resume=True, recipe=recipe, **changed)
    assert result.status == "finished"
    assert checkpoint_updates(tmp_path / "run") == (60,)
    train("straight")
    weights = [read_checkpoint(tmp_path / name).weights for name in ("run", "straight")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, r"training.learning_rate was 0.08 and is 0.5 now"),
        ({"updates": 80}, r"training.updates was 60 and is 80 now.*constant schedule"),
        ({"seed": 4}, r"seed was 3 and is 4 now"),
        ({"recipe": {"task": {"size": [4, 5]}}}, r"task.size was \[4, 3\] and is \[4, 5\] now"),
        ({"recipe": {}}, r"note was 'größer' and is 'absent' now"),
    ],
)
def test_another_recipe_is_not_continued(toy, train, change, message):
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25))
    with pytest.raises(CheckpointError, match=message):
        train(resume=True, **change)


def test_a_run_of_another_recipe_is_named_and_the_differences_are_a_few(toy, train):
    values = {f"value_{index}": index for index in range(30)}
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25), recipe={"name": "one", **values})
    with pytest.raises(CheckpointError) as raised:
        train(resume=True, recipe={"name": "another", "size": 3})
    text = str(raised.value)
    assert "was started by the recipe 'one', this one is 'another'" in text
    assert "and 24 more" in text
    assert text.count(" now") == 8


def test_a_run_with_a_constant_rate_may_be_prolonged(train, tmp_path):
    train("long", schedule="constant")
    train("short", schedule="constant", updates=30, snapshots=(0,))
    assert train("short", schedule="constant", resume=True).updates == 60
    weights = [read_checkpoint(tmp_path / name).weights for name in ("long", "short")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_setting_that_an_earlier_version_lacked_counts_with_its_default(
    toy, train, relabel, tmp_path
):
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25))
    checkpoint = read_checkpoint(tmp_path / "run")
    del checkpoint.identity["training"]["clip_norm"]
    relabel(checkpoint, identity=checkpoint.identity)
    assert train(resume=True).status == "finished"


def test_a_task_with_other_modules_is_not_continued(toy, train):
    class Other(toy.ToyTask):
        def modules(self):
            return {"net": self.net, "probe": self.scope}

    class Wider(toy.ToyTask):
        def __init__(self):
            super().__init__()
            self.scope = torch.nn.Linear(3, 2).double()

    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25))
    with pytest.raises(CheckpointError, match="modules that the task does not have: scope"):
        train(task=Other(), resume=True)
    with pytest.raises(
        CheckpointError,
        match=r"scope.weight is \(1, 3\) float32 in the file, \(2, 3\) float64 here",
    ):
        train(task=Wider(), resume=True)


def _start(toy, folder: Path, *more: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, toy.__file__, str(folder), *more],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_update(folder: Path, update: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not any(age >= update for age in checkpoint_updates(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ctrl_c_and_kill_in_a_process_of_its_own(toy, train, tmp_path, same_run):
    """Ctrl-C saves and leaves cleanly; SIGKILL loses what came after the last checkpoint only."""
    train("straight")
    folder = tmp_path / "run"
    process = _start(toy, folder, "0.05")
    _wait_for_update(folder, 10, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    status, updates = json.loads(out)
    assert status == "interrupted"
    assert 10 <= updates < 60
    assert "Press Ctrl-C again to abort at once" in err
    assert f"saved after update {updates} of 60" in err
    assert "Traceback" not in err
    assert checkpoint_updates(folder)[-1] == updates

    process = _start(toy, folder, "0.05", "resume")
    _wait_for_update(folder, updates + 10, process)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert checkpoint_updates(folder)[-1] < 60

    assert train(resume=True).status == "finished"
    same_run(tmp_path / "straight", folder)


def test_a_second_ctrl_c_aborts_at_once_and_leaves_the_last_checkpoint(
    toy, train, tmp_path, same_run
):
    class Impatient(toy.ToyTask):
        def losses(self, generator):
            losses = super().losses(generator)
            if self.count == 25:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return losses

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(task=Impatient())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert checkpoint_updates(tmp_path / "run") == (10, 20)
    train("run", resume=True)
    train("straight")
    same_run(tmp_path / "straight", tmp_path / "run")


def test_the_schedulers_sigterm_saves_too(toy, train):
    class Preempted(toy.ToyTask):
        def losses(self, generator):
            losses = super().losses(generator)
            if self.count == 25:
                signal.raise_signal(signal.SIGTERM)
            return losses

    result = train(task=Preempted())
    assert (result.status, result.updates) == ("interrupted", 25)


def test_a_run_of_an_earlier_version_goes_on_under_settings_that_it_did_not_know(tmp_path):
    """A recipe key that a later version adds counts with its default, in the earlier run too."""
    short = ("training.updates=2", "training.schedule=constant", "training.snapshots=[0]")
    plan = recipe.load("spiking-digits", short)
    fit(plan.build_task(), plan.training, tmp_path, recipe=plan.to_dict(), seed=0, progress=False)
    label = tmp_path / "checkpoints" / "00000002" / "checkpoint.json"
    written = json.loads(label.read_text())
    del written["identity"]["recipe"]["shear"]
    del written["identity"]["recipe"]["model"]["spread"]
    label.write_text(json.dumps(written))
    longer = recipe.load(plan.to_dict(), ("training.updates=3",))
    go_on = {"seed": 0, "progress": False, "resume": True}
    result = fit(longer.build_task(), longer.training, tmp_path, recipe=longer.to_dict(), **go_on)
    assert result.updates == 3
    other = recipe.load(plan.to_dict(), ("training.updates=4", "shear=0.3"))
    with pytest.raises(CheckpointError, match=r"shear was 0\.15 and is 0\.3 now"):
        fit(other.build_task(), other.training, tmp_path, recipe=other.to_dict(), **go_on)
