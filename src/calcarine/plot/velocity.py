"""Speed: how strongly channels answer to it, and which speeds were found where.

    velocity_tuning_figure   response of every channel by speed, relative to its largest
    detection_figure         where disks were found over time, beside where they were

Axes    K channels, slow to fast | S speeds | N disks | T frames
Units   speeds px per frame; places px, rows down
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot.events import CLASS_COLORS, CLASS_MARKERS, CLASS_NAMES
from calcarine.plot.style import FAINT, GREY, INK, heading, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["detection_figure", "velocity_tuning_figure"]

_OUTSIDE = 0.2  # of the largest response: what a channel may give outside its band


def velocity_tuning_figure(
    tuning: Any, *, bands: Sequence[tuple[float, float]] = (), title: str = ""
) -> Figure:
    """Show what every channel answers to each speed, relative to its largest response.

    Args:
        tuning: With ``speeds`` (S), ``responses`` (K, S), and ``sem`` (K, S), the standard error.
        bands: Lowest and highest speed that each channel is made for, px per frame; shaded.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If there is not one response per channel and speed, or more than three channels.
    """
    speeds = torch.as_tensor(tuning.speeds).detach().double().cpu()
    responses = torch.as_tensor(tuning.responses).detach().double().cpu()
    errors = torch.as_tensor(tuning.sem).detach().double().cpu()
    if responses.ndim != 2 or responses.shape[1:] != speeds.shape or len(responses) > 3:
        raise ShapeError(
            "velocity_tuning_figure expected responses with axes (channel, speed), at most three "
            f"channels and {speeds.numel()} speeds, got shape {tuple(responses.shape)}."
        )
    figure, [[ax]] = new_figure(1, 1, panel=(5.6, 3.2), title=title)
    for low_high, color in zip(bands, CLASS_COLORS, strict=False):
        ax.axvspan(*low_high, color=color, alpha=0.1, linewidth=0)
    for channel, values in enumerate(responses):
        most = values.max().clamp(min=1e-12)
        ax.errorbar(
            speeds.numpy(), (values / most).numpy(), yerr=(errors[channel] / most).numpy(),
            color=CLASS_COLORS[channel], marker=CLASS_MARKERS[channel], markersize=4,
            linewidth=1.5, elinewidth=1, capsize=2, label=CLASS_NAMES[channel],
        )  # fmt: skip
    ax.axhline(_OUTSIDE, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.set_xlabel("speed (px per frame)")
    ax.set_ylabel("response / largest")
    ax.set_ylim(bottom=0)
    if float(speeds.min()) > 0 and float(speeds.max() / speeds.min()) > 4:
        ax.set_xscale("log")
        marks = _round_marks(float(speeds.min()), float(speeds.max()))
        ax.set_xticks(marks, [f"{mark:g}" for mark in marks])
        ax.minorticks_off()
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0), title="channel", title_fontsize=8)
    return figure


def _round_marks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within a range."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]


def detection_figure(
    detections: Any, truth: Any = None, *, dt_ms: float = 1.0, title: str = ""
) -> Figure:
    """Show columns and rows of what was found over time.

    Args:
        detections: With columns ``frame``, ``x``, ``y``, ``speed_class`` and ``confidence``.
        truth: Where disks were, with ``center_px`` (T, N, 2) and ``visible`` (T, N); grey lines.
        dt_ms: Duration of a frame.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is neither a detection nor a truth to show.
    """
    frame = torch.as_tensor(detections.frame).cpu()
    if not frame.numel() and truth is None:
        raise InputError("detection_figure expected at least one detection, got none.")
    figure, rows = new_figure(2, 1, panel=(7.2, 2.3), title=title)
    kinds = torch.as_tensor(detections.speed_class).cpu()
    for axis, ([ax], name) in enumerate(zip(rows, ("x", "y"), strict=True)):
        if truth is not None:
            _draw_truth(ax, truth, axis, dt_ms)
        places = torch.as_tensor(getattr(detections, name)).cpu()
        for kind, label in enumerate(CLASS_NAMES):
            chosen = kinds == kind
            ax.scatter(
                (frame[chosen] * dt_ms).numpy(), places[chosen].numpy(), s=6, linewidths=0,
                color=CLASS_COLORS[kind], marker=CLASS_MARKERS[kind], label=label,
            )  # fmt: skip
        ax.set_ylabel("column x (px)" if name == "x" else "row y (px)")
        ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    heading(rows[0][0], f"{len(frame)} detections" + ("" if truth is None else "; lines: truth"))
    rows[1][0].invert_yaxis()
    rows[1][0].set_xlabel("time (ms)")
    legend(rows[0][0], loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2)
    return figure


def _draw_truth(ax: Axes, truth: Any, axis: int, dt_ms: float) -> None:
    """Draw the way of every disk, with gaps where it cannot be seen or jumps."""
    centers = torch.as_tensor(truth.center_px)[..., axis].double().cpu().clone()
    centers[~torch.as_tensor(truth.visible).cpu()] = math.nan
    jumps = centers.diff(dim=0).abs() > 10  # px; a disk that leaves comes back elsewhere
    centers[1:][jumps] = math.nan
    times = torch.arange(len(centers)) * dt_ms
    ax.plot(times.numpy(), centers.numpy(), color=INK, alpha=0.35, linewidth=3, zorder=1)
