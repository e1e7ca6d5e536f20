"""Gaussian and CenterSurround: reference arrays, channels, memory, settings."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.lgn import CenterSurround, Gaussian


def test_the_reference_arrays(reference):
    image = reference["image"]
    stages = {
        "gaussian": Gaussian(31, 3.0, "circular"),
        "center_surround": CenterSurround(31, 1.962, 4.235, pad_mode="circular"),
        "center_surround_off": CenterSurround(
            31, 1.962, 4.235, on_center=False, pad_mode="circular"
        ),
    }
    for name, stage in stages.items():
        assert torch.allclose(stage(image), reference[name], atol=1e-5, rtol=0), name


def test_the_small_reference_array_in_double_precision(reference):
    stage = CenterSurround(5, 0.8, 1.6, pad_mode="circular")
    expected = reference["fim_out_center_surround"]
    assert torch.allclose(stage(reference["small"]), expected, atol=1e-10, rtol=0)


def test_a_grey_image_gives_one_channel_per_filter():
    x = torch.rand(2, 1, 20, 18)
    both = CenterSurround(7, (1.0, 2.0), (3.0, 4.0), (True, False))(x)
    assert both.shape == (2, 2, 20, 18)
    assert torch.allclose(both[:, :1], CenterSurround(7, 1.0, 3.0)(x), atol=1e-6)
    assert torch.allclose(both[:, 1:], CenterSurround(7, 2.0, 4.0, False)(x), atol=1e-6)


@pytest.mark.parametrize("size", [(20, 18), (128, 100)])
@pytest.mark.parametrize("pad_mode", ["reflect", "circular"])
@pytest.mark.parametrize("stage", [Gaussian, CenterSurround])
def test_channels_are_filtered_one_by_one(stage, pad_mode, size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    one = stage(7, 2.0, pad_mode=pad_mode).double()
    apart = torch.cat([one(x[:, i : i + 1]) for i in range(3)], dim=1)
    assert torch.allclose(one(x), apart, atol=1e-12)
    three = stage(7, (2.0, 2.0, 1.0), pad_mode=pad_mode).double()(x)
    assert torch.allclose(three[:, :2], apart[:, :2], atol=1e-12)
    assert (three[:, 2] - apart[:, 2]).abs().max() > 1e-3


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"2 filters.*got 3 channels.*Convert to grey"):
        Gaussian(5, (1.0, 2.0))(torch.rand(1, 3, 9, 9))


@pytest.mark.parametrize(
    ("image", "match"),
    [
        (torch.rand(9, 9), r"\(batch, channel, height, width\).*image\[None, None\]"),
        (torch.zeros(1, 1, 9, 9, dtype=torch.uint8), "floating point"),
    ],
)
@pytest.mark.parametrize("stage", [Gaussian(5), CenterSurround(5)])
def test_what_is_no_image_is_refused(stage, image, match):
    with pytest.raises(ShapeError, match=match):
        stage(image)


def test_an_image_elsewhere_is_refused():
    with pytest.raises(InputError, match=r"\.to\('meta'\)"):
        Gaussian(5)(torch.rand(1, 1, 9, 9, device="meta"))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"center_std": (1.0, 2.0), "surround_std": (1.0, 2.0, 3.0)}, "equally many"),
        ({"center_std": True}, "expected numbers for center_std"),
        ({"surround_std": -1.0}, "surround_std > 0"),
        ({"amplitude_ratio": 0.5}, "at least 1"),
        ({"amplitude_ratio": (1.5, 2.0)}, "one amplitude_ratio"),
        ({"pad_mode": "constant"}, "one of reflect, circular, replicate, zeros"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(InputError, match=match):
        CenterSurround(5, **settings)


def test_a_uniform_image_leaves_centre_and_surround_silent():
    for mode in ("reflect", "circular", "replicate"):
        response = CenterSurround(31, pad_mode=mode)(torch.full((1, 1, 120, 40), 0.7))
        assert response.abs().max() < 1e-6


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.std.data.fill_(1.0),
        lambda s: setattr(s.std, "data", torch.tensor([1.0])),
        lambda s: s.load_state_dict({"std": torch.tensor([1.0])}),
        lambda s: torch.nn.init.constant_(s.std, 1.0),
    ],
)
@pytest.mark.parametrize("size", [(20, 18), (128, 100)])
@pytest.mark.parametrize("pad_mode", ["reflect", "circular"])
def test_a_changed_parameter_is_noticed(change, size, pad_mode):
    x = torch.rand(1, 1, *size)
    stage, expected = Gaussian(7, 3.0, pad_mode), Gaussian(7, 1.0, pad_mode)(x)
    before = stage(x)
    assert torch.equal(stage(x), before)
    change(stage)
    assert torch.equal(stage(x), expected)
    assert (before - expected).abs().max() > 0.01


@pytest.mark.parametrize("pad_mode", ["reflect", "circular"])
def test_what_is_remembered_stays_out_of_copies_and_files(pad_mode):
    x = torch.rand(1, 1, 128, 100)
    stage = Gaussian(7, 3.0, pad_mode)
    size = len(pickle.dumps(stage))
    expected = stage(x)
    assert len(stage._bank.memory) == 1
    assert len(pickle.dumps(stage)) == size
    assert set(stage.state_dict()) == {"std"}
    for again in (copy.deepcopy(stage), pickle.loads(pickle.dumps(stage))):
        assert len(again._bank.memory) == 0
        assert torch.equal(again(x), expected)
    double = stage.double()(x.double())
    assert torch.allclose(double, expected.double(), atol=1e-6)
    assert double.dtype == torch.float64


def test_nothing_is_remembered_while_learning_or_on_request():
    x = torch.rand(1, 1, 20, 18)
    stages = [Gaussian(7).requires_grad_(True), Gaussian(7, cache_filt=False)]
    for stage in stages:
        assert torch.allclose(stage(x), Gaussian(7)(x), atol=1e-6)
        assert len(stage._bank.memory) == 0
    inside = Gaussian(7)
    torch.func.vmap(inside)(x[None])
    assert len(inside._bank.memory) == 0
    with torch.inference_mode():
        inside(x)
    assert inside(x.requires_grad_()).requires_grad


def test_few_image_sizes_are_remembered():
    stage = Gaussian(3)
    for side in range(10, 30):
        stage(torch.rand(1, 1, side, side))
    assert len(stage._bank.memory) == 8


def test_standard_deviations_can_be_learned():
    x = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    target = CenterSurround(15, 1.5, 3.0)(x)
    stage = CenterSurround(15, 1.0, 4.0).requires_grad_(True)
    optimizer = torch.optim.Adam(stage.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (stage(x) - target).square().mean().backward()
        optimizer.step()
    assert stage.center_std.item() == pytest.approx(1.5, abs=0.02)
    assert stage.surround_std.item() == pytest.approx(3.0, abs=0.05)
