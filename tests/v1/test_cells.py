"""Simple and complex cells: receptive fields, tuning in closed form, phase invariance."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.testing import check_model
from calcarine.v1 import ComplexCells, SimpleCells

SHAPE = (96, 80)


def wave(shape, columns, rows, phase=0.0):
    """Return a grating with whole numbers of periods along both axes."""
    y = torch.arange(shape[0], dtype=torch.float64)[:, None] / shape[0]
    x = torch.arange(shape[1], dtype=torch.float64)[None] / shape[1]
    return torch.cos(2 * math.pi * (columns * x + rows * y) + phase)[None, None]


def spread(frequency, bandwidth):
    """Return the standard deviation of the envelope across the contour, in pixels."""
    octaves = 2**bandwidth
    return (octaves + 1) / (octaves - 1) * math.sqrt(math.log(2) / 2) / (math.pi * frequency)


def closed_form(fx, fy, frequency, orientation_deg, bandwidth=1.4, aspect=0.5):
    """Return the gain of a Gabor filter without response to uniform light, one at its peak."""
    angle, sigma = math.radians(orientation_deg), spread(frequency, bandwidth)
    across = fx * math.sin(angle) + fy * math.cos(angle)
    along = (fx * math.cos(angle) - fy * math.sin(angle)) / aspect

    def envelope(k):
        return math.exp(-2 * (math.pi * sigma) ** 2 * (k**2 + along**2))

    uniform = math.exp(-2 * (math.pi * sigma * frequency) ** 2)
    return (envelope(across - frequency) - uniform * envelope(across)) / (1 - uniform**2)


@pytest.mark.parametrize("frequency", [0.25, 0.125])
@pytest.mark.parametrize("orientation", [0.0, 30.0, 90.0, 135.0])
def test_a_point_of_light_draws_the_gabor_receptive_field(frequency, orientation):
    """The response to a point is the mirrored receptive field, written out in pixels here."""
    cells = SimpleCells(
        SHAPE, (frequency,), (orientation,), (0.0, 90.0), halfwave=False, bandwidth_octaves=1.0
    ).double()
    point = torch.zeros(1, 1, *SHAPE, dtype=torch.float64)
    point[0, 0, 48, 40] = 1
    even, odd = cells(point)[0]
    angle, sigma = math.radians(orientation), spread(frequency, 1.0)
    y = torch.arange(SHAPE[0], dtype=torch.float64)[:, None] - 48
    x = torch.arange(SHAPE[1], dtype=torch.float64)[None] - 40
    across = x * math.sin(angle) + y * math.cos(angle)
    along = x * math.cos(angle) - y * math.sin(angle)
    envelope = torch.exp(-(across**2 + (0.5 * along) ** 2) / (2 * sigma**2))
    uniform = math.exp(-2 * (math.pi * sigma * frequency) ** 2)
    # The volume of the envelope makes the gain of the even filter one at its peak.
    gain = 2 * 0.5 / (2 * math.pi * sigma**2) / (1 - uniform**2)
    phase = 2 * math.pi * frequency * across
    tolerance = 0.03 * gain  # what of the filter lies beyond half a cycle per pixel
    assert torch.allclose(even, gain * envelope * (torch.cos(phase) - uniform), atol=tolerance)
    assert torch.allclose(odd, gain * envelope * torch.sin(phase), atol=tolerance)


@pytest.mark.parametrize("root", [False, True])
def test_tuning_follows_the_closed_form_at_every_phase(root):
    frequencies, orientations = (0.25, 0.125), (0.0, 45.0, 90.0, 120.0)
    cells = ComplexCells(SHAPE, frequencies, orientations, root=root).double()
    for columns, rows in [(0, 12), (10, 0), (10, 12), (-10, 12), (5, 20), (20, 3)]:
        fx, fy = columns / SHAPE[1], rows / SHAPE[0]
        # The image is real: it holds the frequency and its opposite.
        ahead = torch.tensor([closed_form(fx, fy, *cell) for cell in cells.cells])
        behind = torch.tensor([closed_form(-fx, -fy, *cell) for cell in cells.cells])
        for phase in (0.0, 0.7, 2.0):
            response = cells(wave(SHAPE, columns, rows, phase))[0]
            amplitude = response if root else response.clamp_min(0).sqrt()
            # The two interfere, so that the energy ripples between difference and sum.
            assert torch.all(amplitude.amax((-2, -1)) <= ahead.abs() + behind.abs() + 1e-6)
            assert torch.all(amplitude.amin((-2, -1)) >= (ahead.abs() - behind.abs()).abs() - 1e-6)
    assert ahead.max() > 0.05


def test_a_complex_cell_prefers_its_orientation_and_frequency():
    cells = ComplexCells(SHAPE, (0.25, 0.125), (0.0, 90.0)).double()
    gratings = {
        (0.25, 0.0): wave(SHAPE, 0, 24),
        (0.125, 0.0): wave(SHAPE, 0, 12),
        (0.25, 90.0): wave(SHAPE, 20, 0),
        (0.125, 90.0): wave(SHAPE, 10, 0),
    }
    responses = {cell: cells(image)[0].mean((-2, -1)) for cell, image in gratings.items()}
    for own, cell in enumerate(cells.cells):
        assert responses[cell].argmax() == own
        assert responses[cell][own].item() == pytest.approx(1.0, abs=1e-4)
        assert max(responses[other][own] for other in cells.cells if other != cell) < 0.2


def test_oblique_contours_turn_counter_clockwise_on_screen():
    """Contours from lower left to upper right have 45 degrees: columns plus rows is constant."""
    cells = ComplexCells((64, 64), (0.125 * math.sqrt(2),), (45.0, 135.0)).double()
    rising = cells(wave((64, 64), 8, 8))[0].mean((-2, -1))
    falling = cells(wave((64, 64), 8, -8))[0].mean((-2, -1))
    assert rising[0] > 0.99
    assert rising[1] < 1e-3
    assert falling[1] > 0.99
    assert falling[0] < 1e-3


def test_energy_does_not_depend_on_phase_but_simple_responses_do():
    settings = {"frequencies_cpp": (0.125,), "orientations_deg": (0.0,)}
    complex_cells = ComplexCells(SHAPE, **settings).double()
    simple_cells = SimpleCells(SHAPE, **settings).double()
    phases = [0.0, 0.5, 1.0, 1.5]
    energies = torch.stack([complex_cells(wave(SHAPE, 0, 12, p))[0, 0, 40, 40] for p in phases])
    simple = torch.stack([simple_cells(wave(SHAPE, 0, 12, p))[0, 0, 40, 40] for p in phases])
    # What is taken away for uniform light answers to the opposite frequency: a few per mille.
    assert torch.allclose(energies, torch.ones_like(energies), atol=3e-3)
    assert simple.max() - simple.min() > 0.5


def test_the_energy_is_the_sum_of_the_squares_of_half_wave_simple_cells():
    image = torch.rand(2, 3, *SHAPE, dtype=torch.float64)
    simple = SimpleCells(SHAPE).double()
    squares = simple(image).square().unflatten(1, (3, -1, 4)).sum(3).flatten(1, 2)
    assert torch.allclose(ComplexCells(SHAPE).double()(image), squares, atol=1e-12)
    assert (simple(image) == 0).double().mean() > 0.3
    linear = SimpleCells(SHAPE, phases_deg=(0.0, 180.0), halfwave=False).double()(image)
    assert torch.allclose(linear[:, ::2], -linear[:, 1::2], atol=1e-12)


def test_normalised_responses_saturate_and_are_halved_at_the_semi_saturation():
    cells = ComplexCells(SHAPE, (0.125,), (0.0,), normalize=True, semi_saturation=0.2).double()
    image = wave(SHAPE, 0, 12)
    assert cells(0.2 * image).mean().item() == pytest.approx(0.5, abs=1e-3)
    assert cells(100 * image).mean().item() == pytest.approx(1.0, abs=1e-3)
    # A mask that a cell does not see itself weakens its response through its neighbours.
    pair = ComplexCells(SHAPE, (0.125,), (0.0, 90.0), normalize=True).double()
    alone, masked = pair(image)[0, 0], pair(image + wave(SHAPE, 10, 0))[0, 0]
    assert masked.mean() < 0.6 * alone.mean()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("root", [False, True])
def test_uniform_light_gives_no_response_and_a_finite_gradient(value, root):
    cells = ComplexCells((20, 31), root=root).double()
    image = torch.full((1, 1, 20, 31), value, dtype=torch.float64, requires_grad=True)
    response = cells(image)
    assert response.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(response.sum(), image)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("stage", [SimpleCells, ComplexCells])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_colour_channels_are_independent_and_models_can_be_probed(stage, dtype):
    cells = stage((33, 26)).to(dtype).eval()
    image = torch.rand(2, 3, 33, 26, dtype=dtype)
    together = cells(image)
    assert together.shape == (2, 3 * len(cells.cells), 33, 26)
    assert together.dtype == dtype
    one = cells(image[:, 1:2])
    count = len(cells.cells)
    assert torch.allclose(together[:, count : 2 * count], one, atol=1e-5)
    check_model(cells, image).raise_if_failed()


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        (SimpleCells, {"frequencies_cpp": (0.6,)}, "above 0 and up to 0.5 cycles"),
        (SimpleCells, {"frequencies_cpp": ()}, "frequencies_cpp above"),
        (ComplexCells, {"orientations_deg": (190.0,)}, "orientations_deg from 0 to below 180"),
        (ComplexCells, {"orientations_deg": (180.0,)}, "orientations_deg from 0 to below 180"),
        (ComplexCells, {"bandwidth_octaves": 0.0}, "bandwidth_octaves"),
        (ComplexCells, {"aspect_ratio": -1.0}, "aspect_ratio"),
        (ComplexCells, {"semi_saturation": 0.0}, "semi_saturation > 0"),
        (SimpleCells, {"phases_deg": ()}, "phases_deg"),
        (SimpleCells, {"image_shape": (0, 4)}, "image_shape"),
    ],
)
def test_settings_out_of_range_are_refused(stage, settings, message):
    with pytest.raises(InputError, match=message):
        stage(**{"image_shape": (16, 16), **settings})


def test_images_that_do_not_fit_are_refused():
    cells = ComplexCells((16, 16))
    with pytest.raises(ShapeError, match=r"axes \(batch, channel, height, width\)"):
        cells(torch.rand(16, 16))
    with pytest.raises(ShapeError, match="16 x 16 pixels, got 16 x 17"):
        cells(torch.rand(1, 1, 16, 17))
