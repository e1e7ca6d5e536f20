"""Curves: losses while learning, and the outcome of colour matching.

    loss_curve            every loss on a logarithmic axis, as logged and smoothed
    residual_curve        what the best match leaves of the difference, by number of primaries
    dimension_over_time   how many primaries suffice, by age
    singular_values       how much of what all lights evoke lies along each dimension

A residual is relative to the light that is matched; colour has n dimensions when n primaries bring
the mean residual below the threshold and n - 1 do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from calcarine.errors import InputError
from calcarine.plot.style import FAINT, GREY, INK, SERIES, heading, legend, new_figure, update_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calcarine.probes import ColorMatching

__all__ = ["dimension_over_time", "loss_curve", "residual_curve", "singular_values"]

_FLOOR = 1e-4  # residuals below it are drawn on it; ours: where the refinement of matches stops


def loss_curve(
    log_lines: Sequence[Mapping[str, Any]],
    *,
    names: Sequence[str] | None = None,
    smooth: int | None = None,
    title: str = "",
) -> Figure:
    """Show how losses fall, one panel each.

    Args:
        log_lines: Lines of a log as :func:`calcarine.training.read_log` returns them.
        names: Which scalars; by default all whose names begin with ``loss/``, or else all.
        smooth: Number of log lines that the smoothed curve averages over, the logarithm where the
            axis is logarithmic, rounded up to an odd number; by default about a twentieth of them,
            1 for none.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no lines, or a name is not among them.
    """
    chosen = _chosen_names(log_lines, names)
    if smooth is not None and smooth < 1:
        raise InputError(f"loss_curve expected smooth >= 1, got {smooth}.")
    columns = min(3, len(chosen))
    rows = math.ceil(len(chosen) / columns)
    wide = 5.6 if columns == 1 else 3.3
    figure, axes = new_figure(rows, columns, panel=(wide, 2.5), title=title)
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(chosen) :]:
        ax.set_axis_off()
    for index, (ax, name) in enumerate(zip(panels, chosen, strict=False)):
        _draw_loss(ax, name, log_lines, smooth)
        if index + columns >= len(chosen):
            ax.set_xlabel("updates")
    return figure


def _chosen_names(lines: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> list[str]:
    known = list(dict.fromkeys(key for line in lines for key in line if key != "update"))
    if not known:
        raise InputError("loss_curve expected at least one log line with a number, got none.")
    if names is None:
        return [name for name in known if name.startswith("loss/")] or known
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(
            f"loss_curve expected names out of {', '.join(known)}, got "
            f"{', '.join(names) or 'none'}."
        )
    return list(names)


def _draw_loss(ax: Axes, name: str, lines: Sequence[Mapping[str, Any]], smooth: int | None) -> None:
    logged = [(line["update"], line[name]) for line in lines if name in line]
    points = [(u, v) for u, v in logged if v is not None and math.isfinite(v)]
    heading(ax, name.removeprefix("loss/").replace("_", " "))
    ax.set_ylabel("loss" if name.startswith("loss/") else name)
    logarithmic = bool(points) and min(v for _, v in points) > 0
    width = smooth or max(1, len(points) // 20)
    width += 1 - width % 2
    x = [u for u, _ in points]
    y = [v for _, v in points]
    if logarithmic:
        ax.set_yscale("log")
        average = [math.exp(v) for v in _running_mean([math.log(v) for v in y], width)]
        ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    else:
        average = _running_mean(y, width)
    marker = "o" if len(points) == 1 else None
    if width > 1:
        ax.plot(x, y, color=SERIES[0], alpha=0.3, linewidth=0.8, label="as logged")
    smoothed = f"mean of {width} lines" if width > 1 else None
    ax.plot(x, average, color=SERIES[0], linewidth=1.6, marker=marker, label=smoothed)
    bad = [u for u, v in logged if v is None or not math.isfinite(v)]
    if bad:
        ax.plot(
            bad, [0.02] * len(bad), "x", color=SERIES[1], markersize=4, clip_on=False,
            transform=ax.get_xaxis_transform(), label="not finite",
        )  # fmt: skip
    if width > 1 or bad:
        legend(ax, loc="upper right")


def _running_mean(values: list[float], width: int) -> list[float]:
    """Mean of ``width`` neighbours; at the steep start of as many behind as before, no more."""
    half = width // 2
    means = []
    for index in range(len(values)):
        some = values[max(0, index - half) : index + min(index, half) + 1]
        means.append(sum(some) / len(some))
    return means


def _as_list(matchings: ColorMatching | Sequence[ColorMatching]) -> list[ColorMatching]:
    found = list(matchings) if isinstance(matchings, Sequence) else [matchings]
    if not found:
        raise InputError("Expected at least one outcome of color_matching, got none.")
    return found


def _labels(labels: Sequence[str] | None, count: int) -> list[str]:
    if labels is None:
        return ["this eye" if count == 1 else str(index + 1) for index in range(count)]
    if len(labels) != count:
        raise InputError(f"Expected one label per outcome, got {len(labels)} for {count}.")
    return list(labels)


def residual_curve(
    matchings: ColorMatching | Sequence[ColorMatching],
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Show what remains of the difference after the best match, by number of primaries.

    Mean and largest residual over the test lights, the threshold, and the mean residual of a
    perfect observer behind the same cones as the first outcome.

    Args:
        matchings: Outcomes of :func:`calcarine.probes.color_matching`, one or several.
        labels: One per outcome.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no outcome, or labels do not fit.
    """
    found = _as_list(matchings)
    figure, [[ax]] = new_figure(panel=(5.2, 3.2), title=title)
    names = _labels(labels, len(found))
    for color, name, outcome in zip(_cycle(len(found)), names, found, strict=False):
        n = range(1, len(outcome.mean_residual) + 1)
        _floored(ax, n, outcome.mean_residual, color, label=f"{name}: mean", linewidth=1.8)
        _floored(
            ax, n, outcome.max_residual, color, label=f"{name}: largest", linewidth=1,
            linestyle=(0, (2, 2)), markerfacecolor="white",
        )  # fmt: skip
    n = range(1, len(found[0].observer_residual) + 1)
    _floored(
        ax, n, found[0].observer_residual, GREY, label="perfect observer: mean", linewidth=1.2,
        linestyle=(0, (5, 2)), zorder=1.5,
    )  # fmt: skip
    _residual_axis(ax, found[0].threshold)
    most = max(len(outcome.mean_residual) for outcome in found)
    ax.set_xticks(range(1, most + 1))
    ax.set_xlabel("number of primaries")
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _cycle(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]


