"""What units look at: weights of a whole layer, one unit's field, activity of every stage.

    mosaic     fields side by side in the places of their units, a line of one pixel between them
    shared     one range for all fields: their weights can be compared
    each       every field from its own lowest (or 0) to its own highest weight: shapes can be seen

Weights of both signs are drawn in red and blue, symmetric about zero.

Axes    H W units of the layer | h w of a field, rows down, columns right
Units   those of the weights and of the activity; positions in px or sheet units
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot.images import add_scales, draw_picture, image_grid
from calcarine.plot.style import INK, heading, new_figure
from calcarine.stimuli.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["field_figure", "stage_activity", "weight_grid"]

_MOST_PX = 4000


def weight_grid(
    weights: Float[Tensor, "H W h w"] | Float[Tensor, "N h w"],
    *,
    limits: Literal["shared", "each"] = "shared",
    every: int = 1,
    label: str = "weight",
    width_in: float = 5.5,
    title: str = "",
) -> Figure:
    """Show the weights of a layer as a grid of fields.

    Args:
        weights: A field for every unit of a sheet, or a row of fields.
        limits: ``"shared"``: one range for all fields; ``"each"``: one range per field.
        every: Show every so-manieth unit along both axes, for large sheets.
        label: What the weights mean, for the scale.
        width_in: Width of the grid, inches.
        title: Heading of the whole figure.

    Raises:
        InputError: If a setting is impossible, or the grid would be larger than 4,000 px.
        ShapeError: If the axes are others.
        NonFiniteError: If a weight is NaN or infinite.
    """
    if limits not in ("shared", "each") or not isinstance(every, int) or every < 1:
        raise InputError(
            f"weight_grid expected limits 'shared' or 'each' and every >= 1, got {limits!r} and "
            f"{every!r}."
        )
    fields = _grid(torch.as_tensor(weights))[::every, ::every]
    signed = bool(fields.min() < 0)
    if limits == "each":
        fields = _stretched(fields, signed)
    mosaic = _mosaic(fields)
    if max(mosaic.shape) > _MOST_PX:
        raise InputError(
            f"weight_grid would be {mosaic.shape[1]} px wide and {mosaic.shape[0]} px high. Show "
            f"fewer units with every={math.ceil(every * max(mosaic.shape) / _MOST_PX)}."
        )
    top = max(fields.max().item(), -fields.min().item(), 1e-12)
    wide = width_in - (0.85 if limits == "shared" else 0.1)  # the scale takes its place
    figure, [[ax]] = new_figure(
        panel=(width_in, wide * min(mosaic.shape[0] / mosaic.shape[1], 3) + 0.25), title=title
    )
    shown = draw_picture(ax, mosaic.nan_to_num(0.0), -top if signed else 0.0, top, signed=signed)
    shown.set_data(mosaic.numpy())
    # Lines must differ from zero weights, which are black, or white where weights have signs.
    shown.set_cmap(shown.get_cmap().with_extremes(bad="#9a9a9a" if signed else "#3d5a80"))
    if limits == "shared":
        add_scales(figure, [(ax, shown)], label)
    else:
        ax.set_xlabel(f"{label}, every field on its own scale", fontsize=8, color=INK)
    return figure


def field_figure(
    fields: Mapping[str, Float[Tensor, "h w"]],
    *,
    sheet: Sheet | None = None,
    difference: tuple[str, str] | None = None,
    unit: Sequence[int] | None = None,
    label: str = "weight",
    title: str = "",
) -> Figure:
    """Show one unit's field on the retina (or any sheet), channel by channel.

    Args:
        fields: Weights of the unit by name of the channel, such as ``{"ON": on, "OFF": off}``;
            all on one scale.
        sheet: Geometry of the sheet, for axes in sheet units; in px otherwise.
        difference: Two of the names: adds a panel with the first minus the second.
        unit: (row, column) of the unit, for the title.
        label: What the weights mean, for the scale.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no field, or ``difference`` names others.
        ShapeError: If fields differ in size, or the sheet is of another size.
        NonFiniteError: If a weight is NaN or infinite.
    """
    planes = {name: _plane("field_figure", name, plane) for name, plane in fields.items()}
    if not planes or (difference and not set(difference) <= set(planes)):
        raise InputError(
            f"field_figure expected fields by name, and a difference of two of them, got "
            f"{list(planes)} and {difference!r}."
        )
    shapes = {tuple(p.shape) for p in planes.values()} | ({sheet.size} if sheet else set())
    if len(shapes) > 1:
        raise ShapeError(f"field_figure expected one size (height, width), got {sorted(shapes)}.")
    signed = any(bool(p.min() < 0) for p in planes.values())
    top = max(max(p.abs().max().item() for p in planes.values()), 1e-12)
    panels = [(name, plane, signed) for name, plane in planes.items()]
    if difference:
        one, other = difference
        panels.append((f"{one} - {other}", planes[one] - planes[other], True))
    height, width = next(iter(shapes))
    figure, [axes] = new_figure(
        1, len(panels), panel=(2.9, 2.4 * min(height / width, 2) + 0.6), title=title
    )
    for ax, (name, plane, both) in zip(axes, panels, strict=True):
        shown = draw_picture(ax, plane, -top if both else 0.0, top, signed=both)
        heading(ax, name if unit is None else f"{name}, unit ({unit[0]}, {unit[1]})")
        _draw_axes(ax, shown, sheet)
        add_scales(figure, [(ax, shown)], label, each=True)
    return figure


def stage_activity(
    stages: Mapping[str, Tensor], *, limits: Any = "each", columns: int | None = None,
    title: str = "",
) -> Figure:  # fmt: skip
    """Show the activity of every stage for one stimulus, in the order of the pathway.

    Args:
        stages: Activity by name, axes (height, width) or (1, height, width); sizes may differ.
        limits: As for :func:`calcarine.plot.image_grid`; by default every stage has its own scale.
        columns: Stages per row.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no stage.
        ShapeError: If an activity has other axes, such as a batch of several stimuli.
        NonFiniteError: If an activity is NaN or infinite.
    """
    if not stages:
        raise InputError("stage_activity expected at least one stage, got none.")
    planes = [_plane("stage_activity", name, plane) for name, plane in stages.items()]
    titles = [
        f"{name}\n{plane.shape[0]} x {plane.shape[1]}"
        for name, plane in zip(stages, planes, strict=True)
    ]
    return image_grid(planes, titles=titles, limits=limits, columns=columns, title=title)


def _plane(owner: str, name: str, plane: Any) -> Float[Tensor, "h w"]:
    values = torch.as_tensor(plane).detach().cpu().double()
    while values.ndim > 2 and values.shape[0] == 1:
        values = values[0]
    if values.ndim != 2 or values.numel() == 0:
        raise ShapeError(
            f"{owner} expected {name!r} with axes (height, width), got shape "
            f"{tuple(torch.as_tensor(plane).shape)}."
        )
    if not values.isfinite().all():
        raise NonFiniteError(f"{owner} expected finite values, {name!r} holds NaN or infinity.")
    return values


def _grid(weights: Tensor) -> Float[Tensor, "H W h w"]:
    fields = weights.detach().cpu().double()
    if fields.ndim == 3:
        columns = math.ceil(math.sqrt(len(fields)))
        empty = -len(fields) % columns
        fields = torch.cat([fields, fields.new_zeros(empty, *fields.shape[1:])])
        fields = fields.unflatten(0, (-1, columns))
    if fields.ndim != 4 or fields.numel() == 0:
        raise ShapeError(
            "weight_grid expected weights with axes (row, column, field height, field width) or "
            f"(unit, field height, field width), got shape {tuple(weights.shape)}."
        )
    if not fields.isfinite().all():
        raise NonFiniteError("weight_grid expected finite weights, got NaN or infinity.")
    return fields


def _stretched(fields: Tensor, signed: bool) -> Tensor:
    """Give every field its own range: 0 to 1, or -1 to 1 about zero."""
    if signed:
        return fields / fields.abs().amax((-2, -1), keepdim=True).clamp(min=1e-12)
    return fields / fields.amax((-2, -1), keepdim=True).clamp(min=1e-12)


def _mosaic(fields: Float[Tensor, "H W h w"]) -> Float[Tensor, "R C"]:
    """Put fields side by side, NaN between them."""
    rows, columns, height, width = fields.shape
    whole = fields.new_full((rows * (height + 1) - 1, columns * (width + 1) - 1), math.nan)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (height + 1), column * (width + 1)
            whole[top : top + height, left : left + width] = fields[row, column]
    return whole


def _draw_axes(ax: Any, shown: Any, sheet: Sheet | None) -> None:
    """Give a picture axes in sheet units, or in px."""
    from matplotlib.ticker import MaxNLocator

    if sheet is not None:
        vertical, horizontal = sheet.half_sides
        shown.set_extent((-horizontal, horizontal, vertical, -vertical))
        ax.set_xlim(-horizontal, horizontal)
        ax.set_ylim(vertical, -vertical)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))
    ax.set_xlabel("x (sheet units)" if sheet is not None else "x (px)")
    if ax.get_subplotspec().is_first_col():
        ax.set_ylabel("y, down")
