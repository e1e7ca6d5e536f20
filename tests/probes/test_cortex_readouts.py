"""Readouts against the truth: positions, kernel, cone types, movements and predicted signals."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes import (
    cone_readout,
    kernel_readout,
    movement_readout,
    position_readout,
    unexplained_variance,
)
from calcarine.retina import LateralInhibition, cone_mosaic, cone_positions
from calcarine.retina.density import layout_density
from calcarine.retina.positions import uniform_positions


@pytest.fixture(scope="module")
def true():
    return cone_positions(layout_density("fovea", 0.4), 20, seed=1)


def turned(positions, scale, degrees, shift):
    """Rotate counter-clockwise on screen, where y points down."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    rotation = torch.tensor([[c, s], [-s, c]], dtype=positions.dtype)
    moved = torch.einsum("ij,jhw->ihw", rotation, positions)
    return scale * moved + torch.tensor(shift, dtype=positions.dtype)[:, None, None]


@pytest.mark.parametrize(("scale", "degrees"), [(0.5, 30.0), (3.0, -75.0), (1.0, 180.0)])
def test_positions_are_known_up_to_a_similarity_transform(true, scale, degrees):
    found = position_readout(turned(true, scale, degrees, (0.3, -2)), true, field_px=40)
    assert found.error_cells < 1e-9
    assert torch.allclose(found.aligned, true)
    assert found.scale == pytest.approx(1 / scale)
    assert math.cos(math.radians(found.rotation_deg + degrees)) == pytest.approx(1)


def test_errors_of_positions_are_in_cells_and_pixels():
    """Jitter that no similarity transform takes away, on a regular lattice 2 / S apart."""
    lattice = uniform_positions(64)
    noise = torch.randn(lattice.shape, generator=torch.Generator().manual_seed(0)).double()
    found = position_readout(lattice + 0.01 * noise, lattice, field_px=128)
    assert found.error_px == pytest.approx(0.01 * math.sqrt(2) * 64, rel=0.03)
    assert found.error_cells == pytest.approx(0.01 * math.sqrt(2) * 32, rel=0.03)


def test_a_mirror_image_is_not_the_same_field(true):
    mirrored = true.clone()
    mirrored[0] = -mirrored[0]
    assert position_readout(mirrored, true, field_px=40).error_cells > 1


def test_the_border_is_left_out(true):
    wrong = true.clone()
    wrong[:, 0] += 5
    assert position_readout(wrong, true, field_px=40, border=1).error_cells < 1e-9
    assert position_readout(wrong, true, field_px=40).error_cells > 1


def test_bad_positions_are_refused(true):
    with pytest.raises(ShapeError, match=r"\(2, size, size\)"):
        position_readout(true[:, 1:], true, field_px=40)
    with pytest.raises(ShapeError, match="border 10"):
        position_readout(true, true, field_px=40, border=10)
    with pytest.raises(NonFiniteError):
        position_readout(true / 0, true, field_px=40)
    with pytest.raises(InputError, match="all are the same"):
        position_readout(0 * true, true, field_px=40)


@pytest.mark.parametrize("scale", [1, -0.2, 40])
def test_kernels_are_known_up_to_their_strength(scale):
    true = LateralInhibition().kernel
    found = kernel_readout(scale * true, true)
    assert found.error < 1e-12
    assert abs(found.correlation) == pytest.approx(1)
    assert torch.allclose(found.scaled, true)


def test_a_delta_misses_the_surround():
    true = LateralInhibition().kernel
    delta = torch.zeros(3, 3)
    delta[1, 1] = 1
    found = kernel_readout(delta, true)
    # The best multiple of a delta leaves everything but the middle.
    rest = true.clone()
    rest[3, 3] = 0
    assert found.error == pytest.approx(float(rest.norm() / true.norm()))
    assert found.error == pytest.approx(math.sqrt(1 - found.correlation**2))
    assert found.scaled.shape == (7, 7)


