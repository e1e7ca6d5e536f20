"""Lateral inhibition: reference arrays, closed forms, noise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from calcarine.errors import InputError, ShapeError
from calcarine.retina import LateralInhibition
from calcarine.testing import check_stage


def test_matches_the_reference_arrays(reference):
    stage = LateralInhibition().eval()
    assert torch.allclose(stage.kernel.float(), reference["li_kernel"], atol=1e-5, rtol=0)
    bipolar = stage(reference["pa"])
    assert torch.allclose(bipolar, reference["bipolar"], atol=1e-5, rtol=0)
    assert bipolar.std() > 0.1


@pytest.mark.parametrize("settings", [{}, {"kernel_size": 5, "center_sigma": 0.8}])
def test_is_the_convolution_with_its_kernel(settings):
    stage = LateralInhibition(**settings).eval()
    x = torch.rand(2, 1, 9, 14, dtype=torch.float64)
    expected = F.conv2d(x, stage.kernel[None, None], padding="same")
    assert torch.allclose(stage(x), expected, atol=1e-12)
    assert torch.allclose(stage(x.float()), expected.float(), atol=1e-6)


def test_uniform_light_leaves_what_the_surround_does_not_take():
    response = LateralInhibition().eval()(torch.ones(20, 20, dtype=torch.float64))
    assert torch.allclose(response[3:-3, 3:-3], torch.full((14, 14), 0.09, dtype=torch.float64))
    assert response[0, 0] > 0.2  # darkness beyond the border inhibits nobody


def test_keeps_the_contract_of_a_stage():
    check_stage(LateralInhibition(), torch.rand(2, 1, 12, 10)).raise_if_failed()


def test_noise_is_multiplicative():
    stage, clean = LateralInhibition(), LateralInhibition().eval()
    x = torch.rand(1, 1, 150, 150, dtype=torch.float64)
    strengths = set()
    for seed in range(60):
        relative = stage(x, torch.Generator().manual_seed(seed)) / clean(x) - 1
        r = relative.std().item() / 0.01
        assert r == pytest.approx(round(10 * r) / 10, abs=0.03)
        strengths.add(round(10 * r))
    assert strengths == set(range(11))
    assert torch.equal(stage(x, noise=False), clean(x))
    assert torch.equal(LateralInhibition(noise_level=0)(x), clean(x))
    forced = clean(x, torch.Generator().manual_seed(2), noise=True)
    assert not torch.equal(forced, clean(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_size": 6}, "odd kernel_size"),
        ({"kernel_size": 0}, "odd"),
        ({"center_sigma": 0.0}, "sigmas > 0"),
        ({"surround_sigma": float("inf")}, "sigmas"),
        ({"surround_weight": -0.1}, "surround_weight"),
        ({"noise_level": -1.0}, "noise_level"),
    ],
)
def test_bad_settings_are_explained(settings, message):
    with pytest.raises(InputError, match=message):
        LateralInhibition(**settings)


@pytest.mark.parametrize("x", [torch.rand(5), torch.ones(4, 4).int()])
def test_bad_input_is_explained(x):
    with pytest.raises(ShapeError, match="height, width"):
        LateralInhibition()(x)
