"""Adaptation: intervals lengthen, settle where theory says, and nothing overflows."""

import math

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.simulate import Recording
from calcarine.spiking import IAF, LIF, AdaptiveLIF, AdEx
from calcarine.testing import check_stage


def drive(level: float, duration_ms: float, dt_ms: float) -> torch.Tensor:
    """Input per step that amounts to the same current at any step, for tau_syn = 5 ms."""
    steps = round(duration_ms / dt_ms)
    return torch.full((steps, 1, 1), level * dt_ms / 5.0, dtype=torch.float64)


def intervals_ms(z: torch.Tensor, dt_ms: float) -> torch.Tensor:
    return z[:, 0, 0].nonzero()[:, 0].diff() * dt_ms


@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
@pytest.mark.parametrize("kind", [AdaptiveLIF, AdEx])
def test_intervals_lengthen_and_settle_under_constant_drive(kind, dt_ms):
    neuron = kind(tau_adapt_ms=200.0, dt_ms=dt_ms)
    z, _ = simulate.run(neuron, drive(4.0, 1500, dt_ms), engine="plain")
    # The first interval starts while the synaptic current still builds up.
    found = intervals_ms(z, dt_ms)[1:]
    assert len(found) > 8
    assert found[-1] > 1.5 * found[0]
    assert (found.diff()[:3] > -dt_ms - 1e-9).all()
    assert found[-3:].max() - found[-3:].min() <= 2 * dt_ms + 1e-9


@pytest.mark.parametrize("kind", [AdaptiveLIF, AdEx])
def test_without_adaptation_the_rate_is_constant(kind):
    still = {"coupling": 0.0} if kind is AdEx else {}
    z, _ = simulate.run(kind(beta=0.0, **still), drive(4.0, 300, 1.0), engine="plain")
    found = intervals_ms(z, 1.0)[2:]
    assert len(found) > 10
    assert found.max() - found.min() <= 1


def test_an_adaptive_neuron_that_does_not_adapt_is_a_lif():
    movie = torch.rand(80, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for reset in ("value", "subtract"):
        expected, _ = simulate.run(LIF(reset=reset), movie, engine="plain")
        found, _ = simulate.run(AdaptiveLIF(beta=0.0, reset=reset), movie, engine="plain")
        assert torch.equal(found, expected)
        assert found.sum() > 5


def test_the_threshold_jumps_by_beta_and_decays_exponentially():
    b = Recording()
    neuron = AdaptiveLIF(tau_adapt_ms=50.0, beta=0.3, dt_ms=0.1)
    movie = torch.zeros(1001, 1, 1, dtype=torch.float64)
    movie[0] = 1000.0
    z, _ = simulate.run(neuron, movie[:1], record={"b": b})
    assert z.sum() == 1
    assert b.values.item() == 0.3
    _, state = neuron(movie[1], neuron.initial_state(movie[0])._replace(b=b.values[0]))
    for _ in range(999):
        _, state = neuron(movie[1], state)
    assert state.b.item() == pytest.approx(0.3 * math.exp(-2), rel=0.003)


def test_after_subtraction_the_threshold_that_was_crossed_is_missing():
    neuron = AdaptiveLIF(reset="subtract", tau_adapt_ms=1e9)
    x = torch.full((1, 1), 30.0, dtype=torch.float64)
    state = neuron.initial_state(x)._replace(b=torch.full_like(x, 0.5))
    z, after = neuron(x, state)
    assert z.item() == 1
    assert after.v.item() == pytest.approx(3.0 - 1.5)
    assert after.b.item() == pytest.approx(0.76)


@pytest.mark.parametrize("dt_ms", [0.5, 0.1])
def test_the_exponential_neuron_fires_from_its_rheobase_on(dt_ms):
    """Without adaptation the drive has to pass v_th - delta_t, where v = v_th (gerstner2014)."""
    settings = {"coupling": 0.0, "beta": 0.0, "delta_t": 0.2, "dt_ms": dt_ms}
    for level, fires in [(0.79, False), (0.82, True)]:
        z, state = simulate.run(AdEx(**settings), drive(level, 400, dt_ms), engine="plain")
        assert bool(z.sum() > 0) is fires
    assert state.v.abs() < 3


def test_a_sharp_upswing_is_a_plain_threshold():
    """As delta_t falls, the exponential neuron fires like a LIF with the threshold v_th."""
    dt_ms = 0.05
    movie = drive(1.6, 200, dt_ms)
    plain, _ = simulate.run(LIF(dt_ms=dt_ms), movie, engine="plain")
    sharp = AdEx(delta_t=0.002, coupling=0.0, beta=0.0, dt_ms=dt_ms)
    z, _ = simulate.run(sharp, movie, engine="plain")
    found, expected = intervals_ms(z, dt_ms)[-1], intervals_ms(plain, dt_ms)[-1]
    assert found.item() == pytest.approx(expected.item(), abs=0.25)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_the_upswing_never_overflows(dtype, reset):
    neuron = AdEx(reset=reset, delta_t=0.01)
    v, b = Recording(), Recording()
    movie = torch.zeros(60, 1, 3, dtype=dtype)
    movie[::7] = 1000.0
    z, _ = simulate.run(neuron, movie, record={"v": v, "b": b})
    assert v.values.isfinite().all()
    assert b.values.isfinite().all()
    assert z.sum() > 5


def test_gradients_reach_every_learned_constant_of_the_exponential_neuron():
    neuron = AdEx(learnable=True, alpha=1.0, tau_mem_ms=[8.0, 12.0]).double()
    movie = torch.full((120, 1, 2), 0.5, dtype=torch.float64)
    z, state = simulate.run(neuron, movie, engine="plain")
    assert z.sum() > 2
    (z.sum() + state.v.sum()).backward()
    for name, parameter in neuron.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).all(), name
    assert len(list(neuron.parameters())) == 9


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_without_a_leak_the_interval_is_the_charge_over_the_drive(reset):
    z, _ = simulate.run(
        IAF(tau_mem_ms=10.0, reset=reset, dt_ms=0.125),
        torch.full((2000, 1, 1), 0.5, dtype=torch.float64),
        engine="plain",
    )
    assert intervals_ms(z, 0.125).mean().item() == pytest.approx(20.0, abs=0.25)


