"""Figures and films of events: everything is where it happened, in the colour of its class."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot import (
    detection_figure,
    event_animation,
    event_figure,
    figure_png,
    velocity_tuning_figure,
)
from calcarine.plot.animation import STRIP_PX
from calcarine.plot.events import CLASS_COLORS
from calcarine.stimuli import EventStream


class Found(NamedTuple):
    frame: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    speed_class: torch.Tensor
    confidence: torch.Tensor


class Truth(NamedTuple):
    center_px: torch.Tensor
    visible: torch.Tensor


class Tuning(NamedTuple):
    speeds: torch.Tensor
    responses: torch.Tensor
    sem: torch.Tensor


def found(*rows: tuple[int, float, float, int]) -> Found:
    columns = torch.tensor(rows, dtype=torch.double).reshape(-1, 4).unbind(1)
    frame, x, y, kind = columns
    return Found(frame.long(), x, y, kind.long(), torch.ones(len(frame)))


def rgb(color: str) -> torch.Tensor:
    return torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def stream(times: list[int], x: list[int], y: list[int], size=(31, 45)) -> EventStream:
    return EventStream(torch.tensor(times), torch.tensor(x), torch.tensor(y), size=size)


def line(figure, axis: int):
    """Edges and values of the rate in a figure of events."""
    return figure.axes[axis].patches[0].get_data()


def test_event_figure_puts_events_in_place():
    events = stream([0, 1000, 1000, 3000], [44, 3, 3, 0], [0, 20, 20, 30])
    figure = event_figure(events, title="four")
    counts = figure.axes[0].images[0].get_array()
    assert counts.shape == (31, 45)
    assert counts[20, 3] == 2
    assert counts[0, 44] == counts[30, 0] == 1
    assert counts.sum() == 4
    moved = figure.axes[1].images[0].get_array()
    assert moved.shape == (45, 4)  # one bin per step of the recording
    assert moved[3, 1] == 2
    rate = line(figure, 2)
    assert rate.values.tolist() == [1, 2, 0, 1]  # events per ms
    assert rate.edges.tolist() == pytest.approx([0, 0.001, 0.002, 0.003, 0.004])
    assert len(figure_png(figure)) > 10_000


@pytest.mark.parametrize("step_us", [1, 700, 1000])
def test_the_rate_of_steady_events_is_flat_whatever_the_step(step_us):
    """500 steps in at most 200 bins: bins of whole steps, and the last one by its own length."""
    events = stream([k * step_us for k in range(500)], [1] * 500, [2] * 500)
    rate = line(event_figure(events), 2).values
    assert len(rate) <= 200
    assert rate.tolist() == pytest.approx([1000 / step_us] * len(rate))


def test_a_single_moment_has_a_figure():
    figure = event_figure(stream([5, 5], [1, 2], [3, 3]))
    assert figure.axes[1].images[0].get_array().sum() == 2


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least one event"):
        event_figure(stream([], [], []).between())


def test_film_shows_events_where_they_were():
    frames = torch.zeros(3, 1, 31, 45)
    frames[1, 0, 4, 40] = 2
    film = event_animation(frames, dt_ms=5.0)
    zoom = (film.shape[-2] - STRIP_PX) // 31
    assert film.shape == (3, 3, 31 * zoom + STRIP_PX, 45 * zoom)
    body = film[..., STRIP_PX:, :]
    assert (body[0] == 1).all()
    assert (body[2] == 1).all()
    dark = body[1].amax(0) < 0.6
    rows, columns = (part.unique().tolist() for part in dark.nonzero(as_tuple=True))
    assert rows == list(range(4 * zoom, 5 * zoom))
    assert columns == list(range(40 * zoom, 41 * zoom))
    assert (film[..., :STRIP_PX, :] < 0.5).any()  # the time


def test_on_is_darker_than_off():
    frames = torch.zeros(1, 2, 20, 20)
    frames[0, 0, 2, 2] = 1
    frames[0, 1, 9, 9] = 1
    film = event_animation(frames)[0, 0, STRIP_PX:]
    zoom = film.shape[-1] // 20
    assert film[9 * zoom, 9 * zoom] < film[2 * zoom, 2 * zoom] < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_have_their_colours_and_fade(dtype):
    activity = torch.zeros(2, 3, 50, 50, dtype=dtype)
    for channel in range(3):
        activity[0, channel, 10 * channel + 5, 7] = 1
    before = activity.clone()
    film = event_animation(torch.zeros(2, 1, 50, 50, dtype=dtype), activity=activity)
    assert torch.equal(activity, before)
    zoom = film.shape[-1] // 50
    for channel, color in enumerate(CLASS_COLORS):
        at = film[:, :, STRIP_PX + (10 * channel + 5) * zoom, 7 * zoom].float()
        assert at[0].tolist() == pytest.approx(rgb(color).tolist(), abs=0.01)
        faded = 1 - 0.7 * (1 - rgb(color))
        assert at[1].tolist() == pytest.approx(faded.tolist(), abs=0.01)


def test_detections_are_circles_around_their_place():
    frames = torch.zeros(2, 1, 50, 50)
    film = event_animation(frames, detections=found((1, 20.0, 30.0, 2)), radius_px=5.0)
    zoom = film.shape[-1] // 50
    below = film[..., STRIP_PX:, :].float()
    assert (below[0] == 1).all()
    near = (below[1] - rgb(CLASS_COLORS[2])[:, None, None]).abs().amax(0) < 0.02
    rows, columns = near[: 36 * zoom, : 26 * zoom].nonzero(as_tuple=True)
    distance = torch.hypot(rows + 0.5 - 30.5 * zoom, columns + 0.5 - 20.5 * zoom) / zoom
    circle = distance > 3
    assert circle.sum() > 100
    assert distance[circle].mean() == pytest.approx(5.0, abs=0.4)


def test_progress_counts_frames():
    seen: list[int] = []
    event_animation(torch.zeros(4, 1, 8, 8), progress=seen.append)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"frames": torch.zeros(2, 3, 8, 8)}, ShapeError, "1 or 2 polarities"),
        ({"frames": torch.zeros(0, 1, 8, 8)}, ShapeError, "1 or 2 polarities"),
        ({"activity": torch.zeros(2, 3, 8, 9)}, ShapeError, "2 frames of 8 x 8"),
        ({"activity": torch.zeros(2, 4, 8, 8)}, ShapeError, "up to 3 channels"),
        ({"activity": torch.zeros(2, 8, 8)}, ShapeError, "up to 3 channels"),
        ({"detections": found((2, 1, 1, 0))}, InputError, "frames 0..1"),
        ({"detections": found((0, 1, 1, 3))}, InputError, "class 3"),
    ],
)
def test_films_of_what_does_not_fit_are_refused(options, error, message):
    frames = options.pop("frames", torch.zeros(2, 1, 8, 8))
    with pytest.raises(error, match=message):
        event_animation(frames, **options)


def test_tuning_curves_are_relative_to_their_largest():
    speeds = torch.tensor([0.1, 0.3, 1.0])
    responses = torch.tensor([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 0.0, 0.5]])
    figure = velocity_tuning_figure(
        Tuning(speeds, responses, responses / 10), bands=((0.05, 0.2), (0.2, 0.5), (0.5, 2.0))
    )
    (ax,) = figure.axes
    curves = [each.lines[0].get_ydata().tolist() for each in ax.containers]
    assert curves == [pytest.approx(c) for c in ([1, 0.25, 0], [0, 1, 0.5], [0, 0, 1])]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["slow", "medium", "fast"]
    assert len(ax.patches) == 3  # the bands
    assert ax.get_xscale() == "log"


def test_a_silent_channel_has_a_curve_of_zeros():
    tuning = Tuning(torch.tensor([0.2, 0.4]), torch.zeros(1, 2), torch.zeros(1, 2))
    figure = velocity_tuning_figure(tuning)
    assert figure.axes[0].containers[0].lines[0].get_ydata().tolist() == [0, 0]
    assert figure.axes[0].get_xscale() == "linear"


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (2,)])
def test_tuning_curves_of_other_shapes_are_refused(shape):
    tuning = Tuning(torch.tensor([0.2, 0.4]), torch.zeros(shape), torch.zeros(shape))
    with pytest.raises(ShapeError, match="axes \\(channel, speed\\)"):
        velocity_tuning_figure(tuning)


def test_detections_are_drawn_by_class_beside_the_truth():
    centers = torch.stack([torch.arange(4.0), torch.full((4,), 9.0)], -1)[:, None]
    centers[3] = 40  # a jump to the other side
    truth = Truth(centers, torch.tensor([[True], [False], [True], [True]]))
    figure = detection_figure(found((0, 1, 9, 0), (2, 3, 9, 0), (2, 30, 2, 2)), truth, dt_ms=2.0)
    upper, lower = figure.axes
    drawn = [c.get_offsets().tolist() for c in upper.collections]
    assert drawn == [[[0, 1], [4, 3]], [], [[4, 30]]]
    way = torch.as_tensor(upper.lines[0].get_ydata())
    assert way.isnan().tolist() == [False, True, False, True]
    assert lower.yaxis_inverted()
    assert not upper.yaxis_inverted()


def test_no_detections_have_no_figure_without_truth():
    with pytest.raises(InputError, match="at least one detection"):
        detection_figure(found())
