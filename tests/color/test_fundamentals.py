"""Cone fundamentals: reference arrays, peaks, and the limits of the template and lens."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.color import cone_fundamentals, default_wavelengths, lens_density
from calcarine.errors import InputError

HUMAN = (560.0, 530.0, 419.0)


def test_match_the_reference_array(reference):
    found = cone_fundamentals(tuple(reference["peaks"].tolist()))
    assert found.shape == (301, 3)
    assert found.dtype == torch.float64
    # The reference spline of the lens differs in the fifth digit.
    assert torch.allclose(found, reference["fundamentals"], atol=1e-4, rtol=0)


def test_the_lens_moves_the_peaks():
    found = cone_fundamentals((*HUMAN, 545.0, 506.0))
    assert (found.argmax(0)[:3] + 400).tolist() == [567, 536, 442]
    assert torch.equal(found.amax(0), torch.ones(5, dtype=torch.float64))
    assert bool((found > 0).all())


def test_the_pigment_alone_peaks_where_it_was_asked_to():
    """Divided by the lens transmittance, the template peaks 0.3 % below its nominal peak."""
    wavelengths = torch.arange(400.0, 700.0, 0.25, dtype=torch.float64)
    peaks = torch.tensor([440.0, 500.0, 545.0, 600.0], dtype=torch.float64)
    pigments = cone_fundamentals(tuple(peaks.tolist()), wavelengths)
    pigments = pigments * 10 ** lens_density(wavelengths)[:, None]
    ratio = wavelengths[pigments.argmax(0)] / peaks
    assert torch.allclose(ratio, torch.full_like(ratio, 0.997), atol=1e-3, rtol=0)


def test_values_do_not_depend_on_the_other_wavelengths():
    full = cone_fundamentals(HUMAN)
    coarse = cone_fundamentals(HUMAN, torch.arange(400, 701, 10))
    assert torch.equal(coarse, full[::10])
    assert torch.equal(cone_fundamentals(HUMAN, [450.0]), full[50:51])


def test_dtype_follows_the_wavelengths():
    wavelengths = torch.arange(400.0, 701.0)
    assert cone_fundamentals(HUMAN, wavelengths).dtype == torch.float32
    assert cone_fundamentals(HUMAN, wavelengths.long()).dtype == torch.float64


def test_self_screening_broadens_the_spectrum():
    thin, thick = (cone_fundamentals(HUMAN, optical_density=d) for d in (0.0, 0.4))
    assert torch.allclose(thin, cone_fundamentals(HUMAN), atol=1e-3)
    assert thick[:, 0].sum() > 1.05 * thin[:, 0].sum()


def test_lens_is_tabulated_and_clear_from_660_nm():
    density = lens_density(torch.tensor([390.0, 500.0, 655.0, 660.0, 700.0]))
    expected = torch.tensor([2.5122, 0.1537, 0.00106, 0, 0], dtype=torch.float64)
    assert torch.allclose(density, expected, atol=1e-12)
    assert bool((lens_density().diff() < 1e-4).all())


def test_default_grid():
    grid = default_wavelengths()
    assert (grid[0].item(), grid[-1].item(), grid.numel()) == (400, 700, 301)


@pytest.mark.parametrize(
    ("peaks", "wavelengths", "density", "message"),
    [
        ((-560.0, 530.0), None, 0.001, "390..700 nm"),
        ((0.56,), None, 0.001, "nanometres"),
        ((), None, 0.001, "at least one peak"),
        (560.0, None, 0.001, "one peak per cone type"),
        ((math.nan,), None, 0.001, "390..700"),
        (HUMAN, [350.0, 400.0], 0.001, "got 350..400"),
        (HUMAN, [700.0, 900.0], 0.001, "390..830"),
        (HUMAN, [500.0, 400.0], 0.001, "ascending"),
        (HUMAN, [[400.0, 500.0]], 0.001, "vector"),
        (HUMAN, [], 0.001, "vector"),
        (HUMAN, None, -0.1, "optical density"),
    ],
)
def test_bad_input_is_explained(peaks, wavelengths, density, message):
    with pytest.raises(InputError, match=message):
        cone_fundamentals(peaks, wavelengths, density)
