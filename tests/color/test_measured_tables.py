"""Daylight, measured reflectances and the basis of sRGB, against the library and known facts."""

from __future__ import annotations

import pytest
import torch

from calcarine.color import (
    cie_1931,
    daylight,
    daylights,
    default_wavelengths,
    reflectances,
    srgb_basis,
)
from calcarine.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_daylight_of_6504_kelvin_is_d65(dtype):
    made = daylights(torch.tensor(6504.0, dtype=dtype))
    assert made.dtype == dtype
    # The standard rounds M1 and M2 to three places and tabulates six digits.
    torch.testing.assert_close(made.double() * 100, daylight(), atol=0.04, rtol=0)


@pytest.mark.parametrize("kelvin", [4000.0, 5003.0, 6504.0, 7000.0, 25000.0])
def test_daylight_has_the_chromaticity_it_was_asked_for(kelvin):
    """The spectrum's chromaticity is that of the locus which defined its weights."""
    wavelengths = torch.arange(360, 831, dtype=torch.float64)
    xyz = daylights(torch.tensor(kelvin, dtype=torch.float64), wavelengths) @ cie_1931(wavelengths)
    x, y, _ = xyz / xyz.sum()
    t = 1e3 / kelvin
    cool = 0.237040 + 0.24748 * t + 1.9018 * t**2 - 2.0064 * t**3
    warm = 0.244063 + 0.09911 * t + 2.9678 * t**2 - 4.6070 * t**3
    expected = warm if kelvin <= 7000 else cool
    assert x.item() == pytest.approx(expected, abs=5e-4)
    assert y.item() == pytest.approx(-3 * expected**2 + 2.87 * expected - 0.275, abs=5e-4)


def test_hotter_daylight_is_bluer():
    spectra = daylights(torch.tensor([4000.0, 6500.0, 10000.0, 25000.0]))
    assert spectra.shape == (4, 301)
    ratio = spectra[:, 50] / spectra[:, 250]
    assert (ratio.diff() > 0.1).all()
    torch.testing.assert_close(spectra[:, 160], torch.ones(4), atol=1e-4, rtol=0)


def test_temperatures_beyond_the_definition_are_moved_to_its_ends():
    inside = daylights(torch.tensor([4000.0, 25000.0]))
    assert torch.equal(daylights(torch.tensor([1000.0, 90000.0])), inside)


def test_reflectances_are_those_of_surfaces():
    measured = reflectances()
    assert measured.shape == (289, 301)
    assert measured.dtype == torch.float64
    assert measured.min() >= 0
    assert measured.max() <= 1
    assert torch.unique(measured, dim=0).shape[0] == 289
    coarse = reflectances(torch.arange(400.0, 701.0, 10))
    torch.testing.assert_close(coarse, measured[:, ::10])


def test_reflectances_span_more_than_three_dimensions():
    """maloney1986: three numbers miss a few per cent of the variance, six nearly nothing."""
    measured = reflectances()
    share = torch.linalg.svdvals(measured - measured.mean(0)) ** 2
    explained = share.cumsum(0) / share.sum()
    assert 0.9 < explained[2] < 0.98
    assert explained[5] > 0.99


def test_the_basis_of_srgb_adds_up_to_white_and_comes_back_under_d65():
    basis = srgb_basis()
    torch.testing.assert_close(
        basis.sum(1), torch.ones(301, dtype=torch.float64), atol=2e-5, rtol=0
    )
    assert basis.min() > -1e-6
    xyz = cie_1931().T @ (basis * daylight()[:, None])
    xyz = xyz / (cie_1931()[:, 1] @ daylight())
    to_xyz = torch.tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
                           [0.0193, 0.1192, 0.9505]], dtype=torch.float64)  # fmt: skip
    torch.testing.assert_close(xyz, to_xyz, atol=2e-3, rtol=0)


@pytest.mark.parametrize("table", [reflectances, srgb_basis])
def test_wavelengths_outside_a_table_are_named(table):
    with pytest.raises(InputError, match=r"tabulated for 380\.\.780 nm, got 370\.\.400"):
        table([370.0, 400.0])


def test_default_grid_is_that_of_all_tables():
    assert len(srgb_basis()) == len(default_wavelengths()) == reflectances().shape[1]
