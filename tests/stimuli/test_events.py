from __future__ import annotations

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli import EventStream


def random_stream(
    events: int = 500, size: tuple[int, int] = (13, 21), start_us: int = 0, seed: int = 0
) -> EventStream:
    generator = torch.Generator().manual_seed(seed)

    def draw(end: int) -> torch.Tensor:
        return torch.randint(0, end, (events,), generator=generator)

    time = draw(40_000).sort().values + start_us
    return EventStream(time, draw(size[1]), draw(size[0]), draw(2), size=size)


def test_columns_take_thirteen_bytes_per_event():
    stream = random_stream(1000)
    columns = (stream.t_us, stream.x, stream.y, stream.polarity)
    assert [c.dtype for c in columns] == [torch.int64, torch.int16, torch.int16, torch.bool]
    assert sum(c.numel() * c.element_size() for c in columns) == 13 * len(stream)


def test_columns_of_the_right_type_are_not_copied():
    time = np.arange(5, dtype=np.int64)
    pixel = np.zeros(5, dtype=np.int16)
    stream = EventStream(time, pixel, pixel, np.ones(5, dtype=bool), size=(1, 1))
    assert stream.t_us.data_ptr() == time.ctypes.data
    assert stream.x.data_ptr() == pixel.ctypes.data


def test_arrays_that_torch_cannot_share_are_copied():
    backward = np.arange(5)[::-1]
    fixed = np.arange(5)
    fixed.flags.writeable = False
    stream = EventStream(fixed, backward, fixed, size=(5, 5))
    assert stream.x.tolist() == [4, 3, 2, 1, 0]
    stream.t_us[0] = -1
    assert fixed[0] == 0


@pytest.mark.parametrize(
    "kind", [np.uint8, np.int32, np.uint16, np.uint32, np.uint64, ">i4", np.int64]
)
def test_whole_numbers_of_any_type_are_taken(kind):
    values = np.array([1, 2, 7], dtype=kind)
    stream = EventStream(values, values, values, np.array([0, 1, 1], kind), size=(8, 8))
    assert stream.t_us.tolist() == stream.x.tolist() == stream.y.tolist() == [1, 2, 7]
    assert stream.polarity.tolist() == [False, True, True]


def test_polarities_of_minus_one_and_one_and_none():
    assert EventStream([0, 1], [0, 0], [0, 0], [-1, 1], size=(1, 1)).polarity.tolist() == [0, 1]
    assert EventStream([0, 1], [0, 0], [0, 0], [-1, -1], size=(1, 1)).polarity.tolist() == [0, 0]
    assert EventStream([0, 1], [0, 0], [0, 0], size=(1, 1)).polarity.tolist() == [1, 1]


def test_negative_and_late_times_are_kept():
    late = 1_700_000_000_000_000
    stream = EventStream([-7, 0, late], [0, 0, 0], [0, 0, 0], size=(1, 1))
    assert stream.t_us.tolist() == [-7, 0, late]
    assert stream.start_ms == -0.007
    assert stream.duration_ms == (late + 7) / 1000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t_us": [0, 5, 4]}, "event 2 is at 4 us, after 5 us"),
        ({"x": [0, 4, 0]}, "0 <= x < width 4, but event 1 has x = 4"),
        ({"y": [0, 0, 3]}, "0 <= y < height 3, but event 2 has y = 3"),
        ({"x": [-1, 0, 0]}, "event 0 has x = -1"),
        ({"x": [0, 65536, 0]}, "event 1 has x = 65536"),
        ({"x": [0, 40000, 0]}, "event 1 has x = 40000"),
        ({"t_us": [0.0, 1.0, float("nan")]}, "t_us as whole numbers of microseconds"),
        ({"x": [0j, 0j, 0j]}, "x as whole numbers, got torch.complex64"),
        ({"polarity": [0, 1, 2]}, "event 2 has 2"),
        ({"polarity": [-1, 0, 1]}, "0 and 1, or of -1 and 1, but event 1 has 0"),
        ({"polarity": [0.0, 1.0, 1.0]}, "polarity as whole numbers"),
        ({"t_us": np.array([0, 1, 2**63], np.uint64)}, r"t_us below 2\^63"),
        ({"size": (3, 40000)}, "at most 32767 pixels a side"),
        ({"size": (0, 4)}, "size as a whole number"),
    ],
)
def test_impossible_events_are_refused_by_number(columns, message):
    good = {
        "t_us": [0, 1, 2],
        "x": [0, 1, 2],
        "y": [0, 1, 2],
        "polarity": [0, 1, 1],
        "size": (3, 4),
    }
    EventStream(**good)
    with pytest.raises(InputError, match=message):
        EventStream(**good | columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [0, 1]}, "columns of one length, got t_us 3, x 2"),
        ({"x": [[0], [1], [2]]}, r"axes \(event,\), got shape \(3, 1\)"),
        ({"x": [[0], [1, 2]]}, "x as one column"),
        ({"x": ["a", "b", "c"]}, "x as one column"),
        ({"t_us": None}, "t_us as one column"),
    ],
)
def test_columns_of_another_shape_are_refused(columns, message):
    good = {"t_us": [0, 1, 2], "x": [0, 1, 2], "y": [0, 1, 2], "size": (3, 4)}
    with pytest.raises(ShapeError, match=message):
        EventStream(**good | columns)


