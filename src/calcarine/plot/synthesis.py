"""Figures of a synthesis: how the losses fell, and what is left of the error.

    synthesis_loss           every loss over iterations, a panel each, on a logarithmic axis
    representation_error     model(metamer) - model(image)

Both take any object with the attributes of a probe's result, also one loaded from a file.

Axes    B batch | C channel | H W rows down, columns right | N iterations, or statistics
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.images import image_grid
from calcarine.plot.style import FAINT, GREY, SERIES, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "check_item",
    "check_statistics",
    "draw_loss",
    "draw_statistics",
    "loss_values",
    "representation_error",
    "status_text",
    "synthesis_loss",
]

_MOST_CHANNELS = 12


def loss_values(result: Any, item: int = 0) -> dict[str, Float[Tensor, " N"]]:
    """Return the losses of a synthesis by name, on the CPU in double precision.

    Args:
        result: A metamer, a MAD image, a geodesic, or anything with ``losses``, a ``NamedTuple`` of
            tensors whose first axis is the iteration.
        item: Which item of the batch, for losses kept by item.

    Raises:
        InputError: If there is no loss yet.
    """
    found = {}
    for name, values in result.losses._asdict().items():
        curve = torch.as_tensor(values).detach().to("cpu", torch.double)
        curve = curve if curve.ndim < 2 else curve.flatten(1)[:, item]
        if curve.numel():
            found[name] = curve
    if not found:
        raise InputError(
            "Expected a result with losses, got one without. Call its synthesize() first."
        )
    return found


def synthesis_loss(result: Any, *, item: int = 0, title: str = "") -> Figure:
    """Show how the losses of a synthesis fell.

    A panel per loss; logarithmic where values are positive. Zeros, which have no place on such an
    axis, are marked at its lower edge. Vertical lines say when a coarse-to-fine synthesis went on
    to the next scale.

    Args:
        result: A metamer, a MAD image or a geodesic, synthesised.
        item: Which item of the batch, for losses kept by item.
        title: Heading of the whole figure; by default how the synthesis ended.

    Raises:
        InputError: If there is no loss yet.
    """
    curves = loss_values(result, item)
    if not title:
        title = f"{status_text(result.status)} after {result.iterations} iterations"
    figure, axes = new_figure(1, len(curves), panel=(4.2, 2.7), title=title)
    for index, (ax, (name, values)) in enumerate(zip(axes[0], curves.items(), strict=True)):
        draw_loss(ax, values, SERIES[index])
        heading(ax, f"{name.replace('_', ' ')}: {values[-1]:.3g}")
        for iteration, _ in getattr(result, "scale_changes", ())[1:]:
            ax.axvline(iteration, color=FAINT, linewidth=0.8, zorder=0)
    axes[0][0].set_ylabel("loss")
    return figure


def status_text(status: str) -> str:
    """Return how a synthesis ended, in words."""
    return {"max_iter": "not yet converged"}.get(status, str(status).replace("_", " "))


def draw_loss(ax: Axes, values: Float[Tensor, " N"], color: str) -> None:
    """Draw one loss over iterations, the first value before the first iteration."""
    ax.set_xlabel("iteration")
    ax.set_xlim(-0.02 * len(values), 1.02 * len(values))
    x = torch.arange(len(values))
    finite = values.isfinite()
    positive = finite & (values > 0)
    if not finite.any():
        ax.text(0.5, 0.5, "not finite", transform=ax.transAxes, ha="center", color=GREY, fontsize=9)
        return
    mark = "o" if len(values) < 3 else None
    if bool((values[finite] < 0).any()) or not positive.any():
        ax.plot(x[finite], values[finite], color=color, linewidth=1.6, marker=mark)
        if not values[finite].any():
            ax.set_ylim(-0.05, 1)
        return
    ax.set_yscale("log")
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    shown = values.where(positive, torch.full_like(values, math.nan))
    ax.plot(x, shown, color=color, linewidth=1.6, marker=mark)
    zero = finite & ~positive
    if zero.any():
        ax.plot(
            x[zero], torch.zeros(int(zero.sum())), ".", color=color, markersize=3, clip_on=False,
            transform=ax.get_xaxis_transform(), label="zero",
        )  # fmt: skip
        legend(ax, loc="upper right")


@torch.no_grad()
def representation_error(metamer: Any, *, item: int = 0, title: str = "") -> Figure:
    """Show how the model's response to a metamer differs from that to the image.

    A representation with axes (batch, channel, height, width) is shown as pictures, up to twelve
    channels with the largest errors, red above zero and blue below on one scale; one with axes
    (batch, channel, statistic) as lines. Of complex ones the magnitude of the difference is shown.

    Args:
        metamer: The metamer, with its model.
        item: Which item of the batch.
        title: Heading of the whole figure; by default the size of the error.

    Raises:
        InputError: If there is no such item.
        ShapeError: If the representation has other axes.
    """
    check_item(metamer.metamer, item)
    target = metamer.target
    error = (metamer.model(metamer.metamer) - target)[item].detach().cpu()
    relative = float(error.abs().square().sum().sqrt() / target[item].abs().square().sum().sqrt())
    title = title or f"error of the representation: {relative:.2g} of its norm"
    error = error.abs() if error.is_complex() else error
    if error.ndim == 3:
        sizes = error.flatten(1).norm(dim=1)
        chosen = sorted(sizes.topk(min(_MOST_CHANNELS, len(error))).indices.tolist())
        names = [f"channel {i}" for i in chosen] if len(error) > 1 else [""]
        return image_grid(
            [error[i] for i in chosen],
            titles=names,
            limits="auto0",
            title=title,
            width_in=4.2 if len(chosen) == 1 else 2.6,
            columns=min(4, len(chosen)),
        )
    check_statistics(error)
    figure, axes = new_figure(1, 1, panel=(6.4, 2.8), title=title)
    draw_statistics(axes[0][0], error)
    axes[0][0].set_ylabel("model(metamer) - target")
    return figure


def draw_statistics(ax: Axes, values: Float[Tensor, "C N"]) -> None:
    """Draw a representation without a place: a stem per statistic, or a line if there are many."""
    ax.axhline(0, color=GREY, linewidth=0.8)
    for index, row in enumerate(values):
        color = SERIES[index % len(SERIES)]
        x = torch.arange(len(row))
        if len(row) <= 60:
            ax.vlines(x, 0, row, color=color, linewidth=1)
            ax.plot(x, row, "o", color=color, markersize=2.5, label=f"channel {index}")
        else:
            ax.plot(x, row, color=color, linewidth=0.8, label=f"channel {index}")
    ax.set_xlabel("statistic")
    if 1 < len(values) <= len(SERIES):
        legend(ax)


def check_item(images: Float[Tensor, "B C H W"], item: int) -> None:
    """Raise unless the batch has such an item.

    Raises:
        InputError: With the number of items.
    """
    if not 0 <= item < len(images):
        raise InputError(f"Expected an item of the batch, 0 to {len(images) - 1}, got {item}.")


def check_statistics(representation: Tensor) -> None:
    """Raise unless one item of a representation has axes (channel, statistic).

    Raises:
        ShapeError: With the axes that can be shown.
    """
    if representation.ndim != 2:
        raise ShapeError(
            "Expected representations with axes (batch, channel, height, width) or (batch, "
            f"channel, statistic), got one item of shape {tuple(representation.shape)}."
        )