def test_subtraction_loses_nothing_of_the_input_of_a_neuron_without_leak():
    movie = torch.rand(200, 1, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z, state = simulate.run(IAF(tau_mem_ms=1.0, reset="subtract"), movie, engine="plain")
    torch.testing.assert_close(z.sum(0) + state.v, movie.sum(0))
    assert z.sum() > 500
    assert IAF(v_reset=0.3).initial_state(movie[0]).v.unique().item() == 0.3


@pytest.mark.parametrize("kind", [AdaptiveLIF, AdEx, IAF])
def test_the_contract_holds_with_everything_switched_on(kind):
    neuron = kind(tau_mem_ms=[2.0, 5.0, 7.0], refractory_ms=[0.0, 1.0, 2.0], learnable=True)
    report = check_stage(neuron, 4 * torch.rand(2, 3, 4), skip=["gradient", "recipe_round_trip"])
    report.raise_if_failed()


@pytest.mark.parametrize("kind", [AdaptiveLIF, AdEx, IAF])
def test_impossible_settings_and_input_are_refused(kind):
    with pytest.raises(InputError, match="tau_mem_ms expected finite values >= 1"):
        kind(tau_mem_ms=0.1)
    with pytest.raises(UnknownNameError, match="no reset named"):
        kind(reset="soft")
    with pytest.raises(UnknownNameError, match="learnable constant"):
        kind(learnable=("tau",))
    neuron = kind()
    with pytest.raises(ShapeError, match=r"state of shape \(3, 2\)"):
        neuron(torch.zeros(3, 2), neuron.initial_state(torch.zeros(2, 2)))


def test_the_upswing_has_to_be_positive_and_its_sharpness_too():
    with pytest.raises(InputError, match="0 < upswing < inf, got upswing=0"):
        AdEx(upswing=0.0)
    with pytest.raises(InputError, match=r"delta_t expected finite values >= 0\.001"):
        AdEx(delta_t=0.0)
