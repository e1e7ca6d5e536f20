"""Time constants are found again, per unit, channel and area."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.cortex import RecurrentArea
from calcarine.errors import InputError, NonFiniteError, ShapeError, UnknownNameError
from calcarine.probes import fit_decay, time_constants


@pytest.mark.parametrize("tau_ms", [3.0, 10.0, 80.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_exponential_is_found_exactly(tau_ms, dtype):
    t = torch.arange(400, dtype=torch.double)
    amplitude = torch.tensor([[1.0, -2.0, 5.0], [0.5, 3.0, -1.0]])
    activity = (0.4 + amplitude * torch.exp(-t / tau_ms)[:, None, None]).to(dtype)
    found = fit_decay(activity, torch.full((1, 3), 0.4, dtype=dtype), 1.0)
    tolerance = 1e-9 if dtype == torch.double else 1e-3
    assert torch.allclose(found.tau_ms, torch.full((3,), tau_ms).double(), rtol=tolerance)
    assert torch.allclose(found.peak.double(), amplitude.double().square().mean(0).sqrt())
    # Linear interpolation within a step, against ln 2 tau.
    assert torch.allclose(found.half_ms, found.tau_ms * math.log(2), atol=0.06)
    assert (found.r_squared > 1 - tolerance).all()
    assert found.summary() == pytest.approx((tau_ms,) * 3, rel=tolerance)


@pytest.mark.parametrize("dt_ms", [2.0, 0.25])
def test_a_network_of_leaky_units_tells_the_time_constants_of_its_flow(leaky, dt_ms):
    tau = torch.tensor([5.0, 10.0, 35.0], dtype=torch.double)
    model = leaky(tau, dt_ms, bias=1.0)
    images = torch.rand(2, 3, dtype=torch.double)
    found = time_constants(model, images, warmup_ms=2000)["r"]
    assert torch.allclose(found.flow_ms, tau, rtol=1e-6)
    assert torch.allclose(found.tau_ms, -dt_ms / torch.log1p(-dt_ms / tau), rtol=1e-6)


def test_fast_modes_are_left_out_and_the_tail_counts():
    """2 ms and 30 ms: below a tenth of the peak nearly all is the slow one."""
    t = torch.arange(300, dtype=torch.double)
    activity = (0.6 * torch.exp(-t / 2) + 0.4 * torch.exp(-t / 30))[:, None, None]
    early = fit_decay(activity, torch.zeros(1, 1), 1.0, high=1.0, low=0.3)
    late = fit_decay(activity, torch.zeros(1, 1), 1.0, high=0.1)
    assert early.tau_ms.item() < 15
    assert late.tau_ms.item() == pytest.approx(30, rel=1e-3)
    assert late.r_squared > early.r_squared


def test_a_late_peak_begins_the_fit_anew():
    """Units of a second area go on rising after offset."""
    t = torch.arange(200, dtype=torch.double)
    activity = torch.where(t < 7, 0.2 + 0.1 * t, 0.9 * torch.exp(-(t - 7) / 12))[:, None, None]
    found = fit_decay(activity, torch.zeros(1, 1), 1.0)
    assert found.tau_ms.item() == pytest.approx(12, rel=1e-9)
    assert found.half_ms.item() == pytest.approx(7 + 12 * math.log(2), abs=0.05)
    assert found.peak.item() == pytest.approx(0.9)


def test_units_that_tell_nothing_have_no_time_constant():
    t = torch.arange(100, dtype=torch.double)
    units = [torch.exp(-t / 10), torch.zeros(100), 1e-6 * torch.exp(-t / 10), torch.ones(100),
             (t == 0).double()]  # fmt: skip
    found = fit_decay(torch.stack(units, 1)[:, None], torch.zeros(1, 5), 1.0)
    # Decays; silent; all but silent; stays for good; gone within a step.
    assert found.tau_ms[0].item() == pytest.approx(10)
    assert found.tau_ms[[1, 2, 4]].isnan().all()
    assert found.tau_ms[3] == math.inf
    assert found.half_ms[3] == math.inf
    assert found.points[0] == 40  # from exp(-7 / 10) < 1/2 to exp(-46 / 10) > 1/100
    assert found.r_squared[1:].isnan().all()
    silent = fit_decay(torch.zeros(4, 1, 2), torch.zeros(1, 2), 1.0)
    assert all(math.isnan(x) for x in silent.summary())


def test_channels_and_areas_pool_their_units():
    t = torch.arange(200, dtype=torch.double)
    tau = torch.tensor([5.0, 20.0], dtype=torch.double)
    activity = torch.exp(-t[:, None] / tau)[:, None, :, None, None] * torch.rand(3, 2, 4, 5)
    rest = torch.zeros(1, 2, 4, 5)
    assert fit_decay(activity, rest, 1.0).tau_ms.shape == (2, 4, 5)
    by_channel = fit_decay(activity, rest, 1.0, per="channel")
    assert torch.allclose(by_channel.tau_ms, tau)
    whole = fit_decay(activity, rest, 1.0, per="area")
    assert whole.tau_ms.shape == ()
    assert 5 < whole.tau_ms.item() < 20


def test_areas_of_cordsnet_have_time_constants_and_streaming_equals_the_trace(cordsnet):
    images = torch.rand(3, 1, 17, 21)
    times = {"warmup_ms": 400, "stimulus_ms": 60, "off_ms": 200}
    found = time_constants(cordsnet, images, areas=["area2"], **times)
    assert list(found) == ["area2"]
    assert found["area2"].tau_ms.shape == (64, 5, 6)  # 17 x 21 halved twice
    trace = cordsnet.trace(images, areas=[2], **times)[2][200 + 30 - 1 :]
    again = fit_decay(trace, cordsnet.baseline(images[:1], 400).areas[1].r, 2.0)
    assert torch.allclose(found["area2"].tau_ms, again.tau_ms, equal_nan=True, rtol=1e-3)
    assert found["area2"].tau_ms.isfinite().float().mean() > 0.5


def test_the_tail_of_an_area_decays_with_its_slowest_eigenvalue():
    """A strong bias keeps every unit above threshold, so that the area is a linear operator."""
    torch.manual_seed(0)
    area = RecurrentArea(in_channels=1, channels=3, size=(5, 4)).double().requires_grad_(False)
    kernel = torch.randn(3, 3, 3, 3, dtype=torch.double)
    kernel = kernel + kernel.transpose(0, 1).flip(2, 3)  # symmetric: real eigenvalues
    units = torch.eye(60, dtype=torch.double).reshape(60, 3, 5, 4)
    matrix = torch.nn.functional.conv2d(units, kernel, padding=1).reshape(60, 60)
    kernel *= 0.6 / torch.linalg.eigvalsh(matrix).abs().max()
    area.recurrent.weight = kernel
    torch.nn.init.constant_(area.bias, 50.0)
    matrix = torch.nn.functional.conv2d(units, area.recurrent.weight, padding=1).reshape(60, 60)
    slowest = 10 / (1 - torch.linalg.eigvalsh(matrix).max().item())
    found = time_constants(
        area, torch.rand(2, 1, 5, 4, dtype=torch.double), per="area", warmup_ms=2000, off_ms=800,
        high=1e-6, low=1e-10, silent=0,
    )["r"]  # fmt: skip
    assert slowest > 15
    assert found.flow_ms.item() == pytest.approx(slowest, rel=0.02)
    assert found.tau_ms.item() == pytest.approx(-2 / math.log(1 - 2 / slowest), rel=0.02)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"high": 0.01, "low": 0.5}, InputError, "low < high"),
        ({"low": 0.0}, InputError, "0 < low"),
        ({"silent": 1.0}, InputError, "silent < 1"),
        ({"dt_ms": 0.0}, InputError, "dt_ms > 0"),
        ({"per": "column"}, UnknownNameError, "unit"),
        ({"baseline": torch.zeros(1, 4)}, ShapeError, "baseline of the same shape"),
        ({"baseline": torch.zeros(3, 3)}, ShapeError, "baseline of the same shape"),
        ({"activity": torch.ones(1, 2, 3)}, InputError, "at least two frames"),
        ({"activity": torch.ones(0, 2, 3)}, InputError, "at least two frames"),
        ({"activity": torch.full((3, 2, 3), math.nan)}, NonFiniteError, "NaN"),
    ],
)
def test_bad_inputs_are_refused(settings, error, match):
    good = {"activity": torch.rand(5, 2, 3), "baseline": torch.zeros(1, 3), "dt_ms": 1.0}
    with pytest.raises(error, match=match):
        fit_decay(**{**good, **settings})


def test_a_channel_needs_an_axis():
    with pytest.raises(ShapeError, match="axis of channels"):
        fit_decay(torch.rand(5, 2), torch.zeros(1), 1.0, per="channel")
