"""Cone space: reference matrix, round trips, spectra, and its errors."""

from __future__ import annotations

import sys

import pytest
import torch

from calcarine.color import ConeSpace, cie_1931, cone_fundamentals, daylight, tables
from calcarine.errors import InputError, MissingDependencyError, ShapeError


def test_matrix_matches_the_reference(reference):
    expected = reference["linear_to_lms"][:, :3].double().T
    assert torch.allclose(ConeSpace().linear_to_cones_matrix, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_come_back(dtype):
    space = ConeSpace((560.0, 550.0, 419.0))
    image = torch.rand(2, 3, 5, 7, dtype=dtype, generator=torch.Generator().manual_seed(0))
    cones = space.linear_to_cones(image)
    assert cones.dtype == dtype
    assert not torch.allclose(cones, image, atol=0.1)
    assert torch.allclose(space.cones_to_linear(cones), image, atol=1e-4)


def test_white_point_is_the_response_to_white():
    space = ConeSpace((560.0, 530.0, 419.0, 545.0))
    assert space.types == 4
    white = space.linear_to_cones(torch.ones(3, 2, 2, dtype=torch.float64))
    assert torch.allclose(white[:, 0, 0], space.white_point)
    assert torch.allclose(white, white[:, :1, :1].expand_as(white))


def test_spectra_and_rgb_agree_where_the_least_squares_map_is_exact():
    """Light whose colour-matching residual vanishes gives the same signals both ways."""
    space = ConeSpace()
    xyz_bar = cie_1931()
    to_cones = torch.linalg.lstsq(xyz_bar, space.fundamentals).solution
    residual = space.fundamentals - xyz_bar @ to_cones
    generator = torch.Generator().manual_seed(1)
    spectrum = torch.rand(301, dtype=torch.float64, generator=generator)
    spectrum = spectrum - residual @ torch.linalg.lstsq(residual, spectrum[:, None]).solution[:, 0]
    xyz = spectrum @ xyz_bar / xyz_bar[:, 1].sum()
    found = space.spectrum_to_cones(spectrum)
    assert torch.allclose(found, xyz @ to_cones, atol=1e-10)


def test_equal_energy_light_is_the_mean_sensitivity_per_luminance():
    space = ConeSpace()
    flat = torch.ones(301, dtype=torch.float64)
    expected = space.fundamentals.sum(0) / cie_1931()[:, 1].sum()
    assert torch.allclose(space.spectrum_to_cones(flat), expected)


def test_coarse_spectra_approximate_fine_ones():
    space, light = ConeSpace(), daylight()
    fine = space.spectrum_to_cones(light)
    coarse = space.spectrum_to_cones(light[::10], torch.arange(400, 701, 10))
    assert torch.allclose(coarse, fine, rtol=0.02)
    narrow = space.spectrum_to_cones(torch.ones(1), [560.0])
    assert narrow.argmax() == 0


def test_spectral_images_and_vectors_agree():
    space = ConeSpace((506.0, 419.0))
    image = torch.rand(2, 301, 4, 3, generator=torch.Generator().manual_seed(0))
    cones = space.spectra_to_cones(image)
    assert cones.shape == (2, 2, 4, 3)
    vectors = space.spectrum_to_cones(image.movedim(1, -1))
    assert torch.allclose(cones.movedim(1, -1), vectors, atol=1e-5)


def test_module_moves_and_holds_no_checkpoint():
    space = ConeSpace().to(torch.float32)
    assert space.white_point.dtype == torch.float32
    assert space.state_dict() == {}
    space.cones_to_linear(torch.rand(3, 2, 2))


def test_tables_hold_the_standard():
    y_bar = cie_1931()[:, 1]
    assert y_bar.argmax().item() + 400 in (554, 555)
    assert daylight([560.0]).item() == pytest.approx(100.0)
    assert daylight().shape == (301,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.linear_to_cones(torch.rand(4, 4, 3)), ShapeError, "movedim"),
        (lambda s: s.linear_to_cones(torch.rand(3)), ShapeError, "axes"),
        (lambda s: s.linear_to_cones(torch.ones(3, 2, 2).int()), InputError, "floating"),
        (lambda s: s.cones_to_linear(torch.rand(4, 2, 2)), ShapeError, "3 channels"),
        (lambda s: s.spectra_to_cones(torch.rand(31, 2, 2)), ShapeError, "301 channels"),
        (lambda s: s.spectrum_to_cones(torch.rand(31)), ShapeError, "wavelengths_nm"),
        (lambda s: s.spectra_to_cones(torch.rand(1, 2, 2), [380.0]), InputError, "390"),
        (lambda s: cie_1931([350.0]), InputError, "360..830"),
        (lambda s: daylight([200.0]), InputError, "300..830"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call(ConeSpace())


@pytest.mark.parametrize("peaks", [(560.0, 419.0), (560.0, 530.0, 419.0, 545.0)])
def test_only_three_types_have_an_inverse(peaks):
    space = ConeSpace(peaks)
    with pytest.raises(InputError, match="three cone types"):
        space.cones_to_linear(torch.rand(len(peaks), 2, 2))


def test_missing_library_is_named_and_fundamentals_do_without(monkeypatch):
    tables._table.cache_clear()
    monkeypatch.setitem(sys.modules, "colour", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[spectral\]"):
        cie_1931()
    assert cone_fundamentals((560.0,)).shape == (301, 1)
