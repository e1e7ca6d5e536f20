from __future__ import annotations

import json
import math
import threading

import pytest
import torch
import yaml
from torch import nn

from calcarine.errors import InputError, NonFiniteError, RecipeError
from calcarine.training import Task, fit, read_log
from calcarine.training.checkpoint import checkpoint_updates


def test_a_run_learns_and_leaves_everything_in_its_folder(toy, train, tmp_path):
    task = toy.ToyTask()
    result = train(task=task, updates=300, snapshots="auto", loggers=("local", "tensorboard"))
    assert (result.status, result.updates, result.skipped) == ("finished", 300, 0)
    assert (task.net[0].weight - task.target.T).norm() < 0.3 * task.target.norm()
    assert set(result.losses) == {"net", "scope"}
    assert result.seconds > 0
    held = {path.name for path in result.folder.iterdir()}
    assert held == {"recipe.yaml", "log.jsonl", "checkpoints", "snapshots", "images", "tensorboard"}
    assert yaml.safe_load((tmp_path / "run/recipe.yaml").read_text()) == toy.RECIPE
    assert checkpoint_updates(tmp_path / "run") == (290, 300)
    assert len(list((tmp_path / "run/images/weights").glob("*.png"))) == 4


def test_the_log_has_losses_rates_and_skipped_steps(toy, train, tmp_path):
    result = train(task=toy.ToyTask(poison=(14,)))
    lines = read_log(tmp_path / "run/log.jsonl")
    assert [line["update"] for line in lines] == [1, 7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert set(lines[0]) == {
        "update", "learning_rate", "skipped",
        "loss/net", "loss/scope", "grad_norm/net", "grad_norm/scope",
    }  # fmt: skip
    assert lines[0]["learning_rate"] == pytest.approx(0.008)
    assert lines[-1]["learning_rate"] == pytest.approx(0.0008)
    assert lines[2]["loss/net"] is None
    assert [line["skipped"] for line in lines[:3]] == [0, 0, 1]
    assert result.skipped == 1
    assert result.losses["net"] == lines[-1]["loss/net"]


def test_the_same_seed_gives_the_same_run_and_leaves_the_callers_random_state_alone(
    toy, train, same_run, tmp_path
):
    task = toy.ToyTask()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    train("one", task)
    assert torch.equal(torch.rand(3), expected)
    train("two")
    same_run(tmp_path / "one", tmp_path / "two")
    train("three", seed=4)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("one", "three")]
    assert logs[0] != logs[1]


def test_persisting_nan_stops_the_run_and_points_to_the_last_checkpoint(toy, train, tmp_path):
    task = toy.ToyTask(poison=range(33, 100))
    with pytest.raises(
        NonFiniteError, match=r"'net' had 5 .*update 37. The last checkpoint, of update 30"
    ):
        train(task=task, max_nonfinite_in_a_row=5)
    assert checkpoint_updates(tmp_path / "run") == (20, 30)
    assert all(p.isfinite().all() for p in task.net.parameters())


def test_diverged_weights_are_never_saved(toy, train, tmp_path):
    class Diverging(toy.OjaTask):
        def update(self, step):
            if step.done == 33:
                self.unit.weight.fill_(math.nan)
            return super().update(step)

    with pytest.raises(NonFiniteError, match=r"update 40 .*unit.weight.* not saved.*of update 30"):
        train(task=Diverging())
    assert checkpoint_updates(tmp_path / "run") == (20, 30)


def test_a_local_rule_gets_rate_and_generator_and_logs_what_it_returns(toy, train, tmp_path):
    result = train(task=toy.OjaTask())
    lines = read_log(tmp_path / "run/log.jsonl")
    assert set(lines[0]) == {"update", "learning_rate", "activity", "done"}
    assert [line["done"] + 1 for line in lines] == [line["update"] for line in lines]
    assert result.scalars["activity"] == lines[-1]["activity"]
    assert result.losses == {}


