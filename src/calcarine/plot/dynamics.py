"""Networks in time: what they answer, where they go and how fast they come back.

    accuracy_figure      accuracy after onset, with its interval; the image's time is shaded
    return_figure        distance from baseline after offset, logarithmic, with the line of return
    robustness_figure    accuracy over the strength of noise, with error bars
    decay_figure         how many units fall back with which time constant

Axes    T time | A areas | S starts or strengths
Units   time in ms
Source  soo2024 (what is shown)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot.style import FAINT, GREY, INK, SERIES, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_figure",
    "decay_figure",
    "return_figure",
    "robustness_figure",
]

_LEVEL = 0.95  # of the intervals drawn
_FLOOR = 1e-7  # ours: distances below this are rounding
_DASHES = (0, (4, 3))


def accuracy_figure(courses: Any, *, chance: float | None = None, title: str = "") -> Figure:
    """Show accuracy over time after onset; the band is the 95 % interval.

    Args:
        courses: One :class:`~calcarine.probes.AccuracyOverTime`, or name to one, of the same trial.
        chance: Accuracy of guessing; ``None`` is one over the number of classes.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are none, or more than there are colours.
    """
    named = _named(courses, "accuracy_figure")
    figure, [[ax]] = new_figure(1, 1, panel=(5.6, 3.0), title=title)
    first = next(iter(named.values()))
    _shade(ax, first.stimulus_ms)
    for color, (name, course) in zip(SERIES, named.items(), strict=False):
        low, high = course.interval(_LEVEL)
        times = _numbers(course.time_ms)
        ax.fill_between(times, _numbers(low), _numbers(high), color=color, alpha=0.18, linewidth=0)
        ax.plot(times, _numbers(course.accuracy), color=color, linewidth=1.6, label=name)
    guess = 1 / first.correct.shape[1] if chance is None else chance
    ax.axhline(guess, color=GREY, linewidth=1, linestyle=_DASHES, zorder=1)
    ax.annotate(
        "chance", (1, guess), (4, -3), xycoords=("axes fraction", "data"), fontsize=8, color=GREY,
        textcoords="offset points", annotation_clip=False,
    )  # fmt: skip
    ax.set_xlim(0, float(first.time_ms[-1]))
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("time since onset (ms)")
    ax.set_ylabel("accuracy")
    _outside_legend(ax, named)
    return figure


def return_figure(back: Any, *, title: str = "") -> Figure:
    """Show how far every area is from its baseline after offset, from every start.

    Args:
        back: A :class:`~calcarine.probes.BaselineReturn`.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If there is not one distance per area, time and start.
    """
    relative = torch.as_tensor(back.relative).detach().double().cpu()
    if relative.shape != (len(back.areas), len(back.time_ms), len(back.starts)):
        raise ShapeError(
            f"return_figure expected distances of {len(back.areas)} areas at {len(back.time_ms)} "
            f"times from {len(back.starts)} starts, got shape {tuple(relative.shape)}."
        )
    columns = min(4, len(back.areas))
    lines = -(-len(back.areas) // columns)
    figure, axes = new_figure(lines, columns, panel=(3.3 if columns > 1 else 4.6, 2.7), title=title)
    panels = [ax for row in axes for ax in row]
    kinds = {start.split(" ")[0]: None for start in back.starts}
    colors = dict(zip(kinds, SERIES, strict=False))
    least = max(_FLOOR, float(relative[relative > 0].min())) if (relative > 0).any() else _FLOOR
    for ax, area, values, back_ms in zip(
        panels, back.areas, relative, back.return_ms, strict=False
    ):
        for start, course in zip(back.starts, values.T, strict=True):
            kind = start.split(" ")[0]
            shown = course.clamp_min(least)
            ax.plot(
                _numbers(back.time_ms), _numbers(shown), color=colors[kind], linewidth=0.8,
                alpha=0.6, label=kind,
            )  # fmt: skip
        ax.axhline(back.tolerance, color=INK, linewidth=1, linestyle=_DASHES)
        ax.set_yscale("log")
        ax.set_ylim(bottom=least)
        ax.set_xlim(0, float(back.time_ms[-1]))
        ax.minorticks_off()
        last = float(back_ms.max())
        heading(ax, f"{area}: " + (f"back by {last:g} ms" if math.isfinite(last) else "not back"))
        ax.set_xlabel("time since offset (ms)")
    for row in axes:
        row[0].set_ylabel("distance / distance at offset")
    for ax in panels[len(back.areas) :]:
        ax.set_visible(False)
    _one_label_each(panels[min(columns, len(back.areas)) - 1], back.tolerance)
    return figure


def robustness_figure(results: Any, *, title: str = "") -> Figure:
    """Show accuracy over the strength of noise; bars are 95 % intervals.

    Noise per step is drawn dashed.

    Args:
        results: One :class:`~calcarine.probes.NoiseRobustness`, or name to one.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are none, or more than there are colours.
    """
    named = _named(results, "robustness_figure")
    figure, [[ax]] = new_figure(1, 1, panel=(5.6, 3.0), title=title)
    for color, (name, result) in zip(SERIES, named.items(), strict=False):
        low, high = result.interval(_LEVEL)
        for row, kind in enumerate(result.kinds):
            accuracy = result.accuracy[row]
            sides = torch.stack([accuracy - low[row], high[row] - accuracy]).clamp_min(0)
            words = {"frozen": "frozen", "per_step": "per step"}[kind]
            ax.errorbar(
                _numbers(result.noise_std), _numbers(accuracy), yerr=_numbers(sides), color=color,
                linestyle="-" if kind == "frozen" else _DASHES, linewidth=1.5, elinewidth=1,
                capsize=2, marker="o" if kind == "frozen" else "s", markersize=4,
                markerfacecolor=color if kind == "frozen" else "white",
                label=f"{name}, {words}" if name else words,
            )  # fmt: skip
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("standard deviation of the noise (units of the input)")
    ax.set_ylabel("accuracy")
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def decay_figure(found: Any, *, flow: bool = True, title: str = "") -> Figure:
    """Show how many units (or channels) of every area fall back with which time constant.

    Args:
        found: Name of an area to its :class:`~calcarine.probes.TimeConstants`.
        flow: Whether to show those of the flow, which eigenvalues tell too, or those seen in steps.
        title: Heading of the whole figure.

    Raises:
        InputError: If no area has a finite time constant, or there are more than colours.
    """
    named = _named(found, "decay_figure")
    times = {n: (f.flow_ms if flow else f.tau_ms).flatten().double() for n, f in named.items()}
    finite = {name: t[t.isfinite() & (t > 0)] for name, t in times.items()}
    some = torch.cat(list(finite.values()))
    if not len(some):
        raise InputError("decay_figure expected at least one finite time constant, got none.")
    figure, axes = new_figure(
        len(named), 1, panel=(5.4, 1.5 if len(named) > 1 else 2.6), title=title
    )
    low, high = float(some.min()) / 1.1, float(some.quantile(0.995)) * 1.2
    edges = torch.logspace(math.log10(low), math.log10(high), 41, dtype=torch.double)
    for color, [ax], (name, values) in zip(SERIES, axes, finite.items(), strict=False):
        ax.hist(_numbers(values), bins=_numbers(edges), color=color, alpha=0.85)
        told = f"{name}: " if name else ""
        if len(values):
            middle = float(values.median())
            ax.axvline(middle, color=INK, linewidth=1, linestyle=_DASHES)
            told += f"median {middle:.3g} ms, "
        heading(ax, f"{told}{len(values)} of {len(times[name])} with one")
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        _plain_marks(ax, low, high)
        ax.set_ylabel("count")
    axes[-1][0].set_xlabel("time constant (ms)")
    return figure


def _named(results: Any, what: str) -> dict[str, Any]:
    """Return results by name; a single one has none."""
    named = dict(results) if isinstance(results, Mapping) else {"": results}
    if not 1 <= len(named) <= len(SERIES):
        raise InputError(f"{what} expected 1 to {len(SERIES)} results, got {len(named)}.")
    return named


def _numbers(values: Any) -> Any:
    return torch.as_tensor(values).detach().cpu().numpy()


def _shade(ax: Axes, stimulus_ms: float) -> None:
    """Shade the time of the image."""
    ax.axvspan(0, stimulus_ms, color=FAINT, alpha=0.45, linewidth=0, zorder=0)
    ax.annotate(
        "image", (0, 1), (4, -4), xycoords=("data", "axes fraction"), va="top", fontsize=8,
        color=GREY, textcoords="offset points",
    )  # fmt: skip


def _outside_legend(ax: Axes, named: Mapping[str, Any]) -> None:
    if any(named):
        legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _one_label_each(ax: Axes, tolerance: float) -> None:
    """Add a legend with every kind of start once, and the line of return."""
    handles, names = ax.get_legend_handles_labels()
    once = dict(zip(reversed(names), reversed(handles), strict=True))
    once = dict(reversed(once.items()))
    line = ax.get_lines()[-1]
    once[f"{100 * tolerance:g} %"] = line
    legend(ax, handles=list(once.values()), labels=list(once), loc="upper left",
           bbox_to_anchor=(1.0, 1.0))  # fmt: skip


def _plain_marks(ax: Axes, low: float, high: float) -> None:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    marks = [mark for mark in marks if low <= mark <= high]
    ax.set_xticks(marks, [f"{mark:g}" for mark in marks])
    ax.minorticks_off()
