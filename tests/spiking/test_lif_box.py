"""Leaky integrate-and-fire: rates, resets, refractoriness, constants per unit, bad input."""

import math
import warnings

import pytest
import torch

from calcarine import simulate
from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError
from calcarine.simulate import Recording
from calcarine.spiking import LIF, LIFBox, LIFBoxState
from calcarine.testing import check_stage


def constant(level: float, duration_ms: float, dt_ms: float) -> torch.Tensor:
    return torch.full((round(duration_ms / dt_ms), 1, 1), level, dtype=torch.float64)


def intervals_ms(z: torch.Tensor, dt_ms: float) -> torch.Tensor:
    return z[:, 0, 0].nonzero()[:, 0].diff() * dt_ms


@pytest.mark.parametrize("dt_ms", [1.0, 0.3, 0.1, 0.03])
@pytest.mark.parametrize(("reset", "v_reset"), [("value", 0.0), ("value", -0.5), ("subtract", 0.0)])
def test_intervals_converge_to_the_closed_form_with_the_step(dt_ms, reset, v_reset):
    """T = tau ln((x - v_reset) / (x - v_th)); Euler and the grid of steps cost at most 1.5 dt."""
    lif = LIFBox(tau_mem_ms=10.0, v_reset=v_reset, reset=reset, dt_ms=dt_ms)
    z, _ = simulate.run(lif, constant(1.5, 200, dt_ms), engine="plain")
    found = intervals_ms(z, dt_ms)
    assert len(found) > 8
    expected = 10 * math.log((1.5 - v_reset) / (1.5 - 1.0))
    assert found.mean().item() == pytest.approx(expected, abs=1.5 * dt_ms)


def test_drive_below_threshold_never_fires_and_settles_at_rest_plus_drive():
    lif = LIFBox(v_leak=0.25)
    z, state = simulate.run(lif, constant(0.7, 300, 1.0))
    assert z.sum() == 0
    assert state.v.item() == pytest.approx(0.95)


def test_reset_by_value_reaches_the_value_exactly_and_by_subtraction_keeps_the_rest():
    x = torch.full((1, 3), 20.0)
    z, state = (lif := LIFBox(v_reset=0.1))(x, lif.initial_state(x))
    assert z.tolist() == [[1, 1, 1]]
    assert torch.equal(state.v, torch.full_like(x, 0.1))
    _, state = (lif := LIFBox(reset="subtract"))(x, lif.initial_state(x))
    torch.testing.assert_close(state.v, torch.full_like(x, 1.0))


@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
@pytest.mark.parametrize("kind", [LIFBox, LIF])
def test_a_refractory_period_caps_the_rate(kind, dt_ms):
    lif = kind(refractory_ms=4.0, dt_ms=dt_ms)
    z, _ = simulate.run(lif, constant(1e4, 100, dt_ms), engine="plain")
    found = intervals_ms(z, dt_ms)
    assert torch.equal(found, torch.full_like(found, 4.0 + dt_ms))
    assert len(found) > 10


def test_during_the_refractory_period_the_potential_stands_still_even_above_threshold():
    v = Recording()
    lif = LIFBox(refractory_ms=3.0, reset="subtract")
    movie = torch.full((6, 1, 1), 0.0)
    movie[0] = 30.0
    z, state = simulate.run(lif, movie, record={"v": v})
    assert z.flatten().tolist() == [1, 0, 0, 0, 1, 0]
    torch.testing.assert_close(v.values[:4], torch.full((4, 1, 1), 2.0))
    assert state.refractory.tolist() == [[2]]


def test_refractory_periods_may_differ_between_units():
    lif = LIFBox(refractory_ms=[0.0, 2.0, 5.0])
    z, _ = simulate.run(lif, torch.full((60, 1, 3), 1e4), engine="plain")
    assert z.sum(0).flatten().tolist() == [60, 20, 10]


@pytest.mark.parametrize(("size", "batch"), [((5, 3), 1), ((255, 301), 2)])
def test_constants_per_channel_and_per_unit_equal_separate_neurons(size, batch):
    generator = torch.Generator().manual_seed(0)
    movie = 6 * torch.rand(6, batch, 2, *size, generator=generator, dtype=torch.float64)
    unit_v_th = 0.5 + torch.rand(2, *size, generator=generator, dtype=torch.float64)
    tau_ms = [3.0, 20.0]
    z, _ = simulate.run(LIFBox(tau_mem_ms=tau_ms, v_th=unit_v_th), movie, engine="plain")
    for channel in range(2):
        one = LIFBox(tau_mem_ms=tau_ms[channel], v_th=unit_v_th[channel])
        alone, _ = simulate.run(one, movie[:, :, channel], engine="plain")
        assert torch.equal(alone, z[:, :, channel])
    one = LIFBox(tau_mem_ms=20.0, v_th=unit_v_th[1, 4, 2].item())
    alone, _ = simulate.run(one, movie[:, :, 1, 4, 2], engine="plain")
    assert torch.equal(alone, z[:, :, 1, 4, 2])
    assert 0 < z.mean() < 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_of_the_input_is_kept_everywhere(dtype):
    x = torch.full((2, 3), 20.0, dtype=dtype)
    z, state = (lif := LIFBox(refractory_ms=1000.0))(x, lif.initial_state(x))
    assert z.dtype == state.v.dtype == dtype
    for _ in range(600):
        z, state = lif(x, state)
    assert z.sum() == 0
    assert state.refractory.tolist() == [[400] * 3] * 2


