"""Pictures side by side, and the stages of a retina.

What is black and what is white is said by ``limits``: ``"shared"``, ``"each"``, a pair, or a code
of published figures such as ``"auto1"``; :mod:`calcarine.plot.ranges` has the formulas.

Axes    N pictures | C channel, 1 grey or 3 sRGB | H W rows down, columns right
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot.cones import mosaic_picture
from calcarine.plot.ranges import Limits, is_shared, is_signed, picture_ranges, range_text
from calcarine.plot.style import GREY, INK, heading, new_figure, plain_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from calcarine.color import ConeSpace
    from calcarine.retina import RetinaOutput

__all__ = ["add_scales", "as_picture", "draw_picture", "image_grid", "retina_stages"]


def image_grid(
    images: Float[Tensor, "N C H W"] | Sequence[Tensor],
    *,
    titles: Sequence[str] | None = None,
    limits: Limits = "shared",
    columns: int | None = None,
    width_in: float = 1.9,
    label: str = "",
    title: str = "",
    show_range: bool = False,
) -> Figure:
    """Show pictures side by side.

    Args:
        images: A batch, or pictures of any sizes with axes (H, W), (C, H, W) or (1, C, H, W).
        titles: One per picture.
        limits: What is black and what is white: ``"shared"`` or ``"each"`` (lowest to highest value
            of all, or of each), a pair, or ``"auto0"`` .. ``"auto3"`` (one range for all) and
            ``"indep0"`` .. ``"indep3"`` (one each): 0 symmetric about zero, in red and blue; 1
            lowest to highest; 2 mean -+ 2 standard deviations; 3 the 10 % and 90 % quantiles at
            10 % and 90 % of the scale.
        columns: Pictures per row; by default up to six, in rows of equal length.
        width_in: Width of a picture, inches.
        label: What grey values mean, with its unit, for the scale beside them; scales are left out
            where ``limits`` are (0, 1) and there is no label.
        title: Heading of the whole figure.
        show_range: Write the range below every title instead of drawing scales.

    Raises:
        InputError: If there is no picture, or titles, limits or columns do not fit.
        ShapeError: If something is no picture.
        NonFiniteError: If a picture holds NaN or infinity.
    """
    pictures = [as_picture(image, index) for index, image in enumerate(images)]
    if not pictures:
        raise InputError("image_grid expected at least one picture, got none.")
    if titles is not None and len(titles) != len(pictures):
        raise InputError(
            f"image_grid expected one title per picture, got {len(titles)} for {len(pictures)}."
        )
    ranges = picture_ranges(pictures, limits)
    texts = list(titles) if titles else [""] * len(pictures)
    if show_range:
        texts = [
            f"{text}\n{range_text(*r)}".lstrip() for text, r in zip(texts, ranges, strict=True)
        ]
    if columns is None:
        columns = math.ceil(len(pictures) / math.ceil(len(pictures) / 6))
    if columns < 1:
        raise InputError(f"image_grid expected columns >= 1, got {columns}.")
    columns = min(columns, len(pictures))
    tallest = max(p.shape[-2] / p.shape[-1] for p in pictures)
    lines = max((text.count("\n") + 1 for text in texts if text), default=0)
    figure, axes = new_figure(
        math.ceil(len(pictures) / columns),
        columns,
        panel=(width_in, width_in * min(tallest, 3) + 0.17 * lines + 0.05),
        title=title,
    )
    panels = [ax for row in axes for ax in row]
    for ax in panels[len(pictures) :]:
        ax.set_axis_off()
    grey = []
    for index, (ax, picture) in enumerate(zip(panels, pictures, strict=False)):
        shown = draw_picture(ax, picture, *ranges[index], signed=is_signed(limits))
        heading(ax, texts[index])
        if picture.shape[0] == 1:
            grey.append((ax, shown))
    if grey and not show_range and (label or limits != (0, 1)):
        add_scales(figure, grey, label, each=not is_shared(limits))
    return figure


def retina_stages(
    output: RetinaOutput,
    *,
    mosaic: Float[Tensor, "T S S"] | None = None,
    space: ConeSpace | None = None,
    item: int = 0,
    frame: int = 0,
    title: str = "",
) -> Figure:
    """Show what happens in a retina, from the light on it to the optic nerve.

    Args:
        output: What the retina returned.
        mosaic: Share of each pigment in each cell, to show which cone sits where.
        space: Cone space of the scene, to show it in colour; of three types.
        item: Which scene of the batch.
        frame: Which frame.
        title: Heading of the whole figure.

    Raises:
        InputError: If there is no such item or frame.
    """
    batch, frames, types = output.sampled.shape[:3]
    if not (0 <= item < batch and 0 <= frame < frames):
        raise InputError(
            f"retina_stages expected item below {batch} and frame below {frames}, got item {item} "
            f"and frame {frame}."
        )
    field, sampled, activation, bipolar, nerve = (
        stage[item, frame].detach()
        for stage in (
            output.field_of_view, output.sampled, output.activation, output.bipolar,
            output.optic_nerve,
        )
    )  # fmt: skip
    panels: list[tuple[str, Tensor, tuple[float, float] | None, str]] = []
    if space is not None and space.types == 3:
        picture = space.linear_to_srgb(space.cones_to_linear(field)).clamp(0, 1)
        panels.append(("light on the retina", picture, (0, 1), ""))
    if mosaic is not None:
        panels.append(("cone mosaic", mosaic_picture(mosaic), (0, 1), ""))
    light = (0.0, max(float(sampled.max()), float(activation.max()), 1e-6))
    for name, plane in zip("LMSQ"[:types], sampled, strict=True):
        panels.append((f"light for {name} cones", plane[None], light, "cone signal"))
    panels.append(("cone activation", activation[None], light, "cone signal"))
    top = max(float(bipolar.abs().max()), 1e-6)
    same = torch.equal(bipolar, activation)
    if not same:
        panels.append(("bipolar cells", bipolar[None], (-top, top), "signal around rest"))
    channels = nerve if nerve.ndim == 3 else nerve[None]
    names = ["optic nerve"] if len(channels) == 1 else ["optic nerve, ON", "optic nerve, OFF"]
    spiking = nerve.ndim == 3 or not torch.equal(nerve, bipolar)
    scale = (-1.0, 1.0) if float(channels.min()) < 0 else (0.0, 1.0)
    for name, channel in zip(names, channels, strict=True):
        if spiking:
            panels.append((name, channel[None], scale, "spike"))
        else:
            nerve_scale = light if same else (-top, top)
            panels.append((name, channel[None], nerve_scale, "signal sent to the brain"))
    return _stage_figure(panels, title)


def _stage_figure(panels: list[tuple[str, Tensor, Any, str]], title: str) -> Figure:
    columns = math.ceil(len(panels) / math.ceil(len(panels) / 4))
    rows = math.ceil(len(panels) / columns)
    figure, axes = new_figure(rows, columns, panel=(2.4, 2.2), title=title)
    flat = [ax for row in axes for ax in row]
    for ax in flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (name, picture, limits, unit) in zip(flat, panels, strict=False):
        shown = draw_picture(ax, picture, *limits)
        heading(ax, name)
        if unit:
            add_scales(figure, [(ax, shown)], unit, each=True)
    return figure


def as_picture(image: Tensor, index: int = 0) -> Tensor:
    """Check one picture and return it as (C, H, W) in double precision."""
    if not isinstance(image, Tensor):
        raise InputError(f"image_grid expected tensors, picture {index} is {type(image).__name__}.")
    shape = tuple(image.shape)
    picture = image.detach().to("cpu", torch.double)
    if picture.ndim == 4 and shape[0] == 1:
        picture = picture[0]
    if picture.ndim == 2:
        picture = picture[None]
    if picture.ndim != 3 or picture.shape[0] not in (1, 3) or picture.numel() == 0:
        raise ShapeError(
            "image_grid expected pictures with axes (channel, height, width) and 1 or 3 channels, "
            f"picture {index} has shape {shape}."
        )
    if not picture.isfinite().all():
        raise NonFiniteError(
            f"image_grid expected finite values, picture {index} holds "
            f"{int((~picture.isfinite()).sum())} that are NaN or infinite."
        )
    return picture


def draw_picture(
    ax: Axes, picture: Tensor, low: float, high: float, *, signed: bool = False
) -> AxesImage:
    """Draw a picture into a panel; values outside the range are cut off.

    Args:
        ax: The panel.
        picture: Axes (H, W), (C, H, W) or (1, C, H, W).
        low: What is black.
        high: What is white.
        signed: Draw grey pictures in blue (low), white and red (high).
    """
    picture = as_picture(picture)
    plain_panel(ax)
    if picture.shape[0] == 3:
        values = ((picture - low) / (high - low)).clamp(0, 1).permute(1, 2, 0).numpy()
        return ax.imshow(values, interpolation="nearest")
    colors = "RdBu_r" if signed else "gray"
    return ax.imshow(picture[0].numpy(), cmap=colors, vmin=low, vmax=high, interpolation="nearest")


def add_scales(
    figure: Figure, grey: list[tuple[Axes, Any]], label: str = "", *, each: bool = False
) -> None:
    """Add one scale per picture, or one for all."""
    groups = [[pair] for pair in grey] if each else [grey]
    for group in groups:
        shown = group[0][1]
        bar = figure.colorbar(
            shown, ax=[ax for ax, _ in group], shrink=0.8, aspect=18, fraction=0.06, pad=0.02
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, colors=GREY, labelcolor=INK, length=2)
        bar.ax.locator_params(nbins=4)
        if label == "spike":
            bar.set_ticks([-1, 0, 1] if shown.get_clim()[0] < 0 else [0, 1])
        if label:
            bar.set_label(label, fontsize=8, color=INK)
