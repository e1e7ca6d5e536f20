"""Spiking networks: who fires when, what membranes do, what is taken for what.

    raster      a mark per spike, time to the right, units upwards
    membrane    potentials over time, one line per unit
    confusion   how often a class (row) is answered by each class (column)

Axes    T time | U units | K classes
Units   milliseconds; potentials in units of the threshold
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot.style import FAINT, GREY, INK, SERIES, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion", "membrane", "raster"]

_MOST_NUMBERED = 15  # classes; ours: more numbers could not be read
_FAINT_SHARE = 0.5  # shares above it are written in white


def raster(
    spikes: Shaped[Tensor, "T U"] | Sequence[Tensor],
    *,
    dt_ms: float = 1.0,
    names: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Show the spikes of one population, or of several above each other.

    Args:
        spikes: Spikes with axes (time, unit), anything but 0 is one; or several such.
        dt_ms: Time step.
        names: One name per population.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If spikes have other axes.
        InputError: If there are none, names do not fit, or the step is not positive.
    """
    several = [spikes] if isinstance(spikes, Tensor) else list(spikes)
    labels = ["unit"] * len(several) if names is None else list(names)
    if not several or len(labels) != len(several):
        raise InputError(
            f"raster expected populations of spikes and one name each, got {len(several)} and "
            f"{len(labels)} names."
        )
    for trains in several:
        _check("raster", trains, dt_ms)
    figure, rows = new_figure(len(several), 1, panel=(5.6, 2.1), title=title)
    for [ax], trains, label, color in zip(
        rows, several, labels, SERIES * len(several), strict=False
    ):
        _draw_raster(ax, trains, dt_ms, label, color)
        ax.set_xlim(0, max(len(trains) for trains in several) * dt_ms)
        if ax is not rows[-1][0]:
            ax.tick_params(axis="x", labelbottom=False)
    rows[-1][0].set_xlabel("time (ms)")
    return figure


def _draw_raster(ax: Axes, trains: Tensor, dt_ms: float, label: str, color: str) -> None:
    step, unit = trains.detach().cpu().nonzero(as_tuple=True)
    units = trains.shape[1]
    tall = max(1.5, min(8.0, 110 / units))  # points: a row of the panel, or what can be seen
    # The middle of the step: a spike belongs to the time between two grid points.
    x = (step.double() + 0.5) * dt_ms
    ax.plot(
        x.numpy(), unit.numpy(), linestyle="none", marker="|", markersize=tall, color=color,
        markeredgewidth=1.1,
    )  # fmt: skip
    ax.set_ylim(-0.5 - 0.02 * units, units - 0.5 + 0.02 * units)
    ax.set_ylabel(label)


def membrane(
    potential: Float[Tensor, "T U"],
    *,
    dt_ms: float = 1.0,
    names: Sequence[str] | None = None,
    threshold: float | None = None,
    highlight: int | None = None,
    title: str = "",
) -> Figure:
    """Show potentials over time.

    Args:
        potential: Axes (time, unit); at most fourteen units unless one is highlighted.
        dt_ms: Time step.
        names: One name per unit.
        threshold: Draws a line where neurons fire.
        highlight: Number of the one unit that is coloured; all others are grey.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If potentials have other axes.
        NonFiniteError: If a potential is NaN or infinite.
        InputError: If names or the highlighted unit do not fit, there are too many units, or the
            step is not positive.
    """
    _check("membrane", potential, dt_ms)
    units = potential.shape[1]
    labels = [str(unit) for unit in range(units)] if names is None else list(names)
    if len(labels) != units or not (highlight is None or 0 <= highlight < units):
        raise InputError(
            f"membrane expected one name for each of {units} units and highlight among them, got "
            f"{len(labels)} names and highlight={highlight}."
        )
    if highlight is None and units > 2 * len(SERIES):
        raise InputError(
            f"membrane expected at most {2 * len(SERIES)} units to tell apart, got {units}. Choose "
            "some of them, or highlight one."
        )
    values = potential.detach().cpu().double()
    if not values.isfinite().all():
        raise NonFiniteError("membrane expected finite potentials, got NaN or infinity.")
    figure, [[ax]] = new_figure(panel=(5.6, 2.9), title=title)
    time = ((torch.arange(len(values)) + 1) * dt_ms).numpy()
    for unit, label in enumerate(labels):
        chosen = unit == highlight
        grey = highlight is not None and not chosen
        ax.plot(
            time, values[:, unit].numpy(), color=GREY if grey else SERIES[unit % len(SERIES)],
            linewidth=2.0 if chosen else 1.2, alpha=0.5 if grey else 1, zorder=3 if chosen else 2,
            linestyle="-" if grey or unit < len(SERIES) else (0, (3, 2)),
            label=label if chosen or not grey else None,
        )  # fmt: skip
    if threshold is not None:
        ax.axhline(threshold, color=INK, linewidth=0.8, linestyle=":", label="threshold")
    ax.set_xlim(0, len(values) * dt_ms)
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    ax.set_xlabel("time (ms)")
    ax.set_ylabel("potential")
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.03))
    return figure


def confusion(
    counts: Shaped[Tensor, "K K"], *, names: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Show what is answered (columns) to what is shown (rows); darker is more often.

    Args:
        counts: How often, axes (shown, answered).
        names: One name per class.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If counts are not square.
        InputError: If a count is negative, or names do not fit.
    """
    table = torch.as_tensor(counts).detach().cpu().double()
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.numel():
        raise ShapeError(
            f"confusion expected counts with axes (shown, answered) of as many classes, got shape "
            f"{tuple(table.shape)}."
        )
    classes = len(table)
    labels = [str(k) for k in range(classes)] if names is None else list(names)
    if len(labels) != classes or not (table >= 0).all():
        raise InputError(
            f"confusion expected counts >= 0 and one name for each of {classes} classes, got "
            f"{len(labels)} names and a least count of {table.min():g}."
        )
    share = table / table.sum(1, keepdim=True).clamp(min=1)
    right = (table.diagonal().sum() / table.sum().clamp(min=1)).item()
    figure, [[ax]] = new_figure(panel=(4.6, 4.3), title=title)
    ax.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    if classes <= _MOST_NUMBERED:
        _write_counts(ax, table, share)
        ax.set_xticks(range(classes), labels)
        ax.set_yticks(range(classes), labels)
    ax.tick_params(length=0)
    ax.set_xlabel("answered")
    ax.set_ylabel("shown")
    heading(ax, f"{right:.1%} right")
    return figure


def _write_counts(ax: Axes, table: Tensor, share: Tensor) -> None:
    for row, column in table.nonzero().tolist():
        ax.text(
            column, row, f"{table[row, column]:g}", ha="center", va="center", fontsize=8,
            color="white" if share[row, column] > _FAINT_SHARE else INK,
        )  # fmt: skip


def _check(owner: str, values: Tensor, dt_ms: float) -> None:
    if values.ndim != 2 or not values.numel():
        raise ShapeError(
            f"{owner} expected axes (time, unit), got shape {tuple(values.shape)}. Choose one item "
            "of the batch."
        )
    if not dt_ms > 0:
        raise InputError(f"{owner} expected dt_ms > 0, got {dt_ms}.")
