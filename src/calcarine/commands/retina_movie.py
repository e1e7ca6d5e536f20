"""The movie of ``calcarine retina``: stages of the retina below each other, eyes side by side.

    what falls on the retina | cones in their colours     one column per eye
    the whole picture        | cone activation
                             | bipolar signal = optic nerve, or spikes below it

Light is shown with the curve of a display, signals around rest (middle grey) without; all eyes
share one scale, so that they can be compared.

Axes    F frames | C channel, red green blue | H W movie, px | S cells along a side | P panel, px
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from calcarine.color import ConeSpace, linear_to_srgb, srgb_to_linear
from calcarine.plot import mosaic_picture
from calcarine.retina import crop

__all__ = ["compose"]

_EYES = {
    "LMS": "normal (LMS)",
    "LS": "deuteranope (LS)",
    "MS": "protanope (MS)",
    "LM": "tritanope (LM)",
    "L": "L cones only",
    "M": "M cones only",
    "S": "S cones only",
    "LMSQ": "tetrachromat (LMSQ)",
}
_PANEL_PX = 200
_GAP, _HEADER, _CAPTION = 12, 28, 22
_BACKGROUND = 18
_SATURATED = 0.995  # share of the values that a scale leaves unclipped


def compose(
    picture: Float[Tensor, "1 3 H W"],
    eyes: Mapping[str, Any],
    path: Int64[Tensor, "F 2"],
    *,
    spikes: bool = False,
) -> Float[Tensor, "F 3 H W"]:
    """Let every eye look along the path and lay out what happens in it.

    Args:
        picture: What is looked at, sRGB.
        eyes: Retinas by name of their mosaic, of one size and sampling, in ``eval()``.
        path: Gaze per frame as (dx, dy) from the centre of the picture, px.
        spikes: Whether the eyes send spikes.

    Returns:
        Frames of a movie, sRGB in [0, 1].
    """
    first = next(iter(eyes.values()))
    panel = first.size * max(1, round(_PANEL_PX / first.size))
    seen = [_look(eye, picture, path) for eye in eyes.values()]
    bright = _common_scale([s["activation"] for s in seen], signed=False)
    yellow = ", Q yellow" if any(len(eye.peaks_nm) == 4 for eye in eyes.values()) else ""
    rows = {
        f"cones: L red, M green, S blue{yellow}, as bright as their activation": [
            b * s["tint"] for b, s in zip(bright, seen, strict=True)
        ],
        "activation of the cones": bright,
        "bipolar cells" + ("" if spikes else ": what the optic nerve sends"): _common_scale(
            [s["bipolar"] for s in seen], signed=True
        ),
    }
    if spikes:
        rows["spikes: what the optic nerve sends"] = [s["spikes"] for s in seen]
    views = [
        _view(picture, path, first.window, panel),
        _overview(picture, path, first.window, panel),
    ]
    return _lay_out([_EYES.get(name, name) for name in eyes], rows, views, panel)


@torch.no_grad()
def _look(eye: Any, picture: Tensor, path: Tensor) -> dict[str, Tensor]:
    """Return the stages of one eye as (F, 1, S, S), and the colours of its cones (1, 3, S, S)."""
    scene = ConeSpace(eye.peaks_nm).linear_to_cones(srgb_to_linear(picture))
    output = eye(scene, path=path)
    activation = output.activation[0][:, None].clamp(min=0)
    return {
        "tint": mosaic_picture(eye.mosaic).to(activation)[None],
        "activation": activation,
        "bipolar": output.bipolar[0][:, None],
        "spikes": output.optic_nerve[0][:, None],
    }


def _top(values: Tensor) -> Tensor:
    """Return the value that only few exceed, at least a tiny one."""
    flat = values.abs().flatten()
    flat = flat[:: max(1, flat.numel() // 1_000_000)]  # quantile takes 16 million at most
    return torch.quantile(flat, _SATURATED).clamp(min=1e-6)


def _common_scale(signals: list[Tensor], *, signed: bool) -> list[Tensor]:
    """Map signals to [0, 1]: around rest to both sides of grey, or light as displays show it."""
    top = torch.stack([_top(s) for s in signals]).max()
    if signed:
        return [(0.5 + s / (2 * top)).clamp(0, 1) for s in signals]
    return [linear_to_srgb(s / top).clamp(0, 1) for s in signals]


def _view(picture: Tensor, path: Tensor, window: int, panel: int) -> Tensor:
    """Return what falls on the retina, (F, 3, P, P)."""
    view = crop(picture, path[None], window)[0]
    shown = F.interpolate(view, (panel, panel), mode="bilinear", antialias=True)
    return shown.clamp(0, 1)


def _overview(picture: Tensor, path: Tensor, window: int, panel: int) -> Tensor:
    """Return the whole picture with a frame around what falls on the retina, (F, 3, h, P)."""
    height, width = picture.shape[-2:]
    scale = panel / max(height, width)
    small = F.interpolate(
        picture, (round(height * scale), round(width * scale)), mode="bilinear", antialias=True
    ).clamp(0, 1)
    frames = small.repeat(len(path), 1, 1, 1)
    for frame, (dx, dy) in zip(frames, path.tolist(), strict=True):
        left, top = ((width - window) // 2 + dx) * scale, ((height - window) // 2 + dy) * scale
        _frame(frame, round(left), round(top), round(window * scale))
    return frames


def _frame(image: Tensor, left: int, top: int, side: int) -> None:
    """Draw a white square of two pixels' width, in place."""
    bottom, right = min(top + side, image.shape[-2]), min(left + side, image.shape[-1])
    for rows, columns in (
        (slice(top, top + 2), slice(left, right)),
        (slice(bottom - 2, bottom), slice(left, right)),
        (slice(top, bottom), slice(left, left + 2)),
        (slice(top, bottom), slice(right - 2, right)),
    ):
        image[:, rows, columns] = 1.0


