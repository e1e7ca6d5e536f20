"""The figure of a run in phases."""

from __future__ import annotations

import pytest

from calcarine.errors import InputError
from calcarine.plot import phases_figure

PHASES = [("first", 100), ("empty", 0), ("second", 10)]
LINES = [
    {"update": 50, "loss/a": 4.0},
    {"update": 100, "loss/a": 2.0, "right": 0.25},
    {"update": 105, "loss/b": 1.0, "right": 0.25},
    {"update": 110, "loss/b": 0.5, "right": 0.75},
]


def test_every_phase_is_as_wide_as_the_others():
    figure = phases_figure(LINES, PHASES, accuracies={"right": "held-out"})
    above, below = figure.axes
    assert above.get_xlim() == (0, 2)
    assert [text.get_text() for text in above.texts] == ["first", "second"]
    assert [label.get_text() for label in below.get_xticklabels()] == ["0", "100", "110"]
    seen = above.get_lines()[0]
    assert seen.get_label() == "held-out"
    assert list(seen.get_xdata()) == [1.0, 2.0]  # where it changed
    assert list(seen.get_ydata()) == [0.25, 0.75]
    curves = {line.get_label(): line for line in below.get_lines()}
    assert list(curves["a"].get_xdata()) == [0.5, 1.0]
    assert list(curves["b"].get_xdata()) == [1.5, 2.0]
    assert list(curves["b"].get_ydata()) == [1.0, 0.5]
    assert below.get_yscale() == "log"


def test_a_run_that_has_only_begun():
    figure = phases_figure(LINES[:1], PHASES, accuracies={"right": "held-out"})
    assert next(iter(figure.axes[1].get_lines())).get_label() == "a"
    assert figure.axes[0].get_legend() is None


@pytest.mark.parametrize(("lines", "phases"), [([], PHASES), (LINES, []), (LINES, [("x", 0)])])
def test_nothing_to_draw_is_refused(lines, phases):
    with pytest.raises(InputError, match="log lines and phases"):
        phases_figure(lines, phases)