def test_between_is_half_open_and_shares_memory():
    stream = EventStream([0, 1000, 1000, 1999, 2000], [0] * 5, [0] * 5, size=(1, 1))
    part = stream.between(1.0, 2.0)
    assert part.t_us.tolist() == [1000, 1000, 1999]
    for name in ("t_us", "x", "y", "polarity"):
        column, whole = getattr(part, name), getattr(stream, name)
        assert column.data_ptr() == whole.data_ptr() + whole.element_size()
    assert len(stream.between()) == 5
    assert len(stream.between(start_ms=2.0)) == 1
    assert len(stream.between(stop_ms=0.0)) == 0
    assert len(stream.between(50, 60)) == 0


def test_slices_share_memory():
    stream = random_stream(100)
    assert stream[10:20].t_us.data_ptr() == stream.t_us[10:].data_ptr()
    assert torch.equal(stream[::3].x, stream.x[::3])
    with pytest.raises(InputError, match="slice that runs forward"):
        stream[::-1]
    with pytest.raises(InputError, match=r"slice that runs forward, .* got 3"):
        stream[3]


def test_crop_moves_the_corner_to_zero_and_loses_only_what_is_outside():
    stream = random_stream()
    part = stream.crop(rows=(2, 9), columns=(5, 18))
    inside = (stream.y >= 2) & (stream.y < 9) & (stream.x >= 5) & (stream.x < 18)
    assert part.size == (7, 13)
    assert 0 < len(part) == int(inside.sum()) < len(stream)
    assert torch.equal(part.x + 5, stream.x[inside])
    assert torch.equal(part.y + 2, stream.y[inside])
    assert torch.equal(part.frames(), stream.frames()[..., 2:9, 5:18][: len(part.frames())])
    assert stream.crop() is stream
    assert stream.crop(rows=(0, 13)) is stream


@pytest.mark.parametrize("rows", [(2, 2), (-1, 3), (0, 14), (5, 2), (0.0, 3.0), 4, (1, 2, 3)])
def test_impossible_crops_are_refused(rows):
    with pytest.raises(InputError, match="crop expected rows"):
        random_stream().crop(rows=rows)


@pytest.mark.parametrize("bounds", [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), ("1", 2)])
def test_impossible_spans_are_refused(bounds):
    with pytest.raises(InputError, match="between expected"):
        random_stream().between(*bounds)


def test_printing_says_what_is_inside():
    stream = EventStream([1000, 2000, 3000, 5000], [0] * 4, [0] * 4, [1, 1, 1, 0], size=(3, 4))
    shown = repr(stream)
    for part in ("4 events", "4.000 ms", "1,000 events/s", "width 4 x height 3", "75.0% ON"):
        assert part in shown
    assert "0 events" in repr(stream[:0])
    assert "events/s" not in repr(stream[:1])


def test_a_stream_without_events_works_everywhere():
    empty = EventStream([], [], [], [], size=(3, 4))
    assert len(empty) == empty.duration_ms == empty.start_ms == 0
    assert empty.frames().shape == (0, 1, 3, 4)
    assert empty.frames(polarity="split", sparse=True, steps=2).shape == (2, 2, 3, 4)
    assert not empty.time_surface(10.0).any()
    assert empty.local_surfaces(2, 10.0).shape == (0, 2, 5, 5)
    assert not empty.voxel_grid(3).any()
    assert len(empty.crop(rows=(0, 1)).between(0, 5)) == 0
