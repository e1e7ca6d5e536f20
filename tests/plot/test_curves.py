"""Curves show the numbers they are given."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calcarine.errors import InputError
from calcarine.plot import (
    dimension_over_time,
    figure_png,
    loss_curve,
    residual_curve,
    singular_values,
)


def lines(values, name="loss/cortex"):
    return [{"update": 10 * i, name: v, "skipped": 0} for i, v in enumerate(values)]


def curve(ax, label):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def panels(figure):
    return [ax for ax in figure.axes if ax.axison]


def test_losses_are_shown_raw_and_smoothed_on_a_logarithmic_axis():
    values = [100.0, 10.0, 1.0, 10.0, 1.0, 10.0, 1.0]
    figure = loss_curve(lines(values), smooth=3)
    (ax,) = panels(figure)
    assert ax.get_yscale() == "log"
    assert curve(ax, "as logged").get_ydata().tolist() == values
    smooth = curve(ax, "mean of 3 lines").get_ydata()
    assert smooth[0] == pytest.approx(100)  # the steep start is not flattened
    assert smooth[3] == pytest.approx(10 ** (1 / 3))
    assert ax.get_xlabel() == "updates"
    assert figure_png(figure)


def test_every_loss_has_its_panel_and_other_scalars_have_none():
    log = [{"update": u, "loss/a": 1.0, "loss/percept_scope": 2.0, "rate": 3.0} for u in (1, 2)]
    assert [ax.get_title() for ax in panels(loss_curve(log))] == ["a", "percept scope"]
    assert [ax.get_title() for ax in panels(loss_curve(log, names=["rate"]))] == ["rate"]
    no_losses = [{"update": 1, "activity": 0.0}]
    assert [ax.get_title() for ax in panels(loss_curve(no_losses))] == ["activity"]


def test_what_is_not_finite_is_marked_not_drawn():
    (ax,) = panels(loss_curve(lines([3.0, None, math.inf, 2.0]), smooth=1))
    assert list(curve(ax, "not finite").get_xdata()) == [10, 20]
    drawn = [line for line in ax.get_lines() if line.get_label() != "not finite"]
    assert all(np.isfinite(line.get_ydata()).all() for line in drawn)


def test_a_negative_loss_gets_a_plain_axis():
    (ax,) = panels(loss_curve(lines([3.0, -1.0])))
    assert ax.get_yscale() == "linear"


def test_scalars_that_begin_late_or_are_logged_once_are_drawn():
    figure = loss_curve([{"update": 1, "loss/a": 1.0}, {"update": 2, "loss/b": 2.0}])
    assert len(panels(figure)) == 2
    assert figure_png(figure)


def test_losses_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="at least one log line"):
        loss_curve([{"update": 3}])
    with pytest.raises(InputError, match=r"loss/cortex.*got loss/cortx"):
        loss_curve(lines([1.0]), names=["loss/cortx"])
    with pytest.raises(InputError, match="smooth"):
        loss_curve(lines([1.0]), smooth=0)


def test_residuals_stand_beside_the_perfect_observer(outcomes):
    outcome = outcomes["more"]
    (ax,) = panels(residual_curve(outcome))
    assert tuple(curve(ax, "this eye: mean").get_ydata()) == outcome.mean_residual
    assert tuple(curve(ax, "this eye: largest").get_ydata()) == outcome.max_residual
    observer = curve(ax, "perfect observer: mean").get_ydata()
    assert observer[:2] == pytest.approx(outcome.observer_residual[:2])
    assert min(observer) == pytest.approx(ax.get_ylim()[0])  # exact matches lie on the axis
    assert any(list(line.get_ydata()) == [0.015, 0.015] for line in ax.get_lines())


def test_several_outcomes_are_told_apart(outcomes):
    figure = residual_curve([outcomes["two"], outcomes["three"]], labels=["LS", "LMS"])
    (ax,) = panels(figure)
    means = [curve(ax, f"{name}: mean") for name in ("LS", "LMS")]
    assert means[0].get_color() != means[1].get_color()
    with pytest.raises(InputError, match="one label per outcome"):
        residual_curve([outcomes["two"]], labels=["a", "b"])
    with pytest.raises(InputError, match="at least one"):
        residual_curve([])


def test_the_dimension_climbs_in_steps(outcomes):
    ages = [0, 100, 1000]
    figure = dimension_over_time(ages, [outcomes["two"], outcomes["three"], outcomes["more"]])
    above, below = panels(figure)
    steps = above.get_lines()[0]
    assert list(steps.get_ydata()) == [2, 3, 5]
    assert steps.get_drawstyle() == "steps-post"
    assert [text.get_text() for text in above.texts] == ["> 4"]
    assert [line.get_label() for line in below.get_lines() if line.get_label().isdigit()] == [
        "1", "2", "3", "4",
    ]  # fmt: skip
    assert figure_png(figure)


def test_one_age_can_be_shown(outcomes):
    assert figure_png(dimension_over_time([0], [outcomes["two"]]))


@pytest.mark.parametrize("ages", [[], [0], [5, 5], [5, 0]])
def test_ages_without_outcomes_are_refused(outcomes, ages):
    with pytest.raises(InputError, match="ascending ages"):
        dimension_over_time(ages, [outcomes["two"], outcomes["three"]])


def test_singular_values_are_drawn_as_they_are(outcomes):
    (ax,) = panels(singular_values(outcomes["three"], labels=["LMS"]))
    assert curve(ax, "LMS").get_ydata() == pytest.approx(outcomes["three"].singular_values)
    assert len(curve(ax, "LMS").get_ydata()) == 3
