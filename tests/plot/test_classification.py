"""The figure of a single trial: probabilities of classes and the answer over time."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot import classification_figure
from calcarine.plot.classification import leading_classes
from calcarine.plot.style import SERIES

TIMES = torch.arange(0, 61, 10.0)
NAMES = ["ant", "bee", "cat", "dog"]


def course() -> torch.Tensor:
    """Nothing at first, then bee, then cat for good; dog after the picture has gone."""
    shares = torch.full((7, 4), 0.1)
    for moment, best in enumerate([0, 1, 2, 2, 2, 3, 3]):
        shares[moment, best] = 0.7
    return shares


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_curves_answers_and_marks(dtype, channels):
    figure = classification_figure(
        torch.rand(channels, 9, 7), TIMES.to(dtype), course().to(dtype), NAMES, offset_ms=40,
        decided_ms=20, truth=2, most=3, title="one",
    )  # fmt: skip
    picture, above, _, below = figure.axes
    assert picture.get_title() == "shown: cat"
    assert above.get_title() == "answer cat (right), stays from 20 ms on"
    curves = above.get_lines()[:3]
    assert [line.get_label() for line in curves] == ["cat", "ant", "bee"]
    assert list(curves[0].get_ydata()) == pytest.approx(course()[:, 2].tolist())
    assert curves[0].get_linewidth() > curves[1].get_linewidth()  # the right one
    bars = [(bar.get_x(), bar.get_width()) for bar in below.patches if bar.get_height() == 1]
    bars = [bar for bar in bars if bar != (0, 40)]  # the shaded time of the picture
    assert bars == [(0, 10), (10, 10), (20, 30), (50, 10)]
    assert [text.get_text() for text in below.texts] == ["ant", "bee", "cat", "dog"]
    assert above.get_xlim() == below.get_xlim() == (0, 60)


def test_a_wrong_answer_is_told_and_unknown_truth_is_not():
    wrong = classification_figure(
        torch.rand(1, 8, 8), TIMES, course(), NAMES, offset_ms=40, decided_ms=20, truth=0
    )
    assert wrong.axes[1].get_title() == "answer cat (wrong), stays from 20 ms on"
    unknown = classification_figure(torch.rand(1, 8, 8), TIMES, course(), NAMES, offset_ms=40)
    assert unknown.axes[0].get_title() == "shown"
    assert unknown.axes[1].get_title() == ""


def test_leading_classes_are_those_at_offset():
    assert leading_classes(TIMES, course(), 40.0, 2) == [2, 0]
    assert leading_classes(TIMES, course(), 1000.0, 1) == [3]
    assert leading_classes(TIMES + 5, course(), 0.0, 1) == [0]


def test_many_classes_keep_their_colours_and_long_names_are_cut():
    names = [f"a very long name of a kind of animal, number {k}" for k in range(12)]
    shares = torch.rand(7, 12, generator=torch.Generator().manual_seed(0)).softmax(1)
    figure = classification_figure(torch.rand(3, 8, 8), TIMES, shares, names, offset_ms=40, most=9)
    curves = figure.axes[1].get_lines()[:9]
    assert [line.get_color() for line in curves] == [SERIES[k % len(SERIES)] for k in range(9)]
    assert all(len(line.get_label()) <= 24 for line in curves)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"probabilities": torch.rand(6, 4)}, ShapeError, "7 times and 4 named classes"),
        ({"class_names": NAMES[:3]}, ShapeError, "3 named classes"),
        ({"probabilities": torch.rand(7)}, ShapeError, "axes"),
        ({"most": 0}, InputError, "most >= 1"),
        ({"picture": torch.rand(2, 8, 8)}, ShapeError, "picture"),
    ],
)
def test_what_does_not_fit_is_refused(changes, kind, message):
    usual = {
        "picture": torch.rand(1, 8, 8), "time_ms": TIMES, "probabilities": course(),
        "class_names": NAMES, "offset_ms": 40.0,
    }  # fmt: skip
    with pytest.raises(kind, match=message):
        classification_figure(**{**usual, **changes})
