"""The course of an area's activity in two or three principal components.

    trajectory_figure    single images as thin lines, means of classes as thick ones

Axes    T time | B images | k components | C classes
Units   time in ms
Source  soo2024 (what is shown)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from calcarine.errors import InputError, require
from calcarine.plot.style import FAINT, GREY, INK, SERIES, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["trajectory_figure"]


def trajectory_figure(
    course: Any,
    labels: Tensor | Sequence[int] | None = None,
    *,
    class_names: Sequence[str] | None = None,
    onset_ms: float = 0.0,
    offset_ms: float | None = None,
    three_d: bool = False,
    title: str = "",
) -> Figure:
    """Show the course of an area in its first two or three principal components.

    Thin lines are single images, thick ones means of classes; a ring marks the onset, a square the
    offset, a cross the end, and small dots equal times between.

    Args:
        course: A :class:`~calcarine.probes.Trajectories`.
        labels: Class number of every trajectory; ``None`` shows single ones only.
        class_names: Name of every class; ``None`` shows numbers.
        onset_ms: When the image appeared.
        offset_ms: When it went; ``None`` if it stayed.
        three_d: Whether to show three components.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are fewer components than shown.
        ShapeError: If there is not one label per trajectory.
    """
    count = 3 if three_d else 2
    if course.scores.shape[2] < count:
        raise InputError(
            f"trajectory_figure expected at least {count} components, got {course.scores.shape[2]}."
        )
    figure, ax = _trajectory_panel(three_d, title)
    scores = course.scores[..., :count]
    if labels is None:
        drawn, kinds = scores, list(range(scores.shape[1]))
    else:
        numbers = torch.as_tensor(labels).cpu()
        means = course.by_class(numbers)[..., :count]
        kinds = sorted(set(numbers.tolist()))
        drawn = means[:, kinds]
        for row, kind in enumerate(numbers.tolist()):
            color = _class_color(kinds.index(kind), len(kinds))
            ax.plot(*_numbers(scores[:, row].T), color=color, linewidth=0.5, alpha=0.35)
    for place, kind in enumerate(kinds):
        name = "" if labels is None else str(class_names[kind] if class_names else kind)
        _draw_course(
            ax, course.time_ms, drawn[:, place], _class_color(place, len(kinds)), name,
            (onset_ms, offset_ms),
        )  # fmt: skip
    for axis, share in zip(("x", "y", "z")[:count], course.explained, strict=False):
        number = {"x": 1, "y": 2, "z": 3}[axis]
        getattr(ax, f"set_{axis}label")(f"component {number} ({100 * float(share):.0f} %)")
    _trajectory_legend(ax, offset_ms, named=labels is not None, three_d=three_d)
    return figure


def _trajectory_panel(three_d: bool, title: str) -> tuple[Figure, Any]:
    figure, [[ax]] = new_figure(1, 1, panel=(5.6, 4.0) if three_d else (5.0, 3.6), title=title)
    if not three_d:
        return figure, ax
    ax.remove()
    ax = figure.add_subplot(projection="3d")
    ax.set_box_aspect(None, zoom=0.85)  # leaves room for the labels
    ax.tick_params(labelsize=7, colors=GREY)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.label.set_fontsize(9)
        axis.label.set_color(INK)
        axis.pane.set_facecolor("white")
        axis.pane.set_edgecolor(FAINT)
    return figure, ax


def _draw_course(
    ax: Any,
    time_ms: Tensor,
    course: Tensor,
    color: Any,
    name: str,
    marks: tuple[float, float | None],
) -> None:
    """Draw one course with marks of time."""
    ax.plot(*_numbers(course.T), color=color, linewidth=1.5, label=name or None)
    apart = max(1, len(time_ms) // 12)
    ax.plot(*_numbers(course[::apart].T), ".", color=color, markersize=4)
    for when, marker in zip((*marks, float(time_ms[-1])), ("o", "s", "X"), strict=True):
        if when is None:
            continue
        point = course[int((time_ms - when).abs().argmin())][:, None]
        ax.plot(*_numbers(point), marker, color=color, markersize=6, markerfacecolor="white")
    when = float(time_ms[-1]) if marks[1] is None else marks[1]
    place = course[int((time_ms - when).abs().argmin())].tolist()
    # Colour is never the only difference between classes.
    ax.text(*place, f"  {name}", color=color, fontsize=8, fontweight="bold")


def _trajectory_legend(ax: Any, offset_ms: float | None, *, named: bool, three_d: bool) -> None:
    from matplotlib.lines import Line2D

    handles = ax.get_legend_handles_labels()[0] if named else []
    for marker, label in (("o", "onset"), ("s", "offset"), ("X", "end")):
        if label != "offset" or offset_ms is not None:
            handles.append(
                Line2D([], [], marker=marker, color=GREY, linestyle="", markersize=6,
                       markerfacecolor="white", label=label)
            )  # fmt: skip
    legend(ax, handles=handles, loc="upper left", bbox_to_anchor=(1.04 if three_d else 1.0, 1.0))


def _class_color(place: int, count: int) -> Any:
    """Return the house's colours for few classes, a cycle of hues for many."""
    if count <= len(SERIES):
        return SERIES[place]
    matplotlib = require("matplotlib", extra="viz", purpose="Plotting")
    red, green, blue, _ = matplotlib.colormaps["turbo"](0.05 + 0.9 * place / (count - 1))
    return 0.85 * red, 0.85 * green, 0.85 * blue  # its yellows are too light for white


def _numbers(values: Tensor) -> Any:
    return values.detach().cpu().numpy()
