"""Modes of a system close to a state: against closed forms and dense Jacobians."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from calcarine.cortex import RecurrentArea
from calcarine.errors import InputError
from calcarine.models import CordsNet
from calcarine.probes.spectrum import (
    dense_matrix,
    leading_eigenvalues,
    linearised,
    modes,
    stability,
    step_stability,
)
from calcarine.stage import DynamicStage


class SpiralState(NamedTuple):
    r: Tensor


class Spiral(DynamicStage):
    """dr/dt = B r + x with the eigenvalues -1/tau +- i omega."""

    tau_ms, frequency_hz, dt_ms = 20.0, 40.0, 0.5

    def initial_state(self, like):
        return SpiralState(torch.zeros_like(like))

    def forward(self, x, state):
        turn = 2 * math.pi * self.frequency_hz / 1000
        rotated = torch.stack([-state.r[:, 1], state.r[:, 0]], 1)
        r = state.r + self.dt_ms * (-state.r / self.tau_ms + turn * rotated + x)
        return r, SpiralState(r)


def test_stability_reads_time_constant_and_frequency():
    frame = torch.zeros(1, 2, dtype=torch.float64)
    model = Spiral()
    found = stability(model, frame, model.initial_state(frame), k=2)
    torch.testing.assert_close(found.time_constants_ms, torch.full((2,), 20.0).double())
    torch.testing.assert_close(found.frequencies_hz, torch.full((2,), 40.0).double())
    assert found.stable
    # The simulated spiral decays a little more slowly: |1 + dt mu| > exp(dt Re mu).
    growth = abs(1 + 0.5 * complex(-1 / 20, 2 * math.pi * 0.04))
    expected = torch.full((2,), -0.5 / math.log(growth)).double()
    torch.testing.assert_close(found.step_time_constants_ms, expected)
    assert (found.step_time_constants_ms > 1.4 * found.time_constants_ms).all()


@pytest.mark.parametrize("dt_ms", [1.0, 0.1, 0.01])
def test_step_and_flow_agree_for_short_steps(dt_ms):
    mu = torch.tensor([complex(-1 / 20, 0.05), complex(-1 / 20, -0.05)], dtype=torch.complex128)
    turn = torch.tensor([[-1 / 20, 0.05], [-0.05, -1 / 20]], dtype=torch.float64)
    found = step_stability(
        lambda r: r + dt_ms * r @ turn, torch.zeros(1, 2, dtype=torch.float64), dt_ms, k=2
    )
    torch.testing.assert_close(found.values_per_ms.real, mu.real)
    torch.testing.assert_close(found.frequencies_hz, torch.full((2,), 50 / 2 / math.pi).double())
    error = 0.06 * dt_ms  # of first order in dt
    torch.testing.assert_close(
        found.step_time_constants_ms, found.time_constants_ms, rtol=error, atol=0
    )
    torch.testing.assert_close(found.step_frequencies_hz, found.frequencies_hz, rtol=error, atol=0)


def test_growth_is_unstable_and_the_unit_circle_has_no_time_constant():
    grown = torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64)
    found = step_stability(lambda r: grown * r, torch.zeros(3, dtype=torch.float64), 2.0, k=3)
    assert not found.stable
    assert found.step_time_constants_ms[0] == pytest.approx(-2 / math.log(1.5))
    assert found.step_time_constants_ms[1] == found.time_constants_ms[1] == math.inf
    assert found.step_time_constants_ms[2] == pytest.approx(2 / math.log(2))


@pytest.fixture
def area():
    torch.manual_seed(2)
    return RecurrentArea(in_channels=3, channels=5, size=(7, 6)).double().requires_grad_(False)


def test_the_jacobian_of_an_area_is_its_closed_form(area):
    """J = (1 - a) + a diag(drive > 0) W, here with both signs of drive."""
    weights = area.folded()
    fed = torch.randn(1, 5, 7, 6, dtype=torch.float64)
    r = torch.rand(1, 5, 7, 6, dtype=torch.float64)
    drive = torch.nn.functional.conv2d(r, weights.recurrent, padding=1) + fed
    mask = (drive > 0).double()
    assert 0.2 < mask.mean() < 0.8
    product = linearised(lambda r: weights.step(r, fed), r)
    for direction in torch.randn(3, 1, 5, 7, 6, dtype=torch.float64):
        inner = torch.nn.functional.conv2d(direction, weights.recurrent, padding=1)
        torch.testing.assert_close(product(direction), 0.8 * direction + 0.2 * mask * inner)
    dense = torch.linalg.eigvals(dense_matrix(product, r.shape, dtype=torch.float64))
    found = step_stability(lambda r: weights.step(r, fed), r, 2.0, k=4)
    expected = dense.abs().sort(descending=True).values[:4]
    torch.testing.assert_close(found.step_values.abs(), expected, rtol=0, atol=1e-7)


def test_what_cannot_be_traced_is_differentiated(area):
    def branching(r):
        return r.sin() if float(r.sum()) > 0 else r.cos()

    point, direction = torch.rand(2, 4, dtype=torch.float64)
    torch.testing.assert_close(linearised(branching, point)(direction), point.cos() * direction)


def test_the_modes_of_a_network_are_those_of_its_areas():
    """Areas only feed forward, so the Jacobian of a step is block-triangular."""
    torch.manual_seed(3)
    model = CordsNet(depth=2, classes=3, image_size=(14, 9)).double().eval().requires_grad_(False)
    frame = torch.randn(1, 3, 14, 9, dtype=torch.float64)
    with torch.no_grad():
        for module in model.areas:
            module.bias.normal_(std=0.3)
    state = model.settle(frame, tolerance=1e-13).state
    whole = stability(model, frame, state, k=10)
    assert whole.stable
    weights, rates = model.folded(), tuple(each.r for each in state.areas)
    fed = weights.fed(rates, weights.drive(frame))
    parts = [
        step_stability(lambda r, k=k: weights.areas[k].step(r, fed[k]), rates[k], 2.0, k=10)
        for k in range(2)
    ]
    values = torch.cat([each.step_values for each in parts])
    expected = values[values.abs().argsort(descending=True)][:10]
    distance = (whole.step_values[:, None] - expected[None]).abs()
    assert distance.min(1).values[:9].max() < 1e-6  # the tenth may be either of a pair
    # A perturbation along the slowest mode decays by its multiplier.
    slowest = int(whole.step_values.abs().argmax())
    vector = whole.spectrum.vectors[slowest].real
    sides = [r.numel() for r in rates]
    moved = [r + 1e-7 * v.reshape(r.shape) for r, v in zip(rates, vector.split(sides), strict=True)]
    for _ in range(20):
        moved = weights.step(tuple(moved), weights.drive(frame))
    left = torch.cat([(m - r).flatten() for m, r in zip(moved, rates, strict=True)]) / 1e-7
    turned = (whole.step_values[slowest] ** 20 * whole.spectrum.vectors[slowest]).real
    torch.testing.assert_close(left, turned, rtol=0, atol=1e-4)


def test_modes_follow_from_multipliers():
    found = leading_eigenvalues(
        lambda x: torch.tensor([0.9, 0.5], dtype=torch.float64) * x, (2,), 2, dtype=torch.float64
    )
    read = modes(found, 2.0)
    torch.testing.assert_close(read.values_per_ms.real, torch.tensor([-0.05, -0.25]).double())
    torch.testing.assert_close(read.time_constants_ms, torch.tensor([20.0, 4.0]).double())
    with pytest.raises(InputError, match="dt_ms > 0"):
        modes(found, 0.0)


def test_models_without_a_step_or_a_state_are_refused():
    with pytest.raises(InputError, match="has no dt_ms"):
        stability(torch.nn.Identity(), torch.zeros(1, 1), SpiralState(torch.zeros(1, 1)))
    with pytest.raises(InputError, match="holds no floating-point tensor"):
        stability(Spiral(), torch.zeros(1, 2), SpiralState(torch.zeros(1, 2, dtype=torch.long)))
    with pytest.raises(InputError, match="dt_ms > 0"):
        step_stability(lambda r: r, torch.zeros(3), -1.0)
