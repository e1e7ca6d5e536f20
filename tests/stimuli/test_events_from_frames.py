from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.stimuli import EventStream, events_from_frames

DARK = 1e-3


def movie_of(levels: list[float], size: tuple[int, int] = (1, 1)) -> torch.Tensor:
    """Return frames (time, height, width) whose log intensity, dark included, is as given."""
    level = torch.tensor(levels, dtype=torch.float64).exp() - DARK
    return level[:, None, None].expand(-1, *size).clone()


def signs(stream: EventStream) -> list[int]:
    return [1 if p else -1 for p in stream.polarity.tolist()]


def test_a_ramp_gives_one_event_at_each_crossing_of_a_level():
    """L rises by 0.1 per ms: levels 0.2 apart are crossed every 2 ms, whatever the frame rate."""
    for dt_ms in (1.0, 5.0, 10.0):
        levels = [-3 + 0.1 * dt_ms * k for k in range(round(20 / dt_ms) + 1)]
        stream = events_from_frames(movie_of(levels), 0.2, dt_ms)
        assert stream.t_us.tolist() == [2000 * k for k in range(1, 11)]
        assert stream.polarity.all()


def test_a_step_between_two_frames_is_spread_over_their_interval():
    stream = events_from_frames(movie_of([-2.0, -2.0, -1.0, -1.0]), 0.25)
    assert stream.t_us.tolist() == [1250, 1500, 1750, 2000]


@pytest.mark.parametrize(
    ("on", "off", "expected"), [(0.3, None, 3), (0.5, 0.25, 2), (1.1, 0.25, 0)]
)
def test_up_and_down_have_their_own_thresholds(on, off, expected):
    stream = events_from_frames(movie_of([-2.0, -1.0, -2.0]), on, threshold_off=off)
    assert signs(stream).count(1) == expected
    reached = expected * on
    assert signs(stream).count(-1) == math.floor(reached / (off or on) + 1e-9)


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (31, 17)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_events_rebuild_the_movie_to_within_one_threshold(size, dtype):
    """The sum of signed thresholds follows log intensity: the code of the sensor loses no more."""
    generator = torch.Generator().manual_seed(0)
    movie = torch.rand(12, *size, generator=generator, dtype=dtype)
    stream = events_from_frames(movie, 0.15, 2.0)
    assert len(stream) > 20
    counts = stream.frames(2.0, polarity="split", steps=13, dtype=torch.float64)
    level = (movie.double() + DARK).log()
    for k in range(12):
        until = stream.between(stop_ms=2.0 * k + 0.001)
        change = torch.zeros(size, dtype=torch.float64)
        step = torch.where(until.polarity, 0.15, -0.15).double()
        change.index_put_((until.y.long(), until.x.long()), step, accumulate=True)
        # brightness moves by less than 0.004 in the microsecond to which times are rounded
        assert (level[k] - level[0] - change).abs().max() <= 0.15 + 0.004
    assert counts.sum() == len(stream)


def test_polarity_and_place_of_a_moving_edge():
    movie = torch.full((4, 3, 5), 0.1)
    for k in range(4):
        movie[k, 1, k] = 0.9
    stream = events_from_frames(movie, threshold=2.0)
    found = list(zip(stream.x.tolist(), stream.y.tolist(), signs(stream), strict=True))
    assert sorted(found) == [(0, 1, -1), (1, 1, -1), (1, 1, 1), (2, 1, -1), (2, 1, 1), (3, 1, 1)]


def test_a_still_movie_is_silent_and_so_is_one_frame():
    assert len(events_from_frames(torch.full((9, 1, 4, 6), 0.5))) == 0
    assert events_from_frames(torch.rand(1, 4, 6)).size == (4, 6)


def test_four_axes_give_what_three_give():
    movie = torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(1))
    flat, channel = events_from_frames(movie), events_from_frames(movie[:, None])
    assert torch.equal(flat.t_us, channel.t_us)
    assert torch.equal(flat.x, channel.x)


def test_a_refractory_pixel_looks_anew_when_it_wakes():
    """L rises by 0.1 per ms. Level +0.2 at 2 ms, blind until 5 ms, then +0.2 more at 7, 12, 17."""
    levels = [-3 + 0.1 * k for k in range(21)]
    for dt_ms, chosen in ((1.0, levels), (10.0, levels[::10])):
        stream = events_from_frames(movie_of(chosen), 0.2, dt_ms, refractory_ms=3.0)
        assert stream.t_us.tolist() == [2000, 7000, 12000, 17000]


