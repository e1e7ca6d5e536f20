"""All bands of a pyramid in one figure.

    steerable pyramid   high-pass residual, then a row per scale from fine to coarse with its
                        orientations side by side, then the low-pass residual
    Laplacian pyramid   the levels from fine to coarse side by side

Band-pass values lie around zero, so a scale is drawn symmetric about it, the same for all its
orientations; the low-pass residual is an image and has its own range. Bands are drawn at one size,
whatever the pyramid's down-sampling.

Axes    B batch | C channel | O orientation | H W rows down, columns right
Source  simoncelli1995 (steerable pyramid)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.images import add_scales, draw_picture
from calcarine.plot.style import heading, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pyramid_bands"]

Part = Literal["magnitude", "parts"]


def pyramid_bands(
    bands: Mapping[Any, Tensor] | Sequence[Tensor],
    *,
    part: Part = "magnitude",
    item: int = 0,
    channel: int = 0,
    title: str = "",
) -> Figure:
    """Show every band of a pyramid.

    Args:
        bands: What the pyramid returned: bands by name or scale with axes (batch, channel,
            orientation, height, width), or without orientation; or a sequence of levels.
        part: How complex bands are shown: their ``"magnitude"``, or real and imaginary ``"parts"``
            next to each other.
        item: Which item of the batch.
        channel: Which channel.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no bands, or no such item, channel or part.
        ShapeError: If a band has other axes.
    """
    if part not in ("magnitude", "parts"):
        raise InputError(f"pyramid_bands expected part 'magnitude' or 'parts', got {part!r}.")
    named = dict(bands) if isinstance(bands, Mapping) else dict(enumerate(bands))
    if not named:
        raise InputError("pyramid_bands expected at least one band, got none.")
    rows: dict[Any, list[_Panel]] = {}
    for key, band in named.items():
        planes = _planes(key, band, item, channel)
        level = not isinstance(key, tuple | str) and len(planes) == 1
        row = "levels" if level else key[0] if isinstance(key, tuple) else key
        first = len(rows.get(row, []))
        for index, plane in enumerate(planes):
            place = key if level else key if isinstance(key, str) else (row, first + index)
            rows.setdefault(row, []).extend(_panels(place, plane, part))
    if "levels" in rows:  # the coarsest level of a Laplacian pyramid is an image
        low = rows["levels"][-1].plane
        rows["levels"][-1] = _Panel(rows["levels"][-1].title, low, _extremes(low))
    return _drawn(list(rows.values()), shared=[row != "levels" for row in rows], title=title)


class _Panel(NamedTuple):
    title: str
    plane: Tensor
    limits: tuple[float, float]


def _planes(key: Any, band: Tensor, item: int, channel: int) -> list[Tensor]:
    """Return one plane (H, W) per orientation."""
    shape = tuple(band.shape)
    if len(shape) not in (4, 5):
        raise ShapeError(
            "pyramid_bands expected bands with axes (batch, channel, orientation, height, width) "
            f"or (batch, channel, height, width), band {key!r} has shape {shape}."
        )
    if not (0 <= item < shape[0] and 0 <= channel < shape[1]):
        raise InputError(
            f"pyramid_bands expected item below {shape[0]} and channel below {shape[1]}, got item "
            f"{item} and channel {channel}."
        )
    chosen = band.detach()[item, channel].cpu()
    return list(chosen) if chosen.ndim == 3 else [chosen]


def _panels(place: Any, plane: Tensor, part: Part) -> list[_Panel]:
    """Return the panels of one plane: two for real and imaginary parts."""
    name = f"scale {place[0]}, orientation {place[1]}" if isinstance(place, tuple) else str(place)
    name = f"level {place}" if isinstance(place, int) else name.replace("_", " ")
    if not plane.is_complex():
        around_zero = place != "residual_lowpass"
        return [_Panel(name, plane, _symmetric(plane) if around_zero else _extremes(plane))]
    if part == "magnitude":
        size = plane.abs()
        return [_Panel(name, size, (0.0, float(size.max())))]
    limits = _symmetric(torch.view_as_real(plane))
    return [
        _Panel(f"{name},\n{n}", p, limits)
        for n, p in (("real", plane.real), ("imaginary", plane.imag))
    ]


def _symmetric(plane: Tensor) -> tuple[float, float]:
    most = float(plane.abs().max())
    return -most, most


def _extremes(plane: Tensor) -> tuple[float, float]:
    return float(plane.min()), float(plane.max())


def _drawn(rows: list[list[_Panel]], *, shared: list[bool], title: str) -> Figure:
    columns = max(len(row) for row in rows)
    first = rows[0][0].plane
    aspect = min(first.shape[-2] / first.shape[-1], 3)
    figure, axes = new_figure(len(rows), columns, panel=(1.9, 1.6 * aspect + 0.4), title=title)
    for row, panels, alike in zip(rows, axes, shared, strict=True):
        together = (min(p.limits[0] for p in row), max(p.limits[1] for p in row))
        drawn = []
        for panel, ax in zip(row, panels, strict=False):
            low, high = together if alike else panel.limits
            shown = draw_picture(ax, panel.plane, low, high if high > low else low + 1e-9)
            heading(ax, panel.title)
            drawn.append((ax, shown))
        for ax in panels[len(row) :]:
            ax.set_axis_off()
        if alike:  # a scale beside the whole row, blank places included, keeps columns straight
            add_scales(figure, [(ax, drawn[0][1]) for ax in panels])
        else:
            add_scales(figure, drawn, each=True)
    return figure