def test_learned_constants_get_gradients_print_in_ms_and_survive_saving():
    lif = LIFBox(tau_mem_ms=[5.0, 9.0], learnable=("tau_mem_ms", "v_th"), alpha=5.0)
    assert {name for name, _ in lif.named_parameters()} == {"tau_mem.raw", "v_threshold.raw"}
    assert "tau_mem_ms=5 .. 9, learned" in repr(lif)
    z, _ = simulate.run(lif, torch.full((20, 1, 2), 1.7), engine="plain")
    z.sum().backward()
    assert all((p.grad != 0).all() for p in lif.parameters())
    with torch.no_grad():
        lif.tau_mem.raw.sub_(50.0)
    assert (lif.tau_mem.current() >= 1.0).all()
    again = LIFBox(tau_mem_ms=[5.0, 9.0], learnable=("tau_mem_ms", "v_th"))
    again.load_state_dict(lif.state_dict())
    assert torch.equal(again.tau_mem.current(), lif.tau_mem.current())
    assert len(list(LIFBox(learnable=True).parameters())) == 4


@pytest.mark.parametrize("surrogate", ["arctan", "sigmoid", "triangular", "straight_through"])
def test_every_surrogate_trains_the_same_spikes_with_another_gradient(surrogate):
    movie = torch.full((30, 1, 2), 1.6, dtype=torch.float64)

    def spikes_and_gradient(name):
        x = movie.clone().requires_grad_()
        z, _ = simulate.run(LIFBox(surrogate=name, alpha=2.0), x, engine="plain")
        return z.detach(), torch.autograd.grad(z.sum(), x)[0]

    z, gradient = spikes_and_gradient(surrogate)
    reference, other = spikes_and_gradient("superspike")
    assert torch.equal(z, reference)
    assert z.sum() > 0
    assert gradient.isfinite().all()
    assert not torch.allclose(gradient, other)


@pytest.mark.parametrize("reset", ["value", "subtract"])
def test_the_contract_holds_with_everything_switched_on(reset):
    lif = LIFBox(
        tau_mem_ms=[2.0, 5.0, 7.0],
        reset=reset,
        refractory_ms=[0.0, 1.0, 2.0],
        learnable=True,
        surrogate="arctan",
    )
    check_stage(
        lif, 4 * torch.rand(2, 3, 4), skip=["gradient", "recipe_round_trip"]
    ).raise_if_failed()


@pytest.mark.parametrize("kind", [LIFBox, LIF])
def test_impossible_settings_are_refused(kind):
    with pytest.raises(InputError, match="0 < dt_ms < inf, got dt_ms=0"):
        kind(dt_ms=0)
    with pytest.raises(InputError, match=r"tau_mem_ms expected finite values >= 1, got 0.5"):
        kind(tau_mem_ms=0.5)
    with pytest.raises(InputError, match="v_th expected finite values"):
        kind(v_th=math.nan)
    with pytest.raises(InputError, match="refractory_ms expected finite values >= 0"):
        kind(refractory_ms=-1.0)
    with pytest.raises(UnknownNameError, match=r"no reset named 'subtrct'.*'subtract'"):
        kind(reset="subtrct")
    with pytest.raises(UnknownNameError, match="no surrogate gradient named 'relu'"):
        kind(surrogate="relu")
    with pytest.raises(UnknownNameError, match=r"learnable constant .*Did you mean 'tau_mem_ms'"):
        kind(learnable=("tau_mem",))
    with pytest.raises(InputError, match=r"a tuple of names, got 'v_th'. Pass \('v_th',\)"):
        kind(learnable="v_th")
    with pytest.raises(TypeError):
        kind(tau_ms=3.0)


def test_a_setting_without_effect_warns():
    with pytest.warns(CalcarineWarning, match="v_reset=0.3 has no effect"):
        LIFBox(reset="subtract", v_reset=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LIFBox(reset="subtract")


@pytest.mark.parametrize("kind", [LIFBox, LIF])
def test_input_that_cannot_be_integrated_is_refused(kind):
    lif = kind()
    state = lif.initial_state(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"state of shape \(2, 4\) as its input, got \(2, 3\)"):
        lif(torch.zeros(2, 4), state)
    with pytest.raises(ShapeError, match="floating-point input with axes"):
        lif(torch.zeros(2, 3, dtype=torch.int64), state)
    with pytest.raises(ShapeError, match="floating-point input with axes"):
        lif(torch.tensor(1.0), state)
    with pytest.raises(ShapeError, match="tau_mem_ms has values of shape"):
        kind(tau_mem_ms=[5.0, 6.0])(torch.zeros(2, 3), state)


def test_the_state_names_its_parts():
    assert LIFBoxState._fields == ("v", "refractory")
    assert LIF().initial_state(torch.zeros(1, 2))._fields == ("v", "i", "refractory")