def _lay_out(
    eyes: list[str], rows: dict[str, list[Tensor]], views: list[Tensor], panel: int
) -> Tensor:
    """Paste all panels onto a background with the labels."""
    frames = len(views[0])
    width = _GAP + (len(eyes) + 1) * (panel + _GAP)
    height = _HEADER + len(rows) * (_CAPTION + panel) + _GAP
    width, height = width + width % 2, height + height % 2  # video codecs want even sides
    lefts = [_GAP + column * (panel + _GAP) for column in range(len(eyes) + 1)]
    tops = [_HEADER + _CAPTION + row * (_CAPTION + panel) for row in range(len(rows))]
    labels = [(lefts[0], 6, "the scene", True)]
    labels += [(x, 6, eye, True) for x, eye in zip(lefts[1:], eyes, strict=True)]
    labels += [(lefts[1], y - 18, text, False) for y, text in zip(tops, rows, strict=True)]
    labels += [(lefts[0], tops[0] - 18, "what falls on the retina", False)]
    labels += [(lefts[0], tops[1] - 18, "the whole picture", False)]
    # Half precision is finer than the 8 bits of a file, and a long movie is large.
    movie = _labelled(width, height, labels).half().repeat(frames, 1, 1, 1)
    for y, view in zip(tops, views, strict=False):
        movie[..., y : y + view.shape[-2], lefts[0] : lefts[0] + view.shape[-1]] = view
    for y, signals in zip(tops, rows.values(), strict=True):
        for x, signal in zip(lefts[1:], signals, strict=True):
            factor = panel // signal.shape[-1]
            enlarged = signal.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
            movie[..., y : y + panel, x : x + panel] = enlarged
    return movie


def _labelled(width: int, height: int, labels: list[tuple[int, int, str, bool]]) -> Tensor:
    """Return the background with texts (x, y, text, whether it is a heading), (1, 3, H, W)."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, height), (_BACKGROUND,) * 3)
    draw = ImageDraw.Draw(canvas)
    for x, y, text, heading in labels:
        font = ImageFont.load_default(16 if heading else 12)
        draw.text((x, y), text, fill=(235,) * 3 if heading else (160,) * 3, font=font)
    values = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return values.view(1, height, width, 3).permute(0, 3, 1, 2).to(torch.get_default_dtype()) / 255