def test_bad_kernels_are_refused():
    with pytest.raises(ShapeError, match="odd side"):
        kernel_readout(torch.ones(4, 4), torch.ones(3, 3))
    with pytest.raises(NonFiniteError):
        kernel_readout(torch.ones(3, 3) / 0, torch.ones(3, 3))
    with pytest.raises(InputError, match="not zero everywhere"):
        kernel_readout(torch.zeros(3, 3), torch.ones(3, 3))


@pytest.mark.parametrize("kind", ["MS", "LMS", "LMSQ"])
def test_identities_that_say_the_type_are_read(kind):
    mosaic = cone_mosaic(kind, 24)
    mixing = torch.randn(8, len(mosaic), generator=torch.Generator().manual_seed(0))
    found = cone_readout(torch.einsum("kt,thw->khw", mixing, mosaic), mosaic, border=2)
    assert found.accuracy == 1
    assert set(found.by_type) == set(kind)
    assert set(found.by_type.values()) == {1.0}
    assert 0.3 < found.chance < 1


def test_identities_that_say_nothing_are_at_chance():
    mosaic = cone_mosaic("LMS", 64)
    draw = torch.Generator().manual_seed(7)  # not that of the mosaic
    alike = cone_readout(torch.ones(8, 64, 64), mosaic)
    assert alike.accuracy == pytest.approx(alike.chance)
    random = cone_readout(torch.randn(8, 64, 64, generator=draw), mosaic)
    assert random.accuracy == pytest.approx(random.chance, abs=0.02)
    # As many numbers as cells: any read-out of the same cells would be perfect.
    many = cone_readout(torch.randn(300, 16, 16, generator=draw), cone_mosaic("LMS", 16))
    assert many.accuracy < 0.8


def test_bad_identities_are_refused():
    mosaic = cone_mosaic("LMS", 8)
    with pytest.raises(ShapeError, match="of the same cells"):
        cone_readout(torch.ones(8, 7, 7), mosaic)
    with pytest.raises(ShapeError, match="border 4"):
        cone_readout(torch.ones(8, 8, 8), mosaic, border=4)
    with pytest.raises(NonFiniteError):
        cone_readout(torch.full((8, 8, 8), math.nan), mosaic)
    with pytest.raises(InputError, match="all are mixed"):
        cone_readout(torch.ones(8, 8, 8), torch.full((2, 8, 8), 0.5))


def test_movements_are_exact_within_half_a_pixel():
    true = torch.tensor([[3, -2], [0, 0], [7, 7], [-1, 4]]) * (2 / 64)
    told = true + torch.tensor([[0.4, -0.4], [0, 0], [0.6, 0], [0, -3.0]]) * (2 / 64)
    found = movement_readout(told, true, field_px=64)
    assert found.exact == 0.5
    assert found.error_px == pytest.approx((0.4 * math.sqrt(2) + 0.6 + 3) / 4, rel=1e-5)
    assert movement_readout(told[None], true[None], field_px=64) == found
    with pytest.raises(ShapeError, match="as many told as true"):
        movement_readout(told[1:], true, field_px=64)
    with pytest.raises(InputError, match="at least one movement"):
        movement_readout(told[:0], true[:0], field_px=64)


def test_unexplained_variance():
    actual = torch.randn(4, 1, 9, 9, generator=torch.Generator().manual_seed(0)) + 3
    assert unexplained_variance(actual, actual) == 0
    mean = torch.full_like(actual, float(actual.mean()))
    assert unexplained_variance(mean, actual) == pytest.approx(1, rel=1e-5)
    known = torch.zeros_like(actual)
    known[:2] = 1
    wrong = torch.cat([actual[:2], 0 * actual[2:]])
    assert unexplained_variance(wrong, actual, known) == 0
    assert unexplained_variance(wrong, actual) > 1
    with pytest.raises(ShapeError, match="of one shape"):
        unexplained_variance(actual[:1], actual)
    with pytest.raises(InputError, match="vary"):
        unexplained_variance(mean, mean)
    with pytest.raises(InputError, match="vary"):
        unexplained_variance(actual, actual, 0 * known)
