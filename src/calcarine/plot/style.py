"""The look that all figures share: restrained, readable, safe for colour-blind readers.

    new_figure(rows, columns)   -> figure and its panels, in the house's look
    figure_png, save_figure     -> bytes, or a file

Figures are plain ``matplotlib.figure.Figure`` objects. Nothing touches pyplot, a backend, or
``rcParams``: making a figure changes nothing for the rest of a program.

Axes    panels (row, column) | sizes in inches
Source  wong2011 (the palette of Okabe and Ito)
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calcarine.errors import InputError, require
from calcarine.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "CONE_COLORS",
    "CONE_MARKERS",
    "GREY",
    "INK",
    "SERIES",
    "cone_names",
    "figure_png",
    "heading",
    "legend",
    "new_figure",
    "plain_panel",
    "save_figure",
    "update_axis",
]

INK, GREY, FAINT = "#222222", "#7a7a7a", "#dddddd"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of lines, in the order in which they are used; wong2011."""

CONE_COLORS = {"L": "#d9402b", "M": "#2f9e5b", "S": "#2b5fc4", "Q": "#efc32f"}
"""Colours of cone types: red, green, blue and yellow, of different lightness; ours."""

CONE_MARKERS = {"L": "o", "M": "^", "S": "s", "Q": "D"}
"""Marks of cone types, so that colour is never the only difference."""

_FORMATS = (".pdf", ".png", ".svg")


def new_figure(
    rows: int = 1,
    columns: int = 1,
    *,
    panel: tuple[float, float] = (3.4, 2.5),
    title: str = "",
    **ratios: Sequence[float],
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its panels by row and column.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        panel: Width and height of one panel, inches.
        title: Heading of the whole figure.
        **ratios: ``width_ratios`` or ``height_ratios`` of the panels.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    module = require("matplotlib.figure", extra="viz", purpose="Plotting")
    height = panel[1] * rows + (0.35 if title else 0)
    figure = module.Figure(figsize=(panel[0] * columns, height), layout="constrained")
    figure.set_facecolor("white")
    # Notebooks show an object that can tell its picture; pyplot would do it by global state.
    figure.__dict__["_repr_png_"] = functools.partial(figure_png, figure)
    if title:
        figure.suptitle(title, fontsize=11, color=INK)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=ratios).tolist()
    for row in axes:
        for ax in row:
            _dress(ax)
    return figure, axes


def _dress(ax: Axes) -> None:
    """Give a panel the shared look."""
    ax.set_facecolor("white")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GREY)
        spine.set_linewidth(0.8)
    ax.tick_params(which="both", labelsize=8, colors=GREY, labelcolor=INK, width=0.8)
    ax.tick_params(which="major", length=3)
    ax.tick_params(which="minor", length=1.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_fontsize(9)
        axis.label.set_color(INK)
    ax.grid(visible=False)
    ax.set_axisbelow(True)


def plain_panel(ax: Axes, *, frame: bool = True) -> None:
    """Take ticks off a panel that holds a picture, and frame it."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(frame)
        spine.set_color(FAINT)


def heading(ax: Axes, text: str) -> None:
    """Write a title above a panel."""
    ax.set_title(text, fontsize=9.5, color=INK, pad=5)


def legend(ax: Axes, **options: Any) -> None:
    """Add a legend without a box."""
    options = {"fontsize": 8, "frameon": False, "labelcolor": INK, **options}
    ax.legend(**options)


def update_axis(ax: Axes, ages: Sequence[int]) -> None:
    """Give a panel an axis of ages in updates: logarithmic, with a place for age 0."""
    positive = [age for age in ages if age > 0]
    ax.set_xlabel("age (updates)")
    if not positive or max(positive) <= 4 * min(positive):
        ax.set_xticks(sorted(set(ages)))
        ax.tick_params(axis="x", which="minor", length=0)
        return
    ax.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    marks = [max(positive)]
    for age in sorted(set(positive), reverse=True):
        if age <= marks[-1] / 1.7:
            marks.append(age)
    marks = [0, *reversed(marks)] if min(ages) == 0 else marks[::-1]
    ax.set_xticks(marks, [f"{age:g}" for age in marks])
    ax.minorticks_off()
    ax.set_xlim(-0.12 * min(positive) if min(ages) == 0 else min(positive) / 1.1, max(ages) * 1.15)


def cone_names(types: int) -> str:
    """Return the names of the planes of a mosaic.

    Raises:
        InputError: If there are not one to four of them.
    """
    if not 1 <= types <= 4:
        raise InputError(f"Cone types are at most L, M, S and Q, got {types} of them.")
    return "LMSQ"[:types]


def figure_png(figure: Figure, *, dpi: float = 150) -> bytes:
    """Return a figure as the content of a PNG file.

    Args:
        figure: The figure.
        dpi: Pixels per inch.
    """
    return _rendered(figure, "png", dpi)


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: float = 150) -> Path:
    """Save a figure in the format of the suffix: .png, .pdf or .svg.

    The file appears when it is complete; missing folders are made.

    Args:
        figure: The figure.
        path: The file to write.
        dpi: Pixels per inch of a PNG.

    Returns:
        The path.

    Raises:
        InputError: If the suffix is another one.
    """
    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(
            f"save_figure expected a file name ending in one of {', '.join(_FORMATS)}, got "
            f"{path.name!r}."
        )
    return write_bytes(path, _rendered(figure, path.suffix.lower()[1:], dpi))


def _rendered(figure: Figure, kind: str, dpi: float) -> bytes:
    if not 10 <= dpi <= 1200:
        raise InputError(f"Expected dpi within 10..1200, got {dpi}.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=dpi, facecolor=figure.get_facecolor())
    return buffer.getvalue()
