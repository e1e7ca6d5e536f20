"""Animations: frames to a file that every browser plays, or to a video.

    .webp   colours as they are, small         .gif   256 colours per frame
    .png    animated PNG, exact, large         .mp4   H.264; odd sides are extended by one pixel
    .html   a page with the .webp inside; it needs no script and no other file

Axes    T frames | C channel, 1 grey or 3 sRGB | H W rows down, columns right
"""

from __future__ import annotations

import base64
import html
import io
import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError, require
from calcarine.files import output_file, write_text

if TYPE_CHECKING:
    import numpy as np

__all__ = ["STRIP_PX", "animation_bytes", "caption_frames", "caption_strip", "save_animation"]

_PILLOW: dict[str, tuple[str, dict[str, Any]]] = {
    ".gif": ("GIF", {"loop": 0, "disposal": 1}),
    ".png": ("PNG", {"loop": 0}),
    ".webp": ("WEBP", {"loop": 0, "quality": 85, "method": 4}),
}
_SUFFIXES = (*_PILLOW, ".mp4", ".html")
_FASTEST = {".gif": 50}  # browsers slow GIFs down whose frames last less than 20 ms
_ROUNDING = 1e-5  # how far outside [0, 1] a value may lie and still be a rounding error
STRIP_PX = 22
"""Height of a line of text above a frame."""


def save_animation(
    frames: Float[Tensor, "T C H W"],
    path: str | os.PathLike[str],
    *,
    fps: float = 10.0,
    title: str = "Animation",
) -> Path:
    """Save an animation in the format of the suffix: .webp, .gif, .png (animated), .mp4 or .html.

    The file appears when it is complete; missing folders are made. Animations repeat for ever.

    Args:
        frames: sRGB code values in [0, 1], one channel (grey) or three.
        path: The file to write.
        fps: Frames per second.
        title: What it shows: title of an .html page, and its text for those who cannot see it.

    Returns:
        The path.

    Raises:
        ShapeError: If the tensor does not hold grey or colour frames.
        NonFiniteError: If a value is NaN or infinite.
        InputError: If a value lies outside [0, 1], or suffix or speed cannot be used.
        MissingDependencyError: If PyAV is not installed, for .mp4.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(
            f"save_animation expected a file name ending in one of {', '.join(_SUFFIXES)}, got "
            f"{path.name!r}."
        )
    _check(frames, fps, _FASTEST.get(suffix, 1000))
    if suffix == ".mp4":
        av = require("av", extra="viz", purpose="Writing .mp4")
        with output_file(path) as file:
            _write_video(av, file, frames, fps)
    elif suffix == ".html":
        write_text(path, _page(frames, fps, title))
    else:
        with output_file(path) as file:
            _write_pictures(file, frames, fps, suffix)
    return path


def animation_bytes(frames: Float[Tensor, "T C H W"], *, fps: float = 10.0) -> bytes:
    """Return an animation as the content of a WebP file; see :func:`save_animation`."""
    _check(frames, fps, 1000)
    buffer = io.BytesIO()
    _write_pictures(buffer, frames, fps, ".webp")
    return buffer.getvalue()


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 1.5rem; font: 1rem/1.5 system-ui, sans-serif; color: #222; background: #fff; }}
img {{ max-width: 100%; height: auto; image-rendering: pixelated; }}
.still {{ display: none; }}
@media print, (prefers-reduced-motion: reduce) {{
  .moving {{ display: none; }}
  .still {{ display: block; }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<img class="moving" src="{moving}" alt="{title}" width="{width}">
<img class="still" src="{still}" alt="{title}, last frame" width="{width}">
</body>
</html>
"""


def _page(frames: Tensor, fps: float, title: str) -> str:
    """Return a page with the animation inside; readers who want no motion get its last frame."""
    buffer = io.BytesIO()
    _write_pictures(buffer, frames[-1:], 1, ".png")
    content = {"webp": animation_bytes(frames, fps=fps), "png": buffer.getvalue()}
    moving, still = (
        f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        for kind, data in content.items()
    )
    return _PAGE.format(
        title=html.escape(title), moving=moving, still=still, width=frames.shape[-1]
    )


