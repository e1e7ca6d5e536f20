"""How maps develop: density, selectivity, stability and the like over time, with error bars.

    line   mean over runs            band   mean -+ standard error, s / sqrt n, n runs with a value

A value of NaN (no hypercolumn yet, say) is left out of both.

Axes    R runs | T ages
Source  kaschube2010 (pinwheel density of animals, 3.14)
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.style import FAINT, GREY, INK, SERIES, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["map_development"]

Curves = Tensor | Mapping[str, Tensor]


def map_development(
    ages: Sequence[float],
    measures: Mapping[str, Curves],
    *,
    age_label: str = "stimuli",
    title: str = "",
) -> Figure:
    """Show measures of maps over time, one panel each.

    Args:
        ages: When the maps were measured, ascending.
        measures: Values by name of the measure: (age,), (run, age), or several of these by name of
            the condition. A measure called "pinwheel density" gets a line at pi.
        age_label: What ages count.
        title: Heading of the whole figure.

    Raises:
        InputError: If ages do not ascend, or there is no measure.
        ShapeError: If a measure has not one value per age.
    """
    places = [float(age) for age in ages]
    if not places or not measures or any(b <= a for a, b in itertools.pairwise(places)):
        raise InputError(
            f"map_development expected ascending ages and at least one measure, got ages {places} "
            f"and measures {list(measures)}."
        )
    figure, rows = new_figure(len(measures), 1, panel=(5.4, 1.75), title=title)
    for [ax], (name, curves) in zip(rows, measures.items(), strict=True):
        several = dict(curves) if isinstance(curves, Mapping) else {"": curves}
        for color, (condition, values) in zip(SERIES * len(several), several.items(), strict=False):
            _draw(ax, places, _runs(name, values, len(places)), color, condition)
        ax.set_ylabel(name)
        ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
        if name.replace("_", " ") == "pinwheel density":
            ax.axhline(math.pi, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            ax.annotate(
                "π", (1.01, math.pi), xycoords=("axes fraction", "data"), va="center", fontsize=9,
                color=INK,
            )  # fmt: skip
            ax.set_ylim(bottom=0)
        if ax is not rows[-1][0]:
            ax.tick_params(axis="x", labelbottom=False)
        ax.set_xlim(min(0.0, places[0]), places[-1] * 1.02)
    rows[-1][0].set_xlabel(age_label)
    if any(isinstance(curves, Mapping) for curves in measures.values()):
        legend(rows[0][0], loc="upper left", bbox_to_anchor=(1.03, 1.0))
    return figure


def _runs(name: str, values: Tensor, ages: int) -> Float[Tensor, "R T"]:
    runs = torch.as_tensor(values).detach().cpu().double()
    runs = runs[None] if runs.ndim == 1 else runs
    if runs.ndim != 2 or runs.shape[1] != ages or not len(runs):
        raise ShapeError(
            f"map_development expected {name!r} with axes (age,) or (run, age) for {ages} ages, "
            f"got shape {tuple(torch.as_tensor(values).shape)}."
        )
    return runs


def _draw(ax: Axes, ages: list[float], runs: Float[Tensor, "R T"], color: str, name: str) -> None:
    known = runs.isfinite()
    number = known.sum(0)
    filled = torch.where(known, runs, 0.0)
    mean = filled.sum(0) / number  # NaN where no run has a value: a gap in the line
    squares = torch.where(known, (runs - mean) ** 2, 0.0).sum(0)
    error = (squares / (number - 1).clamp(min=1) / number.clamp(min=1)).sqrt()
    ax.errorbar(
        ages, mean.numpy(), yerr=error.numpy() if len(runs) > 1 else None, color=color,
        marker="o", markersize=3.5, linewidth=1.5, elinewidth=1, capsize=2, label=name or None,
        clip_on=False,
    )  # fmt: skip
