"""Cone positions: densities, folds, symmetry, convergence."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, RunError, ShapeError, UnknownNameError
from calcarine.retina import (
    cone_density,
    cone_positions,
    density_error,
    jacobian,
    local_spacing,
)
from calcarine.retina.density import LAYOUTS, layout_density
from calcarine.retina.positions import uniform_positions


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [64, 100])
def test_density_follows_the_layout_without_folds(layout, size):
    density = layout_density(layout, 0.4)
    positions = cone_positions(density, size)
    assert positions.shape == (2, size, size)
    assert jacobian(positions).min() > 0.2
    assert density_error(positions, density).abs().max() < 0.05
    assert positions.abs().max() < 1
    spread = local_spacing(positions)
    ratio = (spread.max() / spread.min()).item()
    assert (ratio < 1.2) if layout == "uniform" else (ratio > 1.5)  # something happened


@pytest.mark.parametrize("layout", LAYOUTS)
def test_full_size_retina(layout):
    density = layout_density(layout, 0.4)
    positions = cone_positions(density, 256)
    assert jacobian(positions).min() > 0.2
    assert density_error(positions, density).abs().max() < 0.1


def test_without_jitter_the_flow_is_exact_in_one_dimension():
    """Density exp(a x) has the closed-form positions x = log(q e^a + (1 - q) e^-a) / a."""
    size, a = 64, 1.2
    positions = cone_positions(lambda x, y: torch.exp(a * x) + 0 * y, size, jitter=0)
    q = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    expected = torch.log(q * math.exp(a) + (1 - q) * math.exp(-a)) / a
    x, y = positions
    assert torch.allclose(x, expected.expand(size, size), atol=1e-5)
    assert torch.allclose(y, uniform_positions(size)[1], atol=1e-5)


def test_fovea_is_round_in_a_square():
    """The share of cones within r of the centre equals the share of the density there."""
    density = layout_density("fovea", 0.4)
    positions = cone_positions(density, 100)
    distance = positions.norm(dim=0)
    x, y = uniform_positions(800)
    wanted = density(x, y) / density(x, y).sum()
    for radius in (0.15, 0.3, 0.6, 0.9):
        found = (distance < radius).double().mean().item()
        assert found == pytest.approx(wanted[torch.hypot(x, y) < radius].sum().item(), rel=0.03)
    centre = distance < 0.5
    angle = torch.atan2(positions[1], positions[0])[centre]
    octants = torch.histc(angle, 8, -math.pi, math.pi)
    assert (octants / octants.mean() - 1).abs().max() < 0.1


def test_symmetric_density_gives_symmetric_positions_without_jitter():
    positions = cone_positions(layout_density("two_foveas", 0.4), 40, jitter=0)
    assert torch.allclose(positions[0], -positions[0].flip(1), atol=1e-9)
    assert torch.allclose(positions[1], -positions[1].flip(0), atol=1e-9)


def test_jitter_moves_cones_by_the_given_amount_smoothly():
    flat = layout_density("uniform", 0.4)
    still = cone_positions(flat, 64, jitter=0)
    assert torch.allclose(still, uniform_positions(64), atol=1e-12)
    moved = cone_positions(flat, 64, jitter=0.3, seed=1) - still
    rms_cells = moved.square().sum(0).mean().sqrt().item() * 32
    assert rms_cells == pytest.approx(0.3, rel=0.02)
    assert moved.diff(dim=2).abs().max() < 0.35 * moved.abs().max()
    other = cone_positions(flat, 64, jitter=0.3, seed=2) - still
    assert not torch.allclose(moved, other, atol=1e-3)


def test_measures_see_what_they_should():
    flat = layout_density("uniform", 0.4)
    lattice = uniform_positions(20)
    assert torch.allclose(jacobian(lattice), torch.ones(4, 19, 19, dtype=torch.float64))
    assert density_error(lattice, flat).abs().max() < 1e-12
    assert torch.allclose(local_spacing(lattice), torch.tensor(1 / 20, dtype=torch.float64))
    folded = lattice.clone()
    folded[0, 10, 10] += 0.25
    assert jacobian(folded).min() < 0
    squeezed = lattice / 2
    assert density_error(squeezed, flat).mean().item() == pytest.approx(3.0)


def test_density_table():
    at = torch.tensor([0.0, 0.0998, 1.0, 18.0, 30.0], dtype=torch.float64)
    expected = torch.tensor([199, 123.5, 18.1, 3.41, 3.41], dtype=torch.float64)
    assert torch.allclose(cone_density(at), expected)
    near = cone_density(torch.tensor([-0.01, 0.01], dtype=torch.float64))
    assert near[0] == near[1] < 199
    inner = cone_density(torch.linspace(0, 16, 500))
    assert bool((inner.diff() < 0).all())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layout_density("foveal", 0.4), UnknownNameError, "Did you mean 'fovea'"),
        (lambda: layout_density("fovea", 0.0), InputError, "half_field_mm"),
        (lambda: layout_density("fovea", 25.0), InputError, "18 mm"),
        (lambda: cone_positions(lambda x, y: -1 - 0 * x, 16), InputError, "positive"),
        (lambda: cone_positions(lambda x, y: x.mean(), 16), ShapeError, "same shape"),
        (lambda: cone_positions(lambda x, y: 1 + 0 * x, 16, jitter=3.0), InputError, "jitter"),
        (lambda: jacobian(torch.zeros(3, 4, 4)), ShapeError, "x before y"),
        (lambda: cone_density(torch.tensor(1)), InputError, "floating"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_an_impossible_density_is_not_answered_with_a_wrong_lattice():
    def needle(x, y):
        return 1 + 1e6 * torch.exp(-(x**2 + y**2) / 2e-6)

    with pytest.raises(RunError, match="smoother density"):
        cone_positions(needle, 16)
