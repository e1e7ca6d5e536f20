"""GCAL: published geometry, gain control in closed form, homeostasis, self-organisation."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.models import Gcal
from calcarine.testing import check_model

SMALL = {"cortex_density": 20, "lgn_density": 12}


def coordinates(size, density):
    return ((torch.arange(size) + 0.5) - size / 2) / density


def gaussians(model, count, generator, contrast=0.7):
    """Return images of two oriented Gaussians each, stevens2013."""
    y, x = (coordinates(n, model.lgn_density) for n in model.retina_shape)
    images = torch.zeros(count, *model.retina_shape)
    for _ in range(2):
        place = (torch.rand(2, count, 1, 1, generator=generator) - 0.5) * 1.5
        angle = torch.rand(count, 1, 1, generator=generator) * math.pi
        dx, dy = x[None, None] - place[0], y[None, :, None] - place[1]
        along, across = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
        pattern = torch.exp(-(along / 0.206).square() / 2 - (across / 0.0442).square() / 2)
        images = torch.maximum(images, contrast * pattern)
    return images[:, None]


def selectivity(model):
    """Return the selectivity of every unit for the orientation of gratings, before settling."""
    y, x = (coordinates(n, model.lgn_density) for n in model.retina_shape)
    responses = []
    angles = torch.arange(12) * (math.pi / 12)
    for angle in angles:
        phase = torch.arange(8)[:, None, None] * (2 * math.pi / 8)
        wave = x[None, None] * angle.cos() + y[None, :, None] * angle.sin()
        gratings = (1 + torch.sin(2 * math.pi * 2.4 * wave + phase)) / 2
        responses.append(model.afferent(gratings[:, None]).amax(dim=0))
    tuned = torch.stack(responses)
    vector = (tuned * torch.exp(2j * angles)[:, None, None]).sum(dim=0)
    return vector.abs() / tuned.sum(dim=0)


def test_sheets_have_the_published_sizes():
    model = Gcal()
    assert (model.cortex_shape, model.lgn_shape, model.retina_shape) == (
        (48, 48),
        (61, 61),
        (79, 79),
    )
    half_sides = [model.lgn_shape[0] / 48, model.retina_shape[0] / 48]
    assert half_sides == pytest.approx([1.271, 1.646], abs=1e-3)
    assert [field.radius for field in model.v1.afferents] == pytest.approx([6.5, 6.5], abs=1e-3)
    paper = Gcal._shape(model, 98, 0.0)
    assert paper == (98, 98)


@pytest.mark.parametrize("area", [(1.0, 1.0), (1.4, 1.0)])
def test_no_afferent_field_is_cut_off(area):
    model = Gcal(**SMALL, area=area)
    for field in (model.relay, *model.v1.afferents):
        sizes = field.tables.offsets.diff()
        assert sizes.min() > 0.85 * sizes.max()
    # The lateral fields are: a corner sees about a quarter.
    sizes = model.v1.lateral.inhibitory.tables.offsets.diff()
    assert sizes.min() < 0.4 * sizes.max()


def test_units_look_at_their_own_place():
    """The centre of mass of flat fields is where the unit is, in sheet units."""
    model = Gcal(**SMALL, area=(1.4, 1.0))
    field = model.v1.afferents[0]
    field.profile, field.sigma = "gaussian", None
    dense = field.reset_().dense().reshape(*model.cortex_shape, *model.lgn_shape)
    y = coordinates(model.lgn_shape[0], 12)
    expected = coordinates(model.cortex_shape[0], 20)
    found = (dense.sum(dim=3) * y).sum(dim=2)
    # Discs are made of pixels: their centre is off by a fraction of one, 1 / 12 sheet units.
    assert (found - expected[:, None]).abs().max() < 0.25 / 12


def test_gain_control_in_closed_form():
    """A uniform response u: r = u / (c + g u / (c + g u / c))."""
    model = Gcal(**SMALL).double()
    u, c, g = 0.3, 0.11, 0.6
    model.relay = torch.nn.Identity()
    model.retina_shape = model.lgn_shape
    relayed = model.relayed(torch.full((1, 1, *model.lgn_shape), u / 2.33, dtype=torch.float64))
    expected = u / (c + g * u / (c + g * u / c))
    torch.testing.assert_close(relayed[:, 0], torch.full_like(relayed[:, 0], expected))
    assert relayed[:, 1].abs().max() == 0


@pytest.mark.parametrize(("steps", "below"), [(1, 5.0), (2, 15.0)])
def test_gain_control_makes_contrast_matter_less(steps, below):
    """Contrasts 1 and 0.05: twenty times as much without it."""
    growth = {}
    for on in (True, False):
        model = Gcal(**SMALL, gain_control=on, gain_steps=steps)
        strong, weak = (
            model.relayed(gaussians(model, 3, torch.Generator().manual_seed(0), c)).mean()
            for c in (1.0, 0.05)
        )
        growth[on] = (strong / weak).item()
    assert growth[False] == pytest.approx(20.0, rel=1e-4)
    assert 1 < growth[True] < below


@pytest.mark.parametrize("homeostasis", [True, False])
def test_thresholds_adapt_only_with_homeostasis(homeostasis):
    model = Gcal(**SMALL, homeostasis=homeostasis).reset_(torch.Generator().manual_seed(0))
    before = model.thresholds.threshold.clone()
    images = gaussians(model, 30, torch.Generator().manual_seed(1))
    said = model.learn(images)
    assert (model.thresholds.threshold != before).any().item() is homeostasis
    assert said["active"] > 0
    torch.testing.assert_close(said["threshold"], model.thresholds.threshold.mean())


def test_a_map_develops_and_activity_finds_its_target():
    model = Gcal(**SMALL).reset_(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    before = selectivity(model).mean().item()
    model.learn(gaussians(model, 1200, generator))
    said = model.learn(gaussians(model, 300, generator))
    after = selectivity(model)
    assert before < 0.04
    assert after.mean().item() > 0.07
    assert (after > 2 * before).float().mean() > 0.7
    assert said["activity"].item() == pytest.approx(0.024, abs=0.006)
    total = sum(field.dense().sum(dim=1) for field in model.v1.afferents)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_stopping_and_resuming_changes_nothing():
    model = Gcal(**SMALL, settling=5).reset_(torch.Generator().manual_seed(0))
    images = gaussians(model, 20, torch.Generator().manual_seed(1))
    again = Gcal(**SMALL, settling=5)
    model.learn(images[:12])
    again.load_state_dict(model.state_dict())
    model.learn(images[12:])
    again.learn(images[12:])
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert model(images).equal(again(images))
    assert model(images).max() > 0


def test_every_stage_can_be_seen():
    model = Gcal(**SMALL, settling=6)
    image = gaussians(model, 2, torch.Generator().manual_seed(1))
    activity = model.activity(image)
    assert activity.on.shape == activity.off.shape == (2, *model.lgn_shape)
    assert activity.settling.shape == (6, 2, *model.cortex_shape)
    torch.testing.assert_close(activity.v1, model(image))
    torch.testing.assert_close(activity.afferent, model.afferent(image))


def test_a_probe_can_use_the_model():
    model = Gcal(**SMALL, settling=4)
    image = gaussians(model, 1, torch.Generator().manual_seed(1))
    check_model(model, image).raise_if_failed()


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="densities and area > 0"):
        Gcal(cortex_density=0)
    with pytest.raises(InputError, match="gain_constant > 0"):
        Gcal(**SMALL, gain_constant=0.0)
    with pytest.raises(InputError, match="gain_steps >= 1"):
        Gcal(**SMALL, gain_steps=0)
    with pytest.raises(InputError, match="settling >= 1"):
        Gcal(**SMALL, settling=0)
    with pytest.raises(InputError, match="afferent_rate >= 0"):
        Gcal(**SMALL, afferent_rate=-0.1)
    with pytest.raises(ShapeError, match="the size of its retina"):
        Gcal(**SMALL)(torch.rand(1, 1, 20, 20))
