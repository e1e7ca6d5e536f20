"""Pinwheels and hypercolumns of maps whose pinwheels and wavelength are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes import (
    hypercolumn,
    pinwheel_density,
    pinwheels,
    preference_histogram,
    smoothness,
    stability,
)


def ring_field(size: tuple[int, int], wavelength: float, seed: int, waves: int = 100) -> Tensor:
    """A random Gaussian field of one wavelength: plane waves of random directions and phases."""
    draw = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(waves, 1, 1, generator=draw, dtype=torch.double)
    height = torch.randn(waves, 1, 1, generator=draw, dtype=torch.cdouble)
    y = torch.arange(size[0], dtype=torch.double)[:, None]
    x = torch.arange(size[1], dtype=torch.double)
    along = angle.cos() * x + angle.sin() * y
    return (height * torch.exp(2j * math.pi / wavelength * along)).sum(0)


def degrees(z: Tensor) -> Tensor:
    return torch.rad2deg(z.angle() / 2).remainder(180)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [(9, 9), (8, 13), (15, 6)])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_a_single_pinwheel_has_its_place_and_sign(size, sign, dtype):
    """Linear z around a point: found exactly from z, to a fifth of a unit from its direction."""
    row, column = 4.3, 3.8
    up = row - torch.arange(size[0], dtype=dtype)[:, None]
    right = torch.arange(size[1], dtype=dtype) - column
    z = torch.complex(*torch.broadcast_tensors(right, sign * up))
    for preference, tolerance in ((degrees(z), 0.2), (z, 1e-5)):
        found = pinwheels(preference)
        assert len(found) == 1
        assert found.sign.tolist() == [sign]
        assert found.row.item() == pytest.approx(row, abs=tolerance)
        assert found.column.item() == pytest.approx(column, abs=tolerance)
        assert found.area == (size[0] - 1) * (size[1] - 1)


def test_positions_are_where_both_contours_cross():
    """The unit vectors at the corners, interpolated at the place, cancel."""
    z = ring_field((40, 31), 9.0, 5).sgn()
    found = pinwheels(z)
    assert len(found) > 20
    r, c = found.row.floor().long(), found.column.floor().long()
    y, x = found.row - r, found.column - c
    top = torch.lerp(z[r, c], z[r, c + 1], x.to(z))
    bottom = torch.lerp(z[r + 1, c], z[r + 1, c + 1], x.to(z))
    assert torch.lerp(top, bottom, y.to(z)).abs().max() < 1e-9


def test_positions_of_a_smooth_field_are_those_of_a_finer_one():
    """Every fourth unit of a fine map: the same pinwheels, to a fraction of a unit."""
    fine = ring_field((157, 121), 64.0, 3)
    one, other = pinwheels(fine), pinwheels(fine[::4, ::4].contiguous())
    assert len(one) == len(other) > 5
    places = [torch.stack([p.row, p.column], 1) for p in (one, other)]
    distance = torch.cdist(places[0] / 4, places[1])
    assert distance.amin(1).max() < 0.1
    assert torch.equal(one.sign, other.sign[distance.argmin(1)])


@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (5, 4)])
def test_a_lattice_of_pinwheels_is_counted(rows, columns):
    """Re = cos, Im = cos: one crossing per half period along each axis, with alternating signs."""
    y = (torch.arange(16 * rows).double() + 0.31)[:, None] / 16
    x = (torch.arange(14 * columns).double() + 0.27) / 14
    z = torch.complex(*torch.broadcast_tensors((math.pi * x).cos(), (math.pi * y).cos()))
    found = pinwheels(z)
    assert len(found) == rows * columns
    wanted = torch.cartesian_prod(
        16 * (torch.arange(rows) + 0.5) - 0.31, 14 * (torch.arange(columns) + 0.5) - 0.27
    )
    assert (
        torch.cdist(wanted.double(), torch.stack([found.row, found.column], 1)).amin(1).max() < 0.01
    )
    assert abs(found.sign.sum()) <= 1


def periodic_field(size: tuple[int, int], cycles: float, seed: int) -> Tensor:
    """A random field on a torus, with power around ``cycles`` per 48 units."""
    noise = torch.randn(size, generator=seeded(seed), dtype=torch.cdouble)
    k = torch.hypot(torch.fft.fftfreq(size[0])[:, None], torch.fft.fftfreq(size[1])).double()
    band = torch.exp(-((k - cycles / 48) ** 2) / (2 * 0.01**2))
    return torch.fft.ifft2(torch.fft.fft2(noise) * band)


@pytest.mark.parametrize("shift", [(0, 0), (7, 0), (13, 30), (-1, 1)])
def test_pinwheels_of_a_torus_cancel_and_move_with_it(shift):
    z = periodic_field((48, 36), 4.5, 1)
    whole = pinwheels(z, wrap=True)
    assert whole.area == 48 * 36
    assert len(whole) > 10
    assert whole.sign.sum() == 0
    moved = pinwheels(z.roll(shift, (0, 1)), wrap=True)
    rows, columns = (whole.row + shift[0]) % 48, (whole.column + shift[1]) % 36
    one = sorted(zip(rows.tolist(), columns.tolist(), whole.sign.tolist(), strict=True))
    other = sorted(zip(moved.row.tolist(), moved.column.tolist(), moved.sign.tolist(), strict=True))
    assert torch.allclose(torch.tensor(one), torch.tensor(other), atol=1e-9)
    assert len(pinwheels(z)) <= len(whole)


def test_turning_all_preferences_or_the_map_itself():
    """Signs survive both; mirroring turns them round."""
    z = ring_field((33, 40), 10.0, 2)
    base = pinwheels(degrees(z))
    turned = pinwheels((degrees(z) + 31.0).remainder(180))
    assert torch.allclose(turned.row, base.row)
    assert torch.equal(turned.sign, base.sign)
    rotated = pinwheels(degrees(z.rot90()))
    assert len(rotated) == len(base)
    assert rotated.sign.sum() == base.sign.sum()
    assert torch.allclose(rotated.column.sort().values, base.row.sort().values)
    assert pinwheels(z.flip(1)).sign.sum() == -base.sign.sum()
    assert hypercolumn(z.rot90()).wavelength == pytest.approx(hypercolumn(z).wavelength, rel=1e-6)


def test_random_fields_of_one_wavelength_have_density_pi():
    """Zeros of an isotropic Gaussian field: mean k^2 / 4 pi per area, so pi per wavelength^2.

    With the known wavelength the mean over maps must be pi within three standard errors, and with
    the measured one too; the standard error itself is small.
    """
    wavelength, known, measured = 11.0, [], []
    for seed in range(24):
        z = ring_field((72, 66), wavelength, seed, waves=300)
        found = pinwheels(degrees(z))
        known.append(len(found) / found.area * wavelength**2)
        measured.append(pinwheel_density(degrees(z)))
    for densities in (known, measured):
        values = torch.tensor(densities)
        error = values.std().item() / math.sqrt(len(values))
        assert error < 0.07
        assert values.mean().item() == pytest.approx(math.pi, abs=3 * error)


@pytest.mark.parametrize("size", [(48, 48), (64, 45), (41, 97)])
@pytest.mark.parametrize("wavelength", [7.0, 11.3])
def test_the_wavelength_of_a_map_is_found(size, wavelength):
    """Within 1 %, from the preferences alone."""
    for seed in range(3):
        found = hypercolumn(degrees(ring_field(size, wavelength, seed)))
        assert found.status == "fitted"
        assert found.wavelength == pytest.approx(wavelength, rel=0.01)
        assert found.wavenumber == pytest.approx(1 / found.wavelength)
        assert found.wavenumbers[found.power.argmax()] == pytest.approx(1 / wavelength, rel=0.1)
        assert found.fit.shape == found.power.shape
        assert found.center_of_mass == pytest.approx(1.06 / wavelength, rel=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_a_scattered_wavelength_is_found_roughly(seed):
    """Wavenumbers that scatter by 10 %: the fit within 12 %, never on a single spike."""
    parts = [ring_field((56, 56), 12.0 * (1 + 0.1 * math.sin(1.7 * k)), 9 * seed + k, 20)
             for k in range(6)]  # fmt: skip
    found = hypercolumn(torch.stack(parts).sum(0))
    assert found.wavelength == pytest.approx(12, rel=0.12)
    assert 1 / found.center_of_mass == pytest.approx(12 / 1.05, rel=0.12)


def test_density_by_the_centre_of_mass_also_scores_maps_without_a_peak():
    z = ring_field((72, 66), 11.0, 0, waves=300)
    found, center = pinwheels(z), hypercolumn(z).center_of_mass
    density = pinwheel_density(z, method="center_of_mass")
    assert density == pytest.approx(len(found) / found.area / center**2)
    assert density < pinwheel_density(z)
    noise = 180 * torch.rand(40, 40, generator=seeded(0))
    assert math.isfinite(pinwheel_density(noise, method="center_of_mass"))


def test_stripes_have_the_wavelength_of_half_a_turn():
    stripes = (180 / 9.0 * torch.arange(50, dtype=torch.double)).remainder(180).expand(40, 50)
    found = hypercolumn(stripes)
    assert found.wavelength == pytest.approx(9.0, rel=0.01)
    assert len(pinwheels(stripes)) == 0
    assert pinwheel_density(stripes) == 0


@pytest.mark.parametrize(
    "preference",
    [
        180 * torch.rand(48, 48, generator=seeded(3)),
        180 * torch.rand(96, 60, generator=seeded(4)),
        torch.zeros(20, 20),
        torch.linspace(0, 90, 40).expand(30, 40),
    ],
    ids=["noise", "more noise", "uniform", "gradient"],
)
def test_a_map_without_a_wavelength_has_no_hypercolumn(preference):
    found = hypercolumn(preference)
    assert found.status == "no_peak"
    assert math.isnan(found.wavelength)
    assert found.fit.isnan().all()
    assert math.isnan(pinwheel_density(preference))


def test_units_without_preference_hold_no_pinwheel():
    z = ring_field((40, 40), 8.0, 0).sgn()
    z[10:30, 5:35] = 0
    found = pinwheels(z)
    assert len(found) > 5
    inside = (found.row > 9) & (found.row < 30) & (found.column > 4) & (found.column < 35)
    assert not inside.any()
    assert found.area == 39 * 39 - 21 * 31


def test_stability_of_equal_unrelated_and_opposite_maps():
    one, other = (180 * torch.rand(60, 50, generator=seeded(s)) for s in (0, 1))
    assert stability(one, one) == 1
    # d is uniform on [0, 1/2]: 1 - 4 d has variance 1/3.
    assert stability(one, other) == pytest.approx(0, abs=4 / math.sqrt(3 * 3000))
    assert stability(one, one + 90) == pytest.approx(-1)
    assert stability(one, one - 45) == pytest.approx(0, abs=1e-6)
    assert stability(one, one + 180) == pytest.approx(1)
    assert stability(one, one + 18) == pytest.approx(1 - 4 * 0.1, abs=1e-6)


def test_smoothness_of_noise_stripes_and_a_torus():
    noise = 180 * torch.rand(60, 50, generator=seeded(0))
    assert smoothness(noise) == pytest.approx(0, abs=4 / math.sqrt(3 * 5890))
    assert smoothness(torch.full((5, 7), 33.0)) == 1
    stripes = (18.0 * torch.arange(10)).expand(6, 10)
    pairs, equal = 6 * 9 + 5 * 10, 5 * 10
    assert smoothness(stripes) == pytest.approx((equal + 6 * 9 * (1 - 0.4)) / pairs)
    assert smoothness(stripes, wrap=True) == pytest.approx((1 + 0.6) / 2)
    step = torch.tensor([[0.0, 0.0, 45.0]])
    assert smoothness(step) == pytest.approx((1 + 0) / 2, abs=1e-6)
    assert smoothness(step, wrap=True) == pytest.approx((1 + 0 + 0) / 3, abs=1e-6)


def test_histogram_bins_are_centred_and_circular():
    centers, share = preference_histogram(torch.tensor([[0.0, 179.0, 7.0, 91.0, 90.0]]), 12)
    assert centers.tolist() == [15.0 * k for k in range(12)]
    assert share[0] == pytest.approx(3 / 5)
    assert share[6] == pytest.approx(2 / 5)
    even = preference_histogram(180 * torch.rand(100, 100, generator=seeded(0)), 9)[1]
    assert even.sum() == pytest.approx(1)
    assert ((even - 1 / 9).abs() < 4 * math.sqrt(8 / 81 / 1e4)).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pinwheels(torch.rand(5)), ShapeError, r"\(height, width\), got shape \(5,\)"),
        (lambda: pinwheels(torch.rand(1, 5)), ShapeError, "at least 2 x 2"),
        (lambda: pinwheels([1.0]), InputError, "got list"),
        (lambda: pinwheels(torch.full((4, 4), math.nan)), NonFiniteError, "16 that are NaN"),
        (lambda: hypercolumn(torch.rand(30, 7)), ShapeError, "at least 8 x 8"),
        (lambda: pinwheel_density(torch.rand(9, 9), method="peak"), InputError, "'fit' or"),
        (lambda: stability(torch.rand(3, 4), torch.rand(4, 3)), ShapeError, "of one size"),
        (lambda: smoothness(torch.rand(1, 1)), ShapeError, "at least two units"),
        (lambda: preference_histogram(torch.rand(3, 3), 0), InputError, "bins >= 1"),
    ],
)
def test_what_is_no_map_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
