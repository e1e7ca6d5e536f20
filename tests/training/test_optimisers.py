from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from calcarine.errors import CheckpointError, InputError
from calcarine.training import TrainingSettings
from calcarine.training.gradient import GradientLearner
from calcarine.training.muon import is_kernel, orthogonal
from calcarine.training.optimisers import load_optimiser, make_optimiser

RATE, DECAY = 0.05, 0.1


def weights(dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=draw, dtype=dtype)) for shape in [(5, 3), ()]]


def by_hand(settings, w, count):
    """The update rules of the module's docstring, written out, for the loss sum w^4 / 4."""
    m, v, b = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(w)
    b1, b2 = settings.betas
    for t in range(1, count + 1):
        g = w**3
        if settings.optimiser == "adamw":
            w = w * (1 - RATE * settings.weight_decay)
        else:
            g = g + settings.weight_decay * w
        if settings.optimiser == "sgd":
            b = settings.momentum * b + g
            w = w - RATE * b
            continue
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w = w - RATE * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + 1e-8)
    return w


def check_seven_steps(parameters, expected, settings):
    optimiser = make_optimiser(parameters, settings)
    for _ in range(7):
        optimiser.zero_grad()
        sum((p**4 / 4).sum() for p in parameters).backward()
        optimiser.step()
    for ours, theirs in zip(parameters, expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_each_optimiser_follows_its_rule(name, decay):
    settings = TrainingSettings(
        optimiser=name, weight_decay=decay, momentum=0.7, betas=(0.8, 0.95), learning_rate=RATE
    )
    parameters = weights()
    expected = [by_hand(settings, p.detach().clone(), 7) for p in parameters]
    check_seven_steps(parameters, expected, settings)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "muon"])
