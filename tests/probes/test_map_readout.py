"""Digits are read from a representation that keeps them apart, and not from one that does not."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError
from calcarine.probes import map_readout
from calcarine.stimuli import Digits


@pytest.fixture(scope="module")
def data() -> Digits:
    """Four classes: a bright quadrant each, under noise."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (160,), generator=draw)
    images = 0.4 * torch.rand(160, 1, 8, 8, generator=draw)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 4 * (label // 2), 4 * (label % 2)
        image[0, row : row + 4, column : column + 4] += 0.5
    return Digits(images, labels)


def test_what_a_model_throws_away_cannot_be_read(data):
    found = map_readout(
        {"same": lambda x: x[:, 0], "total": lambda x: x.sum((1, 2, 3))[:, None, None]},
        (20, 17), 12, data=data,
    )  # fmt: skip
    assert found.accuracy["same"] == found.accuracy["pixels"] == 1
    assert found.accuracy["total"] < 0.6
    assert (found.learned, found.tested) == (107, 53)


def test_digits_stand_in_the_middle_of_the_retina(data):
    seen = []

    def model(image):
        seen.append(image)
        return image[:, 0]

    map_readout({"model": model}, (21, 18), 12, data=data, batch_size=50)
    assert [len(image) for image in seen] == [50, 50, 50, 10]
    shown = torch.cat(seen)
    assert shown.shape == (160, 1, 21, 18)
    assert shown[:, :, 4:16, 3:15].sum() == pytest.approx(shown.sum().item())
    assert shown[:, :, 4:16, 3:15].mean((2, 3)) == pytest.approx(data.images.mean((2, 3)), rel=0.15)


def test_the_seed_decides_the_split_and_nothing_else_is_random(data):
    noisy = Digits(data.images + 3 * torch.rand(data.images.shape), data.labels)
    state = torch.get_rng_state()
    one, same, other = (
        map_readout({"model": lambda x: x[:, 0]}, (16, 16), 16, data=noisy, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one != other
    assert torch.equal(state, torch.get_rng_state())


def test_the_scale_of_the_response_does_not_matter(data):
    found = map_readout(
        {"small": lambda x: 1e-4 * x[:, 0], "large": lambda x: 1e4 * x[:, 0]}, (8, 8), 8, data=data
    )
    assert found.accuracy["small"] == found.accuracy["large"] == 1


@pytest.mark.parametrize(
    ("models", "side", "held_out", "message"),
    [
        ({}, 8, 0.3, "models by name"),
        ({"pixels": lambda x: x}, 8, 0.3, "none called 'pixels'"),
        ({"model": lambda x: x}, 17, 0.3, "digit_px from 8 to 16"),
        ({"model": lambda x: x}, 8, 0.01, "hold out at least 10"),
        ({"model": lambda x: x}, 8, 0.95, "learn from at least 30"),
    ],
)
def test_bad_input_is_refused(data, models, side, held_out, message):
    with pytest.raises(InputError, match=message):
        map_readout(models, (16, 18), side, held_out=held_out, data=data)
