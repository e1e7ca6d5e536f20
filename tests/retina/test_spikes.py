"""Retinal spikes: reference trains, closed form, resuming, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError
from calcarine.retina import RetinalSpikes, RetinalSpikesState
from calcarine.testing import check_stage


def test_match_the_reference_train_exactly(reference):
    movie = reference["bip_movie"].movedim(1, 0)
    spikes, _ = simulate.run(RetinalSpikes(), movie)
    assert torch.equal(spikes.movedim(0, 1), reference["spikes"])
    assert 100 < spikes.sum() < spikes.numel()


def test_interval_matches_the_closed_form():
    """From rest v_n = b (1 - q^n) / (1 - q), so the interval is the first n past threshold."""
    drive, q = 0.08, 0.9
    interval = math.ceil(math.log(1 - 0.5 * (1 - q) / drive) / math.log(q))
    movie = torch.full((10 * interval, 1), drive, dtype=torch.float64)
    spikes, _ = simulate.run(RetinalSpikes(), movie)
    assert spikes[:, 0].nonzero()[:, 0].tolist() == [interval * (k + 1) - 1 for k in range(10)]
    weak, _ = simulate.run(RetinalSpikes(), torch.full((300, 1), 0.0499))
    assert weak.sum() == 0


def test_finer_steps_leak_as_fast():
    """Without input the potential falls to 1/e in tau, better the finer the step."""
    errors = []
    for dt_ms in (1.0, 0.1, 0.01):
        stage = RetinalSpikes(threshold=10.0, dt_ms=dt_ms)
        start = RetinalSpikesState(torch.ones(1, dtype=torch.float64))
        movie = torch.zeros(round(10 / dt_ms), 1, dtype=torch.float64)
        _, state = simulate.run(stage, movie, start, engine="plain")
        errors.append(abs(state.v.item() - math.exp(-1)))
    assert errors[0] < 0.02
    assert errors[2] < errors[1] / 8 < errors[0] / 64


def test_on_and_off_channels_keep_the_sign():
    movie = torch.randn(40, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    both, _ = simulate.run(RetinalSpikes(on_off=True), movie)
    assert both.shape == (40, 2, 2, 3, 4)
    on, _ = simulate.run(RetinalSpikes(), movie.clamp(min=0))
    off, _ = simulate.run(RetinalSpikes(), movie.clamp(max=0))
    assert torch.equal(both, torch.stack([on, off], 2))
    assert on.sum() > 50
    assert not torch.equal(on, off)


@pytest.mark.parametrize("on_off", [False, True])
def test_stopping_and_resuming_changes_nothing(on_off):
    stage = RetinalSpikes(on_off=on_off)
    movie = torch.randn(30, 2, 5, generator=torch.Generator().manual_seed(1))
    whole, end = simulate.run(stage, movie)
    first, state = simulate.run(stage, movie[:13])
    rest, resumed = simulate.run(stage, movie[13:], state)
    assert torch.equal(whole, torch.cat([first, rest]))
    assert torch.equal(end.v, resumed.v)
    assert whole.sum() > 0


@pytest.mark.parametrize("on_off", [False, True])
def test_keeps_the_contract_of_a_stage(on_off):
    skip = {"gradient": "spikes are steps; the surrogate is tested below"}
    example = torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(0))
    check_stage(RetinalSpikes(on_off=on_off), example, skip=skip).raise_if_failed()


def test_surrogate_gradient_is_the_slope_of_the_fast_sigmoid():
    b = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    stage = RetinalSpikes(alpha=5.0)
    spikes, _ = stage(b, stage.initial_state(b))
    assert set(spikes.tolist()) == {0.0, 1.0}
    (slope,) = torch.autograd.grad(spikes.sum(), b)
    expected = b.sign() / (1 + 5.0 * (b.abs() - 0.5).abs()) ** 2
    assert torch.allclose(slope, expected.detach())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RetinalSpikes(tau_ms=0.5), InputError, "dt_ms <= tau_ms"),
        (lambda: RetinalSpikes(dt_ms=0.0), InputError, "dt_ms"),
        (lambda: RetinalSpikes(threshold=0.0), InputError, "threshold"),
        (lambda: RetinalSpikes(alpha=-1.0), InputError, "alpha"),
        (lambda: RetinalSpikes().initial_state(torch.ones(2).int()), ShapeError, "floating"),
        (
            lambda: RetinalSpikes()(torch.rand(2, 3), RetinalSpikesState(torch.zeros(2))),
            ShapeError,
            "initial_state",
        ),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
