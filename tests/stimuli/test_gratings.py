"""Gratings: where their bars lie, how they move, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli import GratingSet, grating


def test_horizontal_bars_are_zero_degrees_and_vertical_ones_ninety():
    horizontal, vertical = grating((16, 24), torch.tensor([0.0, 90.0]), 1 / 8, dtype=torch.double)
    torch.testing.assert_close(horizontal[0, :, :1].expand(-1, 24), horizontal[0])
    torch.testing.assert_close(vertical[0, :1].expand(16, -1), vertical[0])
    assert horizontal.std(correction=0).item() == pytest.approx(0.5 / math.sqrt(2))


def test_orientation_turns_counter_clockwise_on_screen():
    """Along a contour of 30 degrees, 3 px right and sqrt 3 px up, nothing changes."""
    picture = grating(65, 45.0, 0.05, dtype=torch.double)[0, 0]
    along, across = picture[:-1, 1:] - picture[1:, :-1], picture[1:, 1:] - picture[:-1, :-1]
    assert along.abs().max() < 1e-12
    assert across.abs().max() > 0.1
    middle = 32
    bar = [picture[middle - round(k * math.tan(math.radians(45))), middle + k] for k in range(20)]
    assert torch.stack(bar).min() > 1 - 1e-12


def test_a_growing_phase_moves_the_bars_ninety_degrees_from_their_orientation():
    """A quarter of a cycle of 8 px: up by 2 px for horizontal bars, left by 2 px for vertical."""
    for orientation, axis in ((0.0, 0), (90.0, 1)):
        still, moved = grating(32, orientation, 1 / 8, [0.0, 90.0], dtype=torch.double)[:, 0]
        torch.testing.assert_close(moved, still.roll(-2, axis))
        assert (moved - still.roll(2, axis)).abs().max() > 0.5


@pytest.mark.parametrize("size", [(32, 32), (33, 48), (255, 301)])
def test_all_energy_is_at_the_frequency(size):
    """Orientation o and frequency f: the spectrum peaks at (fx, fy) = f (sin o, cos o)."""
    fy, fx = 3 / size[0], 5 / size[1]
    o = math.degrees(math.atan2(fx, fy))
    picture = grating(size, o, math.hypot(fx, fy), 25.0, 0.5, dtype=torch.double)
    power = torch.fft.fft2(picture[0, 0] - 0.5).abs().square()
    both = power[3, 5] + power[-3, -5]
    assert both / power.sum() == pytest.approx(1, abs=1e-12)
    assert picture.amax() <= 0.75
    assert picture.mean().item() == pytest.approx(0.5)


def test_contrast_is_michelsons():
    picture = grating(64, 0.0, 1 / 16, 0.0, [0.0, 0.2, 1.0], mean=0.4, dtype=torch.double)
    high, low = picture.amax((1, 2, 3)), picture.amin((1, 2, 3))
    torch.testing.assert_close(
        (high - low) / (high + low),
        torch.tensor([0.0, 0.2, 1.0], dtype=torch.double),
        rtol=0.04,
        atol=0,
    )
    assert torch.equal(picture[0], torch.full_like(picture[0], 0.4))


@pytest.mark.parametrize("edge_px", [0.0, 2.0, 8.0])
def test_a_disk_has_its_area_and_grey_around_it(edge_px):
    """Frequency 0 makes the disk itself visible."""
    disk = grating(101, frequency_cpp=0.0, diameter_px=60, edge_px=edge_px, dtype=torch.double)[
        0, 0
    ]
    assert disk[50, 50] == 1
    assert disk[0, 50] == 0.5
    assert disk[50, 80].item() == pytest.approx(1.0 if edge_px == 0 else 0.75)
    area = ((disk - 0.5) / 0.5).sum().item()
    ring = math.pi * edge_px**2 * (1 / 4 - 2 / math.pi**2)  # more of the edge lies outside
    tolerance = 5e-3 if edge_px == 0 else 1e-3  # a sharp edge is counted in whole pixels
    assert area == pytest.approx(math.pi * 30**2 + ring, rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_is_as_asked(dtype):
    picture = grating((5, 7), 20.0, [0.1, 0.2], dtype=dtype)
    assert picture.dtype == dtype
    assert picture.shape == (2, 1, 5, 7)
    exact = grating((5, 7), 20.0, [0.1, 0.2], dtype=torch.double)
    torch.testing.assert_close(picture.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_gradients_reach_the_parameters():
    phase = torch.tensor([10.0, 70.0], dtype=torch.double, requires_grad=True)
    picture = grating(16, 30.0, 0.1, phase, dtype=torch.double)
    (slope,) = torch.autograd.grad(picture[:, 0, 3, 4].sum(), phase)
    assert (slope != 0).all()


def test_a_set_holds_every_combination_in_order():
    gratings = GratingSet((12, 10), (0, 45), (0.1, 0.2, 0.3), (0, 90), (0.5, 1), (6,), channels=3)
    assert gratings.shape == (2, 3, 2, 2, 1)
    assert len(gratings) == 24
    pictures = gratings.images(dtype=torch.double)
    assert pictures.shape == (24, 3, 12, 10)
    expected = grating((12, 10), 45, 0.2, 90, 0.5, 6, dtype=torch.double)[0]
    by_axis = pictures.reshape(*gratings.shape, 3, 12, 10)
    torch.testing.assert_close(by_axis[1, 1, 1, 0, 0], expected.expand(3, -1, -1))
    torch.testing.assert_close(gratings.images(5, 9, dtype=torch.double), pictures[5:9])


def test_default_sets_are_even():
    gratings = GratingSet(8)
    assert gratings.orientations_deg[-1] == 165
    assert gratings.frequencies_cpp[0] == 1 / 32
    assert gratings.frequencies_cpp[-2] == 1 / 4
    assert len(gratings) == 12 * 8 * 8


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match=r"frequency_cpp in \[0, 0\.5\], got 0\.7.*alias"):
        grating(8, 0, [0.1, 0.7])
    with pytest.raises(InputError, match=r"contrast in \[0, 1\], got -0\.5"):
        grating(8, 0, 0.1, 0, -0.5)
    with pytest.raises(InputError, match="orientation_deg"):
        grating(8, float("nan"))
    with pytest.raises(InputError, match="diameter_px"):
        grating(8, diameter_px=-1)
    with pytest.raises(InputError, match="mean"):
        grating(8, mean=2)
    with pytest.raises(InputError, match="edge_px"):
        grating(8, edge_px=-1)
    with pytest.raises(ShapeError, match="1, 2, 3, 1, 1 values"):
        grating(8, 0, [0.1, 0.2], [0, 1, 2])
    with pytest.raises(ShapeError, match="list of numbers"):
        grating(8, torch.zeros(2, 2))
    with pytest.raises(InputError, match="whole number of pixels"):
        grating(0)


def test_sets_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="no two alike"):
        GratingSet(8, phases_deg=(0, 90, 0))
    with pytest.raises(InputError, match="frequencies"):
        GratingSet(8, frequencies_cpp=())
    with pytest.raises(InputError, match="at least one channel"):
        GratingSet(8, channels=0)
    with pytest.raises(InputError, match="start < stop <= 768"):
        GratingSet(8).images(10, 10)