def _floored(ax: Axes, x: Sequence[float], y: Sequence[float], color: str, **look: Any) -> None:
    """Draw residuals; those too small for the axis lie on its end, as triangles."""
    look = {"marker": "o", "markersize": 4.5, "clip_on": False, **look}
    ax.plot(x, [max(v, _FLOOR) for v in y], color=color, **look)
    low = [n for n, v in zip(x, y, strict=True) if v <= _FLOOR]
    ax.plot(low, [_FLOOR] * len(low), "v", color=color, markersize=6, clip_on=False, zorder=3)


def _residual_axis(ax: Axes, threshold: float) -> None:
    ax.set_yscale("log")
    ax.set_ylim(_FLOOR, 1.5)
    ax.set_yticks([_FLOOR, 1e-3, 1e-2, 1e-1, 1], ["≤ 0.0001", "0.001", "0.01", "0.1", "1"])
    ax.set_ylabel("residual (relative to the light)")
    ax.axhline(threshold, color=INK, linewidth=0.8, linestyle=":")
    ax.annotate(
        f"matched\nbelow {threshold:g}", (1.01, threshold), xycoords=("axes fraction", "data"),
        ha="left", va="center", fontsize=7.5, color=INK,
    )  # fmt: skip


def dimension_over_time(
    ages: Sequence[int], matchings: Sequence[ColorMatching], *, title: str = ""
) -> Figure:
    """Show how the dimension of colour changes while a cortex learns.

    Args:
        ages: Ages in updates, ascending.
        matchings: Outcome of :func:`calcarine.probes.color_matching` at each age.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no ages, they do not ascend, or outcomes are missing.
    """
    ages, found = list(ages), list(matchings)
    if not ages or len(ages) != len(found) or any(b <= a for a, b in pairwise(ages)):
        raise InputError(
            "dimension_over_time expected ascending ages and one outcome for each, got ages "
            f"{ages} and {len(found)} outcomes."
        )
    figure, [[above], [below]] = new_figure(
        2, 1, panel=(5.8, 2.3), title=title, height_ratios=(1, 1.6)
    )
    above.sharex(below)
    _draw_dimension(above, ages, found)
    most = min(4, *(len(outcome.mean_residual) for outcome in found))
    for n in range(1, most + 1):
        residuals = [outcome.mean_residual[n - 1] for outcome in found]
        _floored(below, ages, residuals, SERIES[n - 1], label=f"{n}", linewidth=1.5)
    _residual_axis(below, found[0].threshold)
    below.set_ylabel("mean residual")
    legend(below, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="primaries", title_fontsize=8)
    update_axis(below, ages)
    above.tick_params(axis="x", labelbottom=False)
    return figure


def _draw_dimension(ax: Axes, ages: list[int], found: list[ColorMatching]) -> None:
    heights = [o.dimension or len(o.mean_residual) + 1 for o in found]
    ax.step(ages, heights, where="post", color=INK, linewidth=1.6)
    known = [(a, h) for a, h, o in zip(ages, heights, found, strict=True) if o.dimension]
    more = [(a, h) for a, h, o in zip(ages, heights, found, strict=True) if not o.dimension]
    ax.plot(*zip(*known, strict=True), "o", color=INK, markersize=5) if known else None
    for age, height in more:
        ax.plot(age, height, "^", color=INK, markerfacecolor="white", markersize=6)
        ax.annotate(
            f"> {height - 1}", (age, height), xytext=(0, -11), textcoords="offset points",
            ha="center", va="top", fontsize=7.5, color=INK,
        )  # fmt: skip
    top = max(3, *heights)
    ax.set_ylim(0.6, top + 0.4)
    ax.set_yticks(range(1, top + 1))
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    ax.set_ylabel("dimensions\nof colour")


def singular_values(
    matchings: ColorMatching | Sequence[ColorMatching],
    *,
    labels: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Show how much of what all lights evoke lies along each dimension, the largest set to 1.

    Args:
        matchings: Outcomes of :func:`calcarine.probes.color_matching`, one or several.
        labels: One per outcome.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no outcome, or labels do not fit.
    """
    found = _as_list(matchings)
    names = _labels(labels, len(found))
    figure, [[ax]] = new_figure(panel=(5.2, 3.0), title=title)
    for color, name, outcome in zip(_cycle(len(found)), names, found, strict=False):
        values = [max(v, 1e-6) for v in outcome.singular_values]
        ax.plot(
            range(1, len(values) + 1), values, "o-", color=color, markersize=4.5, linewidth=1.4,
            label=name, clip_on=False,
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(bottom=max(1e-6, min(ax.get_ylim()[0], 1e-3)), top=1.5)
    ax.set_xticks(range(1, max(len(o.singular_values) for o in found) + 1))
    ax.set_xlabel("dimension, strongest first")
    ax.set_ylabel("singular value (relative)")
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    if len(found) > 1 or labels is not None:
        legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
