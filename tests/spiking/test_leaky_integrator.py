"""Leaky integrators: the exponential, the order of convergence, learning a time constant."""

import math

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.spiking import LeakyIntegrator, LeakyIntegratorBox


@pytest.mark.parametrize("dt_ms", [1.0, 0.1])
def test_a_step_is_answered_by_an_exponential_with_an_error_of_order_dt(dt_ms):
    unit = LeakyIntegratorBox(tau_mem_ms=10.0, v_leak=0.5, dt_ms=dt_ms)
    steps = round(15 / dt_ms)
    v, _ = simulate.run(unit, torch.full((steps, 1, 2), 2.0, dtype=torch.float64), engine="plain")
    error = v[-1, 0, 0].item() - (0.5 + 2 * (1 - math.exp(-1.5)))
    # Euler: exp(-s) is replaced by (1 - dt / tau)^n, smaller by s dt / (2 tau) of its size.
    assert error == pytest.approx(2 * math.exp(-1.5) * 1.5 * dt_ms / 20, rel=1.5 * dt_ms / 10)


def test_one_input_spike_gives_the_difference_of_two_exponentials():
    """v(t) = tau_syn / (tau_mem - tau_syn) (exp(-t / tau_mem) - exp(-t / tau_syn)) per tau_syn."""
    dt_ms, tau_mem_ms, tau_syn_ms = 0.01, 10.0, 4.0
    unit = LeakyIntegrator(tau_mem_ms=tau_mem_ms, tau_syn_ms=tau_syn_ms, dt_ms=dt_ms)
    movie = torch.zeros(2000, 1, 1, dtype=torch.float64)
    movie[0] = 1.0
    v, _ = simulate.run(unit, movie, engine="plain")
    t = torch.arange(1, 2001, dtype=torch.float64) * dt_ms
    expected = (
        tau_syn_ms
        / (tau_mem_ms - tau_syn_ms)
        * (torch.exp(-t / tau_mem_ms) - torch.exp(-t / tau_syn_ms))
    )
    torch.testing.assert_close(v[:, 0, 0], expected, rtol=0, atol=2e-3)
    assert v.max() > 0.2


@pytest.mark.parametrize("start_ms", [4.0, 40.0])
def test_gradient_descent_finds_the_time_constant_behind_a_recording(start_ms):
    generator = torch.Generator().manual_seed(1)
    movie = torch.rand(60, 1, 4, generator=generator, dtype=torch.float64)
    target, _ = simulate.run(LeakyIntegrator(tau_mem_ms=17.0), movie, engine="plain")
    unit = LeakyIntegrator(tau_mem_ms=start_ms, learnable=("tau_mem_ms",)).double()
    optimizer = torch.optim.Adam(unit.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        v, _ = simulate.run(unit, movie, engine="plain")
        (v - target).square().mean().backward()
        optimizer.step()
    assert unit.tau_mem.current().item() == pytest.approx(17.0, rel=0.01)
    assert "tau_mem_ms=17" in repr(unit) or "tau_mem_ms=16.9" in repr(unit)


@pytest.mark.parametrize("kind", [LeakyIntegrator, LeakyIntegratorBox])
def test_time_constants_per_unit_equal_separate_units(kind):
    movie = torch.rand(40, 2, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    together, _ = simulate.run(kind(tau_mem_ms=(3.0, 9.0, 27.0)), movie, engine="plain")
    for unit, tau_ms in enumerate((3.0, 9.0, 27.0)):
        alone, _ = simulate.run(kind(tau_mem_ms=tau_ms), movie[:, :, unit], engine="plain")
        assert torch.equal(together[:, :, unit], alone)


@pytest.mark.parametrize("kind", [LeakyIntegrator, LeakyIntegratorBox])
def test_impossible_settings_and_input_are_refused(kind):
    with pytest.raises(InputError, match=r"tau_mem_ms expected finite values >= 2, got 1\.0"):
        kind(tau_mem_ms=1.0, dt_ms=2.0, **({"tau_syn_ms": 4.0} if kind is LeakyIntegrator else {}))
    with pytest.raises(InputError, match="0 < dt_ms"):
        kind(dt_ms=-1.0)
    with pytest.raises(UnknownNameError, match="learnable constant"):
        kind(learnable=("v_th",))
    unit = kind()
    with pytest.raises(ShapeError, match=r"state of shape \(3, 2\)"):
        unit(torch.zeros(3, 2), unit.initial_state(torch.zeros(2, 2)))
