from __future__ import annotations

import json

import pytest
import torch
from pydantic import ValidationError

from calcarine import recipe, registry
from calcarine.errors import CheckpointError, NonFiniteError, RecipeError
from calcarine.training import Phase, TrainingSettings, fit, learning_rate, open_run, read_log
from calcarine.training.checkpoint import checkpoint_updates, read_checkpoint

PHASES = (
    {"name": "grow", "updates": 4, "learning_rate": 0.05, "warmup_updates": 2},
    {
        "name": "bend",
        "updates": 3,
        "optimiser": "sgd",
        "schedule": "constant",
        "weight_decay": 0.01,
        "warmup_updates": 0,
    },
    {
        "name": "polish",
        "updates": 5,
        "optimiser": "adamw",
        "schedule": "step",
        "rate_drops": (2, 4),
        "clip_norm": 0.1,
        "accumulate": 2,
    },
)
SETTINGS = {
    "phases": PHASES,
    "learning_rate": 0.02,
    "warmup_updates": 1,
    "log_every": 100,
    "checkpoint_every": 1,
    "keep_checkpoints": 20,
    "loggers": ("local",),
}


@pytest.fixture
def learn(toy, tmp_path):
    def run(name="run", *, resume=False, task=None, **changes):
        task = toy.PhasedTask() if task is None else task
        settings = TrainingSettings(**{**SETTINGS, **changes})
        return fit(
            task, settings, tmp_path / name, recipe={}, seed=3, resume=resume, progress=False
        )

    return run


def test_each_phase_is_entered_once_and_learns_its_own_parameters(toy, learn, tmp_path):
    task = toy.PhasedTask()
    result = learn(task=task)
    assert (result.status, result.updates) == ("finished", 12)
    assert task.entered == [("grow", False), ("bend", False), ("polish", False)]
    steps = [("grow", 4)] * 4 + [("bend", 3)] * 3 + [("polish", 5)] * 5
    assert [(phase, updates) for phase, _, updates in task.steps] == steps
    assert [done for _, done, _ in task.steps] == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]
    assert task.batches == 4 + 3 + 2 * 5
    held = {u: read_checkpoint(tmp_path / "run", u) for u in range(13)}
    assert [held[u].phase for u in range(13)] == [""] + [phase for phase, _ in steps]
    # Conversion: what grew is doubled when the second phase begins, and stays as it is then.
    grown = held[4].weights["net.first.weight"]
    assert torch.equal(held[5].weights["net.first.weight"], 2 * grown)
    assert torch.equal(held[12].weights["net.first.weight"], 2 * grown)
    moved = {name: held[7].weights[name] - held[4].weights[name] for name in held[4].weights}
    assert moved["net.second.weight"].abs().max() > 0
    assert "late.weight" in held[12].weights
    assert "late.weight" not in held[7].weights


def test_the_ends_of_every_phase_are_logged_and_its_last_weights_kept(learn, tmp_path):
    learn()
    kept = sorted(int(p.stem) for p in (tmp_path / "run/snapshots").iterdir())
    assert kept == [0, 4, 7, 12]
    lines = read_log(tmp_path / "run/log.jsonl")
    assert [line["update"] for line in lines] == [1, 4, 5, 7, 8, 12]
    losses = [[name for name in line if name.startswith("loss/")] for line in lines]
    assert losses == [[f"loss/{name}"] for name in ("first", "second", "third") for _ in range(2)]


@pytest.mark.parametrize("crash_at", range(1, 18))
def test_a_run_killed_in_any_batch_of_any_phase_goes_on_bit_by_bit(
    toy, learn, tmp_path, same_run, crash_at
):
    learn("straight")
    with pytest.raises(toy.Killed):
        learn("killed", task=toy.PhasedTask(crash_at=crash_at))
    task = toy.PhasedTask()
    learn("killed", task=task, resume=True)
    same_run(tmp_path / "straight", tmp_path / "killed")
    held = read_checkpoint(tmp_path / "killed").weights
    assert held["net.second.weight"].isfinite().all()
    assert [resumed for _, resumed in task.entered].count(True) == (crash_at > 1)


