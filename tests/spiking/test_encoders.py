"""Spikes come at the rate, at the time and from the units that their values ask for."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.spiking.encoders import (
    PopulationCode,
    latency_spikes,
    lif_latency_ms,
    linear_latency_ms,
    poisson_spikes,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
def test_poisson_spikes_have_the_rate_and_the_variance_of_a_bernoulli_train(dtype, dt_ms):
    rates = torch.tensor([[0.0, 20.0, 100.0, 1000.0]], dtype=dtype).expand(300, 4)
    steps = 400
    spikes = poisson_spikes(rates, steps, dt_ms, torch.Generator().manual_seed(3))
    assert spikes.shape == (steps, 300, 4)
    assert spikes.dtype == dtype
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    counts = spikes.sum(0).double()
    chance = rates[0].double() * dt_ms / 1000
    mean, variance = steps * chance, steps * chance * (1 - chance)
    # Five standard errors of the mean and of the variance of 300 trains (8 % for the latter).
    assert ((counts.mean(0) - mean).abs() <= 5 * (variance / 300).sqrt()).all()
    assert torch.allclose(counts.var(0), variance, rtol=0.4, atol=1e-12)
    assert counts.sum() > 0


def test_poisson_intervals_are_geometric():
    """The chance of a silent gap of n steps is (1 - p)^n: no memory."""
    chance = 0.1
    spikes = poisson_spikes(
        torch.full((1, 1), 100.0), 200_000, 1.0, torch.Generator().manual_seed(0)
    )
    gaps = spikes[:, 0, 0].nonzero().flatten().diff()
    for n in (1, 5, 20):
        share = (gaps > n).double().mean().item()
        assert share == pytest.approx((1 - chance) ** n, abs=0.02)


def test_poisson_spikes_repeat_with_their_generator_and_take_images():
    image = torch.rand(2, 3, 25, 31, generator=torch.Generator().manual_seed(1)) * 200
    one = poisson_spikes(image, 11, 1.0, torch.Generator().manual_seed(7))
    same = poisson_spikes(image, 11, 1.0, torch.Generator().manual_seed(7))
    other = poisson_spikes(image, 11, 1.0, torch.Generator().manual_seed(8))
    assert one.shape == (11, 2, 3, 25, 31)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("rate", "steps", "error", "match"),
    [
        (torch.tensor([-1.0]), 5, InputError, "between 0 and 1000 Hz"),
        (torch.tensor([1500.0]), 5, InputError, "Lower the rate"),
        (torch.tensor([math.nan]), 5, NonFiniteError, "rate_hz"),
        (torch.tensor([10]), 5, ShapeError, "floating-point"),
        (torch.tensor(10.0), 5, ShapeError, r"axes \(batch, ...\)"),
        (torch.tensor([10.0]), 0, InputError, "steps >= 1"),
    ],
)
def test_rates_that_cannot_be_drawn(rate, steps, error, match):
    with pytest.raises(error, match=match):
        poisson_spikes(rate, steps)


def euler_latency_ms(drive: float, tau_ms: float, v_th: float, dt_ms: float) -> float:
    v, n = 0.0, 0
    while v <= v_th:
        v += dt_ms / tau_ms * (drive - v)
        n += 1
    return n * dt_ms


@pytest.mark.parametrize("drive", [1.05, 1.5, 4.0, 30.0])
def test_latency_is_the_limit_of_a_neuron_in_small_steps(drive):
    """Explicit Euler is of first order: ten times smaller steps, ten times smaller errors."""
    exact = lif_latency_ms(torch.tensor([drive], dtype=torch.float64), tau_mem_ms=10.0).item()
    for dt_ms in (0.1, 0.01, 0.001):
        found = euler_latency_ms(drive, 10.0, 1.0, dt_ms)
        assert found == pytest.approx(exact, abs=dt_ms * (1 + 0.5 / (drive - 1)))


def test_weak_drives_give_no_spike_and_no_nan_in_the_gradient():
    x = torch.tensor([[-2.0, 0.0, 1.0, 1.0001, 3.0]], dtype=torch.float64, requires_grad=True)
    latency = lif_latency_ms(x)
    assert latency[0, :3].isinf().all()
    assert latency[0, 3:].isfinite().all()
    latency[latency.isfinite()].sum().backward()
    x0 = torch.tensor([1.0001, 3.0], dtype=torch.float64)
    assert torch.equal(x.grad[0, :3], torch.zeros(3, dtype=torch.float64))
    # d/dx of tau ln(x / (x - 1))
    assert torch.allclose(x.grad[0, 3:], 10 * (1 / x0 - 1 / (x0 - 1)))
    assert latency_spikes(latency.detach(), 200)[:, 0, :3].sum() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_linear_latency_and_its_spikes(dtype):
    x = torch.tensor([[1.0, 0.75, 0.5, 0.25, 0.2, 0.0]], dtype=dtype)
    latency = linear_latency_ms(x, duration_ms=40.0, threshold=0.2)
    assert latency.dtype == dtype
    assert latency[0].tolist() == [0.0, 10.0, 20.0, 30.0, math.inf, math.inf]
    spikes = latency_spikes(latency, 50)
    assert spikes.sum(0).tolist() == [[1, 1, 1, 1, 0, 0]]
    assert spikes.argmax(0)[0, :4].tolist() == [0, 10, 20, 30]
    fine = latency_spikes(latency, 100, dt_ms=0.5)
    assert fine.argmax(0)[0, :4].tolist() == [0, 20, 40, 60]


def test_latencies_beyond_the_train_are_silent():
    latency = torch.tensor([[4.999, 5.0, math.inf]])
    assert latency_spikes(latency, 5).sum(0).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: lif_latency_ms(torch.ones(2), v_th=0.0), InputError, "v_th > 0"),
        (lambda: lif_latency_ms(torch.tensor([math.inf])), NonFiniteError, "finite values of x"),
        (
            lambda: linear_latency_ms(torch.tensor([1.2]), duration_ms=5.0),
            InputError,
            "Scale them first",
        ),
        (lambda: linear_latency_ms(torch.ones(1), duration_ms=0.0), InputError, "duration_ms > 0"),
        (lambda: latency_spikes(torch.tensor([-1.0]), 5), InputError, "negative or NaN"),
        (lambda: latency_spikes(torch.tensor([math.nan]), 5), InputError, "negative or NaN"),
        (lambda: latency_spikes(torch.ones(1), 5, dt_ms=0.0), InputError, "dt_ms > 0"),
    ],
)
def test_latencies_that_cannot_be_coded(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_population_centres_and_widths_follow_the_paper():
    """bohte2002: centres low + (2k - 3) / 2 (high - low) / (K - 2), width (high - low) / 1.5."""
    code = PopulationCode(units=6, low=-1.0, high=3.0)
    centers = code.centers(torch.zeros(1, dtype=torch.float64))
    expected = [-1.0 + (2 * k - 3) / 2 * 4.0 / 4 for k in range(1, 7)]
    assert centers.tolist() == expected
    assert code.width == pytest.approx(4.0 / 4 / 1.5)
    response = code(torch.tensor([[expected[2]]], dtype=torch.float64))
    assert response[0, 0, 2] == 1.0
    assert response[0, 0, 3].item() == pytest.approx(math.exp(-0.5 * 1.5**2))


@pytest.mark.parametrize("shape", [(3,), (2, 1, 25, 31)])
def test_population_adds_its_units_last(shape):
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    response = PopulationCode(units=5)(x)
    assert response.shape == (*shape, 5)
    assert ((response >= 0) & (response <= 1)).all()
    spikes = poisson_spikes(response * 100, 9, 1.0, torch.Generator().manual_seed(0))
    assert spikes.shape == (9, *shape, 5)
    assert spikes.sum() > 0


@pytest.mark.parametrize("bad", [{"units": 2}, {"low": 1.0, "high": 1.0}, {"overlap": 0.0}])
def test_populations_that_cannot_be(bad):
    with pytest.raises(InputError, match="units >= 3, low < high and overlap > 0"):
        PopulationCode(**bad)
