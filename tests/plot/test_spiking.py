"""Figures of spiking networks hold every spike, potential and count, in its place."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot import confusion, figure_png, membrane, raster


def test_a_raster_has_a_mark_per_spike_in_the_middle_of_its_step():
    spikes = torch.zeros(10, 4)
    spikes[2, 3] = spikes[7, 0] = spikes[7, 1] = 1
    figure = raster(spikes, dt_ms=0.5, title="spikes")
    [ax] = figure.axes
    marks = ax.lines[0].get_xydata().tolist()
    assert marks == [[1.25, 3.0], [3.75, 0.0], [3.75, 1.0]]
    assert ax.get_xlim() == (0, 5)
    assert figure_png(figure)[:4] == b"\x89PNG"


def test_populations_share_their_time():
    figure = raster([torch.ones(6, 2), torch.zeros(9, 5, dtype=torch.bool)], names=["in", "out"])
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim() == (0, 9)
    assert len(first.lines[0].get_xdata()) == 12
    assert len(second.lines[0].get_xdata()) == 0
    assert [ax.get_ylabel() for ax in figure.axes] == ["in", "out"]


def test_membranes_are_drawn_as_they_are():
    potential = torch.rand(7, 3, dtype=torch.float64)
    figure = membrane(potential, dt_ms=2.0, names=["a", "b", "c"], threshold=1.0)
    [ax] = figure.axes
    assert [line.get_label() for line in ax.lines] == ["a", "b", "c", "threshold"]
    assert ax.lines[1].get_ydata().tolist() == potential[:, 1].tolist()
    assert ax.lines[1].get_xdata().tolist() == [2, 4, 6, 8, 10, 12, 14]


def test_a_highlighted_membrane_is_the_only_coloured_one():
    figure = membrane(torch.rand(7, 20), highlight=4)
    [ax] = figure.axes
    colours = [line.get_color() for line in ax.lines]
    assert colours.count(colours[0]) == 19
    assert ax.lines[4].get_color() != colours[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["4"]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_confusions_are_shares_of_rows_with_counts_written_in(dtype):
    counts = torch.tensor([[8, 2, 0], [0, 5, 0], [1, 1, 2]], dtype=dtype)
    figure = confusion(counts, names=["x", "y", "z"])
    [ax] = figure.axes
    shares = ax.get_images()[0].get_array()
    assert shares[0].tolist() == [0.8, 0.2, 0.0]
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(0, 0): "8", (1, 0): "2", (1, 1): "5", (0, 2): "1", (1, 2): "1", (2, 2): "2"}
    assert ax.get_title() == "78.9% right"


def test_a_class_never_shown_does_no_harm():
    figure = confusion(torch.tensor([[0, 0], [1, 3]]))
    assert figure.axes[0].get_images()[0].get_array()[0].tolist() == [0, 0]


@pytest.mark.parametrize("draw", [raster, membrane])
def test_wrong_axes_and_steps_are_refused(draw):
    with pytest.raises(ShapeError, match=r"axes \(time, unit\)"):
        draw(torch.zeros(5, 1, 3))
    with pytest.raises(ShapeError, match=r"axes \(time, unit\)"):
        draw(torch.zeros(0, 3))
    with pytest.raises(InputError, match="dt_ms > 0"):
        draw(torch.zeros(5, 3), dt_ms=0.0)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="one name each"):
        raster([torch.zeros(5, 3)], names=["a", "b"])
    with pytest.raises(InputError, match="one name each"):
        raster([])
    with pytest.raises(InputError, match="highlight=3"):
        membrane(torch.zeros(5, 3), highlight=3)
    with pytest.raises(InputError, match="at most 14 units"):
        membrane(torch.zeros(5, 15))
    with pytest.raises(NonFiniteError, match="finite potentials"):
        membrane(torch.full((5, 3), math.nan))
    with pytest.raises(ShapeError, match="shown, answered"):
        confusion(torch.zeros(2, 3))
    with pytest.raises(InputError, match="counts >= 0"):
        confusion(torch.tensor([[1, -1], [0, 1]]))
    with pytest.raises(InputError, match="for each of 2 classes"):
        confusion(torch.eye(2), names=["a"])
