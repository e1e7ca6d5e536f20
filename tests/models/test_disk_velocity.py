"""The disk network: closed form, detection on recordings it was not set on, and its contract."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError
from calcarine.models import DiskVelocityNet
from calcarine.models._disk_constants import closed_form, integrator_profile
from calcarine.models.disk_velocity import ring_kernel
from calcarine.probes import score_detections
from calcarine.stimuli import EventStream, moving_disks


def shown(seed, **settings):
    generator = torch.Generator().manual_seed(seed)
    return moving_disks(frames=300, generator=generator, **settings)


@pytest.mark.parametrize("tau", [2.0, 8.0])
def test_an_integrator_is_full_at_a_disk_at_rest_and_less_so_the_faster_it_moves(tau):
    place = torch.zeros(1)
    held = [integrator_profile(place, speed, tau).item() for speed in (1e-6, 0.3, 1.0, 3.0)]
    assert held[0] == pytest.approx(1.0, abs=1e-3)
    assert held == sorted(held, reverse=True)
    assert 1 / tau < held[-1] < 0.9


def test_integrators_in_a_simulated_passage_follow_the_closed_form():
    """The ratio of two integrators at the centre, whatever share of events is missing."""
    net = DiskVelocityNet()
    one, other = net.tau_integrator_ms[1], net.tau_integrator_ms[0]
    for speed in (0.4, 1.0):
        for share in (1.0, 0.6):
            ratios = []
            for seed in range(3):
                disk = shown(seed, speeds=(speed,), noise=0.0, event_probability=share)
                movie = disk.events.frames(steps=300)[:, None]
                recording = {"integrators": simulate.Recording()}
                simulate.run(net, movie, record=recording)
                u = recording["integrators"].values[:, 0]
                x, y = disk.truth.center_px[:, 0].round().long().unbind(-1)
                held = u[torch.arange(300), :, y, x][40:].mean(0)
                ratios.append((held[1] / held[0]).item())
            zero = torch.zeros(1)
            expected = integrator_profile(zero, speed, one) / integrator_profile(zero, speed, other)
            assert sum(ratios) / 3 == pytest.approx(expected.item(), rel=0.2)


def test_ratio_of_integrators_rises_with_speed():
    tau = closed_form().tau_integrator_ms
    zero = torch.zeros(1)
    for fast, slow in ((1, 0), (2, 1)):
        ratios = [
            (integrator_profile(zero, v, tau[fast]) / integrator_profile(zero, v, tau[slow])).item()
            for v in (0.1, 0.2, 0.4, 0.8, 1.6)
        ]
        assert ratios == sorted(ratios)
        assert ratios[-1] > 1.4 * ratios[0]


def test_constants_scale_with_the_duration_of_a_frame():
    one, tenth = closed_form(), closed_form(dt_ms=0.1)
    assert tenth.tau_integrator_ms == pytest.approx([t / 10 for t in one.tau_integrator_ms])
    assert tenth.gain == one.gain


def test_ring_answers_to_an_outline_and_not_to_a_filled_disk():
    kernel = ring_kernel(5.0)
    assert kernel.shape[-1] % 2 == 1
    reach = kernel.shape[-1] // 2
    along = torch.arange(-reach, reach + 1, dtype=torch.double)
    distance = torch.hypot(along[:, None], along)
    outline = (kernel[0, 0] * ((distance - 5).abs() < 0.8)).sum()
    inside = (kernel[0, 0] * (distance < 3)).sum()
    assert outline > 0.6
    assert inside < -0.4


@pytest.mark.parametrize(
    ("seed", "settings"),
    [
        (11, {}),
        (12, {}),
        (13, {"event_probability": 0.7}),
        (14, {"speeds": (0.25, 0.55, 1.1)}),
    ],
)
def test_finds_disks_and_their_speeds(seed, settings):
    disks = shown(seed, **settings)
    score = score_detections(DiskVelocityNet().detect(disks.events), disks.truth, skip_frames=30)
    assert score.precision >= 0.95
    assert score.recall >= 0.95
    assert score.speed_accuracy >= 0.95
    assert score.confusion.sum(1).min() > 200


def test_frames_sparse_or_dense_and_events_give_the_same_list():
    disks = shown(15)
    net = DiskVelocityNet()
    frames = disks.events.frames(steps=300)[:60]
    dense = net.detect(frames)
    assert len(dense.x) > 60
    for same in (frames[:, 0].to_sparse(), frames.to_sparse(), disks.events.between(0, 60)):
        again = net.detect(same)
        assert all(torch.equal(a, b) for a, b in zip(dense, again, strict=True))


def test_integer_frames_are_taken():
    frames = shown(15).events.frames(steps=300)[:40, 0].to(torch.int64).to_sparse()
    assert len(DiskVelocityNet().detect(frames).x) > 40


def test_nothing_to_see_is_nothing_found():
    assert len(DiskVelocityNet().detect(torch.zeros(30, 1, 50, 50)).x) == 0
    noise = (torch.rand(200, 1, 50, 50, generator=torch.Generator().manual_seed(0)) < 0.001).float()
    assert len(DiskVelocityNet().detect(noise).x) < 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_follow_the_type_and_stopping_changes_nothing(dtype):
    net = DiskVelocityNet()
    movie = shown(16).events.frames(steps=300, dtype=dtype)[:60, None]
    whole, _ = simulate.run(net, movie, engine="plain")
    first, state = simulate.run(net, movie[:23], engine="plain")
    rest, _ = simulate.run(net, movie[23:], state, engine="plain")
    assert whole.dtype == dtype
    assert whole.sum() > 50
    assert torch.equal(whole, torch.cat([first, rest]))
    assert set(whole.unique().tolist()) == {0.0, 1.0}


def test_gradients_reach_every_constant():
    net = DiskVelocityNet(learnable=True)
    movie = shown(17).events.frames(steps=300)[:40, None]
    simulate.run(net, movie, engine="plain")[0].sum().backward()
    gradients = {n: p.grad for n, p in net.named_parameters()}
    assert len(gradients) == 5
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert any(g.abs().max() > 0 for g in gradients.values())


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"radius_px": 1.0}, "radius_px >= 2"),
        ({"speeds": (1.0, 0.5, 2.0)}, "three rising speeds"),
        ({"relative_height": 1.0}, "relative_height < 1"),
        ({"dt_ms": math.nan}, "dt_ms > 0"),
    ],
)
def test_impossible_settings_are_refused(wrong, match):
    with pytest.raises(InputError, match=match):
        DiskVelocityNet(**wrong)


def test_wrong_axes_are_refused():
    net = DiskVelocityNet()
    with pytest.raises(ShapeError, match="without polarity"):
        net(torch.zeros(2, 2, 20, 20), None)
    with pytest.raises(ShapeError, match="one recording"):
        net.detect(torch.zeros(5, 2, 1, 20, 20))


def test_an_empty_stream_is_refused_or_empty():
    empty = EventStream([], [], [], [], size=(50, 50))
    assert len(DiskVelocityNet().detect(empty).x) == 0
