"""The recurrent area against its closed form and a step of plain arithmetic."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from calcarine import simulate
from calcarine.cortex import RecurrentArea
from calcarine.cortex.recurrent_area import RecurrentAreaState
from calcarine.errors import InputError, ShapeError


def area(**settings) -> RecurrentArea:
    torch.manual_seed(0)
    settings = {"in_channels": 2, "channels": 3, "size": (5, 7)} | settings
    return RecurrentArea(**settings).double()


@pytest.mark.parametrize(("dt_ms", "tolerance"), [(2.0, 0.05), (0.2, 0.005), (0.02, 0.0005)])
def test_without_recurrence_rates_rise_exponentially(dt_ms, tolerance):
    """r(t) = relu(b)(1 - exp(-t / tau)); Euler's error shrinks with dt."""
    cortex = area(dt_ms=dt_ms, tau_ms=10.0)
    with torch.no_grad():
        cortex.recurrent.parametrizations.weight.original0.zero_()
        cortex.bias.fill_(0.7)
        cortex.bias[1] = -0.7
        still = torch.zeros(round(20 / dt_ms), 1, 2, 5, 7, dtype=torch.float64)
        rates, _ = simulate.run(cortex, still, engine="plain")
    assert rates[-1, 0, 0, 0, 0].item() == pytest.approx(0.7 * (1 - math.exp(-2)), rel=tolerance)
    assert rates[:, :, 1].abs().max() == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("tau_ms", [10.0, (4.0, 10.0, 50.0)])
def test_one_step_is_the_equation(stride, tau_ms):
    cortex = area(stride=stride, tau_ms=tau_ms)
    u = torch.randn(2, 2, 5 * stride, 7 * stride, dtype=torch.float64)
    r = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        cortex.bias.normal_()
    kernels = []
    for conv in (cortex.recurrent, cortex.feedforward):
        g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
        kernels.append(g * v / v.square().sum((1, 2, 3), keepdim=True).sqrt())
    drive = F.conv2d(r, kernels[0], padding=1) + F.conv2d(u, kernels[1], None, stride, 1)
    alpha = 2.0 / torch.tensor(tau_ms, dtype=torch.float64).reshape(-1, 1, 1)
    expected = (1 - alpha) * r + alpha * (drive + cortex.bias).clamp(min=0)
    found, state = cortex(u, RecurrentAreaState(r))
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.equal(found, state.r)


def test_a_learned_time_constant_stays_above_the_step():
    cortex = area(learnable=True)
    optimizer = torch.optim.SGD([cortex.tau.raw], lr=1e4)
    u = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    r, _ = simulate.run(cortex, u.expand(4, *u.shape), engine="plain")
    (-r.square().sum()).backward()
    assert cortex.tau.raw.grad.item() > 0
    optimizer.step()
    assert 2.0 <= cortex.tau.current().item() < 2.1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"channels": 0}, "positive channels"),
        ({"stride": 3}, "stride 1 or 2"),
        ({"dt_ms": 11.0}, "tau_ms expected finite values >= 11"),
        ({"dt_ms": -1.0}, "0 < dt_ms"),
        ({"dt_ms": 2.5, "learnable": True}, "at most 2 where tau is learned"),
        ({"tau_ms": (10.0, 10.0)}, "tau_ms has values of shape"),
    ],
)
def test_impossible_areas_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        area(**settings)


def test_input_and_state_have_to_fit():
    cortex = area(stride=2)
    u = torch.zeros(2, 2, 10, 13, dtype=torch.float64)
    assert cortex.initial_state(u).r.shape == (2, 3, 5, 7)
    with pytest.raises(ShapeError, match=r"shape \(B, 2, 10, 14\)"):
        cortex.initial_state(u[..., :11])
    with pytest.raises(ShapeError, match="floating-point"):
        cortex.initial_state(u.long())
    with pytest.raises(ShapeError, match=r"state of shape \(2, 3, 5, 7\)"):
        cortex(u, RecurrentAreaState(torch.zeros(1, 3, 5, 7, dtype=torch.float64)))
