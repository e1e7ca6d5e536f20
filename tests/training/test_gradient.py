from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from calcarine.errors import CheckpointError, InputError, NonFiniteError, ShapeError
from calcarine.training import TrainingSettings
from calcarine.training.gradient import GradientLearner


def pair(**settings):
    modules = {"a": nn.Linear(3, 1, dtype=torch.float64), "b": nn.Linear(3, 1)}
    objectives = {name: list(module.parameters()) for name, module in modules.items()}
    return modules, GradientLearner(objectives, modules, TrainingSettings(**settings))


def losses_of(modules, **factors):
    return {
        name: factors.get(name, 1.0) * sum(p.square().sum() for p in module.parameters())
        for name, module in modules.items()
    }


def test_one_step_is_adams_step_on_every_objective():
    modules, learner = pair(betas=(0.8, 0.95))
    copies = {
        name: [p.detach().clone().requires_grad_() for p in module.parameters()]
        for name, module in modules.items()
    }
    reference = [torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95)) for p in copies.values()]
    learner.rate = 0.05
    for _ in range(5):
        learner.descend(losses_of(modules))
        for parameters, optimiser in zip(copies.values(), reference, strict=True):
            optimiser.zero_grad()
            sum(p.square().sum() for p in parameters).backward()
            optimiser.step()
    for name, module in modules.items():
        for ours, theirs in zip(module.parameters(), copies[name], strict=True):
            torch.testing.assert_close(ours, theirs)


def test_the_reported_norm_is_that_of_all_gradients_of_the_objective():
    modules, learner = pair()
    report = learner.descend(losses_of(modules))
    for name, module in modules.items():
        expected = math.sqrt(sum(p.grad.square().sum().item() for p in module.parameters()))
        assert report[f"grad_norm/{name}"] == pytest.approx(expected, rel=1e-6)
        assert expected > 0


def test_clipping_scales_the_gradient_of_one_objective_down_to_the_norm():
    modules, learner = pair(clip_norm=0.5)
    report = learner.descend(losses_of(modules, a=1000.0, b=1e-3))
    assert report["grad_norm/a"] > 0.5 > report["grad_norm/b"] > 0
    norm = {
        name: math.sqrt(sum(p.grad.square().sum().item() for p in module.parameters()))
        for name, module in modules.items()
    }
    assert norm["a"] == pytest.approx(0.5)
    assert norm["b"] == pytest.approx(report["grad_norm/b"])


def test_half_precision_gradients_do_not_overflow_in_their_norm():
    module = nn.Linear(100, 100, dtype=torch.float16)
    learner = GradientLearner({"a": list(module.parameters())}, {"a": module}, TrainingSettings())
    report = learner.descend({"a": (module.weight * 1000).sum(dtype=torch.float32)})
    assert report["grad_norm/a"] == pytest.approx(1e5, rel=1e-4)
    assert learner.guard.total == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_step_of_one_objective_is_skipped_and_the_other_is_taken(value):
    modules, learner = pair()
    before = {name: module.weight.detach().clone() for name, module in modules.items()}
    learner.descend(losses_of(modules, a=value))
    assert torch.equal(modules["a"].weight, before["a"])
    assert not torch.equal(modules["b"].weight, before["b"])
    assert learner.guard.skipped == {"a": 1, "b": 0}
    learner.descend(losses_of(modules))
    assert not torch.equal(modules["a"].weight, before["a"])
    assert learner.guard.in_a_row == {"a": 0, "b": 0}


def test_a_finite_loss_with_a_non_finite_gradient_is_skipped_too():
    modules, learner = pair()
    with torch.no_grad():
        modules["a"].weight[0, 0] = 0.0
    before = modules["a"].weight.detach().clone()
    report = learner.descend({**losses_of(modules), "a": modules["a"].weight.abs().sqrt().sum()})
    assert math.isfinite(report["loss/a"])
    assert not math.isfinite(report["grad_norm/a"])
    assert torch.equal(modules["a"].weight, before)


def test_persisting_non_finite_steps_stop_with_a_message():
    modules, learner = pair(max_nonfinite_in_a_row=3)
    for _ in range(2):
        learner.descend(losses_of(modules, b=math.nan))
    learner.descend(losses_of(modules))
    for _ in range(2):
        learner.descend(losses_of(modules, b=math.nan))
    with pytest.raises(NonFiniteError, match=r"'b' had 3 non-finite steps in a row.*clip_norm"):
        learner.descend(losses_of(modules, b=math.nan))
    assert learner.guard.total == 5


def test_a_parameter_without_gradient_stays():
    module = nn.Linear(3, 1)
    learner = GradientLearner({"a": list(module.parameters())}, {"a": module}, TrainingSettings())
    bias, weight = module.bias.detach().clone(), module.weight.detach().clone()
    learner.descend({"a": module.weight.sum()})
    assert torch.equal(module.bias, bias)
    assert not torch.equal(module.weight, weight)


def test_objectives_that_share_or_lack_or_do_not_save_parameters_are_refused():
    net, stranger = nn.Linear(3, 1), nn.Linear(2, 2)
    modules, settings = {"net": net}, TrainingSettings()
    with pytest.raises(InputError, match=r"'net.weight' is listed under objective 'a' and again"):
        GradientLearner({"a": [net.weight], "b": [net.bias, net.weight]}, modules, settings)
    with pytest.raises(InputError, match="at least one parameter"):
        GradientLearner({"a": []}, modules, settings)
    with pytest.raises(InputError, match=r"shape \(2, 2\) that no module in modules\(\) has"):
        GradientLearner({"a": [stranger.weight]}, modules, settings)


def test_a_loss_that_reaches_another_objectives_parameters_is_refused():
    modules, learner = pair()
    leaking = {
        "a": modules["a"].weight.sum(),
        "b": (modules["a"].weight + modules["b"].weight).sum(),
    }
    with pytest.raises(InputError, match=r"loss of objective 'b' reaches parameter 'a.weight'"):
        learner.descend(leaking)


def test_losses_that_do_not_fit_the_objectives_are_refused():
    modules, learner = pair()
    losses = losses_of(modules)
    with pytest.raises(InputError, match=r"one loss per objective \(a, b\), got losses for a\."):
        learner.descend({"a": losses["a"]})
    with pytest.raises(ShapeError, match=r"'b' is expected to be a scalar.*shape \(1, 3\)"):
        learner.descend({**losses, "b": modules["b"].weight})
    with pytest.raises(ShapeError, match="requires_grad=False"):
        learner.descend({**losses, "b": losses["b"].detach()})


def test_running_means_of_other_objectives_or_sizes_are_refused():
    modules, learner = pair()
    learner.descend(losses_of(modules))
    state = learner.state()
    other = {"a": nn.Linear(3, 1)}
    alone = GradientLearner({"a": list(other["a"].parameters())}, other, TrainingSettings())
    with pytest.raises(CheckpointError, match="expected the objectives a, b, but the task has a"):
        alone.load_state(state)
    wide = {"a": nn.Linear(5, 1)}
    wider = GradientLearner({"a": list(wide["a"].parameters())}, wide, TrainingSettings())
    with pytest.raises(CheckpointError, match=r"sizes \[\(1, 3\), \(1,\)\], its parameters"):
        wider.load_state({**state, "optimisers": {"a": state["optimisers"]["a"]}})