def test_stopping_after_every_update_changes_nothing(toy, learn, tmp_path, same_run):
    learn("straight", checkpoint_every=500)
    for update in range(1, 13):
        task = toy.PhasedTask(signal_at_update=update)
        result = learn("pieces", task=task, resume=update > 1, checkpoint_every=500)
        assert result.updates == update
    same_run(tmp_path / "straight", tmp_path / "pieces")


def test_a_phase_of_no_updates_is_left_out(toy, learn, tmp_path):
    task = toy.PhasedTask()
    short = ({**PHASES[0], "updates": 0}, PHASES[1], {**PHASES[2], "updates": 0})
    assert learn(task=task, phases=short).updates == 3
    assert task.entered == [("bend", False)]
    assert sorted(int(p.stem) for p in (tmp_path / "run/snapshots").iterdir()) == [0, 3]


def test_the_rate_counts_within_the_phase():
    settings = TrainingSettings(**SETTINGS)
    rates = [learning_rate(settings, u) for u in range(12)]
    assert rates[:3] == pytest.approx([0.025, 0.05, 0.05])
    assert rates[3] == pytest.approx(0.0005)
    assert rates[4:7] == [0.02] * 3
    assert rates[7:] == pytest.approx([0.02, 0.02, 0.002, 0.002, 0.0002])


def test_a_phase_takes_what_it_does_not_say_from_around_it():
    settings = TrainingSettings(**SETTINGS)
    assert (settings.updates, settings.ends) == (12, (4, 7, 12))
    assert settings.snapshot_ages == (0, 4, 7, 12)
    grow, polish = settings.of("grow"), settings.of("polish")
    assert (grow.optimiser, grow.learning_rate, grow.updates) == ("adam", 0.05, 4)
    assert (polish.optimiser, polish.learning_rate, polish.clip_norm) == ("adamw", 0.02, 0.1)
    assert [settings.span(u)[:2] for u in (0, 3, 4, 11)] == [
        ("grow", 0), ("grow", 3), ("bend", 0), ("polish", 4),
    ]  # fmt: skip
    assert settings.span(12) == ("polish", 5, 5)


def test_phases_survive_json_and_hold_only_what_they_say():
    settings = TrainingSettings(**SETTINGS)
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    dumped = settings.model_dump(mode="json")
    assert "updates" not in dumped
    assert dumped["phases"][0] == {**PHASES[0]}
    assert all(field.description for field in Phase.model_fields.values())


def phases(*changes):
    return {"phases": [{"name": "a", "updates": 5, **change} for change in changes]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (phases({}, {}), r"name of its own, got \['a', 'a'\]"),
        ({**phases({}), "updates": 7}, r"updates is their sum \(5\), got 7.*training.phases.NAME"),
        (phases({"updates": -1}), "greater than or equal to 0"),
        (phases({"updates": 0}), "greater than or equal to 1"),
        (phases({"name": "a.b"}), "match pattern"),
        (phases({"rates": 1}), "Extra inputs"),
        (phases({"momentum": 0.5}), "'a': momentum has no effect on 'adam'"),
        (phases({"optimiser": "sgd", "betas": (0.9, 0.9)}), "'a': betas have no effect on 'sgd'"),
        (phases({"betas": (0.9, 1.0)}), "expected in"),
        (phases({"schedule": "step"}), r"'a': the schedule 'step' expected rate_drops.*1 to 4"),
        (phases({"schedule": "step", "rate_drops": (5,)}), "rise from 1 to 4"),
        (phases({"rate_drops": (2,)}), "'a': rate_drops are expected with the schedule 'step'"),
    ],
)
def test_impossible_phases_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainingSettings(**settings)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {"updates": 4}, r"training.phases.bend.updates was 3 and is 4 now"),
        (2, {"clip_norm": 0.2}, r"training.phases.polish.clip_norm was 0.1 and is 0.2 now"),
        (0, {"name": "sprout"}, r"training.phases.\(order\) was \['grow', .* is \['sprout', "),
    ],
)
def test_other_phases_are_not_continued(toy, learn, index, change, message):
    with pytest.raises(toy.Killed):
        learn(task=toy.PhasedTask(crash_at=6))
    other = list(PHASES)
    other[index] = {**PHASES[index], **change}
    with pytest.raises(CheckpointError, match=message):
        learn(resume=True, phases=tuple(other))


