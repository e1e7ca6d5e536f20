"""Patterns on a sheet: their shapes, places and angles, endless and reproducible."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import registry
from calcarine.errors import InputError
from calcarine.recipe import build, schema
from calcarine.stimuli import (
    Bars,
    NaturalPatches,
    OrientedGaussians,
    RandomGratings,
    Sheet,
    ThreeDotFaces,
    grating,
)

KINDS = [OrientedGaussians, Bars, RandomGratings, ThreeDotFaces]
ALL = [*KINDS, NaturalPatches]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coordinates(sheet: Sheet) -> tuple[torch.Tensor, torch.Tensor]:
    return sheet.coordinates(dtype=torch.double)


def test_the_sheets_of_published_models_have_their_sizes():
    """Retina, LGN and cortex of Stevens et al. 2013."""
    assert Sheet(24, 1.646).size == (79, 79)
    assert Sheet(24, 1.271).size == (61, 61)
    assert Sheet(48, 0.5).size == (48, 48)
    assert Sheet(10, (0.5, 1.2)).size == (10, 24)
    assert Sheet(24).frequency_cpp(2.4) == pytest.approx(0.1)


def test_coordinates_are_centred_and_a_unit_apart():
    y, x = Sheet(10, (0.5, 0.75)).coordinates(dtype=torch.double)
    assert y.shape == (10, 1)
    assert x.shape == (1, 15)
    assert y.flatten().tolist() == pytest.approx([0.1 * k - 0.45 for k in range(10)])
    assert x[0, 7] == 0
    assert x.sum().abs() < 1e-12


@pytest.mark.parametrize(
    "settings", [{"density": 0}, {"half_side": -1.0}, {"density": math.inf}, {"half_side": (1, 0)},
                 {"half_side": (1.0, 1.0, 1.0)}, {"density": 1, "half_side": 0.1}]
)  # fmt: skip
def test_impossible_sheets_are_refused(settings):
    with pytest.raises(InputError, match="Sheet expected"):
        Sheet(**settings)


@pytest.mark.parametrize("kind", ALL)
def test_draws_depend_on_the_generator_alone(kind):
    """Eight at once, or five and then three; and the next ones differ."""
    patterns, draw = kind(), seeded(3)
    whole = patterns.draw(8, seeded(3))
    parts = torch.cat([patterns.draw(5, draw), patterns.draw(3, draw)])
    # Vectorised exponentials and sines may round differently in batches of another size.
    assert torch.allclose(whole, parts, atol=1e-5)
    assert torch.equal(whole, kind().draw(8, seeded(3)))
    assert not torch.allclose(whole, patterns.draw(8, draw))
    assert (whole[0] != whole[1]).any()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("dtype", [torch.half, torch.float, torch.double])
def test_size_and_dtype(kind, dtype):
    patterns = kind(half_side=(0.8, 1.1), density=21)
    pictures = patterns.draw(3, seeded(), dtype=dtype)
    assert patterns.size == (34, 46)
    assert pictures.shape == (3, 1, 34, 46)
    assert pictures.dtype == dtype
    assert pictures.isfinite().all()
    assert (pictures.flatten(1).std(1) > 0.001).all()


def test_half_precision_shows_the_same_as_double():
    precise = OrientedGaussians().draw(4, seeded(), dtype=torch.double)
    short = OrientedGaussians().draw(4, seeded(), dtype=torch.half)
    assert torch.allclose(short.double(), precise, atol=1e-3)


def test_the_published_gaussians():
    patterns = OrientedGaussians()
    assert patterns.count == 2
    assert patterns.size == (79, 79)
    pictures = patterns.draw(200, seeded(), dtype=torch.double)
    assert pictures.min() >= 0
    assert 0.6 < pictures.amax() <= 0.7


@pytest.mark.parametrize(("count", "settings"), [
    (1, {"per_area": 0.3}), (8, {"cortex_half_side": 1.0}), (4, {"cortex_half_side": (1.0, 0.5)}),
    (5, {"per_image": 5}), (5, {"per_image": 5, "per_area": 100.0}),
])  # fmt: skip
def test_number_of_gaussians(count, settings):
    assert OrientedGaussians(**settings).count == count


def test_a_gaussian_has_its_moments_orientation_and_contrast():
    """Second moments of exp(-q/2) are its covariance: length, width and angle follow."""
    patterns = OrientedGaussians(
        density=40, half_side=1.5, per_image=1, margin=0.0, cortex_half_side=0.3, sigma=0.06,
        aspect=3.0, orientations_deg=(30.0, 30.0), contrast=0.4, background=0.1,
    )  # fmt: skip
    y, x = coordinates(patterns.sheet)
    for picture in patterns.draw(6, seeded(1), dtype=torch.double)[:, 0] - 0.1:
        weight = picture / picture.sum()
        my, mx = (weight * y).sum(), (weight * x).sum()
        assert max(my.abs(), mx.abs()) < 0.3
        up, right = -(y - my), x - mx
        xx, yy, xy = ((weight * m).sum() for m in (right**2, up**2, right * up))
        turn = math.degrees(0.5 * math.atan2(2 * xy, xx - yy))
        assert turn == pytest.approx(30, abs=0.01)
        spread = math.hypot(xx - yy, 2 * xy)
        assert math.sqrt((xx + yy + spread) / 2) == pytest.approx(0.18, rel=1e-3)
        assert math.sqrt((xx + yy - spread) / 2) == pytest.approx(0.06, rel=1e-3)
        assert picture.max() == pytest.approx(0.4, rel=0.02)


def test_centres_fill_the_box_evenly():
    """A wide blob's brightest pixel is its centre: uniform in the box, variance side^2/12."""
    patterns = OrientedGaussians(per_image=1, cortex_half_side=(0.5, 0.25), aspect=1.0)
    pictures = patterns.draw(2000, seeded(), dtype=torch.double).flatten(1)
    y, x = coordinates(patterns.sheet)
    place = pictures.argmax(1)
    for axis, half in ((y.flatten()[place // 79], 0.75), (x.flatten()[place % 79], 0.5)):
        assert axis.abs().max() <= half + 0.5 / 24
        assert axis.mean().abs() < 4 * 2 * half / math.sqrt(12 * 2000)
        assert axis.var() == pytest.approx(half**2 / 3, rel=0.1)


def test_maximum_and_sum_of_the_same_blobs():
    one = {"per_image": 3, "cortex_half_side": 0.1, "margin": 0.0, "sigma": 0.2}
    most, total = (
        OrientedGaussians(**one, combine=c).draw(5, seeded(), dtype=torch.double)
        for c in ("maximum", "sum")
    )
    assert most.max() <= 0.7
    assert total.max() > 1.0
    assert (total >= most).all()
    assert (total <= 3 * most + 1e-12).all()


def test_contrast_is_drawn_once_per_picture():
    patterns = OrientedGaussians(contrast=(0.2, 0.9), per_image=12, density=60)
    peaks = patterns.draw(300, seeded(), dtype=torch.double).flatten(1).amax(1)
    assert 0.19 < peaks.min() < 0.25
    assert 0.85 < peaks.max() <= 0.9


@pytest.mark.parametrize("angle", [0.0, 60.0, 135.0])
def test_gratings_are_those_of_the_function(angle):
    patterns = RandomGratings(orientations_deg=(angle, angle), contrast=0.6)
    pictures = patterns.draw(4, seeded(5), dtype=torch.double)
    phases = torch.rand(4, 4, generator=seeded(5), dtype=torch.double)[:, 2] * 360
    expected = grating(79, angle, 0.1, phases, 0.6, dtype=torch.double)
    assert torch.allclose(pictures, expected, atol=1e-12)


def test_a_bar_has_its_area_and_ends():
    patterns = Bars(
        density=100, half_side=(0.6, 0.9), per_image=1, center_half_side=0.2, length=0.5, width=0.1,
        contrast=0.8, background=0.1,
    )  # fmt: skip
    for picture in patterns.draw(6, seeded(), dtype=torch.double) - 0.1:
        assert picture.sum() / 100**2 == pytest.approx(0.8 * 0.5 * 0.1, rel=0.02)
        assert picture.max() == pytest.approx(0.8)


def test_a_bar_of_zero_degrees_is_horizontal():
    patterns = Bars(density=99, per_image=1, orientations_deg=(0, 0), center_half_side=0.0)
    (picture,) = patterns.draw(1, seeded())[0]
    assert (picture > 0.5).any(0).sum() == pytest.approx(0.4125 * 99, abs=1)
    assert (picture > 0.5).any(1).sum() == pytest.approx(0.0884 * 99, abs=1)


def test_a_face_has_two_eyes_above_a_mouth():
    patterns = ThreeDotFaces(center_half_side=0.0, tilt_deg=(0.0, 0.0), density=60, half_side=0.5)
    (picture,) = patterns.draw(1, seeded(), dtype=torch.double)[0]
    y, x = coordinates(patterns.sheet)
    upper, lower = picture * (y < 0), picture * (y > 0)
    assert picture.flip(1).allclose(picture)
    for half, width in ((upper, 0.33 / 2), (lower, 0.0)):
        spread = (half * x**2).sum() / half.sum() - 0.0884**2
        assert spread == pytest.approx(width**2, abs=0.003)
    tilted = ThreeDotFaces(center_half_side=0.0, tilt_deg=(180, 180), density=60, half_side=0.5)
    assert torch.allclose(tilted.draw(1, dtype=torch.double)[0, 0], picture.flip(0))


def test_natural_patches_keep_or_get_their_contrast():
    plain = NaturalPatches(half_side=(0.5, 0.8)).draw(6, seeded(), dtype=torch.double)
    assert plain.shape == (6, 1, 24, 38)
    assert 0 <= plain.min() < plain.max() <= 1
    scaled = NaturalPatches(contrast=0.3, mean=0.4).draw(6, seeded(), dtype=torch.double)
    assert torch.allclose(scaled.mean((-2, -1)), torch.tensor(0.4).double())
    assert torch.allclose(scaled.std((-2, -1), correction=0), torch.tensor(0.12).double())


def test_whitening_flattens_the_spectrum():
    """Power between 1/20 and 1/4 cycles per pixel falls as 1/f^2 before and hardly at all after."""
    slopes = []
    for whiten in (False, True):
        patches = NaturalPatches(contrast=0.3, whiten=whiten, scales=(1.0,))
        pictures = patches.draw(60, seeded(), dtype=torch.double) - 0.5
        power = (torch.fft.fft2(pictures * torch.hann_window(79).outer(torch.hann_window(79)))
                 .abs() ** 2).mean((0, 1))  # fmt: skip
        f = torch.fft.fftfreq(79, dtype=torch.double)
        f = torch.hypot(f[:, None], f)
        band = (f > 0.05) & (f < 0.25)
        x, y = f[band].log(), power[band].log()
        slopes.append(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    assert slopes[0] < -2
    assert abs(slopes[1]) < 1
    assert slopes[1] - slopes[0] == pytest.approx(2, abs=0.6)


def test_a_uniform_patch_stays_uniform(tmp_path):
    from calcarine.stimuli import save_image

    save_image(torch.full((1, 1, 90, 90), 0.25), tmp_path / "grey.png")
    patches = NaturalPatches(source=tmp_path, contrast=0.3, scales=(1.0,))
    assert torch.allclose(patches.draw(2, seeded()), torch.tensor(0.5))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (OrientedGaussians, {"sigma": 0.0}, "expected sigma"),
        (OrientedGaussians, {"contrast": (0.5, 0.1)}, "expected contrast"),
        (OrientedGaussians, {"contrast": math.nan}, "expected contrast"),
        (OrientedGaussians, {"combine": "mean"}, "'maximum' or 'sum'"),
        (OrientedGaussians, {"per_image": 0}, "per_image as a whole number"),
        (OrientedGaussians, {"cortex_half_side": -1}, "cortex_half_side as a number or a pair"),
        (OrientedGaussians, {"density": -3}, "Sheet expected"),
        (Bars, {"per_image": 1.5}, "per_image as a whole number"),
        (Bars, {"width": 0}, "Bars expected width"),
        (RandomGratings, {"frequency": 13}, "expected frequency .* within \\[0, 12\\]"),
        (RandomGratings, {"contrast": 1.1}, "expected contrast"),
        (ThreeDotFaces, {"tilt_deg": (0, 1000)}, "expected tilt_deg"),
        (NaturalPatches, {"whiten": True}, "contrast with whiten=True"),
        (NaturalPatches, {"contrast": -1.0}, "expected contrast"),
    ],
)
def test_impossible_settings_are_refused(kind, settings, message):
    with pytest.raises(InputError, match=message):
        kind(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_batches_are_refused(kind):
    with pytest.raises(InputError, match="batch size of at least 1"):
        kind().draw(0)


@pytest.mark.parametrize("kind", ALL)
def test_the_constructor_is_the_recipe(kind):
    """Settings as YAML holds them (lists) come back as the pattern they describe."""
    name = registry.registered_name(kind)
    assert name is not None
    model = schema(kind)
    assert all(field.description for field in model.model_fields.values())
    built = build(model.model_validate({"type": name, "half_side": [0.5, 0.75]}))
    assert isinstance(built, kind)
    assert built.size == (24, 36)
    with pytest.raises(ValueError, match="denisty"):
        model.model_validate({"denisty": 3})
