"""Initial weights: reference arrays, closed forms, sheets of different sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import InputError
from calcarine.v1 import (
    PiecewiseSigmoid,
    difference_of_gaussians_weights,
    gaussian_cloud_weights,
    gaussian_weights,
    piecewise_sigmoid,
)


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parent.parent / "data" / "lissom.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


SIZES = (16, 16), (12, 12)


def test_gaussian_weights_match_the_reference(reference):
    found = gaussian_weights(*SIZES, 3.0)
    torch.testing.assert_close(found, reference["gaussian"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("on", [True, False])
def test_difference_of_gaussians_matches_the_reference(reference, on):
    sign = 1 if on else -1
    masked = difference_of_gaussians_weights(*SIZES, 1.0, 3.0, 5.0, on=on)
    torch.testing.assert_close(masked, sign * reference["dog_on"], rtol=1e-5, atol=1e-6)
    bare = difference_of_gaussians_weights(*SIZES, 1.0, 3.0, on=on, normalized=False)
    torch.testing.assert_close(bare, sign * reference["udog_on"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target"), [((5, 9), (3, 4)), ((4, 4), (4, 4)), ((7, 3), (9, 11))]
)
def test_rectangular_sheets_lie_corner_on_corner(source, target):
    found = gaussian_weights(source, target, 1.5, dtype=torch.float64)
    assert found.shape == (target[0] * target[1], source[0] * source[1])
    field = found.reshape(*target, *source)
    for row, column in ((0, 0), (target[0] - 1, target[1] - 1), (1, 2)):
        y = row * (source[0] - 1) / (target[0] - 1)
        x = column * (source[1] - 1) / (target[1] - 1)
        for i, j in ((0, 0), (source[0] - 1, 1), (2, source[1] - 1)):
            expected = np.exp(-((i - y) ** 2 + (j - x) ** 2) / (2 * 1.5**2))
            assert field[row, column, i, j].item() == pytest.approx(expected, rel=1e-12)


def test_each_gaussian_of_the_difference_sums_to_one():
    found = difference_of_gaussians_weights((9, 8), (5, 7), 0.8, 2.0, 3.0, dtype=torch.float64)
    assert found.sum(dim=1).abs().max() < 1e-14
    assert found.abs().sum(dim=1).min() > 0.5


def test_a_cloud_is_the_gaussian_times_uniform_noise():
    smooth = gaussian_weights((20, 21), (10, 11), 4.0, dtype=torch.float64)
    draw = [
        gaussian_cloud_weights(
            (20, 21), (10, 11), 4.0, dtype=torch.float64,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    noise = draw[0] / smooth
    assert noise.min() >= 0
    assert noise.max() <= 1
    # Mean and variance of U(0, 1); the standard errors at 46,200 numbers are 0.0013 and 0.0004.
    assert noise.mean().item() == pytest.approx(0.5, abs=0.006)
    assert noise.var().item() == pytest.approx(1 / 12, abs=0.002)


def test_weights_refuse_what_makes_no_sense():
    with pytest.raises(InputError, match="source as \\(height, width\\)"):
        gaussian_weights((4, 0), (3, 3), 1.0)
    with pytest.raises(InputError, match="target as \\(height, width\\)"):
        gaussian_weights((4, 4), 9, 1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sigmas > 0"):
        gaussian_cloud_weights((4, 4), (3, 3), 0.0)
    with pytest.raises(InputError, match="radius > 0"):
        difference_of_gaussians_weights((4, 4), (3, 3), 1.0, 2.0, 0.0)
    with pytest.raises(InputError, match="fields are empty at radius"):
        difference_of_gaussians_weights((4, 4), (3, 3), 1.0, 2.0, 0.3)


def test_the_piecewise_sigmoid_is_a_cut_off_line():
    x = torch.tensor([-1.0, 0.1, 0.2, 0.35, 0.6, 2.0], dtype=torch.float64, requires_grad=True)
    y = piecewise_sigmoid(x, 0.1, 0.6)
    torch.testing.assert_close(y.detach(), torch.tensor([0, 0, 0.2, 0.5, 1, 1.0]).double())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope[[0, 5]].tolist() == [0, 0]
    assert slope[2:4].tolist() == pytest.approx([2, 2])
    assert torch.equal(PiecewiseSigmoid(0.1, 0.6).double().move_(0.0, 2.0)(x), x.clamp(0, 2) / 2)


def test_the_piecewise_sigmoid_needs_room_between_its_thresholds():
    with pytest.raises(InputError, match="lower < upper"):
        piecewise_sigmoid(torch.zeros(2), 0.5, 0.5)
    with pytest.raises(InputError, match="lower < upper"):
        PiecewiseSigmoid(0.5, 0.1)
