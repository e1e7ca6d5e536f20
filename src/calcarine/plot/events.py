"""Events: where and when they fell, and a film of them with what a network makes of them.

    event_figure      events per pixel | events by column and time | rate over time
    event_animation   events in grey, activity of channels in colour, detections as circles

Activity fades after a spike, trace[t] = max(activity[t], fade trace[t-1]), because a spike of one
frame and one pixel would not be seen. A frame is scaled by the most events that a pixel had in it.

Axes    T frames | P polarities: 1 (both), or 2 (OFF, ON) | K channels, slow to fast | H W sensor,
        rows down, columns right | h w film, px
Source  wong2011 (colours)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot.animation import STRIP_PX
from calcarine.plot.style import FAINT, GREY, INK, SERIES, heading, new_figure, plain_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from calcarine.stimuli import EventStream

__all__ = ["CLASS_COLORS", "CLASS_MARKERS", "CLASS_NAMES", "event_animation", "event_figure"]

CLASS_NAMES = ("slow", "medium", "fast")
CLASS_COLORS = (SERIES[0], SERIES[2], SERIES[1])
"""Colours of speed classes: blue, green and vermilion of wong2011."""
CLASS_MARKERS = ("o", "^", "s")
"""Marks of speed classes, so that colour is never the only difference."""

_SIDE_PX = 300  # the longer side of a film at least, and below twice of it
_FADE = 0.7  # of a spike that is left after a frame; ours
_BINS = 200  # of time in a figure; ours


def event_figure(events: EventStream, *, title: str = "") -> Figure:
    """Show where and when events fell.

    Args:
        events: A recording with at least one event.
        title: Heading of the whole figure.

    Raises:
        InputError: If there are no events.
    """
    if not len(events):
        raise InputError("event_figure expected at least one event, got none.")
    figure, [[where, columns, rate]] = new_figure(1, 3, panel=(3.4, 2.8), title=title)
    height, width = events.size
    counts = torch.bincount(_place(events), minlength=height * width).view(height, width)
    image = where.imshow(counts.numpy(), cmap="Greys", vmin=0, interpolation="nearest")
    heading(where, "events per pixel")
    plain_panel(where)
    _color_bar(figure, image, where)
    bin_us, last_us = _bins(events.t_us)
    when = (events.t_us - events.t_us[0]) // bin_us
    bins = int(when[-1]) + 1
    begin = int(events.t_us[0]) / 1e6
    seconds = begin, begin + ((bins - 1) * bin_us + last_us) / 1e6
    moved = torch.bincount(events.x.long() * bins + when, minlength=width * bins)
    columns.imshow(
        moved.view(width, bins).numpy(), cmap="Greys", aspect="auto", interpolation="nearest",
        extent=(begin, begin + bins * bin_us / 1e6, width - 0.5, -0.5), vmin=0,
    )  # fmt: skip
    heading(columns, "events by column")
    columns.set_ylabel("column x (px)")
    long_ms = torch.full((bins,), bin_us / 1000, dtype=torch.double)
    long_ms[-1] = last_us / 1000
    edges = begin + torch.cat([long_ms.new_zeros(1), long_ms.cumsum(0)]) / 1000
    per_ms = torch.bincount(when, minlength=bins) / long_ms
    rate.stairs(per_ms.numpy(), edges.numpy(), baseline=None, color=SERIES[0], linewidth=1.2)
    rate.set_ylim(bottom=0)
    heading(rate, "events per ms")
    for ax in (columns, rate):
        ax.set_xlabel("time (s)")
        ax.set_xlim(*seconds)
    return figure


def _bins(t_us: Int64[Tensor, " N"]) -> tuple[int, int]:
    """Return the length of bins of time, and of the last one, us.

    Recordings made of frames have a step of their own; bins of whole steps show no beat with it.
    """
    steps = t_us.unique_consecutive().diff()
    step = int(steps.min()) if steps.numel() else 1
    span = int(t_us[-1] - t_us[0]) + step
    bin_us = step * -(-span // (step * _BINS))
    return bin_us, span - (span - 1) // bin_us * bin_us


def _place(events: EventStream) -> Tensor:
    return events.y.long() * events.size[1] + events.x.long()


def _color_bar(figure: Figure, image: Any, ax: Axes) -> None:
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.ax.tick_params(labelsize=8, colors=GREY, labelcolor=INK)
    bar.outline.set_visible(False)


def event_animation(
    frames: Float[Tensor, "T P H W"],
    *,
    activity: Float[Tensor, "T K H W"] | None = None,
    detections: Any = None,
    radius_px: float = 5.0,
    dt_ms: float = 1.0,
    start_ms: float = 0.0,
    progress: Callable[[int], None] | None = None,
) -> Float[Tensor, "T 3 h w"]:
    """Film events, with the activity of up to three channels and detections superimposed.

    Args:
        frames: Events per pixel as ``EventStream.frames`` gives them, at least 0; of two
            polarities ON is dark, OFF lighter.
        activity: What the channels do, slow first; drawn relative to the largest value.
        detections: With columns ``frame``, ``x``, ``y`` and ``speed_class``; drawn as circles.
        radius_px: Radius of these circles on the sensor. Ours: the size of the disks.
        dt_ms: Duration of a frame.
        start_ms: Time at which the first frame begins.
        progress: Called with the number of frames that are drawn.

    Returns:
        Frames in sRGB code values in [0, 1], in half precision, enlarged by a whole factor.

    Raises:
        ShapeError: If the frames are none, or the activity has other frames or pixels.
    """
    frames = frames.detach().cpu()
    if frames.ndim != 4 or frames.shape[1] not in (1, 2) or not frames.numel():
        raise ShapeError(
            "event_animation expected frames with axes (time, polarity, height, width) and 1 or 2 "
            f"polarities, got shape {tuple(frames.shape)}."
        )
    trace = None if activity is None else _fading(activity.detach().cpu(), frames)
    zoom = max(1, round(_SIDE_PX / max(frames.shape[-2:])))
    wide = max(frames.shape[-1] * zoom, 240)
    # Written frame by frame, in half precision, finer than a file's 8 bits: a film is large.
    shape = (len(frames), 3, frames.shape[-2] * zoom + STRIP_PX, wide)
    film = torch.ones(shape, dtype=torch.half)
    circles = _by_frame(detections, len(frames))
    for k, frame in enumerate(frames):
        picture = _picture(frame, None if trace is None else trace[k])
        picture = picture.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
        names = trace is not None or detections is not None
        time = f"{start_ms + k * dt_ms:g} ms"
        film[k] = _drawn(picture, wide, circles[k], zoom, radius_px, time, names)
        if progress is not None:
            progress(k + 1)
    return film


def _fading(activity: Tensor, frames: Tensor) -> Float[Tensor, "T K H W"]:
    wanted = (len(frames), activity.shape[1] if activity.ndim == 4 else 3, *frames.shape[-2:])
    if tuple(activity.shape) != wanted or not 1 <= wanted[1] <= len(CLASS_COLORS):
        raise ShapeError(
            f"event_animation expected activity with axes (time, channel, height, width), up to "
            f"{len(CLASS_COLORS)} channels and {len(frames)} frames of {frames.shape[-2]} x "
            f"{frames.shape[-1]} px, got shape {tuple(activity.shape)}."
        )
    trace = activity.float().clamp(min=0)
    trace = trace / trace.max().clamp(min=torch.finfo(trace.dtype).tiny)
    for k in range(1, len(trace)):
        torch.maximum(trace[k], _FADE * trace[k - 1], out=trace[k])
    return trace


def _picture(frame: Float[Tensor, "P H W"], trace: Tensor | None) -> Float[Tensor, "3 H W"]:
    """Return events dark on white, channels over them."""
    shade = frame.float() / frame.max().clamp(min=1)
    dark = 0.55 * shade[0] if len(shade) == 1 else torch.maximum(0.35 * shade[0], 0.7 * shade[1])
    picture = (1 - dark).expand(3, -1, -1)
    for channel, color in zip(() if trace is None else trace, CLASS_COLORS, strict=False):
        ink = torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        picture = torch.lerp(picture, ink[:, None, None].expand_as(picture), channel)
    return picture


def _by_frame(detections: Any, frames: int) -> list[list[tuple[float, float, int]]]:
    """Return (x, y, class) of the detections of every frame."""
    found: list[list[tuple[float, float, int]]] = [[] for _ in range(frames)]
    if detections is None:
        return found
    columns = (detections.frame, detections.x, detections.y, detections.speed_class)
    for frame, x, y, kind in zip(*(torch.as_tensor(c).tolist() for c in columns), strict=True):
        if not 0 <= frame < frames or not 0 <= kind < len(CLASS_COLORS):
            raise InputError(
                f"event_animation expected detections in frames 0..{frames - 1} of classes 0..2, "
                f"got frame {frame} and class {kind}."
            )
        found[frame].append((x, y, kind))
    return found


def _drawn(
    picture: Float[Tensor, "3 H W"],
    wide: int,
    circles: list[tuple[float, float, int]],
    zoom: int,
    radius_px: float,
    time: str,
    names: bool,
) -> Float[Tensor, "3 h w"]:
    """Draw circles and their classes over a picture, the time and the names of classes above it."""
    from PIL import Image, ImageDraw, ImageFont

    codes = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    canvas = Image.new("RGB", (wide, picture.shape[-2] + STRIP_PX), "white")
    canvas.paste(Image.fromarray(codes), (0, STRIP_PX))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    radius = radius_px * zoom
    for x, y, kind in circles:
        left, top = (x + 0.5) * zoom, (y + 0.5) * zoom + STRIP_PX
        box = (left - radius, top - radius, left + radius, top + radius)
        draw.ellipse(box, outline=CLASS_COLORS[kind], width=max(2, zoom // 2))
        corner = (left + 0.85 * radius, top - 0.85 * radius)
        letter = CLASS_NAMES[kind][0].upper()
        draw.text(corner, letter, fill=CLASS_COLORS[kind], font=font, anchor="lb")
    draw.rectangle((0, 0, wide, STRIP_PX - 1), fill="white")
    draw.line((0, STRIP_PX - 1, wide, STRIP_PX - 1), fill=FAINT)
    draw.text((6, STRIP_PX / 2), time, fill=INK, font=font, anchor="lm")
    for index, name in enumerate(CLASS_NAMES if names else ()):
        center = wide - 150 + 56 * index
        draw.text((center, STRIP_PX / 2), name, CLASS_COLORS[index], font, anchor="mm")
    values = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return (values.view(canvas.height, wide, 3).permute(2, 0, 1) / 255).half()
