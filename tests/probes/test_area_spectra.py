"""Spectra of areas against matrices that are written down."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from calcarine.cortex.recurrent_area import RecurrentArea
from calcarine.errors import InputError
from calcarine.probes.area_spectra import (
    area_modes,
    recurrence_spectrum,
    resting_or_shown,
    step_modes,
    together,
)
from calcarine.probes.spectrum import stability


@pytest.fixture(params=[torch.float32, torch.float64])
def area(request):
    """The weights of an area of 6 x 5 x 4 units."""
    torch.manual_seed(1)
    made = RecurrentArea(in_channels=2, channels=6, size=(5, 4)).requires_grad_(False)
    torch.nn.init.normal_(made.bias, std=0.5)
    return made.to(request.param).folded()


def dense(area):
    """The recurrent convolution as a matrix, float64."""
    units = torch.eye(area.bias.numel(), dtype=torch.float64).reshape(-1, *area.bias.shape)
    return functional.conv2d(units, area.recurrent.double(), padding=1).flatten(1).T


def largest(matrix, k):
    return torch.linalg.eigvals(matrix).abs().sort(descending=True).values[:k]


def test_a_recurrence_is_its_convolution_as_a_matrix(area):
    found = recurrence_spectrum(area, 7)
    assert found.status == "converged"
    assert len(found.values) == 7
    torch.testing.assert_close(
        found.values.abs().double(), largest(dense(area), 7), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_a_step_is_its_jacobian_as_a_matrix(area, slope):
    """J = (1 - a) + a diag(phi') W, phi' = 1 where the drive is positive, else the slope."""
    draw = torch.Generator().manual_seed(2)
    r, fed = torch.randn(2, *area.bias.shape, generator=draw).to(area.bias)
    drive = functional.conv2d(r[None], area.recurrent, padding=1)[0] + fed
    gain = torch.where(drive > 0, 1.0, slope).flatten().double()
    assert 0 < (drive > 0).sum() < drive.numel()
    matrix = 0.8 * torch.eye(len(gain)).double() + 0.2 * gain[:, None] * dense(area)
    found = step_modes(area, r[None], fed, 2.0, 5, slope=slope)
    values = found.step_values.abs().to(matrix)
    torch.testing.assert_close(values, largest(matrix, 5), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shown", [False, True])
def test_the_areas_together_have_the_modes_of_the_network(cordsnet, shown):
    image = torch.rand(1, 1, 17, 21, generator=torch.Generator().manual_seed(0)) if shown else None
    said = []
    found = area_modes(cordsnet, (1, 2), "jacobian", image, 6, progress=said.append)
    assert said == ["area 1: 1920 units", "area 2: 1920 units"]
    whole = together([modes for _, modes in found.values()], 6, cordsnet.dt_ms)
    assert len(whole.step_values) == 6
    frame = torch.zeros(1, 1, 17, 21) if image is None else image
    rates, _ = resting_or_shown(cordsnet, image)
    state = cordsnet.initial_state(frame)
    at = state._replace(
        areas=tuple(a._replace(r=r) for a, r in zip(state.areas, rates, strict=True))
    )
    direct = stability(cordsnet, frame, at, k=6)
    torch.testing.assert_close(whole.step_values.abs(), direct.step_values.abs(), atol=1e-4, rtol=0)


def test_areas_can_be_chosen_and_none_is_refused(cordsnet):
    found = area_modes(cordsnet, (2,), "recurrent", None, 3)
    assert list(found) == [2]
    weights, linear = found[2]
    assert len(weights.values) == len(linear.step_values) == 3
    with pytest.raises(InputError, match="at least one area"):
        together([], 3, 2.0)
