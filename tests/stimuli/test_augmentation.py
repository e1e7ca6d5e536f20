"""Augmentation: windows, parts of a picture, operations of kornia, mixtures and their labels."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, MissingDependencyError
from calcarine.stimuli.augmentation import (
    RandomOperations,
    drawn_mixture,
    padded_crops,
    resized_crop_box,
)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_padded_crops_are_windows_of_the_padded_picture(size, dtype):
    pictures = (uniform(60, 3, *size) * 255).to(dtype)
    chances = uniform(60, 3, seed=1)
    crops = padded_crops(pictures, chances, padding_px=2, flip=True)
    assert crops.shape == pictures.shape
    assert crops.dtype == dtype
    padded = torch.nn.functional.pad(pictures, (2, 2, 2, 2))
    seen = set()
    for picture, crop, (row, column, mirror) in zip(padded, crops, chances.tolist(), strict=True):
        top, left = int(5 * row), int(5 * column)
        window = picture[:, top : top + size[0], left : left + size[1]]
        assert torch.equal(crop, window.flip(-1) if mirror < 0.5 else window)
        seen.add((top, left))
    assert len(seen) > 15
    plain = padded_crops(pictures, chances, padding_px=0, flip=False)
    assert torch.equal(plain, pictures)


@pytest.mark.parametrize(("height", "width"), [(300, 400), (255, 301), (32, 32), (1, 50), (600, 9)])
def test_resized_crops_have_the_published_areas_and_shapes(height, width):
    boxes = [resized_crop_box(height, width, uniform(10, 4, seed=s).tolist()) for s in range(300)]
    for top, left, down, across in boxes:
        assert 0 <= top <= top + down <= height
        assert 0 <= left <= left + across <= width
        assert down > 0
        assert across > 0
    if min(height, width) > 100:
        areas = np.array([down * across / (height * width) for _, _, down, across in boxes])
        shapes = np.array([across / down for _, _, down, across in boxes])
        assert areas.min() > 0.075
        assert areas.min() < 0.12
        assert areas.max() > 0.9
        assert 0.42 < areas.mean() < 0.56  # uniform from 0.08 to 1, the largest fit less often
        assert 0.74 < shapes.min() < 0.8
        assert 1.25 < shapes.max() < 1.35
    assert len(set(boxes)) > 20 or min(height, width) < 10


def test_without_a_part_that_fits_the_centre_is_taken():
    assert resized_crop_box(10, 100, []) == (0, 43, 10, 13)
    assert resized_crop_box(90, 30, []) == (25, 0, 40, 30)
    assert resized_crop_box(30, 40, []) == (0, 0, 30, 40)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_operations_on_a_row_follow_from_its_place_alone(channels, count):
    operations, other = RandomOperations(count), RandomOperations(count)
    pictures = uniform(12, channels, 16, 13).float()
    before, kept = torch.random.get_rng_state(), pictures.clone()
    changed = operations(pictures, range(12), 12, 7, 1)
    assert torch.equal(pictures, kept)
    random.seed(3)
    for rows in (range(4), [11, 5], [8]):
        again = other(pictures[list(rows)], rows, 12, 7, 1)
        assert torch.allclose(again, changed[list(rows)], atol=1e-6)
    assert torch.equal(before, torch.random.get_rng_state())
    assert changed.shape == pictures.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert not torch.equal(operations(pictures, range(12), 12, 7, 2), changed)
    assert ((changed - pictures).abs().amax((1, 2, 3)) > 0).sum() > 9


def test_each_picture_is_changed_in_its_own_way():
    """Copies of a picture under one operation each: all occur, those that have a sign with both.

    Turning, shearing and moving have a sign. Adding above a threshold draws the threshold anew for
    each picture, so what it does is seldom seen more than three times.
    """
    picture = uniform(1, 3, 16, 16).expand(300, -1, -1, -1)
    changed = RandomOperations(1, 20)(picture, range(300), 300, 0)
    looks = changed.flatten(1).round(decimals=6).unique(dim=0, return_counts=True)[1]
    assert (looks > 3).sum() == 14 + 5
    assert looks.max() < 50
    assert (looks <= 3).sum() > 5


def test_operations_are_those_of_kornia():
    """What kornia itself makes of a picture is found, but where it draws a threshold."""
    from kornia.augmentation.auto import RandAugment

    picture = uniform(1, 3, 16, 16).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = RandAugment(n=15, m=20)
        seen = []
        for name, ((inner, parameters),) in whole.forward_parameters(picture.shape):
            item = type(whole.forward_parameters(picture.shape)[0])
            seen.append(whole(picture, params=[item(name, [item(inner, parameters)])]))
    mine = RandomOperations(1, 20)(picture.expand(300, -1, -1, -1), range(300), 300, 0)
    found = [(mine - theirs).abs().amax((1, 2, 3)).min() < 1e-5 for theirs in seen]
    assert sum(found) >= 14


def test_operations_are_stronger_at_a_higher_magnitude():
    pictures = uniform(60, 3, 24, 24)
    change = [
        (RandomOperations(2, m)(pictures, range(60), 60, 0) - pictures).abs().mean()
        for m in (1, 28)
    ]
    assert change[1] > 1.1 * change[0] > 0


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_labels_are_mixed_as_pictures_are(kind, dtype):
    """Pictures of the grey value of their class: the mean of a mixture tells its shares."""
    classes, batch = 5, 12
    targets = torch.arange(batch) % classes
    images = targets.to(dtype).reshape(-1, 1, 1, 1).expand(-1, 3, 9, 14).contiguous()
    rows = range(batch)
    moved = 0
    for number in range(6):
        mixture = drawn_mixture(kind, (batch, 3, 9, 14), number)
        needed = mixture.needed(rows)
        assert needed == list(rows)
        mixed, shares = mixture.mixed(rows, images, targets, classes)
        assert shares.shape == (batch, classes)
        assert shares.dtype == mixed.dtype == dtype
        assert torch.allclose(shares.sum(1), torch.ones(batch, dtype=dtype))
        assert shares.min() >= 0
        expected = shares @ torch.arange(classes, dtype=dtype)
        assert torch.allclose(mixed.mean((1, 2, 3)), expected, atol=1e-5)
        moved += ((shares > 0).sum(1) == 2).sum()
        one_hot = torch.nn.functional.one_hot(targets, classes).to(dtype)
        assert ((shares * one_hot).sum(1) > 0).float().mean() > 0.5
    assert moved > 30


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("processes", [2, 3, 6])
def test_a_share_is_mixed_as_the_whole_batch_is(kind, processes):
    batch = 12
    images, targets = uniform(batch, 3, 8, 8), torch.arange(batch)
    mixture = drawn_mixture(kind, tuple(images.shape), 4)
    whole = mixture.mixed(range(batch), images, targets, batch)
    share = batch // processes
    for rank in range(processes):
        own = range(rank * share, (rank + 1) * share)
        needed = mixture.needed(own)
        assert len(needed) <= 2 * share
        assert needed[:share] == list(own)
        part = mixture.mixed(own, images[needed], targets[needed], batch)
        assert torch.equal(part[0], whole[0][own.start : own.stop])
        assert torch.equal(part[1], whole[1][own.start : own.stop])


def test_both_kinds_of_mixture_occur():
    kinds = {
        type(drawn_mixture("both", (4, 1, 8, 8), number).operation).__name__ for number in range(12)
    }
    assert kinds == {"RandomCutMixV2", "RandomMixUpV2"}


@pytest.mark.parametrize(("count", "magnitude"), [(0, 9), (16, 9), (2, 0), (2, 30)])
def test_operations_refuse_impossible_numbers(count, magnitude):
    with pytest.raises(InputError, match="RandAugment expected"):
        RandomOperations(count, magnitude)


def test_kornia_is_optional(monkeypatch):
    for name in [m for m in sys.modules if m.split(".")[0] == "kornia"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[train\]"):
        RandomOperations()
    with pytest.raises(MissingDependencyError, match=r"calcarine\[train\]"):
        drawn_mixture("mixup", (2, 1, 8, 8), 0)
