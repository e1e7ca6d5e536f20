"""What a cortex knows of its eye, beside the truth.

    readouts_over_time   errors and shares of every part, by age
    positions_figure     where the cells are, and where the cortex believes them to be
    kernel_figure        lateral inhibition, true and learned
    movement_figure      how far the eye moved, and what the cortex told
    fixation_path        where the eye looks in a picture, and where the cortex believes it to look

Axes    S cells along a side | k side of a kernel | F fixations, (dx, dy) in px from the centre |
        N movements, (dx, dy) in px
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.style import (
    FAINT,
    GREY,
    INK,
    SERIES,
    heading,
    legend,
    new_figure,
    plain_panel,
    update_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calcarine.probes import KernelReadout, PositionReadout

__all__ = [
    "fixation_path",
    "kernel_figure",
    "movement_figure",
    "positions_figure",
    "readouts_over_time",
]

_PANELS = (
    ("position_error_cells", "positions", "error (cells)", 1.0),
    ("kernel_error", "kernel", "relative error", 1.0),
    ("cone_accuracy", "cone types", "read out correctly (%)", 100.0),
    ("movement_exact", "movement", "told exactly (%)", 100.0),
    ("prediction_error", "prediction", "error / variance", 1.0),
    ("percept_psnr_db", "percept", "PSNR (dB)", 1.0),
)
_MOST_LINES = 24  # of a lattice, each way: more cannot be told apart


def readouts_over_time(ages: Sequence[int], readouts: Sequence[Any], *, title: str = "") -> Figure:
    """Show how well a cortex knows its eye while it learns; panels without numbers are left out.

    Args:
        ages: Ages in updates, ascending.
        readouts: What it knows at each age: objects with the attributes of
            :class:`calcarine.report.CortexReadouts`.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no ages, or not one read-out for each.
    """
    if not ages or len(ages) != len(readouts):
        raise InputError(
            "readouts_over_time expected at least one age and one read-out for each, got "
            f"{len(ages)} ages and {len(readouts)} read-outs."
        )
    shown = [
        panel for panel in _PANELS if any(math.isfinite(getattr(r, panel[0])) for r in readouts)
    ]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure, axes = new_figure(rows, columns, panel=(3.7, 2.1), title=title)
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(shown) :]:
        ax.set_axis_off()
    for ax, (name, part, unit, factor) in zip(panels, shown, strict=False):
        values = [factor * getattr(each, name) for each in readouts]
        ax.plot(ages, values, "o-", color=SERIES[0], markersize=4.5, linewidth=1.6, clip_on=False)
        how = readouts[-1].learned.get(part, "")
        heading(ax, f"{part} ({how})" if how else part)
        ax.set_ylabel(unit)
        if name == "cone_accuracy":
            ax.axhline(100 * readouts[-1].cone_chance, color=INK, linewidth=0.9, linestyle=":")
        if unit.endswith("(%)"):
            ax.set_ylim(0, 103)
        elif name != "percept_psnr_db":
            ax.set_ylim(bottom=0)
        ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
        update_axis(ax, list(ages))
    return figure


def positions_figure(
    readout: PositionReadout, true: Float[Tensor, "2 S S"], *, title: str = ""
) -> Figure:
    """Draw the lattice of cells as it is and as the cortex believes, and the error of every cell.

    Args:
        readout: Outcome of :func:`calcarine.probes.position_readout`.
        true: Where the cells are, in halves of the field of view.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If the two are of other lattices.
    """
    if readout.aligned.shape != true.shape:
        raise ShapeError(
            "positions_figure expected positions of the same cells, got shapes "
            f"{tuple(readout.aligned.shape)} and {tuple(true.shape)}."
        )
    truth = true.detach().cpu().double()
    figure, [[left, right]] = new_figure(1, 2, panel=(3.6, 3.5), title=title)
    _lattice(left, truth, GREY, "the cells")
    _lattice(left, readout.aligned, SERIES[0], "as the cortex believes")
    left.set_aspect("equal")
    left.invert_yaxis()
    heading(left, f"error {readout.error_cells:.2f} cells, {readout.error_px:.2f} px")
    left.set_xlabel("x (halves of the field)")
    left.set_ylabel("y")
    legend(left, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    distance = torch.linalg.vector_norm(readout.aligned - truth, dim=0)
    spacing = 2 * _spacing(truth)
    plain_panel(right)
    drawn = right.imshow((distance / spacing).numpy(), cmap="viridis", vmin=0)
    heading(right, "error of every cell")
    right.set_xlabel(f"{truth.shape[-1]} × {truth.shape[-2]} cells", fontsize=8)
    figure.colorbar(drawn, ax=right, shrink=0.8, label="cells")
    return figure


def _spacing(positions: Tensor) -> Tensor:
    from calcarine.retina import local_spacing

    return local_spacing(positions)


def _lattice(ax: Axes, positions: Tensor, color: str, label: str) -> None:
    every = max(1, -(-positions.shape[-1] // _MOST_LINES))
    for lines in (positions[:, ::every], positions.transpose(1, 2)[:, ::every]):
        for index in range(lines.shape[1]):
            x, y = lines[:, index].numpy()
            ax.plot(x, y, color=color, linewidth=0.7, label=label)
            label = "_"  # one entry in the legend is enough


def kernel_figure(readout: KernelReadout, *, title: str = "") -> Figure:
    """Draw lateral inhibition, true and learned, and both along the middle row.

    Args:
        readout: Outcome of :func:`calcarine.probes.kernel_readout`.
        title: Heading of the whole figure.
    """
    figure, [[first, second, profile]] = new_figure(1, 3, panel=(2.5, 2.4), title=title)
    side = readout.true.shape[0]
    # The surround is far weaker than the centre; on one scale it could not be seen.
    surround = readout.true.clone()
    surround[side // 2, side // 2] = 0
    top = float(surround.abs().max()) or 1.0
    for ax, kernel, name in (
        (first, readout.true, "the retina"),
        (second, readout.scaled, "as the cortex believes"),
    ):
        plain_panel(ax)
        ax.imshow(kernel.numpy(), cmap="RdBu_r", vmin=-top, vmax=top)
        heading(ax, name)
        ax.set_xlabel(f"{side} × {side} cells", fontsize=8)
    offsets = list(range(-(side // 2), side // 2 + 1))
    middle = side // 2
    profile.plot(
        offsets, readout.true[middle].numpy(), "o-", color=GREY, markersize=4, label="true"
    )
    profile.plot(
        offsets, readout.scaled[middle].numpy(), ".-", color=SERIES[0], markersize=5,
        label="learned",
    )  # fmt: skip
    profile.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    heading(profile, f"middle row; error {100 * readout.error:.1f} %")
    profile.set_xlabel("cells")
    legend(profile, loc="upper right")
    return figure


def movement_figure(
    told_px: Float[Tensor, "N 2"], true_px: Float[Tensor, "N 2"], *, title: str = ""
) -> Figure:
    """Draw movements of the eye as a cortex tells them against the true ones.

    Args:
        told_px: What the cortex tells, (dx, dy).
        true_px: How the eye moved.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If there is not one (dx, dy) for each of the same movements, or there are none.
    """
    if told_px.shape != true_px.shape or told_px.ndim != 2 or told_px.shape[1:] != (2,):
        raise ShapeError(
            "movement_figure expected movements with axes (movements, 2), as many told as true, "
            f"got shapes {tuple(told_px.shape)} and {tuple(true_px.shape)}."
        )
    if not len(told_px):
        raise ShapeError("movement_figure expected at least one movement, got none.")
    told, true = told_px.detach().cpu().double(), true_px.detach().cpu().double()
    figure, [[left, right]] = new_figure(1, 2, panel=(3.2, 2.7), title=title)
    reach = float(torch.cat([told, true]).abs().max()) + 1
    left.plot([-reach, reach], [-reach, reach], color=GREY, linewidth=0.9, zorder=0)
    for axis, marker, name in ((0, "o", "dx"), (1, "x", "dy")):
        left.plot(
            true[:, axis].numpy(), told[:, axis].numpy(), marker, color=SERIES[axis],
            markersize=4, alpha=0.7, label=name, linestyle="none",
        )  # fmt: skip
    left.set_xlim(-reach, reach)
    left.set_ylim(-reach, reach)
    left.set_aspect("equal")
    left.set_xlabel("true (px)")
    left.set_ylabel("told (px)")
    legend(left, loc="upper left")
    off = torch.linalg.vector_norm(told - true, dim=1)
    exact = float((off < 0.5).double().mean())
    heading(left, f"{len(off)} movements")
    heading(right, f"{100 * exact:.0f} % exact")
    edges = [step - 0.5 for step in range(math.ceil(float(off.max())) + 2)]
    right.hist(off.numpy(), bins=edges, color=SERIES[0], rwidth=0.9)
    right.locator_params(axis="both", integer=True)
    right.set_xlabel("error (px)")
    right.set_ylabel("movements")
    return figure


def fixation_path(
    picture: Float[Tensor, "1 3 H W"],
    path_px: Int[Tensor, "F 2"],
    window_px: int,
    *,
    told_px: Float[Tensor, "F 2"] | None = None,
    title: str = "",
) -> Figure:
    """Draw where the eye looks in a picture: its path, and the field of view at start and end.

    Args:
        picture: sRGB in [0, 1].
        path_px: Gaze as (dx, dy) from the centre of the picture, x right and y down.
        window_px: Side of the field of view.
        told_px: Where the cortex believes the eye to look, drawn beside it.
        title: Heading of the whole figure.

    Raises:
        ShapeError: If picture or path have other axes.
    """
    if told_px is not None and told_px.shape != path_px.shape:
        raise ShapeError(
            f"fixation_path expected as many told fixations as true ones, got {len(told_px)} and "
            f"{len(path_px)}."
        )
    if picture.ndim != 4 or picture.shape[:2] != (1, 3) or path_px.shape[1:] != (2,):
        raise ShapeError(
            "fixation_path expected a picture (1, 3, height, width) and a path (fixations, 2), got "
            f"shapes {tuple(picture.shape)} and {tuple(path_px.shape)}."
        )
    from matplotlib.patches import Rectangle

    height, width = picture.shape[-2:]
    figure, [[ax]] = new_figure(panel=(4.4, 4.4 * height / width), title=title)
    plain_panel(ax)
    ax.imshow(picture[0].detach().cpu().clamp(0, 1).permute(1, 2, 0).numpy())
    x = (path_px[:, 0].cpu() + (width - 1) / 2).tolist()
    y = (path_px[:, 1].cpu() + (height - 1) / 2).tolist()
    ax.plot(x, y, "-", color="white", linewidth=2.6)
    ax.plot(x, y, "o-", color=SERIES[0], linewidth=1.1, markersize=3, label="the eye")
    if told_px is not None:
        told = told_px.detach().cpu().double() + torch.tensor([width - 1, height - 1]) / 2
        told_x, told_y = told.T.tolist()
        ax.plot(told_x, told_y, "-", color="white", linewidth=2.6)
        ax.plot(told_x, told_y, ".--", color=SERIES[1], linewidth=1.1, label="as the cortex tells")
        legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)
    for index, style, name in ((0, "-", "first"), (-1, (0, (3, 2)), "last")):
        corner = (x[index] - window_px / 2, y[index] - window_px / 2)
        frame = Rectangle(corner, window_px, window_px, fill=False, gid=name)
        frame.set(edgecolor="white", linestyle=style, linewidth=1.4)
        ax.add_patch(frame)
    ax.set_xlabel(f"{len(x)} fixations; field of view at the first, and dashed at the last")
    return figure
