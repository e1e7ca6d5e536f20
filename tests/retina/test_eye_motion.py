"""Eye movements: statistics, clamping, and the windows they cut out."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.retina import EyeMotion, FixationalDrift, GivenPath, RandomShifts, crop
from calcarine.retina.eye_motion import crop_center

FAR = (10_000, 10_000)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_random_shifts_are_uniform_and_start_in_the_centre():
    path = RandomShifts(15).path(4000, 3, FAR, generator())
    assert path.dtype == torch.int64
    assert path.shape == (4000, 3, 2)
    assert not path[:, 0].any()
    steps = path.diff(dim=1).flatten()
    counts = torch.bincount(steps + 15, minlength=30)
    assert counts.numel() == 30  # -15 .. 14
    expected = steps.numel() / 30
    chi_square = ((counts - expected) ** 2 / expected).sum().item()
    assert chi_square < 60  # 29 degrees of freedom; 60 has probability 6e-4


def test_paths_repeat_with_the_generator_and_differ_without():
    for motion in (RandomShifts(9), FixationalDrift(9)):
        first = motion.path(50, 4, FAR, generator(1))
        assert torch.equal(first, motion.path(50, 4, FAR, generator(1)))
        assert not torch.equal(first, motion.path(50, 4, FAR, generator(2)))
        assert isinstance(motion, EyeMotion)


@pytest.mark.parametrize("motion", [RandomShifts(15), FixationalDrift(15)])
def test_paths_stay_inside_and_reach_the_border(motion):
    path = motion.path(500, 20, (7, 3), generator())
    assert path[..., 0].abs().max() == 7
    assert path[..., 1].abs().max() == 3


def test_a_still_eye():
    assert not RandomShifts(0).path(3, 5, FAR, generator()).any()
    still = FixationalDrift(0, saccade_probability=0, drift_px=0)
    assert not still.path(3, 5, FAR, generator()).any()


def test_drift_has_the_stationary_spread_of_its_recursion():
    """Velocity v <- p v + N(0, s): variance s^2 / (1 - p^2), lag-1 correlation p."""
    drift = FixationalDrift(15, saccade_probability=0, drift_px=60.0)  # rounding is negligible
    velocity = drift.path(4000, 40, (10**7, 10**7), generator()).diff(dim=1)[:, 20:].double()
    assert velocity.var().item() == pytest.approx(60**2 / (1 - 0.7**2), rel=0.03)
    lagged = (velocity[:, 1:] * velocity[:, :-1]).mean() / velocity.square().mean()
    assert lagged.item() == pytest.approx(0.7, abs=0.02)


def test_microsaccades_have_the_given_rate_and_amplitude():
    motion = FixationalDrift(100, min_saccade_px=40, drift_px=0)
    steps = motion.path(2000, 11, FAR, generator()).diff(dim=1).double()
    length = steps.norm(dim=-1)
    jumped = length > 20
    assert jumped.double().mean().item() == pytest.approx(0.3, abs=0.02)
    assert length[jumped].min() > 38
    assert length[jumped].max() < 102
    assert length[jumped].mean().item() == pytest.approx(70, abs=1.5)
    assert steps[jumped].mean(0).abs().max() < 3  # no preferred direction


def test_given_path_is_followed_and_clamped():
    motion = GivenPath([[3, 0], [0, -9], [1, 1]])
    path = motion.path(2, 3, (5, 5))
    assert path.tolist() == [[[3, 0], [0, -5], [1, 1]]] * 2
    assert motion.path(1, 2, (5, 5)).shape == (1, 2, 2)
    own = torch.arange(12).view(2, 3, 2)
    assert torch.equal(GivenPath(own).path(2, 3, FAR), own)


@pytest.mark.parametrize("grad", [False, True])
def test_crop_agrees_with_slicing(grad):
    scene = torch.rand(3, 2, 21, 26, generator=generator()).requires_grad_(grad)
    path = RandomShifts(6).path(3, 4, (5, 3), generator())
    windows = crop(scene, path, 15)
    assert windows.shape == (3, 4, 2, 15, 15)
    for item in range(3):
        for frame in range(4):
            dx, dy = path[item, frame].tolist()
            expected = scene[item, :, 3 + dy : 18 + dy, 5 + dx : 20 + dx]
            assert torch.equal(windows[item, frame], expected)
    assert torch.equal(windows[:, 0], crop_center(scene, 15))
    assert path.any()


def test_positive_dx_shows_what_is_further_right():
    scene = torch.arange(20.0).expand(1, 1, 20, 20)  # brightness grows to the right
    centre, right = crop(scene, torch.tensor([[[0, 0], [4, 0]]]), 8)[0]
    assert torch.equal(right, centre + 4)


def test_crop_keeps_to_the_scene_and_passes_gradients():
    scene = torch.rand(1, 1, 9, 9, dtype=torch.float64, requires_grad=True)
    path = torch.tensor([[[99, -99], [0, 1]]])
    windows = crop(scene, path, 5)
    assert torch.equal(windows[0, 0, 0], scene[0, 0, :5, 4:])
    assert torch.autograd.gradcheck(lambda s: crop(s, path, 5), scene)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RandomShifts(-1), InputError, ">= 0"),
        (lambda: RandomShifts(1.5), InputError, "whole number"),
        (lambda: RandomShifts(3).path(2, 0, FAR), InputError, "frames"),
        (lambda: RandomShifts(3).path(2, 1, (-1, 0)), InputError, "limit_px"),
        (lambda: FixationalDrift(3), InputError, "min_saccade_px"),
        (lambda: FixationalDrift(9, persistence=1.0), InputError, "persistence"),
        (lambda: GivenPath([1, 2]), ShapeError, r"\(frames, 2\)"),
        (lambda: GivenPath(torch.tensor([[0.5, 0.0]])), InputError, "round"),
        (lambda: GivenPath([[0, 0]]).path(1, 2, FAR), ShapeError, "longer"),
        (lambda: GivenPath(torch.zeros(3, 2, 2)).path(2, 2, FAR), ShapeError, "batch"),
        (lambda: crop(torch.rand(1, 1, 4, 9), torch.zeros(1, 1, 2), 5), ShapeError, "at least 5"),
        (lambda: crop(torch.rand(1, 9, 9), torch.zeros(1, 1, 2), 5), ShapeError, "channel"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
