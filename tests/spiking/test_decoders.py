"""What the encoders wrote, the decoders read."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.spiking.decoders import firing_rate_hz, first_spike_ms, population_value
from calcarine.spiking.encoders import (
    PopulationCode,
    latency_spikes,
    linear_latency_ms,
    poisson_spikes,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dt_ms", [1.0, 0.25])
def test_rate_is_spikes_per_second(dtype, dt_ms):
    spikes = torch.zeros(200, 1, 2, dtype=dtype)
    spikes[::10, 0, 1] = 1
    rate = firing_rate_hz(spikes, dt_ms)
    assert rate.dtype == dtype
    assert rate.tolist() == [[0.0, pytest.approx(100.0 / dt_ms)]]


def test_rate_in_a_window():
    spikes = torch.zeros(100, 1, 1)
    spikes[20:30] = 1
    assert firing_rate_hz(spikes, 1.0, start_ms=20, stop_ms=30).item() == 1000.0
    assert firing_rate_hz(spikes, 1.0, start_ms=30).item() == 0.0
    assert firing_rate_hz(spikes, 0.5, start_ms=5, stop_ms=20).item() == pytest.approx(2000 / 3)


def test_poisson_rates_come_back():
    rates = torch.tensor([[5.0, 50.0, 400.0]])
    spikes = poisson_spikes(rates, 40_000, 1.0, torch.Generator().manual_seed(0))
    # Four standard deviations of a count over 40 s.
    assert ((firing_rate_hz(spikes) - rates).abs() < 4 * (rates / 40).sqrt()).all()


@pytest.mark.parametrize("dt_ms", [1.0, 0.5])
def test_latencies_come_back_to_the_step(dt_ms):
    x = torch.rand(4, 25, 31, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    latency = linear_latency_ms(x, duration_ms=30.0, threshold=0.3)
    steps = round(30 / dt_ms)
    found = first_spike_ms(latency_spikes(latency, steps, dt_ms), dt_ms)
    silent = latency.isinf()
    assert silent.any()
    assert (found[silent] == 30.0).all()
    late = latency[~silent] - found[~silent]
    assert ((late >= 0) & (late < dt_ms)).all()


def test_only_the_first_spike_counts():
    spikes = torch.zeros(10, 1, 3)
    spikes[4:, 0, 0] = 1
    spikes[[0, 9], 0, 1] = 1
    assert first_spike_ms(spikes, 2.0).tolist() == [[8.0, 0.0, 20.0]]


def test_gradient_of_the_first_spike_is_that_of_the_product():
    """A spike at step 3 of 6, the next at 5: taking it away costs the 2 ms until the next one."""
    spikes = torch.zeros(6, 1, dtype=torch.float64)
    spikes[[3, 5]] = 1
    spikes.requires_grad_()
    first_spike_ms(spikes).sum().backward()
    # One at step s < 3 would come 3 - s ms earlier; what comes after the first has no influence.
    assert spikes.grad.flatten().tolist() == [-3.0, -2.0, -1.0, -2.0, 0.0, 0.0]
    silent = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    first_spike_ms(silent).sum().backward()
    assert silent.grad.flatten().tolist() == [-3.0, -2.0, -1.0]
    smooth = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(first_spike_ms, smooth.requires_grad_())


def test_rates_pass_gradients_on():
    spikes = torch.zeros(10, 1, dtype=torch.float64, requires_grad=True)
    firing_rate_hz(spikes, start_ms=2, stop_ms=6).sum().backward()
    assert spikes.grad.flatten().tolist() == [0, 0, 250, 250, 250, 250, 0, 0, 0, 0]


def test_population_values_come_back():
    code = PopulationCode(units=12, low=-1.0, high=1.0)
    x = torch.linspace(-0.8, 0.8, 33, dtype=torch.float64)[None]
    found = population_value(code(x), code.centers(x))
    # Away from the ends the sum over Gaussians at 1.5 sigma is even to exp(-2 (pi / 1.5)^2).
    assert (found - x).abs().max() < 0.02
    spikes = poisson_spikes(code(x) * 500, 4000, 1.0, torch.Generator().manual_seed(0))
    noisy = population_value(firing_rate_hz(spikes), code.centers(x))
    assert (noisy - x).abs().max() < 0.05


def test_a_silent_population_stands_for_the_middle():
    code = PopulationCode(units=5)
    silent = torch.zeros(2, 5, requires_grad=True)
    value = population_value(silent, code.centers(silent))
    assert torch.allclose(value, torch.tensor(0.5))
    value.sum().backward()
    assert silent.grad.isfinite().all()


def test_classes_are_read_from_rates_and_latencies():
    drive = torch.tensor([[0.2, 0.9, 0.5], [0.8, 0.1, 0.3]])
    by_rate = poisson_spikes(drive * 800, 400, 1.0, torch.Generator().manual_seed(0))
    by_time = latency_spikes(linear_latency_ms(drive, duration_ms=50.0), 50)
    assert firing_rate_hz(by_rate).argmax(-1).tolist() == [1, 0]
    assert first_spike_ms(by_time).argmin(-1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: firing_rate_hz(torch.zeros(5)), ShapeError, r"\(time, batch, ...\)"),
        (lambda: firing_rate_hz(torch.zeros(5, 1).bool()), ShapeError, "floating-point"),
        (lambda: firing_rate_hz(torch.zeros(5, 1), 0.0), InputError, "dt_ms > 0"),
        (
            lambda: firing_rate_hz(torch.zeros(5, 1), start_ms=3, stop_ms=3),
            InputError,
            "one step long",
        ),
        (lambda: firing_rate_hz(torch.zeros(5, 1), stop_ms=6), InputError, "within the 5 ms"),
        (
            lambda: firing_rate_hz(torch.zeros(5, 1), start_ms=float("nan")),
            InputError,
            "finite window",
        ),
        (lambda: first_spike_ms(torch.zeros(0, 1)), ShapeError, "at least one step"),
        (
            lambda: population_value(torch.zeros(2, 3), torch.zeros(4)),
            ShapeError,
            "one centre per unit",
        ),
    ],
)
def test_what_cannot_be_read(call, error, match):
    with pytest.raises(error, match=match):
        call()