def test_a_flash_during_the_refractory_period_goes_unseen():
    levels = [-2.0, -1.75, -1.0, -1.75, -1.75, -1.75]
    assert len(events_from_frames(movie_of(levels), 0.25)) == 7
    stream = events_from_frames(movie_of(levels), 0.25, refractory_ms=2.5)
    assert stream.t_us.tolist() == [1000]


def test_mismatch_spreads_the_thresholds_and_keeps_their_mean():
    """Thresholds are read off the time of each pixel's first event on a ramp."""
    movie = movie_of([-2.0, -1.0], (60, 70))
    generator = torch.Generator().manual_seed(0)
    stream = events_from_frames(movie, 0.3, 1000.0, mismatch=0.05, generator=generator)
    first = torch.full((60, 70), 10**9)
    for t, x, y in zip(*(c.tolist() for c in (stream.t_us, stream.x, stream.y)), strict=True):
        first[y, x] = min(first[y, x].item(), t)
    thresholds = first.double() / 1e6
    assert thresholds.mean().item() == pytest.approx(0.3, abs=4 * 0.015 / math.sqrt(4200))
    assert thresholds.std().item() == pytest.approx(0.015, rel=0.05)
    again = events_from_frames(
        movie, 0.3, 1000.0, mismatch=0.05, generator=generator.manual_seed(0)
    )
    assert torch.equal(again.t_us, stream.t_us)


def test_noise_has_the_rate_asked_for():
    """Counts are Poisson: within four standard deviations of rate x pixels x time."""
    still = torch.full((51, 20, 30), 0.5)
    generator = torch.Generator().manual_seed(0)
    stream = events_from_frames(still, dt_ms=10.0, noise_hz=5.0, generator=generator)
    expected = 5.0 * 600 * 0.5
    assert abs(len(stream) - expected) < 4 * math.sqrt(expected)
    assert abs(sum(signs(stream))) < 4 * math.sqrt(expected)
    assert stream.t_us.min() > 0
    assert stream.t_us.max() <= 500_000
    quarter = len(stream.between(0, 125)) / len(stream)
    assert quarter == pytest.approx(0.25, abs=0.06)


def test_a_threshold_below_the_least_of_chance_is_kept():
    stream = events_from_frames(movie_of([-2.0, -1.9]), 0.005)
    assert len(stream) == 20


def test_the_movie_is_left_alone_and_gradients_are_not_followed():
    movie = torch.rand(5, 3, 4, requires_grad=True)
    before = movie.detach().clone()
    assert not events_from_frames(movie).t_us.requires_grad
    assert torch.equal(movie, before)


@pytest.mark.parametrize(
    "movie",
    [
        torch.rand(4, 4),
        torch.rand(4, 3, 4, 4),
        torch.rand(2, 4, 1, 4, 4),
        torch.rand(0, 4, 4),
        torch.rand(4, 0, 4),
        torch.ones(4, 4, 4, dtype=torch.uint8),
        torch.ones(4, 4, 4, dtype=torch.complex64),
        [[[0.1]]],
    ],
)
def test_movies_with_other_axes(movie):
    with pytest.raises(ShapeError, match=r"axes \(time, height, width\) or"):
        events_from_frames(movie)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_movies_that_are_not_finite(value):
    movie = torch.rand(4, 3, 3)
    movie[2, 1, 1] = value
    with pytest.raises(NonFiniteError, match="in frame 2"):
        events_from_frames(movie)


def test_negative_intensity():
    movie = torch.rand(4, 3, 3)
    movie[3, 1, 1] = -0.5
    with pytest.raises(InputError, match=r"frame 3 falls to -0.5"):
        events_from_frames(movie)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold_off": -1.0}, "threshold_off"),
        ({"dt_ms": float("nan")}, "dt_ms"),
        ({"dark": 0.0}, "dark"),
        ({"refractory_ms": -1.0}, "refractory_ms"),
        ({"mismatch": float("inf")}, "mismatch"),
        ({"noise_hz": -0.1}, "noise_hz"),
    ],
)
def test_impossible_settings(settings, name):
    with pytest.raises(InputError, match=f"expected {name} "):
        events_from_frames(torch.rand(3, 3, 3), **settings)
