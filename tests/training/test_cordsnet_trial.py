"""The trial: its loss against closed forms and against a network stepped by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from calcarine.models import CordsNet
from calcarine.training.cordsnet_trial import Trial, return_distances, trial_answers, trial_loss

SHORT = Trial(warmup=6, on=9, off=7, readout=4, settle=3, settle_weight=1.0)


def network(**changes) -> CordsNet:
    torch.manual_seed(1)
    settings = {"depth": 2, "classes": 4, "channels": 1, "image_size": (9, 13)}
    return CordsNet(**{**settings, **changes}).double()


def shown(batch: int = 3, size=(9, 13)):
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(batch, 1, *size, generator=generator, dtype=torch.float64)
    return images, torch.arange(batch) % 4


@pytest.mark.parametrize("depth", [2, 4])
def test_the_loss_is_that_of_a_trial_of_the_model(depth):
    model, (images, targets) = network(depth=depth), shown()
    found = trial_loss(model.folded(), images, targets, SHORT)
    rates = list(model.trial(images, 12.0, 18.0, 14.0))
    baseline, weights = rates[5], model.folded()
    ramp = 10 ** torch.linspace(-3, 0, 4, dtype=torch.float64)
    answers = [
        w * functional.cross_entropy(weights.logits(r), targets)
        for w, r in zip(ramp, rates[11:15], strict=True)
    ]
    torch.testing.assert_close(found.answer, sum(answers) / 4)
    distances = [
        torch.stack([(a - b).square().mean() for a, b in zip(r, baseline, strict=True)]).mean()
        for r in rates[-3:]
    ]
    torch.testing.assert_close(found.distance, sum(distances) / 3)
    assert found.distance > 1e-6
    torch.testing.assert_close(found.total(2.0), found.answer + 2 * found.distance)
    logits = trial_answers(model.folded(), images, SHORT)
    torch.testing.assert_close(logits, model.classify(images, 12.0, 18.0))


def test_without_a_readout_the_loss_is_the_ramp_times_the_logarithm_of_the_classes():
    model, (images, targets) = network(), shown()
    with torch.no_grad():
        model.readout.weight = torch.full_like(model.readout.weight, 1e-12)
        model.readout.bias.zero_()
    found = trial_loss(model.folded(), images, targets, Trial(warmup=3, on=40, off=0))
    expected = sum(10 ** (-3 + 3 * k / 29) for k in range(30)) / 30 * math.log(4)
    assert found.answer.item() == pytest.approx(expected, rel=1e-9)
    assert found.distance == 0


def test_class_probabilities_are_targets_too():
    model, (images, targets) = network(), shown()
    chances = functional.one_hot(targets, 4).double()
    one = trial_loss(model.folded(), images, targets, SHORT, 0.5, 0.1)
    other = trial_loss(model.folded(), images, chances, SHORT, 0.5, 0.1)
    torch.testing.assert_close(one.answer, other.answer)


@pytest.mark.parametrize("length", [1, 4, 50])
@pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
def test_recomputing_changes_neither_loss_nor_gradient(length, slope):
    model, (images, targets) = network(), shown()
    gradients = []
    for trial in (SHORT, SHORT._replace(checkpoint=length)):
        loss = trial_loss(model.folded(), images, targets, trial, slope).total(1.0)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0


def test_the_slope_decides_between_a_linear_and_a_rectified_area():
    model, (images, targets) = network(), shown()
    weights = model.folded().detached()
    linear = trial_loss(weights, images, targets, SHORT, 1.0).answer
    nearly = trial_loss(weights, images, targets, SHORT, 1 - 1e-9).answer
    relu = trial_loss(weights, images, targets, SHORT).answer
    torch.testing.assert_close(linear, nearly, rtol=1e-6, atol=1e-9)
    assert (linear - relu).abs() > 1e-4


def test_the_time_before_the_image_carries_no_gradient():
    """With nothing after it, the bias is only learned from what comes with the image."""
    model, (images, targets) = network(), shown()
    trial = Trial(warmup=6, on=1, off=0, readout=1)
    loss = trial_loss(model.folded(), images, targets, trial).answer
    (gradient,) = torch.autograd.grad(loss, model.area1.recurrent.parametrizations.weight.original1)
    weights = model.folded()
    before = [r.expand(3, *r.shape[1:]) for r in list(model.trial(images, 12.0, 0.0, 0.0))[-1]]
    before = tuple(r[:1].detach().expand(3, *r.shape[1:]) for r in before)
    after = weights.step(before, weights.drive(images))
    by_hand = functional.cross_entropy(weights.logits(after), targets)
    (expected,) = torch.autograd.grad(
        by_hand, model.area1.recurrent.parametrizations.weight.original1
    )
    torch.testing.assert_close(gradient, expected)


def test_without_recurrence_units_return_by_their_time_constant():
    """The distance falls by 1 - dt / tau = 0.8 in each step, from any state."""
    model, (images, _) = network(), shown()
    with torch.no_grad():
        for area in model.areas:
            area.recurrent.parametrizations.weight.original0.zero_()
            area.bias.fill_(0.5)
        model.area2.feedforward.parametrizations.weight.original0.zero_()
    trial = SHORT._replace(warmup=300, off=12)
    weights = model.folded().detached()
    found = return_distances(weights, images, trial, torch.Generator().manual_seed(0))
    # Area 2 does not see the image, so it is where it was: no distance, not one without a number.
    assert found[0].item() == pytest.approx(0.8**12, rel=1e-6)
    assert found[1].item() == pytest.approx(0.8**12, rel=1e-6)


def test_a_half_precision_network_is_not_widened():
    model, (images, targets) = network().bfloat16(), shown()
    found = trial_loss(model.folded(), images.bfloat16(), targets, SHORT)
    assert found.answer.dtype == torch.bfloat16
