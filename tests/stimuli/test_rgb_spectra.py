"""Photographs given spectra: they come back under D65, and daylight colours them."""

from __future__ import annotations

import pytest
import torch

from calcarine.color import ConeSpace, srgb_to_linear
from calcarine.errors import InputError
from calcarine.stimuli import ImagePatches, RgbSpectra
from calcarine.stimuli.rgb_spectra import light_matrices

LMS = (560.0, 530.0, 419.0)
NAMES = ("astronaut",)


def seeded(number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(31, 44), 40])
def test_under_d65_photographs_come_back(dtype, size):
    scenes = RgbSpectra(size=size, names=NAMES, temperatures_k=(6504.0, 6504.0))
    image = ImagePatches(size=size, names=NAMES).draw(3, seeded(), dtype=dtype)
    cones, linear = scenes.draw(3, seeded(), dtype=dtype)
    assert cones.dtype == linear.dtype == dtype
    torch.testing.assert_close(linear, srgb_to_linear(image), atol=3e-3, rtol=0)
    # The cone signals of the spectra are near those of the published least-squares map.
    expected = ConeSpace(LMS).linear_to_cones(srgb_to_linear(image))
    assert (cones - expected).abs().max() < 0.07


def test_daylight_keeps_luminance_of_white_and_changes_its_colour():
    kelvin = torch.tensor([4000.0, 6504.0, 20000.0], dtype=torch.float64)
    white = light_matrices(LMS, kelvin).sum(-1)
    luminance = white[:, 3:] @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64)
    # The basis adds up to one within 2e-5, and it is tabulated up to 700 nm here.
    torch.testing.assert_close(luminance, torch.ones(3, dtype=torch.float64), atol=1e-4, rtol=0)
    assert (white[:, 3].diff() < 0).all()
    assert (white[:, 5].diff() > 0).all()


def test_one_scene_lies_under_two_lamps():
    scenes = RgbSpectra(size=40, names=NAMES)
    plain = ImagePatches(size=40, names=NAMES).draw(8, seeded())
    gain = scenes.draw(8, seeded()).linear / srgb_to_linear(plain).clamp_min(0.05)
    bright = srgb_to_linear(plain).amin(1, keepdim=True) > 0.05
    tint = torch.where(bright, gain[:, :1] / gain[:, 2:], torch.nan)
    low, high = (torch.nanquantile(tint.flatten(1), q, dim=1) for q in (0.05, 0.95))
    assert (high / low).max() > 1.3


def test_draws_depend_on_the_generator_alone():
    scenes = RgbSpectra(size=20, names=NAMES)
    first, again, other = (scenes.draw(2, seeded(n)).cones for n in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("temperatures", [(2000.0, 6000.0), (9000.0, 5000.0)])
def test_impossible_temperatures_are_named(temperatures):
    with pytest.raises(InputError, match="temperatures_k"):
        RgbSpectra(temperatures_k=temperatures, names=NAMES)
