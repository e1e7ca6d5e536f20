"""Moving disks: as many events as their edges sweep pixels, where they say they are."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError
from calcarine.stimuli import moving_disks


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("speed", [0.3, 0.8])
@pytest.mark.parametrize("direction", [0.0, 33.0, 90.0])
def test_a_disk_flips_as_many_pixels_as_its_edge_sweeps(speed, direction):
    """A disk of radius r that moves by v sweeps 2 r v with each of its two edges."""
    shown = moving_disks(
        speeds=(speed,), frames=100, noise=0.0, direction_deg=direction, generator=seeded()
    )
    assert len(shown.events) / 100 == pytest.approx(4 * 5 * speed, rel=0.12)
    assert shown.events.polarity.double().mean() == pytest.approx(0.5, abs=0.05)


def test_events_lie_on_the_outline_of_a_disk():
    shown = moving_disks(noise=0.0, frames=60, generator=seeded(1))
    frame = shown.events.t_us // 1000
    place = torch.stack([shown.events.x, shown.events.y], 1).double()
    apart = (place[:, None] - shown.truth.center_px[frame]).norm(dim=-1).sub(5.0).abs()
    assert apart.min(1).values.max() < 1.5


def test_centres_move_at_the_speeds_told():
    truth = moving_disks(speeds=(0.2, 1.1, 0.5), generator=seeded(2)).truth
    steps = truth.center_px.diff(dim=0).norm(dim=-1).median(0).values
    torch.testing.assert_close(steps, truth.speed_px_per_frame)
    assert truth.speed_class.tolist() == [0, 2, 1]
    assert truth.visible.all()


def test_disks_that_cross_the_sensor_leave_it():
    truth = moving_disks(motion="cross", generator=seeded(3)).truth
    assert 0.3 < truth.visible.double().mean() < 0.9


def test_noise_is_the_share_of_events_asked_for_and_missed_events_are_missing():
    clean = moving_disks(noise=0.0, generator=seeded(4)).events
    noisy = moving_disks(noise=0.2, generator=seeded(4)).events
    halved = moving_disks(noise=0.0, event_probability=0.5, generator=seeded(4)).events
    assert len(clean) / len(noisy) == pytest.approx(0.8, abs=1e-3)
    assert len(halved) / len(clean) == pytest.approx(0.5, abs=0.02)


def test_a_seed_makes_the_same_events_again_and_another_other_ones():
    one, same, other = (moving_disks(frames=20, generator=seeded(s)) for s in (5, 5, 6))
    assert torch.equal(one.events.t_us, same.events.t_us)
    assert torch.equal(one.truth.center_px, same.truth.center_px)
    assert not torch.equal(one.truth.center_px, other.truth.center_px)


@pytest.mark.parametrize("dt_ms", [0.5, 1.0, 0.3])
def test_events_stay_within_their_frame(dt_ms):
    shown = moving_disks(frames=40, dt_ms=dt_ms, size=(44, 61), generator=seeded(7))
    frames = shown.events.frames(dt_ms, steps=40)
    assert frames.shape == (40, 1, 44, 61)
    assert frames.sum() == len(shown.events)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"speeds": (0.0,)}, "speeds > 0"),
        ({"radius_px": -1.0}, "radius_px > 0"),
        ({"frames": 0}, "whole number of frames"),
        ({"noise": 1.0}, "noise < 1"),
        ({"event_probability": 0.0}, "event_probability"),
        ({"motion": "jump"}, "'bounce' or 'cross'"),
        ({"size": 20}, "room for every disk"),
        ({"size": (0, 5)}, "pair"),
    ],
)
def test_impossible_settings_are_refused(wrong, match):
    with pytest.raises(InputError, match=match):
        moving_disks(**wrong, generator=seeded())
