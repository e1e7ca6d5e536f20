"""Figures of networks in time hold the numbers they are given, in their places."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot import (
    accuracy_figure,
    decay_figure,
    figure_png,
    return_figure,
    robustness_figure,
    trajectory_figure,
)
from calcarine.probes import (
    AccuracyOverTime,
    BaselineReturn,
    NoiseRobustness,
    TimeConstants,
    fit_decay,
    principal_trajectories,
)


def course(last: int = 9) -> AccuracyOverTime:
    correct = torch.stack([torch.linspace(1, last, 15).long()] * 2, 1)
    times = 2.0 * torch.arange(1, 16).double()
    return AccuracyOverTime(times, correct, torch.tensor([10, 10]), torch.rand(15), 20.0)


def drawn(figure) -> bytes:
    png = figure_png(figure, dpi=40)
    assert png[:4] == b"\x89PNG"
    return png


def thick(ax) -> list:
    """The lines of courses, without their marks."""
    return [li for li in ax.lines if li.get_linewidth() == 1.5 and li.get_linestyle() == "-"]


def test_accuracy_stands_over_the_time_of_the_image():
    figure = accuracy_figure({"first": course(), "second": course(5)}, title="accuracy")
    [ax] = figure.axes
    first, second, chance = ax.lines
    assert first.get_ydata().tolist() == course().accuracy.tolist()
    assert second.get_xdata().tolist() == course().time_ms.tolist()
    assert set(chance.get_ydata()) == {0.5}
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["first", "second"]
    shaded = ax.patches[0]
    assert (shaded.get_x(), shaded.get_width()) == (0, 20)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    low, high = course().interval()
    assert band.min() == pytest.approx(low.min().item())
    assert band.max() == pytest.approx(high.max().item())
    drawn(figure)


def test_a_single_result_needs_no_legend():
    [ax] = accuracy_figure(course(), chance=0.1).axes
    assert ax.get_legend() is None
    assert set(ax.lines[1].get_ydata()) == {0.1}


def test_distances_are_logarithmic_with_the_line_of_return():
    times = 2.0 * torch.arange(60).double()
    fast, slow = torch.exp(-times / 10), torch.exp(-times / 100)
    relative = torch.stack([fast, slow])[:, :, None].expand(2, 60, 3)
    back = BaselineReturn(
        ("area1", "area2"), ("image", "uniform x1", "uniform x2"), times, relative, relative,
        torch.zeros(2), 0.01,
    )  # fmt: skip
    figure = return_figure(back)
    first, second = figure.axes
    assert first.get_yscale() == second.get_yscale() == "log"
    assert first.get_title() == "area1: back by 48 ms"
    assert second.get_title() == "area2: not back"
    assert torch.allclose(torch.tensor(first.lines[0].get_ydata()), fast)
    assert set(first.lines[-1].get_ydata()) == {0.01}
    assert first.lines[0].get_color() != first.lines[1].get_color() == first.lines[2].get_color()
    names = [t.get_text() for t in second.get_legend().get_texts()]
    assert names == ["image", "uniform", "1 %"]
    drawn(figure)


@pytest.mark.parametrize("areas", [1, 5])
def test_a_distance_of_nothing_and_any_number_of_areas_are_drawn(areas):
    names, relative = tuple(f"area{k}" for k in range(areas)), torch.zeros(areas, 4, 1)
    back = BaselineReturn(
        names, ("image",), torch.arange(4).double(), relative, relative, torch.zeros(areas), 0.01
    )
    figure = return_figure(back)
    assert sum(ax.get_visible() for ax in figure.axes) == areas
    drawn(figure)


def test_distances_have_to_fit_their_times():
    one = torch.zeros(1, 4, 1)
    back = BaselineReturn(("a",), ("image",), torch.zeros(3), one, one, torch.zeros(1), 0.01)
    with pytest.raises(ShapeError, match="1 areas at 3 times"):
        return_figure(back)


def test_robustness_has_a_point_and_a_bar_per_strength():
    strengths, correct = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([[90, 60, 20], [90, 80, 50]])
    both = NoiseRobustness(strengths, ("frozen", "per_step"), correct, 100)
    frozen = NoiseRobustness(strengths, ("frozen",), correct[:1], 100)
    figure = robustness_figure({"network": both, "twin": frozen})
    [ax] = figure.axes
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["network, frozen", "network, per step", "twin, frozen"]
    data, *_ = ax.containers[1]
    assert data.get_ydata().tolist() == both.accuracy[1].tolist()
    bars = torch.tensor([seg[:, 1].tolist() for seg in ax.containers[1][2][0].get_segments()])
    low, high = both.interval()
    assert torch.allclose(bars.double(), torch.stack([low[1], high[1]], 1))
    assert data.get_linestyle() != ax.containers[0][0].get_linestyle()
    drawn(figure)


@pytest.mark.parametrize("three_d", [False, True])
@pytest.mark.parametrize("classes", [2, 9])
def test_trajectories_of_classes_are_thick_and_named(three_d, classes):
    activity = torch.randn(20, 18, 7, generator=torch.Generator().manual_seed(0))
    found, labels = principal_trajectories(activity, 3, dt_ms=2), torch.arange(18) % classes
    figure = trajectory_figure(found, labels, offset_ms=20, three_d=three_d, title="area 2")
    [ax] = figure.axes
    thin = [line for line in ax.lines if line.get_linewidth() == 0.5]
    assert len(thin) == 18
    assert len(thick(ax)) == classes
    if not three_d:
        assert torch.equal(torch.tensor(thin[4].get_ydata()), found.scores[:, 4, 1])
    share = f"component 2 ({100 * found.explained[1].item():.0f} %)"
    assert ax.get_ylabel() == share
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == [*map(str, range(classes)), "onset", "offset", "end"]
    drawn(figure)


def test_single_trajectories_need_no_labels():
    found = principal_trajectories(torch.rand(9, 4, 5), 2)
    [ax] = trajectory_figure(found).axes
    names = [t.get_text() for t in ax.get_legend().get_texts()]
    assert names == ["onset", "end"]
    assert len(thick(ax)) == 4
    with pytest.raises(InputError, match="at least 3 components"):
        trajectory_figure(found, three_d=True)


def test_time_constants_are_counted_and_their_median_told():
    t = torch.arange(300, dtype=torch.double)
    tau = torch.tensor([5.0, 10.0, 10.0, 20.0, 40.0], dtype=torch.double)
    activity = torch.exp(-t[:, None] / tau)[:, None]
    activity = torch.cat([activity, torch.zeros(300, 1, 1)], 2)
    found = fit_decay(activity, torch.zeros(1, 6), 1.0)
    figure = decay_figure({"area1": found, "area2": found}, flow=False)
    first, second = figure.axes
    assert sum(bar.get_height() for bar in first.patches) == 5
    assert first.get_title() == "area1: median 10 ms, 5 of 6 with one"
    assert second.get_xlabel() == "time constant (ms)"
    assert first.get_xlim() == second.get_xlim()
    drawn(figure)
    flow = decay_figure(found)
    assert flow.axes[0].get_title().startswith("median 10.5 ms")  # 1 / (1 - exp(-1 / 10))


def test_nothing_to_show_is_said():
    none = TimeConstants(
        *(torch.full((2,), math.nan) for _ in range(4)), torch.zeros(2).long(), 1.0
    )
    with pytest.raises(InputError, match="at least one finite"):
        decay_figure({"area1": none})
    with pytest.raises(InputError, match="1 to 7 results, got 0"):
        accuracy_figure({})
    with pytest.raises(InputError, match="1 to 7 results, got 8"):
        robustness_figure({str(k): None for k in range(8)})
