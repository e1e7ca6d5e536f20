"""Orientation maps as pictures: in cyclic colours, with pinwheels, and how preferences are spread.

    colour      preferred orientation; 0 horizontal, counter-clockwise on screen
    darkness    where asked for: 1 - selectivity / its 95 % quantile; units without preference are
                grey where it is not

Axes    H W of the map, rows down, columns right | T maps of a development
Units   degrees; pinwheels in units of the map
Source  ours: colours of :mod:`calcarine.plot.cyclic`; ``"hsv"`` are those of most published maps
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.animation import caption_frames, save_animation
from calcarine.plot.cyclic import cyclic_colors
from calcarine.plot.images import draw_picture
from calcarine.plot.style import FAINT, INK, heading, legend, new_figure, plain_panel
from calcarine.probes.map_measures import as_direction, preference_histogram
from calcarine.probes.pinwheels import Pinwheels
from calcarine.probes.pinwheels import pinwheels as find_pinwheels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["map_animation", "map_picture", "orientation_histogram", "orientation_map_figure"]

Colors = Literal["fair", "hsv"]
_STEPS = 360
_UNKNOWN = 0.8  # grey value of a unit without preference


def map_picture(
    preference: Tensor, selectivity: Tensor | None = None, *, colors: Colors = "fair"
) -> Float[Tensor, "3 H W"]:
    """Turn a map into colours.

    Args:
        preference: Degrees, axes (height, width), or e^(2 i preference) with 0 for units without
            a preference.
        selectivity: Darkens unselective units.
        colors: ``"fair"``, equal steps, also for colour-blind readers; or ``"hsv"``.

    Raises:
        InputError: If there are no such colours.
        ShapeError: If it is no map, or selectivity is of another size.
        NonFiniteError: If a preference is NaN or infinite.
    """
    z = as_direction("map_picture", torch.as_tensor(preference))
    palette = _palette(colors)
    index = (z.angle() / (2 * math.pi) * _STEPS).round().long().remainder(_STEPS)
    picture = palette[index].movedim(-1, 0)
    if selectivity is None:
        return torch.where(z == 0, _UNKNOWN, picture)
    strength = torch.as_tensor(selectivity).detach().cpu().double()
    if strength.shape != z.shape:
        raise ShapeError(
            f"map_picture expected selectivity of the map's size {tuple(z.shape)}, got "
            f"{tuple(strength.shape)} (height, width)."
        )
    top = max(strength.flatten().quantile(0.95).item(), 1e-12)
    return picture * (strength / top).clamp(0, 1) * (z != 0)


def orientation_map_figure(
    preference: Tensor,
    *,
    selectivity: Tensor | None = None,
    pinwheels: Pinwheels | bool = True,
    colors: Colors = "fair",
    title: str = "",
) -> Figure:
    """Show an orientation map, its pinwheels by sign, and its selectivity.

    Args:
        preference: Degrees, axes (height, width), or e^(2 i preference) with 0 for units without
            a preference.
        selectivity: Adds a panel in which unselective units are dark.
        pinwheels: What :func:`calcarine.probes.pinwheels` found; ``True`` looks for them.
        colors: ``"fair"``, equal steps, also for colour-blind readers; or ``"hsv"``.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no such colours.
        ShapeError: If it is no map, or selectivity is of another size.
        NonFiniteError: If a preference is NaN or infinite.
    """
    values = torch.as_tensor(preference)
    pictures = [("preferred orientation", map_picture(values, colors=colors))]
    if selectivity is not None:
        pictures.append(("dark where unselective", map_picture(values, selectivity, colors=colors)))
    if isinstance(pinwheels, Pinwheels):
        found: Pinwheels | None = pinwheels
    else:
        found = find_pinwheels(values) if pinwheels else None
    shape = pictures[0][1].shape
    tall = min(max(shape[1] / shape[2], 0.25), 2.5)
    number = len(pictures)
    figure, [axes] = new_figure(
        1, number + 1, panel=((3.2 * number + 0.7) / (number + 1), 2.85 * tall + 0.7), title=title,
        width_ratios=[3.2] * number + [0.7],
    )  # fmt: skip
    for ax, (name, picture) in zip(axes, pictures, strict=False):
        draw_picture(ax, picture, 0, 1)
        heading(ax, name)
    _draw_key(axes[-1], colors)
    if found is not None:
        _draw_pinwheels(axes[0], found)
    return figure


def orientation_histogram(
    preference: Tensor, *, bins: int = 12, colors: Colors = "fair", title: str = ""
) -> Figure:
    """Show how preferences are spread, each wedge along the orientation it counts.

    The area of a wedge is the share of units; the circle is where all would end if preferences
    were spread evenly. Orientations have no head, so every wedge is drawn twice.

    Args:
        preference: Degrees, axes (height, width), or e^(2 i preference) with 0 for units without
            a preference.
        bins: Number of wedges over half a turn.
        colors: As for :func:`orientation_map_figure`.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no bins or no such colours.
        ShapeError: If it is no map.
        NonFiniteError: If a preference is NaN or infinite.
    """
    from matplotlib.patches import Circle, Wedge

    centers, share = preference_histogram(torch.as_tensor(preference), bins)
    palette = _palette(colors)
    figure, [[ax]] = new_figure(panel=(3.2, 3.2), title=title)
    plain_panel(ax, frame=False)
    radii = (share * bins).sqrt()
    reach = max(radii.max().item(), 1.0)
    for center, radius in zip(centers.tolist(), radii.tolist(), strict=True):
        color = palette[round(center / 180 * _STEPS) % _STEPS].tolist()
        for turn in (0, 180):
            start = center + turn - 90 / bins
            wedge = Wedge((0, 0), radius, start, start + 180 / bins, color=color, linewidth=0)
            ax.add_patch(wedge)
    ax.add_patch(Circle((0, 0), 1, fill=False, edgecolor=INK, linewidth=0.8, linestyle=(0, (4, 3))))
    for angle in (0, 45, 90, 135):
        t = math.radians(angle)
        ax.text(
            1.13 * reach * math.cos(t), 1.13 * reach * math.sin(t), f"{angle}°", ha="center",
            va="center", fontsize=8, color=INK,
        )  # fmt: skip
    most, least = 100 * share.max().item(), 100 * share.min().item()
    ax.text(
        0, -1.27 * reach, f"dashed: {100 / bins:.3g} %, spread evenly; shares {least:.3g} to "
        f"{most:.3g} %", ha="center", va="center", fontsize=8, color=INK,
    )  # fmt: skip
    ax.set_xlim(-1.25 * reach, 1.25 * reach)
    ax.set_ylim(-1.33 * reach, 1.2 * reach)
    ax.set_aspect("equal")
    return figure


def map_animation(
    preferences: Float[Tensor, "T H W"] | Sequence[Tensor],
    path: str | os.PathLike[str] | None = None,
    *,
    captions: Sequence[str] | None = None,
    selectivities: Float[Tensor, "T H W"] | Sequence[Tensor] | None = None,
    colors: Colors = "fair",
    side_px: int = 384,
    fps: float = 6.0,
) -> Float[Tensor, "T 3 h w"]:
    """Film the development of a map.

    Args:
        preferences: Maps in order: degrees, or e^(2 i preference).
        path: File to write: .mp4, .gif, .webp, .png (animated) or .html; none by default.
        captions: A line of text above every frame, such as the age.
        selectivities: Darken unselective units.
        colors: As for :func:`orientation_map_figure`.
        side_px: The longer side of a frame at least; units are enlarged by a whole factor.
        fps: Frames per second.

    Returns:
        The frames, sRGB code values in [0, 1].

    Raises:
        InputError: If there are no maps, or captions do not fit.
        ShapeError: If maps differ in size.
    """
    maps = [torch.as_tensor(p) for p in preferences]
    strengths = [None] * len(maps) if selectivities is None else list(selectivities)
    if not maps or len(strengths) != len(maps) or (captions and len(captions) != len(maps)):
        raise InputError(
            f"map_animation expected one selectivity and one caption per map, if any, and at least "
            f"one map, got {len(maps)} maps, {len(strengths)} and {len(captions or ())}."
        )
    if len({tuple(p.shape) for p in maps}) != 1:
        raise ShapeError("map_animation expected maps of one size (height, width).")
    factor = max(1, math.ceil(side_px / max(maps[0].shape)))
    frames = torch.stack(
        [map_picture(p, s, colors=colors) for p, s in zip(maps, strengths, strict=True)]
    )
    frames = frames.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    if captions:
        frames = caption_frames(frames, captions)
    if path is not None:
        save_animation(frames, path, fps=fps, title="Development of an orientation map")
    return frames


def _palette(colors: object) -> Float[Tensor, "n 3"]:
    if colors == "fair":
        return cyclic_colors(_STEPS)
    if colors != "hsv":
        raise InputError(f"Expected colors 'fair' or 'hsv', got {colors!r}.")
    hue = 6 * torch.arange(_STEPS, dtype=torch.double)[:, None] / _STEPS
    distance = (hue - torch.tensor([0.0, 2.0, 4.0]).double() + 3).remainder(6) - 3
    return (2 - distance.abs()).clamp(0, 1)


def _draw_key(ax: Axes, colors: Colors) -> None:
    """Draw a bar of every orientation in its colour."""
    plain_panel(ax, frame=False)
    palette, number = _palette(colors), 8
    for k in range(number):
        angle = 180 * k / number
        t, y = math.radians(angle), number - 1 - k
        dx, dy = 0.38 * math.cos(t), 0.38 * math.sin(t)
        color = palette[round(angle / 180 * _STEPS)].tolist()
        ax.plot([-dx, dx], [y - dy, y + dy], color=color, linewidth=4.5, solid_capstyle="round")
        ax.text(0.75, y, f"{angle:g}°", va="center", fontsize=7.5, color=INK)
    ax.set_xlim(-0.6, 2.0)
    ax.set_ylim(-0.7, number - 0.3)
    ax.set_aspect("equal")


def _draw_pinwheels(ax: Axes, found: Pinwheels) -> None:
    size = 5.0 if len(found) < 60 else 3.5
    looks = (
        (1, "o", "white", INK, "counter-clockwise"),
        (-1, "D", INK, "white", "clockwise"),
    )
    for sign, mark, face, edge, name in looks:
        mine = found.sign == sign
        ax.plot(
            found.column[mine].tolist(), found.row[mine].tolist(), linestyle="", marker=mark,
            markersize=size, markerfacecolor=face, markeredgecolor=edge, markeredgewidth=0.9,
            label=f"{name} ({int(mine.sum())})",
        )  # fmt: skip
    legend(
        ax, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, handletextpad=0.2,
        columnspacing=1.2, edgecolor=FAINT,
    )  # fmt: skip
