"""Learning in phases: losses and accuracies, every phase as wide as the others.

    phases_figure   held-out accuracies above, losses below, one column per phase

Axes    lines of a log, each with its ``update``, counted over all phases
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from calcarine.errors import InputError
from calcarine.plot.style import FAINT, GREY, INK, SERIES, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["phases_figure"]


def phases_figure(
    log_lines: Sequence[Mapping[str, Any]],
    phases: Sequence[tuple[str, int]],
    *,
    accuracies: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Show losses over the updates of every phase, and accuracies as they were last seen.

    Args:
        log_lines: Lines of a log as :func:`calcarine.training.read_log` returns them.
        phases: Name and number of updates of every phase, in order; empty ones are left out.
        accuracies: Names of logged accuracies, and what to call them.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no lines or no phases.
    """
    spans = [(name, updates) for name, updates in phases if updates > 0]
    if not log_lines or not spans:
        raise InputError("phases_figure expected log lines and phases with updates, got none.")
    ends = [0, *accumulate(updates for _, updates in spans)]
    figure, rows = new_figure(2, 1, panel=(max(5.6, 1.3 * len(spans)), 2.1), title=title)
    (above,), (below,) = rows
    for color, (name, label) in zip(SERIES, (accuracies or {}).items(), strict=False):
        _accuracy(above, log_lines, name, label, color, ends)
    above.set_ylim(-0.02, 1.02)
    above.set_ylabel("held-out accuracy")
    losses = dict.fromkeys(n for line in log_lines for n in line if n.startswith("loss/"))
    for color, name in zip(SERIES[::-1], losses, strict=False):
        for start, end in pairwise(ends):
            _loss(below, log_lines, name, color, (start, end), ends)
    below.set_yscale("log")
    below.set_ylabel("loss")
    below.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    _dress(above, below, spans, ends)
    return figure


def _place(update: float, ends: Sequence[int]) -> float:
    """Return where an update lies: the whole part is the number of its phase."""
    for number, (start, end) in enumerate(pairwise(ends)):
        if update <= end:
            return number + (update - start) / (end - start)
    return float(len(ends) - 1)


def _accuracy(
    ax: Axes,
    lines: Sequence[Mapping[str, Any]],
    name: str,
    label: str,
    color: str,
    ends: Sequence[int],
) -> None:
    """Draw an accuracy where it was seen anew; lines between repeat it."""
    seen: list[tuple[float, float]] = []
    for line in lines:
        value = line.get(name)
        if value is not None and (not seen or value != seen[-1][1]):
            seen.append((_place(line["update"], ends), value))
    if seen:
        x, y = zip(*seen, strict=True)
        ax.plot(
            x, y, color=color, marker="o", markersize=4, linewidth=1.2, label=label, clip_on=False
        )


def _loss(
    ax: Axes,
    lines: Sequence[Mapping[str, Any]],
    name: str,
    color: str,
    span: tuple[int, int],
    ends: Sequence[int],
) -> None:
    points = [
        (_place(line["update"], ends), line[name])
        for line in lines
        if span[0] < line["update"] <= span[1] and line.get(name) is not None
    ]
    if points:
        x, y = zip(*points, strict=True)
        known = name.removeprefix("loss/") in ax.get_legend_handles_labels()[1]
        label = None if known else name.removeprefix("loss/")
        marker = "." if len(points) == 1 else None
        ax.plot(x, y, color=color, linewidth=1.2, marker=marker, label=label)


def _dress(above: Axes, below: Axes, spans: Sequence[tuple[str, int]], ends: Sequence[int]) -> None:
    for ax in (above, below):
        ax.set_xlim(0, len(spans))
        for border in range(1, len(spans)):
            ax.axvline(border, color=GREY, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        if ax.get_legend_handles_labels()[1]:
            legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for number, (name, _) in enumerate(spans):
        above.text(
            number + 0.5, 1.04, name, ha="center", va="bottom", fontsize=8.5, color=INK,
            transform=above.get_xaxis_transform(),
        )  # fmt: skip
    above.set_xticks(range(len(ends)), [""] * len(ends))
    below.set_xticks(range(len(ends)), [str(end) for end in ends])
    below.set_xlabel("updates; every phase is drawn as wide as the others")