def test_a_failure_tells_the_phase(toy, learn):
    class Poisoned(toy.PhasedTask):
        def losses(self, generator):
            losses = super().losses(generator)
            return {n: v * torch.nan if self.phase == "bend" else v for n, v in losses.items()}

    with pytest.raises(NonFiniteError, match=r"update 6 \(2 of 3 of phase 'bend'\)"):
        learn(task=Poisoned(), max_nonfinite_in_a_row=2)


def test_steps_skipped_in_one_phase_are_still_counted_in_the_next(toy, learn, tmp_path):
    class Poisoned(toy.PhasedTask):
        def losses(self, generator):
            losses = super().losses(generator)
            bad = self.phase == "grow" and self.batches == 2
            return {name: loss * torch.nan if bad else loss for name, loss in losses.items()}

    assert learn(task=Poisoned()).skipped == 1
    assert read_log(tmp_path / "run/log.jsonl")[-1]["skipped"] == 1


def test_the_progress_line_names_the_phase(toy, tmp_path, capsys):
    fit(toy.PhasedTask(), TrainingSettings(**SETTINGS), tmp_path / "run", recipe={}, seed=3)
    assert "update 12/12  polish  loss  third" in capsys.readouterr().err


SANDBOX = {
    "task": "color_vision_task",
    "name": "phased",
    "training": {"phases": [{"name": "one", "updates": 3}, {"name": "two", "updates": 4}]},
}


def test_overrides_reach_a_phase_by_its_name():
    loaded = recipe.load(SANDBOX, ["training.phases.two.updates=9", "training.updates=12"])
    assert [phase.updates for phase in loaded.training.phases] == [3, 9]
    again = recipe.load(json.loads(json.dumps(loaded.to_dict())), ["training.phases.one.updates=1"])
    assert (again.training.updates, again.training.phases[0].name) == (10, "one")
    assert SANDBOX["training"]["phases"][1]["updates"] == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.phases.tow.updates=9", "no 'tow'. Did you mean 'two'. Known: one, two"),
        ("training.phases.two=9", "name a key of 'two'"),
        ("training.phases.two.update=9", r"phases.1.update: unknown key. Did you mean 'updates'"),
        ("training.updates=9", r"updates is their sum \(7\), got 9"),
    ],
)
def test_overrides_that_miss_a_phase_are_refused(override, message):
    with pytest.raises(RecipeError, match=message):
        recipe.load(SANDBOX, [override])


def test_checkpoints_of_runs_without_phases_do_not_speak_of_them(train, tmp_path):
    train()
    for update in checkpoint_updates(tmp_path / "run"):
        label = json.loads((tmp_path / f"run/checkpoints/{update:08d}/checkpoint.json").read_text())
        assert "phase" not in label


@pytest.fixture
def phased_recipe(toy, monkeypatch):
    """A recipe of the toy task, as if a user had registered it."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries), raising=True)
    registry.register("phased_toy", toy.PhasedTask, kind="task")
    return recipe.load(
        {
            "task": "phased_toy",
            "name": "phased",
            "seed": 3,
            "training": SETTINGS | {"phases": PHASES},
        }
    )


@pytest.mark.parametrize(
    ("age", "phase", "late"),
    [(0, "", False), (4, "grow", False), (7, "bend", False), (12, "polish", True)],
)
def test_a_run_is_opened_in_the_phase_of_its_weights(phased_recipe, tmp_path, age, phase, late):
    task = phased_recipe.build_task()
    fit(
        task,
        phased_recipe.training,
        tmp_path / "run",
        recipe=phased_recipe.to_dict(),
        seed=3,
        progress=False,
    )
    opened = open_run(tmp_path / "run", age)
    assert (opened.update, opened.task.phase) == (age, phase)
    assert ("late" in opened.task.modules()) == late
    assert open_run(tmp_path / "run").task.phase == "polish"
    if late:
        assert torch.equal(opened.task.late.weight, task.late.weight)