def test_running_means_are_taken_over_exactly(name, momentum):
    settings = TrainingSettings(optimiser=name, momentum=momentum)
    modules = {"a": nn.Sequential(nn.Conv2d(3, 2, 3), nn.Linear(3, 2))}

    def learner_of(modules):
        return GradientLearner({"a": list(modules["a"].parameters())}, modules, settings)

    def step(learner, modules):
        learner.descend({"a": sum((p**4).sum() for p in modules["a"].parameters())})

    first = learner_of(modules)
    for _ in range(3):
        step(first, modules)
    others = copy.deepcopy(modules)
    second = learner_of(others)
    second.load_state(copy.deepcopy(first.state()))
    step(first, modules)
    step(second, others)
    for ours, theirs in zip(modules["a"].parameters(), others["a"].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_means_of_other_parameters_are_refused():
    settings = TrainingSettings(optimiser="sgd")
    narrow, wide = nn.Linear(3, 1), nn.Linear(5, 1)
    optimiser = make_optimiser(list(narrow.parameters()), settings)
    narrow(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    other = make_optimiser(list(wide.parameters()), settings)
    with pytest.raises(CheckpointError, match=r"objective 'a' have sizes \[\(1, 3\), \(1,\)\]"):
        load_optimiser(other, optimiser.state_dict()["state"], label="a")


def test_means_under_their_earlier_name_are_read():
    modules = {"a": nn.Linear(3, 2)}
    learner = GradientLearner({"a": list(modules["a"].parameters())}, modules, TrainingSettings())
    learner.descend({"a": modules["a"].weight.square().sum()})
    state = learner.state()
    earlier = {"adam": state["optimisers"], "guard": state["guard"]}
    again = GradientLearner({"a": list(modules["a"].parameters())}, modules, TrainingSettings())
    again.load_state(earlier)
    assert again.state()["optimisers"]["a"][0]["exp_avg"].abs().sum() > 0


def test_several_batches_make_the_step_of_their_mean():
    """Four batches one after the other equal one of four times the size."""
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    results = []
    for accumulate in (1, 4):
        torch.manual_seed(0)
        modules = {"a": nn.Linear(3, 1, dtype=torch.float64)}
        settings = TrainingSettings(accumulate=accumulate, optimiser="sgd", clip_norm=0.3)
        learner = GradientLearner({"a": list(modules["a"].parameters())}, modules, settings)
        learner.rate = 0.1
        report = learner.descend(
            {"a": (modules["a"](part) - 1).square().mean()} for part in x.chunk(accumulate)
        )
        results.append((modules["a"].weight.detach(), report))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-12, atol=1e-12)
    assert results[1][1] == pytest.approx(results[0][1], rel=1e-12)
    assert results[0][1]["grad_norm/a"] > 0.3


def test_one_batch_is_let_go_before_the_next_is_drawn():
    module = nn.Linear(3, 1)
    settings = TrainingSettings(accumulate=3)
    learner = GradientLearner({"a": list(module.parameters())}, {"a": module}, settings)
    seen = []

    def batches():
        for _ in range(3):
            seen.append(None if module.weight.grad is None else module.weight.grad.norm().item())
            yield {"a": module.weight.sum()}

    learner.descend(batches())
    assert seen == [None, pytest.approx(3**0.5 / 3), pytest.approx(2 * 3**0.5 / 3)]


def test_a_task_that_ignores_accumulation_is_told():
    module = nn.Linear(3, 1)
    settings = TrainingSettings(accumulate=2)
    learner = GradientLearner({"a": list(module.parameters())}, {"a": module}, settings)
    with pytest.raises(InputError, match=r"2 batches per update \(training.accumulate\), got .* 1"):
        learner.descend({"a": module.weight.sum()})


@pytest.mark.parametrize("shape", [(16, 72), (64, 32), (5, 5), (1, 9)])
def test_a_step_of_muon_is_as_large_along_every_direction(shape):
    draw = torch.Generator().manual_seed(0)
    loud = torch.logspace(0, -2, shape[0], dtype=torch.float64)[:, None]
    matrix = loud * torch.randn(shape, generator=draw, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert min(shape) == 1 or s[0] > 3 * s[-1]
    ours = orthogonal(matrix)
    sizes = torch.diag(u.T @ ours @ v.T)
    torch.testing.assert_close(u @ torch.diag(sizes) @ v, ours)
    assert sizes.min() > 0.6
    assert sizes.max() < 1.3
    assert not orthogonal(torch.zeros(3, 4)).any()


@pytest.mark.parametrize("decay", [0.0, DECAY])
def test_muon_moves_kernels_by_its_rule_and_the_rest_as_adamw(decay):
    settings = TrainingSettings(
        optimiser="muon", weight_decay=decay, momentum=0.7, betas=(0.8, 0.95), learning_rate=RATE
    )
    draw = torch.Generator().manual_seed(0)
    shapes = [(4, 3, 3, 3), (4, 3, 1, 1), (3, 4, 5), (2,)]
    parameters = [
        nn.Parameter(torch.randn(shape, generator=draw, dtype=torch.float64)) for shape in shapes
    ]
    assert [is_kernel(p) for p in parameters] == [True, False, False, False]
    as_adamw = settings.model_copy(update={"optimiser": "adamw"})
    expected = [by_hand(as_adamw, p.detach().clone(), 7) for p in parameters]
    w, b = parameters[0].detach().clone(), torch.zeros(shapes[0], dtype=torch.float64)
    for _ in range(7):
        g = w**3
        b = 0.7 * b + 0.3 * g
        step = orthogonal((0.7 * b + 0.3 * g).reshape(4, 27)).reshape(shapes[0])
        w = w * (1 - RATE * decay) - RATE * 0.2 * 27**0.5 * step
    expected[0] = w
    check_seven_steps(parameters, expected, settings)


def test_muon_goes_without_kernels_and_without_anything_else():
    for shape in [(3, 2, 3, 3), (5,)]:
        parameter = nn.Parameter(torch.ones(shape))
        optimiser = make_optimiser([parameter], TrainingSettings(optimiser="muon"))
        parameter.sum().backward()
        optimiser.step()
        assert (parameter < 1).all()


def test_muon_leaves_out_a_step_that_was_refused_where_it_was_judged():
    parameters = [nn.Parameter(torch.ones(shape)) for shape in [(3, 2, 3, 3), (5,)]]
    optimiser = make_optimiser(parameters, TrainingSettings(optimiser="muon"))
    for bad in (False, True):
        before = [p.detach().clone() for p in parameters]
        means = [optimiser.state[p].get("momentum", torch.zeros(())).clone() for p in parameters]
        for p in parameters:
            p.grad = torch.full_like(p, float("nan") if bad else 1.0)
        optimiser.found_inf = torch.tensor(float(bad))
        optimiser.step()
        for p, old in zip(parameters, before, strict=True):
            assert torch.equal(p, old) == bad
        if bad:
            assert torch.equal(optimiser.state[parameters[0]]["momentum"], means[0])
