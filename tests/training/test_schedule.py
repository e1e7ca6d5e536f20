from __future__ import annotations

import itertools

import pytest

from calcarine.training import TrainingSettings, learning_rate


def test_warm_up_rises_linearly_to_the_full_rate():
    settings = TrainingSettings(learning_rate=0.8, warmup_updates=4, updates=100)
    assert [learning_rate(settings, u) for u in range(5)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8]
    )


def test_cosine_ends_at_the_final_fraction_and_is_half_way_in_the_middle():
    settings = TrainingSettings(
        learning_rate=2.0, warmup_updates=10, updates=111, final_rate_fraction=0.1
    )
    rates = [learning_rate(settings, u) for u in range(10, 111)]
    assert rates[-1] == pytest.approx(0.2)
    assert rates[50] == pytest.approx((2.0 + 0.2) / 2)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


def test_constant_stays():
    settings = TrainingSettings(schedule="constant", warmup_updates=0, updates=50)
    assert {learning_rate(settings, u) for u in range(50)} == {1e-3}


def test_step_falls_tenfold_at_each_drop():
    settings = TrainingSettings(
        schedule="step", learning_rate=0.1, rate_drops=(4, 6), warmup_updates=2, updates=8
    )
    rates = [learning_rate(settings, u) for u in range(8)]
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("updates", [1, 2, 100, 101])
def test_a_run_no_longer_than_its_warm_up_has_positive_rates(updates):
    settings = TrainingSettings(updates=updates, warmup_updates=100)
    rates = [learning_rate(settings, u) for u in range(updates)]
    assert all(0 < rate <= 1e-3 for rate in rates)