def caption_frames(
    frames: Float[Tensor, "T C H W"], captions: Sequence[str]
) -> Float[Tensor, "T 3 h W"]:
    """Put a line of text above every frame, dark on white.

    Args:
        frames: sRGB code values in [0, 1].
        captions: One per frame; tabs divide the width into columns of equal width.

    Raises:
        ShapeError: If the tensor does not hold grey or colour frames.
        InputError: If there is not one caption per frame.
    """
    _check(frames, 1, 1000)
    if len(captions) != len(frames):
        raise InputError(
            f"caption_frames expected one caption per frame, got {len(captions)} for {len(frames)}."
        )
    color = frames.expand(-1, 3, -1, -1)
    strips = [caption_strip(text, frames.shape[-1]) for text in captions]
    return torch.cat([torch.stack(strips).to(color), color], dim=-2)


def caption_strip(text: str, width: int) -> Float[Tensor, "3 h W"]:
    """Return a line of text, dark on white; tabs divide it into columns of equal width."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (width, STRIP_PX), "white")
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    columns = text.split("\t")
    for index, column in enumerate(columns):
        center = (index + 0.5) * width / len(columns)
        draw.text((center, STRIP_PX / 2), column, fill=(34, 34, 34), font=font, anchor="mm")
    codes = torch.frombuffer(bytearray(canvas.tobytes()), dtype=torch.uint8)
    return codes.view(STRIP_PX, width, 3).permute(2, 0, 1) / 255


def _check(frames: Any, fps: float, fastest: float) -> None:
    if not isinstance(frames, Tensor) or not frames.is_floating_point():
        kind = frames.dtype if isinstance(frames, Tensor) else type(frames).__name__
        raise InputError(
            f"An animation expected a floating-point tensor with values in [0, 1], got {kind}. "
            "Divide whole numbers by their white, for example frames / 255."
        )
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or frames.numel() == 0:
        raise ShapeError(
            "An animation expected axes (time, channel, height, width) with 1 or 3 channels, got "
            f"shape {tuple(frames.shape)}. Animate the items of a batch one by one."
        )
    if not (isinstance(fps, int | float) and math.isfinite(fps) and 0 < fps <= fastest):
        raise InputError(
            f"Expected fps above 0 and at most {fastest:g} for this format, got {fps}."
        )
    if not frames.isfinite().all():
        raise NonFiniteError(
            f"An animation expected finite values, got {int((~frames.isfinite()).sum())} that are "
            f"NaN or infinite among {frames.numel()}."
        )
    low, high = float(frames.min()), float(frames.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(
            f"An animation expected values in [0, 1], got {low:.4g} to {high:.4g}. Rescale them, "
            "or cut them off with frames.clamp(0, 1)."
        )


def _arrays(frames: Tensor, *, even: bool = False) -> Iterator[np.ndarray[Any, Any]]:
    """Return the frames one by one as (H, W, 3) bytes, so that a long movie is never held twice."""
    for frame in frames.detach():
        codes = (frame.double().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        codes = codes.expand(3, -1, -1)
        if even:
            codes = torch.cat([codes, codes[:, -1:]], dim=1) if codes.shape[1] % 2 else codes
            codes = torch.cat([codes, codes[:, :, -1:]], dim=2) if codes.shape[2] % 2 else codes
        yield codes.permute(1, 2, 0).contiguous().numpy()


def _write_pictures(file: IO[bytes], frames: Tensor, fps: float, suffix: str) -> None:
    from PIL import Image

    kind, options = _PILLOW[suffix]
    unit = 10 if suffix == ".gif" else 1  # ms
    # Differences of rounded times, so that rounding does not add up over a long movie.
    times = [round(1000 * k / fps / unit) * unit for k in range(len(frames) + 1)]
    durations = [max(b - a, unit) for a, b in pairwise(times)]
    pictures = (Image.fromarray(array) for array in _arrays(frames))
    first = next(pictures)
    first.save(
        file,
        format=kind,
        save_all=True,
        append_images=list(pictures) if suffix == ".png" else pictures,  # PNG goes through twice
        duration=durations if len(frames) > 1 else durations[0],
        **options,
    )


def _write_video(av: Any, file: IO[bytes], frames: Tensor, fps: float) -> None:
    """Encode H.264 in the pixel format that every player knows."""
    with av.open(file, mode="w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(1000)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.pix_fmt = "yuv420p"
        stream.width = frames.shape[-1] + frames.shape[-1] % 2
        stream.height = frames.shape[-2] + frames.shape[-2] % 2
        # Say which colours are meant, or players guess by the size of the picture: BT.709.
        context = stream.codec_context
        context.color_range, context.colorspace = 1, 1
        context.color_primaries, context.color_trc = 1, 13
        for array in _arrays(frames, even=True):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame = frame.reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG",
                dst_color_range="MPEG",
            )  # fmt: skip
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
