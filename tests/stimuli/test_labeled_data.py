"""Digits to learn from: epochs, shares of processes, what is held out, pictures of one's own."""

from __future__ import annotations

import itertools

import pytest
import torch

from calcarine import cite, recipe
from calcarine.errors import InputError, ShapeError
from calcarine.stimuli import DigitsData, LabeledData, digits
from calcarine.stimuli._epochs import Epochs, own_rows, seed_of
from calcarine.stimuli.labeled_data import as_code_values, normalised

STILL = {"rotation_deg": 0.0, "shear": 0.0, "stretch": 0.0, "shift_px": 0.0}


def numbers(data, epoch, batch_size, seed):
    """Which digits an epoch shows, told by their ink, and how often."""
    shown = []
    for number in range(epoch * len(data) // batch_size, (epoch + 1) * len(data) // batch_size):
        shown += data.batch(number, batch_size, seed).images.flatten(1).double().sum(1).tolist()
    return sorted(shown)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (7, 7), (5, 12), (1, 4)])
def test_epochs_are_permutations_that_batches_may_straddle(count, batch_size):
    epochs = Epochs(count)
    rows = [row for n in range(3 * count) for row in epochs.rows(n, batch_size, seed=4)]
    for start in range(0, len(rows) - count + 1, count):
        assert sorted(rows[start : start + count]) == list(range(count))
    again = Epochs(count)
    for n in reversed(range(3 * count)):  # in any order, without those before
        assert again.rows(n, batch_size, 4) == rows[n * batch_size : (n + 1) * batch_size]


def test_epochs_and_seeds_differ():
    epochs = Epochs(100)
    orders = [tuple(epochs.rows(n, 100, seed)) for n, seed in itertools.product((0, 1, 2), (0, 1))]
    assert len(set(orders)) == 6
    assert len({seed_of(0, 1, 2), seed_of(0, 2, 1), seed_of(1, 1, 2), seed_of(0, 1, 3)}) == 4


def test_last_third_is_held_out_and_the_rest_is_shown_once_an_epoch():
    data, known = DigitsData(size=8, mean=(0.0,), std=(1.0,), **STILL), digits()
    assert isinstance(data, LabeledData)
    assert (len(data), data.held_out_count) == (1198, 599)
    assert (data.classes, data.channels, data.size) == (10, 1, (8, 8))
    assert data.class_names == tuple("0123456789")
    assert data.skipped == ()
    unseen = list(data.held_out(100))
    assert [len(batch.targets) for batch in unseen] == [100] * 5 + [99]
    found = torch.cat([batch.images for batch in unseen])
    assert torch.allclose(found, known.images[1198:], atol=1e-6)
    assert torch.equal(torch.cat([batch.targets for batch in unseen]), known.labels[1198:])
    ink = sorted(known.images[:1198].flatten(1).double().sum(1).tolist())
    assert numbers(data, 0, 599, seed=2) == pytest.approx(ink, abs=1e-4)
    assert numbers(data, 1, 599, seed=2) == pytest.approx(ink, abs=1e-4)
    first = data.batch(0, 1198, seed=2)
    nearest = torch.cdist(first.images.flatten(1), known.images[:1198].flatten(1)).argmin(1)
    assert (known.labels[nearest] == first.targets).all()