def test_local_rule_and_gradient_may_learn_side_by_side(toy, train, tmp_path):
    class Both(toy.OjaTask):
        def __init__(self):
            super().__init__(gain=2.5)
            self.scope = nn.Linear(1, 1)

        def modules(self):
            return {**super().modules(), "scope": self.scope}

        def objectives(self):
            return {"scope": list(self.scope.parameters())}

        def update(self, step):
            scalars = super().update(step)
            x = torch.randn(8, 2, generator=step.generator)
            error = self.scope((x @ self.unit.weight)[:, None]) - x.sum(1, True)
            return {**scalars, **step.descend({"scope": error.square().mean()})}

    train(task=Both())
    lines = read_log(tmp_path / "run/log.jsonl")
    assert lines[-1]["loss/scope"] < lines[0]["loss/scope"]
    assert lines[-1]["activity"] > lines[0]["activity"]


def test_it_runs_outside_the_main_thread(train):
    results = []
    thread = threading.Thread(target=lambda: results.append(train()))
    thread.start()
    thread.join()
    assert results[0].status == "finished"


def test_the_modules_are_moved_to_the_device_and_an_impossible_one_is_refused(toy, tmp_path):
    from calcarine.training import fit

    task = toy.ToyTask()
    with pytest.raises(InputError, match="could not be moved to device 'warp'"):
        fit(
            task,
            toy.toy_settings(),
            tmp_path / "a",
            recipe={},
            seed=0,
            progress=False,
            device="warp",
        )
    task.scope.to("meta")
    with pytest.raises(InputError, match=r"one device, got \['cpu', 'meta'\]"):
        fit(task, toy.toy_settings(), tmp_path / "b", recipe={}, seed=0, progress=False)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "3"])
def test_unusable_seeds_are_refused(train, seed):
    with pytest.raises(InputError, match="seed is expected"):
        train(seed=seed)


@pytest.mark.parametrize("value", [torch.zeros(2), float("nan"), {1, 2}])
def test_a_recipe_of_anything_but_plain_data_is_refused(train, value, tmp_path):
    with pytest.raises(RecipeError, match="only mappings, lists, strings"):
        train(recipe={"inner": {"value": value}})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("scalars", "message"),
    [({"map": torch.zeros(3)}, r"'map' has shape \(3,\)"), ({"update": 1.0}, "use another name")],
)
def test_scalars_that_cannot_be_logged_are_refused(train, scalars, message):
    class Odd(Task):
        def modules(self):
            return {"net": nn.Linear(1, 1)}

        def update(self, step):
            return scalars

    with pytest.raises(InputError, match=message):
        train(task=Odd())


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({}, "at least one module"),
        ({"a.b": nn.Linear(1, 1)}, "without dots, got 'a.b'"),
        ({"a": 3}, "expected to be an nn.Module, got 3"),
    ],
)
def test_modules_that_cannot_be_saved_are_refused(train, toy, modules, message):
    class Odd(toy.OjaTask):
        def modules(self):
            return modules

    with pytest.raises(InputError, match=message):
        train(task=Odd())


def test_extra_state_that_is_not_plain_is_refused_with_its_place(train, toy):
    class Odd(toy.OjaTask):
        def extra_state(self):
            return {"queue": [1, {"order": {1, 2}}]}

    with pytest.raises(InputError, match=r"extra_state\(\)\['queue'\]\[1\]\['order'\] is a set"):
        train(task=Odd())


def test_the_device_is_not_asked_for_numbers_between_log_lines(toy, train, monkeypatch):
    """A local rule's scalars are read when they are logged, captured or returned, never else."""
    from calcarine.training.session import Session

    reads = []
    scalars = Session.scalars
    monkeypatch.setattr(Session, "scalars", lambda s: reads.append(s.done) or scalars(s))
    train(task=toy.OjaTask(), log_every=25, checkpoint_every=40)
    assert sorted(set(reads)) == [0, 1, 25, 40, 50, 60]


def test_log_lines_are_valid_json_even_with_nan(toy, train, tmp_path):
    train(task=toy.ToyTask(poison=(7,)))
    for line in (tmp_path / "run/log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_training_shows_its_progress_on_standard_error(toy, tmp_path, capsys):
    fit(toy.ToyTask(), toy.toy_settings(), tmp_path / "run", recipe={}, seed=0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "update 60/60  loss  net" in err


def test_a_local_rule_shows_its_first_scalar(toy, tmp_path, capsys):
    fit(toy.OjaTask(), toy.toy_settings(), tmp_path / "run", recipe={}, seed=0)
    assert "update 60/60  activity " in capsys.readouterr().err
