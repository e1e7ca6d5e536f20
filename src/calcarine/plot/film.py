"""The film of a synthesis: stored pictures beside the growing curve of its loss.

The panel with the axes is rendered twice, once with the curve and once without. A frame takes from
the first what lies left of its iteration and from the second what lies right of it, and gets a dot
where they meet, so that no frame costs a rendering.

Axes    T frames | C channel, 1 grey or 3 sRGB | H W frame, px; rows down, columns right
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.plot.animation import STRIP_PX, caption_strip, save_animation
from calcarine.plot.images import as_picture
from calcarine.plot.style import SERIES, new_figure
from calcarine.plot.synthesis import check_item, draw_loss, loss_values

__all__ = ["synthesis_animation"]

_SIDE_PX = 256  # the least height of a frame
_DPI = 100
_GAP_PX = 8


def synthesis_animation(
    result: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    fps: float = 10.0,
    item: int = 0,
    most_frames: int = 150,
) -> Float[Tensor, "T 3 H W"]:
    """Film a synthesis: the stored pictures beside the growing curve of the first loss.

    Small pictures are enlarged by whole factors. Values outside [0, 1] are cut off.

    Args:
        result: A metamer or a MAD image that kept its history, synthesised with ``store_every``.
        path: File to write: .mp4, .gif, .webp, .png (animated) or .html; none by default.
        fps: Frames per second.
        item: Which item of the batch.
        most_frames: Frames at most, evenly chosen, the first and the last among them.

    Returns:
        The frames, sRGB code values in [0, 1].

    Raises:
        InputError: If nothing was stored, or there is no such item.
    """
    history = result.history
    if history is None or not len(history.iterations):
        raise InputError(
            "synthesis_animation expected stored pictures, got none. Pass store_every=10, say, to "
            "synthesize()."
        )
    if most_frames < 1:
        raise InputError(f"synthesis_animation expected most_frames >= 1, got {most_frames}.")
    check_item(history.images[0], item)
    chosen = _spread(len(history.iterations), most_frames)
    name, values = next(iter(loss_values(result, item).items()))
    name, last = name.replace("_", " "), len(values) - 1
    first = _enlarged(history.images[chosen[0], item])
    curve = _curve(name, values, first.shape[-2])
    wide = first.shape[-1] + _GAP_PX + curve.whole.shape[-1]
    # One tensor that frames are written into: a long film is large.
    frames = torch.ones(len(chosen), 3, STRIP_PX + first.shape[-2], wide)
    for frame, index in zip(frames, chosen, strict=True):
        k = int(history.iterations[index])
        loss = float(values[min(k, last)])
        frame[:, :STRIP_PX] = caption_strip(f"iteration {k} of {last}\t{name} {loss:.3g}", wide)
        below = frame[:, STRIP_PX:]
        below[..., : first.shape[-1]] = _enlarged(history.images[index, item])
        below[..., first.shape[-1] + _GAP_PX :] = _up_to(curve, k)
    if path is not None:
        save_animation(frames, path, fps=fps)
    return frames


def _spread(count: int, most: int) -> list[int]:
    """Return up to ``most`` indices of ``count``, evenly spread, first and last among them."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _enlarged(image: Tensor) -> Float[Tensor, "3 h w"]:
    """Return a picture in colour, enlarged until it is as high as a curve needs."""
    picture = as_picture(image).float().clamp(0, 1)
    zoom = max(1, math.ceil(_SIDE_PX / picture.shape[-2]))
    picture = picture.repeat_interleave(zoom, dim=-1).repeat_interleave(zoom, dim=-2)
    return picture.expand(3, -1, -1)


class _Curve(NamedTuple):
    """Both renderings (3, h, w), and where every iteration lies, px."""

    without: Tensor
    whole: Tensor
    x: Tensor
    y: Tensor


def _curve(name: str, values: Float[Tensor, " N"], height: int) -> _Curve:
    """Render the loss of all iterations, and the same axes without the curve."""
    width = round(max(1.15 * height, 380))
    figure, axes = new_figure(1, 1, panel=(width / _DPI, height / _DPI))
    ax = axes[0][0]
    ax.set_ylabel(name)
    figure.set_dpi(_DPI)
    draw_loss(ax, values, SERIES[0])
    whole = _pixels(figure)
    points = torch.stack([torch.arange(len(values), dtype=torch.double), values], dim=1)
    places = torch.from_numpy(ax.transData.transform(points.numpy()))
    box = ax.get_window_extent()
    y = (whole.shape[-2] - places[:, 1]).nan_to_num(whole.shape[-2] - box.y0)
    y = y.clamp(whole.shape[-2] - box.y1, whole.shape[-2] - box.y0)
    limits = ax.get_xlim(), ax.get_ylim()
    for line in [*ax.lines, *ax.collections]:
        line.set_visible(False)
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    return _Curve(_pixels(figure), whole, places[:, 0], y)


def _pixels(figure: Any) -> Float[Tensor, "3 h w"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    codes = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    return codes.view(height, width, 4)[..., :3].permute(2, 0, 1) / 255


def _up_to(curve: _Curve, iteration: int) -> Float[Tensor, "3 h w"]:
    """Return the panel with the curve up to an iteration, and a dot at its end."""
    index = min(iteration, len(curve.x) - 1)
    x, y = float(curve.x[index]), float(curve.y[index])
    height, width = curve.whole.shape[-2:]
    columns = torch.arange(width)
    panel = torch.where(columns <= x, curve.whole, curve.without)
    down, across = torch.arange(height)[:, None] + 0.5 - y, columns + 0.5 - x
    cover = (5.0 - (down.square() + across.square()).sqrt()).clamp(0, 1)
    color = torch.tensor([int(SERIES[1][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return torch.lerp(panel, color[:, None, None].expand_as(panel), cover)