@pytest.mark.parametrize("size", [8, 32, (31, 40)])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_exactly_the_rows_of_one(size, processes):
    data = DigitsData(size=size)
    whole = data.batch(11, 24, seed=5)
    assert whole.images.shape == (24, 1, *data.size)
    assert whole.images.dtype == torch.get_default_dtype()
    parts = [data.batch(11, 24, 5, part=(rank, processes)) for rank in range(processes)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    shares = [list(data.held_out(70, part=(rank, processes))) for rank in range(processes)]
    assert sum(len(batch.targets) for share in shares for batch in share) == 599


def test_batches_follow_from_number_and_seed_alone():
    data, other = DigitsData(), DigitsData()
    before = torch.random.get_rng_state()
    batches = [data.batch(n, 16, seed=1) for n in range(80)]
    assert torch.equal(other.batch(79, 16, seed=1).images, batches[79].images)
    assert not torch.equal(data.batch(79, 16, seed=2).images, batches[79].images)
    for n, batch in zip(range(77, 80), data.stream(77, batch_size=16, seed=1), strict=False):
        assert torch.equal(batch.images, batches[n].images)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_digit_is_written_differently_each_time():
    still, data = DigitsData(**STILL), DigitsData()
    size = len(data)
    plain = torch.cat([still.batch(n, size, 0).images for n in (0, 1)])
    moved = torch.cat([data.batch(n, size, 0).images for n in (0, 1)])
    change = (moved - plain).square().mean((1, 2, 3)).sqrt()
    assert (change > 0.05).all()
    assert change.median() < 0.8  # of digits whose standard deviation is 1
    flat = plain.flatten(1).double()
    twice = (torch.cdist(flat[:50], flat[size:]) < 1e-2).nonzero()
    assert len(twice) >= 50
    assert not torch.isclose(moved[twice[:, 0]], moved[size + twice[:, 1]]).all((1, 2, 3)).any()


def test_pictures_are_shown_with_mean_0_and_deviation_1():
    shown = DigitsData().batch(0, 1198, seed=0).images
    assert shown.mean().abs() < 0.02
    assert abs(shown.std() - 1) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prepared_pictures_are_those_held_out(dtype):
    data, known = DigitsData(size=(33, 32)), digits(dtype=dtype)
    held = torch.cat([batch.images for batch in data.held_out(599)])
    prepared = data.prepare(known.images[1198:])
    assert prepared.dtype == dtype
    assert torch.allclose(prepared.to(held), held, atol=1e-5)
    coloured = data.prepare(known.images[1198:].expand(-1, 3, -1, -1))
    assert torch.allclose(coloured.to(held), held, atol=1e-4)
    # a fine picture of a digit looks as coarse as the digits do
    fine = known.images[1198:1203].repeat_interleave(9, 2).repeat_interleave(9, 3)
    assert torch.allclose(data.prepare(fine).to(held), held[:5], atol=1e-4)
    wide = torch.nn.functional.pad(fine, (10, 10))
    assert torch.allclose(data.prepare(wide).to(held), held[:5], atol=1e-4)
    shown = data.display(prepared)
    assert shown.min() >= 0
    assert torch.allclose(shown, data.fit(known.images[1198:]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shown_pictures_become_code_values_again(dtype):
    code = torch.rand(2, 3, 7, 5, dtype=dtype)
    mean, std = (0.5, 0.25, 0.75), (0.5, 0.25, 2.0)
    shown = normalised(code, mean, std)
    assert shown.dtype == dtype
    torch.testing.assert_close(shown[:, 1], (code[:, 1] - 0.25) / 0.25)
    torch.testing.assert_close(as_code_values(shown, mean, std), code)
    assert as_code_values(shown + 9, mean, std).max() == 1  # cut where there is no such code


def test_prepare_refuses_what_is_not_a_picture():
    data = DigitsData()
    with pytest.raises(ShapeError, match=r"picture\[None\]"):
        data.prepare(torch.rand(1, 8, 8))
    with pytest.raises(ShapeError, match="1 or 3"):
        data.prepare(torch.rand(1, 2, 8, 8))
    with pytest.raises(InputError, match="Divide"):
        data.prepare(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="Rescale"):
        data.prepare(255 * torch.rand(1, 1, 8, 8))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        data.prepare(torch.full((1, 1, 8, 8), torch.nan))


def test_wrong_requests_are_refused():
    data = DigitsData()
    with pytest.raises(InputError, match="share equally"):
        data.batch(0, 5, 0, part=(0, 2))
    with pytest.raises(InputError, match="rank < size"):
        data.batch(0, 4, 0, part=(2, 2))
    with pytest.raises(InputError, match="at least 0"):
        data.batch(-1, 4, 0)
    with pytest.raises(InputError, match="at least 0"):
        data.batch(0, 4, -2)
    with pytest.raises(InputError, match="batch size"):
        data.batch(0, 0, 0)
    with pytest.raises(InputError, match="batch size"):
        next(data.held_out(0))
    assert own_rows(6, (1, 3)) == range(2, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size"),
        ({"stretch": 1.0}, "stretch in"),
        ({"shift_px": -0.1}, "shift_px"),
        ({"mean": (0.1, 0.2)}, "one number"),
        ({"std": (0.0,)}, "above 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        DigitsData(**settings)


def test_recipes_can_name_it():
    built = recipe.build(recipe.schema(DigitsData)(size=16, shear=0.0))
    assert isinstance(built, DigitsData)
    assert (built.size, built.shear) == ((16, 16), 0.0)
    assert "alpaydin1998" in cite(built)
