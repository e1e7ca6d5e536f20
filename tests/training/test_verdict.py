"""Steps judged where they are made: the same as those that the host judges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from calcarine.errors import NonFiniteError
from calcarine.training import TrainingSettings
from calcarine.training.checkpoint import read_checkpoint
from calcarine.training.gradient import GradientLearner
from calcarine.training.verdict import judge


def learner(*, ahead, **settings):
    torch.manual_seed(0)
    modules = {"a": nn.Linear(3, 2, dtype=torch.float64), "b": nn.Linear(4, 1)}
    objectives = {name: list(module.parameters()) for name, module in modules.items()}
    return modules, GradientLearner(objectives, modules, TrainingSettings(**settings), ahead=ahead)


def losses_of(modules, **factors):
    return {
        name: factors.get(name, 1.0) * sum(p.square().sum() for p in module.parameters())
        for name, module in modules.items()
    }


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.3])
def test_the_host_may_go_ahead_and_nothing_changes(optimiser, clip_norm):
    """Also with steps that are left out, the first among them."""
    ends = []
    for ahead in (False, True):
        modules, made = learner(ahead=ahead, optimiser=optimiser, clip_norm=clip_norm)
        reports = []
        for a in (math.nan, 1.0, 1e3, math.inf, 1.0):
            made.rate = 0.05
            reports.append(made.descend(losses_of(modules, a=a)))
        assert made.guard.skipped == {"a": 2, "b": 0}
        assert made.guard.in_a_row == {"a": 0, "b": 0}
        ends.append((modules, reports, made.state()))
    (waiting, numbers, kept), (going, tensors, ahead_kept) = ends
    for name, module in waiting.items():
        for ours, theirs in zip(going[name].parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    for report, expected in zip(tensors, numbers, strict=True):
        assert {n: float(v) for n, v in report.items()} == pytest.approx(
            expected, rel=1e-6, nan_ok=True
        )
    assert ahead_kept["guard"] == kept["guard"]
    steps = [s["step"].item() for s in ahead_kept["optimisers"]["a"].values()]
    assert steps == [3, 3]


def test_training_that_stays_nonfinite_stops_one_step_later_and_changes_nothing():
    modules, made = learner(ahead=True, max_nonfinite_in_a_row=2)
    before = [p.detach().clone() for p in modules["a"].parameters()]
    made.descend(losses_of(modules, a=math.nan))
    made.descend(losses_of(modules, a=math.nan))
    with pytest.raises(NonFiniteError, match="objective 'a' had 2 non-finite steps"):
        made.descend(losses_of(modules))
    assert all(torch.equal(p, q) for p, q in zip(modules["a"].parameters(), before, strict=True))


def test_a_checkpoint_asks_about_the_last_step_first():
    modules, made = learner(ahead=True)
    made.descend(losses_of(modules, b=math.inf))
    assert made.state()["guard"]["skipped"] == {"a": 0, "b": 1}
    other_modules, other = learner(ahead=True)
    other.descend(losses_of(other_modules, a=math.nan))
    other.load_state(made.state())
    assert other.guard.skipped == {"a": 0, "b": 1}


def test_on_the_cpu_the_host_judges_and_reports_numbers():
    modules, made = learner(ahead=None)
    report = made.descend(losses_of(modules))
    assert all(type(value) is float for value in report.values())


def test_norms_do_not_overflow_and_an_objective_without_gradient_is_fine():
    loss = torch.tensor(1.0)
    half = [torch.full((4,), 3e4, dtype=torch.float16)]
    verdict = judge({"a": loss, "b": loss}, {"a": half, "b": []}, 1.0)
    assert verdict.norms["a"].item() == pytest.approx(6e4)
    assert verdict.scales["a"].item() == pytest.approx(1 / 6e4)
    assert verdict.norms["b"].item() == 0
    assert [float(v) for v in verdict.refused.values()] == [0, 0]
    assert verdict.numbers() == {"a": (1.0, pytest.approx(6e4)), "b": (1.0, 0.0)}


def test_a_run_that_goes_ahead_resumes_as_if_it_had_not_stopped(
    train, toy, same_run, tmp_path, monkeypatch
):
    train("waiting")
    monkeypatch.setattr(GradientLearner, "_can_go_ahead", lambda self: True)
    train("whole")
    with pytest.raises(toy.Killed):
        train("cut", task=toy.ToyTask(crash_at=25))
    train("cut", resume=True)
    same_run(tmp_path / "whole", tmp_path / "cut")
    ends = [read_checkpoint(tmp_path / name).weights for name in ("whole", "waiting")]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][name])
