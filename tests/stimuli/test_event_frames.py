from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, UnknownNameError
from calcarine.stimuli import EventStream


def random_stream(events: int, size: tuple[int, int], start_us: int = 0) -> EventStream:
    generator = torch.Generator().manual_seed(1)

    def draw(end: int) -> torch.Tensor:
        return torch.randint(0, end, (events,), generator=generator)

    time = draw(25_000).sort().values + start_us
    return EventStream(time, draw(size[1]), draw(size[0]), draw(2), size=size)


def counted(stream: EventStream, dt_us: int, start_us: int = 0) -> torch.Tensor:
    """Count one event after the other, (time, 2, height, width)."""
    steps = int((stream.t_us[-1] - start_us) // dt_us) + 1
    out = torch.zeros(steps, 2, *stream.size)
    for t, x, y, p in zip(
        *(c.tolist() for c in (stream.t_us, stream.x, stream.y, stream.polarity)), strict=True
    ):
        out[(t - start_us) // dt_us, int(p), y, x] += 1
    return out


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (255, 301)])
@pytest.mark.parametrize("dt_us", [1000, 250, 7000])
def test_frames_count_every_event_where_it_was(size, dt_us):
    stream = random_stream(700, size)
    expected = counted(stream, dt_us)
    assert expected.sum() == 700
    split = stream.frames(dt_us / 1000, polarity="split")
    assert torch.equal(split, expected)
    assert torch.equal(stream.frames(dt_us / 1000), expected.sum(1, keepdim=True))


@pytest.mark.parametrize("polarity", ["merge", "split"])
def test_sparse_frames_are_the_dense_ones(polarity):
    stream = random_stream(900, (6, 7))
    sparse = stream.frames(2.0, polarity=polarity, sparse=True)
    assert sparse.is_coalesced()
    assert torch.equal(sparse.to_dense(), stream.frames(2.0, polarity=polarity))
    cut = stream.frames(2.0, polarity=polarity, sparse=True, steps=4)
    assert torch.equal(cut.to_dense(), stream.frames(2.0, polarity=polarity)[:4])


@pytest.mark.parametrize("steps", [0, 3, 25, 40])
def test_the_number_of_frames_can_be_given(steps):
    stream = random_stream(300, (4, 4))
    frames, whole = stream.frames(steps=steps), stream.frames()
    assert len(frames) == steps
    assert torch.equal(frames[: len(whole)], whole[:steps])
    assert not frames[len(whole) :].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_frames_follow_the_type_asked_for(dtype):
    stream = random_stream(50, (3, 3))
    for sparse in (False, True):
        assert stream.frames(dtype=dtype, sparse=sparse).dtype == dtype
    assert stream.frames().dtype == torch.get_default_dtype()
    assert stream.voxel_grid(2, dtype=dtype).dtype == dtype


def test_frame_edges_belong_to_the_later_frame_however_late_the_clock():
    start = 1_700_000_000_000_000
    times = torch.tensor([0, 999, 1000, 1999, 2000]) + start
    stream = EventStream(times, [0] * 5, [0] * 5, size=(1, 1))
    frames = stream.frames(start_ms=stream.start_ms)
    assert frames.flatten().tolist() == [2, 2, 1]
    with pytest.raises(InputError, match=r"start_ms=stream\.start_ms"):
        stream.frames()


def test_steps_that_are_no_whole_number_of_microseconds():
    """With three frames to a millisecond, k/3 ms rounded down to 1 us lies just before its edge."""
    times = [0, 333, 334, 666, 667, 999, 1000]
    stream = EventStream(times, [0] * 7, [0] * 7, size=(1, 1))
    assert stream.frames(1 / 3).flatten().tolist() == [2, 2, 2, 1]


def test_events_before_the_start_are_not_lost_in_silence():
    stream = EventStream([-500, 100], [0, 0], [0, 0], size=(1, 1))
    with pytest.raises(InputError, match=r"first event is at -0.5 ms"):
        stream.frames()
    assert stream.frames(start_ms=-1.0).flatten().tolist() == [1, 1]
    assert stream.between(start_ms=0.0).frames().flatten().tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dt_ms": 0}, "dt_ms as a finite number above 0"),
        ({"dt_ms": float("nan")}, "dt_ms"),
        ({"steps": -1}, "steps as a whole number >= 0"),
        ({"steps": 2.0}, "steps"),
        ({"start_ms": float("inf")}, "start_ms as a finite time"),
        ({"dtype": torch.int64}, "floating-point dtype"),
        ({"steps": 2**40}, "would make"),
    ],
)
def test_impossible_settings_of_frames(settings, message):
    with pytest.raises(InputError, match=message):
        random_stream(10, (3, 3)).frames(**settings)


@pytest.mark.parametrize("method", ["frames", "voxel_grid"])
def test_unknown_polarity_gets_a_suggestion(method):
    stream = random_stream(10, (3, 3))
    with pytest.raises(UnknownNameError, match="Did you mean 'split'"):
        getattr(stream, method)(2, polarity="splitt")


@pytest.mark.parametrize("bins", [1, 2, 5, 9])
@pytest.mark.parametrize("start_us", [0, -9_000, 1_700_000_000_000_000])
def test_voxel_grids_follow_the_closed_form(bins, start_us):
    """Every event adds max(0, 1 - |b - b_event|), so the bins sum to the counts."""
    stream = random_stream(400, (4, 5), start_us)
    grid = stream.voxel_grid(bins, "split", dtype=torch.float64)
    t = (stream.t_us - stream.t_us[0]).double()
    place = t / t[-1] * (bins - 1)
    share = (1 - (torch.arange(bins)[:, None] - place).abs()).clamp(min=0)
    expected = torch.zeros(bins, 2, 4, 5, dtype=torch.float64)
    for i in range(400):
        at = (stream.polarity[i].long(), stream.y[i].long(), stream.x[i].long())
        expected[(slice(None), *at)] += share[:, i]
    assert torch.allclose(grid, expected, atol=1e-12)
    counts = counted(stream, 10**6, int(stream.t_us[0])).sum(0).double()
    assert torch.allclose(grid.sum(0), counts)
    merged = stream.voxel_grid(bins, "merge", dtype=torch.float64)
    signed = stream.voxel_grid(bins, dtype=torch.float64)
    assert torch.allclose(merged[:, 0], grid[:, 0] + grid[:, 1])
    assert torch.allclose(signed[:, 0], grid[:, 1] - grid[:, 0])


def test_voxel_grids_over_a_given_time():
    stream = EventStream([1000, 2500], [0, 0], [0, 0], size=(1, 1))
    grid = stream.voxel_grid(3, "merge", start_ms=0.0, stop_ms=4.0)
    assert grid.flatten().tolist() == [0.5, 1.25, 0.25]
    with pytest.raises(InputError, match=r"got events from 1.0 to 2.5 ms"):
        stream.voxel_grid(3, start_ms=2.0)
    with pytest.raises(InputError, match="bins as a whole number >= 1"):
        stream.voxel_grid(0)


def test_events_at_one_moment_all_fall_into_the_first_bin():
    stream = EventStream([5, 5], [0, 0], [0, 0], size=(1, 1))
    assert stream.voxel_grid(3).flatten().tolist() == [2, 0, 0]
