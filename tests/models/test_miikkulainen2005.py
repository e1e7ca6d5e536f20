"""LISSOM: the reference arrays, the published geometry and schedule, learning."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.models import Lissom
from calcarine.models.miikkulainen2005 import BOOK_SCHEDULE, book_settings
from calcarine.testing import check_model
from calcarine.v1 import LocalConnection


def put(connection, dense):
    columns = connection.tables.columns(connection.source[1]).long()
    connection.weight.copy_(dense[connection.tables.units(), columns])


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parent.parent / "data" / "lissom.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def published(reference):
    model = Lissom(
        (16, 16), (16, 16), (12, 12), lgn="summed",
        afferent_radius=5.0, excitatory_radius=2.0, inhibitory_radius=4.0,
    )  # fmt: skip
    put(model.v1.afferents[0], reference["aff"])
    put(model.v1.lateral.excitatory, reference["exc"])
    put(model.v1.lateral.inhibitory, reference["inh"])
    model.relay = LocalConnection(
        (16, 16), (16, 16), 5.0, 1.0, profile="difference", sigma_surround=3.0
    )
    return model


def test_every_stage_matches_the_reference(reference, published):
    image = reference["stimulus"].reshape(1, 1, 16, 16)
    activity = published.activity(image)
    for found, name in (
        (activity.on, "lgn_on"),
        (activity.off, "lgn_off"),
        (activity.v1, "lissom"),
        (published(image), "lissom"),
    ):
        assert reference[name].max() > 0.2
        torch.testing.assert_close(found.flatten(1), reference[name], rtol=1e-5, atol=1e-5)
    assert activity.settling.shape == (10, 1, 12, 12)
    torch.testing.assert_close(activity.afferent, published.afferent(image))


def test_sizes_follow_from_the_sheets():
    model = Lissom((36, 36), (36, 36), (40, 40))
    lateral = model.v1.lateral
    assert model.v1.afferents[0].radius == 9.5
    assert model.v1.afferents[0].sigma == pytest.approx(9.5 / 1.3)
    assert (lateral.excitatory.radius, lateral.inhibitory.radius) == (4.0, 9.0)
    assert lateral.excitatory.sigma == pytest.approx(3.12)
    assert lateral.inhibitory.sigma == pytest.approx(18.72)
    center = 0.5 * 9.5 / 6.5
    assert model.relay.sigma == pytest.approx(center)
    assert model.relay.sigma_surround == pytest.approx(4 * center)
    assert model.relay.radius == pytest.approx(4.7 * 4 * center)


def test_the_book_s_sheets_cut_no_afferent_field_off():
    model = Lissom(**book_settings(cortex_density=20, retina_density=12))
    for field in (model.relay, *model.v1.afferents):
        places = field.tables.offsets.diff()
        # Fields differ by where their centres fall between the pixels, not by a border.
        assert places.min() > 0.85 * places.max()
    middle = book_settings()["lgn_margin"]
    assert middle[0] == pytest.approx((38 - 1) / 2 - 47 / 2 / 2)


def test_two_fields_or_one_for_the_sum():
    model = Lissom((12, 10), (12, 10), (15, 13))
    assert len(model.v1.afferents) == 2
    assert len(Lissom((12, 10), (12, 10), (15, 13), lgn="summed").v1.afferents) == 1
    total = sum(field.dense().sum(dim=1) for field in model.v1.afferents)
    torch.testing.assert_close(total, torch.ones_like(total))
    with pytest.raises(InputError, match="'separate' or 'summed'"):
        Lissom((12, 10), (12, 10), (15, 13), lgn="both")  # type: ignore[arg-type]


def bars(count, size, generator):
    """Return images of one thin bar each, at a random angle and place."""
    axis = torch.arange(size, dtype=torch.float32)
    angle = torch.rand(count, 1, 1, generator=generator) * torch.pi
    y0, x0 = (torch.rand(2, count, 1, 1, generator=generator) * size).unbind(0)
    across = (axis[None, None] - x0) * angle.sin() + (axis[None, :, None] - y0) * angle.cos()
    return torch.exp(-0.5 * across.square())[:, None]


def test_learning_makes_the_fields_selective_and_repeats_itself():
    model = Lissom((20, 20), (20, 20), (16, 16), settling=5).reset_(
        torch.Generator().manual_seed(0)
    )
    twin, untrained = copy.deepcopy(model), copy.deepcopy(model)
    images = bars(150, 20, torch.Generator().manual_seed(1))
    before = [field.dense() for field in model.v1.afferents]
    said = model.learn(images)
    assert set(said) == {"activity", "active"}
    assert 0.02 < said["active"] < 0.9
    for one in images.split(1):
        twin.learn(one)
    for a, b, old in zip(model.v1.afferents, twin.v1.afferents, before, strict=True):
        assert a.weight.equal(b.weight)
        assert (a.dense() - old).abs().max() > 1e-3
    # Units care more about which bar they see.
    new = bars(100, 20, torch.Generator().manual_seed(2))
    responses = [each.afferent(new) for each in (untrained, model)]
    tuning = [(r.std(dim=0) / r.mean(dim=0)).mean().item() for r in responses]
    assert tuning[1] > 1.05 * tuning[0]


def test_the_schedule_is_data_that_the_model_takes():
    model = Lissom((20, 20), (20, 20), (24, 24), excitatory_radius=2.5)
    radii, weights = [], []
    for settings in BOOK_SCHEDULE.values():
        model.set_(**settings)
        radii.append(model.v1.lateral.excitatory.current_radius)
        weights.append(model.v1.lateral.excitatory.count)
    assert radii == sorted(radii, reverse=True)
    assert weights[0] > weights[-1] == 24 * 24
    assert (model.v1.settling, model.v1.afferent_rate) == (13, 0.2055)
    assert model.v1.lateral.activation.upper.item() == pytest.approx(0.88)
    again = Lissom((20, 20), (20, 20), (24, 24), excitatory_radius=2.5)
    again.load_state_dict(model.state_dict())
    image = bars(2, 20, torch.Generator().manual_seed(0))
    assert again(image).equal(model(image))


def test_pruning_cuts_weak_inhibition():
    model = Lissom((20, 20), (20, 20), (24, 24))
    inhibitory = model.v1.lateral.inhibitory
    before = (inhibitory.dense() == 0).sum()
    model.set_(prune=0.005)
    after = inhibitory.dense()
    assert (after == 0).sum() > before + 1000
    torch.testing.assert_close(after.sum(dim=1), torch.ones(24 * 24))


def test_a_probe_can_use_the_model():
    model = Lissom((20, 18), (20, 18), (15, 13))
    check_model(model, torch.rand(1, 1, 20, 18)).raise_if_failed()


def test_what_does_not_fit_is_refused():
    model = Lissom((12, 10), (12, 10), (15, 13))
    for wrong in (torch.rand(1, 1, 10, 12), torch.rand(1, 3, 12, 10), torch.rand(12, 10)):
        with pytest.raises(ShapeError, match="12 x 10 pixels, the size of its retina"):
            model(wrong)
    with pytest.raises(UnknownNameError, match="Did you mean 'settling'"):
        model.set_(setling=3)
    with pytest.raises(InputError, match="lower and upper together"):
        model.set_(lower=0.2)
    with pytest.raises(InputError, match="within the source sheet"):
        Lissom((12, 10), (12, 10), (15, 13), afferent_radius=20.0)
    with pytest.raises(InputError, match="lower < upper"):
        Lissom((12, 10), (12, 10), (15, 13), thresholds=(0.5, 0.2))
