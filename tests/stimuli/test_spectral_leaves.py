"""Spectral dead leaves: what they are made of, and how many dimensions they have."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.color import cie_1931, cone_fundamentals, daylights, reflectances
from calcarine.errors import InputError
from calcarine.stimuli import RgbSpectra, SpectralLeaves, material_spectra
from calcarine.stimuli._lamps import filters
from calcarine.stimuli._leaf_maps import count_leaves, cut_windows, leaf_map
from calcarine.stimuli.scenes import response_weights, whites

LMS = (560.0, 530.0, 419.0)
LMSQ = (560.0, 506.0, 530.0, 419.0)
NEAR = (560.0, 545.0, 530.0, 419.0)


@pytest.fixture(scope="module")
def leaves():
    return SpectralLeaves(size=(41, 56), tori=2)


def seeded(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def unexplained(cones: torch.Tensor, peaks: tuple[float, ...]) -> float:
    """Root mean square of what a linear sum of the others cannot tell about the second type."""
    signals = (cones.double() / whites(peaks)[: len(peaks), None, None]).movedim(1, -1)
    signals = signals.flatten(0, 2)
    others = torch.cat([signals[:, [0, 2, 3]], torch.ones(len(signals), 1).double()], 1)
    told = others @ torch.linalg.lstsq(others, signals[:, 1:2]).solution
    return (signals[:, 1:2] - told).square().mean().sqrt().item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("peaks", [(530.0,), LMS, LMSQ])
def test_scenes_follow_the_eye_and_the_dtype(leaves, peaks, dtype):
    cones, linear = leaves.draw(3, seeded(0), peaks_nm=peaks, dtype=dtype)
    assert cones.shape == (3, len(peaks), 41, 56)
    assert linear.shape == (3, 3, 41, 56)
    assert cones.dtype == linear.dtype == dtype
    assert cones.min() > 0
    assert cones.std() > 0.05
    assert cones.is_contiguous()
    assert linear.is_contiguous()


def test_draws_depend_on_the_generator_alone(leaves):
    first, again = (leaves.draw(2, seeded(4)) for _ in range(2))
    assert torch.equal(first.cones, again.cones)
    assert torch.equal(first.linear, again.linear)
    assert not torch.equal(first.cones, leaves.draw(2, seeded(5)).cones)
    rebuilt = SpectralLeaves(size=(41, 56), tori=2).draw(2, seeded(4))
    assert torch.equal(first.cones, rebuilt.cones)


def test_eyes_look_at_the_same_scenes(leaves):
    """Scenes do not depend on who looks: the picture is one, and so are shared pigments."""
    three, four = (leaves.draw(2, seeded(1), peaks_nm=p) for p in (LMS, LMSQ))
    torch.testing.assert_close(three.linear, four.linear)
    torch.testing.assert_close(three.cones, four.cones[:, [0, 2, 3]])


def test_a_scene_is_its_materials_under_daylight():
    """One light, one material, full sun: the integral over the spectrum, written out."""
    scenes = SpectralLeaves(
        size=24, tori=1, materials=1, temperatures_k=(5000.0, 5000.0), texture=0.0, shading=0.0
    )
    scenes._share = torch.ones_like(scenes._share)
    cones, linear = scenes.draw(1, seeded(0), dtype=torch.float64)
    light = daylights(torch.tensor(5000.0, dtype=torch.float64))
    luminosity = cie_1931()[:, 1]
    light = light / (light @ luminosity / luminosity.sum())
    expected = response_weights(LMS) @ (reflectances()[0] * light)
    both = torch.cat([cones, linear], 1)
    torch.testing.assert_close(both, expected[None, :, None, None].expand_as(both))


def test_a_white_surface_in_the_sun_has_luminance_one_under_every_light(monkeypatch):
    scenes = SpectralLeaves(size=24, tori=1, texture=0.0, shading=0.0, seed=77)
    scenes._share = torch.ones_like(scenes._share)
    white = torch.ones(scenes.materials, 301, dtype=torch.float64)
    monkeypatch.setattr(
        "calcarine.stimuli.spectral_leaves.material_spectra", lambda *_, **__: white
    )
    linear = scenes.draw(6, seeded(0), dtype=torch.float64).linear
    luminance = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    y = torch.einsum("c,bchw->bhw", luminance, linear)
    torch.testing.assert_close(y, torch.ones_like(y))
    tint = linear[:, 0, 0, 0] / linear[:, 2, 0, 0]
    assert tint.max() > 1.3 * tint.min()


def test_a_lamp_is_daylight_through_a_filter():
    """One material, full sun: with all nodes alike daylight, with one of them a band of it."""
    scenes = SpectralLeaves(
        size=8, tori=1, materials=1, temperatures_k=(5000.0, 5000.0), texture=0.0, shading=0.0,
        lamps=1.0,
    )  # fmt: skip
    scenes._share = torch.ones_like(scenes._share)
    table = scenes._table(LMS, torch.device("cpu"), torch.float64)
    light = daylights(torch.tensor(5000.0, dtype=torch.float64))
    at = torch.arange(400, 701, dtype=torch.float64)
    pigments = cone_fundamentals(range(420, 561, 10))
    noon = daylights(torch.tensor(6504.0, dtype=torch.float64)) @ pigments
    for node in (None, 7, 29):
        transmission = torch.ones(1, 2, 31, dtype=torch.float64)
        if node is not None:
            transmission = torch.zeros_like(transmission)
            transmission[..., node] = 1
        sun, _ = scenes._lights(table, transmission, torch.full((1, 2), 0.5), torch.ones(1))
        band = 1.0 if node is None else (1 - (at - (400 + 10 * node)).abs() / 10).clamp(min=0)
        lamp = light * band
        lamp = lamp / (lamp @ pigments / noon).max()
        torch.testing.assert_close(sun[0, 0], response_weights(LMS) @ (reflectances()[0] * lamp))


def test_a_lamp_dazzles_no_cone_however_coloured():
    settings = {"size": 64, "tori": 4, "texture": 0.0}
    cones = SpectralLeaves(**settings, lamps=3.0).draw(16, seeded(0), peaks_nm=LMSQ).cones
    relative = cones.double() / whites(LMSQ)[:4, None, None]
    assert relative.max() < 1.1
    colours = relative.mean((2, 3))  # a scene may be all but dark to a pigment that another is for
    assert (colours.amax(1) > 10 * colours.amin(1)).any()


def test_filters_are_smooth_and_as_strong_as_asked_for():
    drawn = torch.randn(4000, 1, 31, generator=seeded(0), dtype=torch.double)
    logarithm = filters(drawn, 0.7).log()[:, 0]
    correlation = torch.corrcoef(logarithm.T)
    assert logarithm.std(dim=0).sub(0.7).abs().max() < 0.03
    assert correlation[10, 13].item() == pytest.approx(math.exp(-0.5), abs=0.03)  # 30 nm
    assert correlation[5, 20].abs() < 0.05


def test_shadows_are_darker_and_have_the_colour_of_the_sky():
    scenes = SpectralLeaves(size=24, tori=1, materials=1, texture=0.0, shading=0.0)
    lit, dark = [], []
    for share, kept in ((1.0, lit), (0.0, dark)):
        scenes._share = torch.full_like(scenes._share, share)
        kept.append(scenes.draw(16, seeded(0)).cones[..., 0, 0])
    ratio = dark[0] / lit[0]
    assert 0.25 < ratio[:, 1].min() < ratio[:, 1].mean() < 0.8
    assert ratio[:, 1].max() < 1.2
    assert (ratio[:, 2] / ratio[:, 0]).std() > 0.1


def test_texture_follows_its_setting():
    plain, rough = (
        SpectralLeaves(
            size=64, tori=1, materials=1, texture=t, shading=0.0, temperatures_k=(6500.0, 6500.0)
        )
        for t in (0.0, 0.5)
    )
    for scenes in (plain, rough):
        scenes._share = torch.ones_like(scenes._share)
    assert plain.draw(2, seeded(0)).cones.log().std(dim=(-2, -1)).max() < 1e-5
    assert rough.draw(2, seeded(0)).cones.log().std(dim=(-2, -1)).min() > 0.1


def test_four_cone_types_see_four_dimensions_and_upsampled_photographs_have_three():
    """A fourth signal that the other three cannot tell; photographs under one light have none."""
    leaves = SpectralLeaves(size=64, tori=4).draw(16, seeded(0), peaks_nm=LMSQ, dtype=torch.double)
    photographs = RgbSpectra(size=64, names=("astronaut",), temperatures_k=(6504.0, 6504.0))
    flat = photographs.draw(16, seeded(0), peaks_nm=LMSQ, dtype=torch.double)
    assert unexplained(leaves.cones, LMSQ) > 0.004
    assert unexplained(flat.cones, LMSQ) < 1e-6
    values = torch.linalg.svdvals((flat.cones / flat.cones.std()).movedim(1, 0).flatten(1))
    assert values[3] < 1e-6 * values[0] < values[2]


def test_thin_films_make_the_fourth_dimension_stronger():
    plain, films = (
        unexplained(
            SpectralLeaves(size=64, tori=4, films=f).draw(16, seeded(0), peaks_nm=NEAR).cones, NEAR
        )
        for f in (0.0, 0.6)
    )
    assert films > 1.6 * plain > 1e-3


def test_coloured_lamps_make_the_fourth_dimension_stronger_and_leave_daylight_as_it_was():
    settings = {"size": 64, "tori": 4}
    plain, lit = (
        SpectralLeaves(**settings, lamps=spread).draw(16, seeded(0), peaks_nm=LMSQ)
        for spread in (0.0, 1.0)
    )
    assert unexplained(lit.cones, LMSQ) > 2 * unexplained(plain.cones, LMSQ)
    again = SpectralLeaves(**settings).draw(16, seeded(0), peaks_nm=LMSQ)
    assert torch.equal(plain.cones, again.cones)


def test_materials_are_measured_ones_then_dyes_then_films():
    made = material_spectra(400, films=0.25, seed=3)
    assert made.shape == (400, 301)
    assert torch.equal(made[:289], reflectances())
    assert made.min() >= 0
    assert made.max() <= 1
    dyes, films = made[289:300], made[300:]
    assert torch.unique(made, dim=0).shape[0] == 400
    assert films.max() == pytest.approx(0.9, abs=1e-3)
    # Films swing over the spectrum much faster than dyes do.
    assert films.diff(dim=1).abs().mean() > 2 * dyes.diff(dim=1).abs().mean()
    assert torch.equal(made, material_spectra(400, films=0.25, seed=3))
    assert not torch.equal(made[289:], material_spectra(400, films=0.25, seed=4)[289:])
    assert torch.equal(material_spectra(50), reflectances()[:50])


def test_leaves_cover_the_ground_at_every_scale():
    generator = seeded(0)
    seen, centres = leaf_map(256, (3.0, 60.0), generator)
    assert (seen == 0).float().mean() < 0.01
    assert seen.max() == count_leaves(256, (3.0, 60.0))
    assert centres.shape == (count_leaves(256, (3.0, 60.0)) + 1,)
    # The leaf that fell last is seen at its centre.
    assert seen.flatten()[centres[-1]] == seen.max()
    areas = torch.bincount(seen.flatten())[1:]
    assert areas.max() > 1000
    assert ((areas > 0) & (areas < 40)).sum() > 20


def kept(values: torch.Tensor) -> float:
    """Return the share of variance that averages over 7 x 7 px keep."""
    return (torch.nn.functional.avg_pool2d(values[:, None], 7).var() / values.var()).item()


def test_colour_changes_less_from_place_to_place_than_brightness():
    """Parts of a thing share its material; without kinship colour is as fine as the leaves."""
    found = []
    for kinship in (0.0, 1.0):
        scenes = SpectralLeaves(size=70, tori=4, kinship=kinship, coarseness=(1.0,))
        cones = scenes.draw(24, seeded(0)).cones
        luminance = cones[:, 0] + cones[:, 1]
        found.append((kept((cones[:, 0] - cones[:, 1]) / luminance), kept(luminance)))
    (alone, _), (kin, brightness) = found
    assert kin > alone + 0.1
    assert kin > brightness + 0.02


def test_tilted_leaves_are_darker_and_keep_their_colour():
    flat, tilted = (
        SpectralLeaves(size=48, tori=1, shading=s, texture=0.0).draw(2, seeded(0)).cones
        for s in (0.0, 1.0)
    )
    gain = tilted / flat
    assert torch.exp(torch.tensor(-1.001)) < gain.min() < 0.5 < 0.9 < gain.max() <= 1.0001
    torch.testing.assert_close(gain[:, 0], gain[:, 2])


def test_more_things_than_leaves_are_no_trouble():
    scenes = SpectralLeaves(size=32, tori=1, radii_px=(60.0, 80.0), coarseness=(1.0,))
    assert scenes.draw(2, seeded(0)).cones.isfinite().all()


def test_coarse_scenes_have_fewer_borders():
    fine, coarse = (
        SpectralLeaves(size=128, tori=2, coarseness=(c,), texture=0.0).draw(4, seeded(0)).linear
        for c in (1.0, 4.0)
    )
    borders = [(x.diff(dim=-1).abs().sum(1) > 0.02).float().mean() for x in (fine, coarse)]
    assert 0.01 < borders[1] < 0.6 * borders[0]


def test_the_torus_has_no_seam():
    """Neighbours across the border differ as seldom as neighbours inside."""
    maps = torch.stack([leaf_map(256, (3.0, 60.0), seeded(n))[0] for n in range(4)])
    inside = (maps[:, :, 1:] != maps[:, :, :-1]).float().mean()
    across = (maps[:, :, 0] != maps[:, :, -1]).float().mean()
    assert across < 1.5 * inside


def test_windows_are_where_they_were_asked_for():
    tori = torch.arange(2 * 6 * 6).view(2, 6, 6)
    chance = torch.tensor([[0.0, 0.0, 0.0, 0.9], [0.9999999, 0.7, 0.99, 0.1]], dtype=torch.double)
    plain, turned = cut_windows(tori, (3, 2), chance)
    assert torch.equal(plain, tori[0, :3, :2])
    # From row 4 and column 5 of the second torus, over the seam, columns mirrored.
    assert torch.equal(turned, tori[1, [4, 5, 0]][:, [0, 5]])


def test_scenes_may_be_larger_than_the_smallest_torus():
    cones, _ = SpectralLeaves(size=(260, 301), tori=1).draw(1, seeded(0))
    assert cones.shape == (1, 3, 260, 301)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radii_px": (5.0, 5.0)}, "radii_px"),
        ({"radii_px": (0.0, 9.0)}, "radii_px"),
        ({"temperatures_k": (3000.0, 5000.0)}, r"within 4000\.\.25000 K"),
        ({"temperatures_k": (9000.0, 5000.0)}, "least, most"),
        ({"coarseness": ()}, "coarseness"),
        ({"coarseness": (0.5,)}, "coarseness"),
        ({"radii_px": (3.0, 12.0)}, "coarseness"),
        ({"texture": -1.0}, "texture"),
        ({"films": 1.5}, "films"),
        ({"lamps": -0.1}, "lamps"),
        ({"kinship": 1.1}, "kinship"),
        ({"shading": 3.0}, "shading"),
        ({"materials": 0}, "materials"),
        ({"tori": 0}, "tori"),
        ({"size": 0}, "size"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        SpectralLeaves(**settings)


def test_an_empty_batch_is_refused(leaves):
    with pytest.raises(InputError, match="batch size"):
        leaves.draw(0)


@pytest.mark.parametrize("arguments", [{"materials": 0}, {"materials": 5, "films": -0.1}])
def test_impossible_materials_are_named(arguments):
    with pytest.raises(InputError, match="material_spectra expected"):
        material_spectra(**arguments)
