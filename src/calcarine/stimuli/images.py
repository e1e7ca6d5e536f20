"""Reading and writing single images.

    load_image(path)            -> (1, C, H, W), sRGB code values in [0, 1]
    save_image(image, path)     the inverse, 8 bits a channel

Values are code values, as files store them: 0 is black, 1 is white, and light grows faster than the
value (:func:`calcarine.stimuli.srgb_to_linear` turns one into the other). A missing, damaged,
incomplete or foreign file is an error, never a grey picture.

Axes    B batch, 1 here | C channel, 1 grey or 3 red green blue | H W rows down, columns right
Source  iec61966 (sRGB)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError, suggestion
from calcarine.files import output_file
from calcarine.stimuli._checks import checked_dtype, checked_size, is_count
from calcarine.stimuli._decode import Pixels, decode
from calcarine.stimuli.light import luminance, resize, work_dtype

__all__ = ["Channels", "load_image", "save_image", "to_image"]

Channels = Literal["as-is", "gray", "rgb"]

_FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    ".bmp": ("BMP", {}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".png": ("PNG", {}),
    ".ppm": ("PPM", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".webp": ("WEBP", {"lossless": True}),
}

ROUNDING = 1e-5
"""How far outside [0, 1] a value may lie and still count as a rounding error."""


def load_image(
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: Channels = "as-is",
    background: float = 1.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "1 C H W"]:
    """Load an image of any common format (PNG, JPEG, TIFF, GIF, BMP, WebP, ...).

    8 and 16 bits a channel and floating point in [0, 1] are read in full precision. The orientation
    that a camera noted is applied. Of several frames or pages, the first is read. An embedded
    colour profile (Adobe RGB, Display P3, CMYK, ...) is converted to sRGB with 8 bits a channel,
    not with 16; CMYK without a profile follows Pillow's simple formula.

    Args:
        path: The file.
        size: ``None`` keeps the size; one number is the length of the shorter side [px], the other
            follows; a pair is (height, width). Light is averaged, without aliasing: a fine black
            and white checkerboard shrinks to the code value of half the light, 0.735.
        channels: ``"as-is"`` gives one channel for a grey file and three for a colour file;
            ``"rgb"`` always three; ``"gray"`` always one, the code value of equal luminance
            (weights 0.2126, 0.7152, 0.0722 on linear light, then encoded again).
        background: Code value in [0, 1] of the grey that transparent parts are laid over, 1 for
            white. Laid over in code values, as browsers do.
        dtype: Floating-point type of the result, torch's default one if left out.
        device: Where to put the result.

    Raises:
        FileFormatError: If the file is missing, a folder, not an image, damaged, incomplete, or
            suspiciously large.
        InputError: If an argument is not one of those above.
    """
    if not 0.0 <= background <= 1.0:
        raise InputError(f"load_image expected background in [0, 1], got {background!r}.")
    _check_arguments(size, channels)
    dtype = checked_dtype("load_image", dtype)
    pixels = decode(Path(path), str(path), background=background)
    return to_image(pixels, size=size, channels=channels, dtype=dtype).to(device=device)


def cover_image(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    *,
    channels: Channels = "as-is",
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "1 C H W"]:
    """Load the centre of an image, scaled so that it just covers a shape and is not distorted.

    Args:
        path: The file.
        shape: Height and width wanted, px.
        channels: As in :func:`load_image`.
        dtype: As in :func:`load_image`.

    Raises:
        FileFormatError: As :func:`load_image` does.
        InputError: As :func:`load_image` does.
    """
    height, width = checked_size("cover_image", shape)
    _check_arguments(None, channels)
    dtype = checked_dtype("cover_image", dtype)
    pixels = decode(Path(path), str(path), background=1.0)
    rows, columns = pixels.shape[:2]
    scale = max(height / rows, width / columns)
    scaled = max(height, round(scale * rows)), max(width, round(scale * columns))
    image = to_image(pixels, size=scaled, channels=channels, dtype=dtype)
    top, left = (scaled[0] - height) // 2, (scaled[1] - width) // 2
    return image[..., top : top + height, left : left + width].contiguous()


def _check_arguments(size: object, channels: object) -> None:
    if channels not in ("as-is", "gray", "rgb"):
        known = ("as-is", "gray", "rgb")
        raise InputError(
            f"load_image expected channels as one of {', '.join(known)}, got {channels!r}."
            f"{suggestion(str(channels), known)}"
        )
    if size is not None:
        checked_size("load_image", size)


def to_image(
    pixels: Pixels,
    *,
    size: int | tuple[int, int] | None,
    channels: Channels,
    dtype: torch.dtype,
) -> Float[Tensor, "1 C H W"]:
    """Turn decoded pixels (H, W, C) into an image, see :func:`load_image`."""
    white = {"u1": 255, "u2": 65535}.get(pixels.dtype.str[1:], 1)
    if pixels.dtype == np.uint16:
        pixels = pixels.astype(np.int32)  # torch computes little with 16 bits
    image = torch.tensor(pixels).permute(2, 0, 1)[None].to(work_dtype(dtype)) / white
    if channels == "gray" and image.shape[1] == 3:
        image = luminance(image)
    if size is not None:
        image = resize(image, _new_size(size, image.shape[-2], image.shape[-1]))
    if channels == "rgb" and image.shape[1] == 1:
        image = image.expand(1, 3, -1, -1)
    return image.contiguous().to(dtype)


def _new_size(size: int | tuple[int, int], height: int, width: int) -> tuple[int, int]:
    if not is_count(size):
        return checked_size("load_image", size)
    assert isinstance(size, int)
    factor = size / min(height, width)
    if height <= width:
        return size, max(size, round(width * factor))
    return max(size, round(height * factor)), size


def save_image(
    image: Float[Tensor, "1 C H W"] | Float[Tensor, "C H W"] | Float[Tensor, "H W"],
    path: str | os.PathLike[str],
    *,
    clip: bool = False,
) -> Path:
    """Save an image with 8 bits a channel, in the format of the suffix.

    The file appears when it is complete; missing folders are made. PNG, TIFF, BMP, PPM and WebP
    keep every 8-bit value, JPEG is lossy (quality 95, full colour resolution).

    Args:
        image: sRGB code values in [0, 1], one channel (grey) or three.
        path: The file to write.
        clip: Clip values outside [0, 1] instead of refusing them.

    Returns:
        The path.

    Raises:
        ShapeError: If the tensor is not one grey or colour image.
        NonFiniteError: If a value is NaN or infinite.
        InputError: If a value lies outside [0, 1] and ``clip`` is off, or the suffix is unknown.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise InputError(
            f"save_image expected a file name ending in one of {', '.join(_FORMATS)}, got "
            f"{path.name!r}."
        )
    kind, options = _FORMATS[path.suffix.lower()]
    values = _values_to_save(image, clip)
    codes = (values * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(codes if codes.shape[-1] == 3 else codes[..., 0])
    with output_file(path) as file:
        picture.save(file, format=kind, **options)
    return path


def _values_to_save(image: Tensor, clip: bool) -> Tensor:
    """Check an image and return it as double precision (C, H, W) on the CPU."""
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise InputError(
            f"save_image expected a floating-point tensor with values in [0, 1], got {kind}. "
            "Divide whole numbers by their white, for example image / 255."
        )
    shape = tuple(image.shape)
    values = image.detach().to("cpu", torch.double)
    if values.ndim == 2:
        values = values[None]
    if values.ndim == 4 and shape[0] == 1:
        values = values[0]
    if values.ndim != 3 or values.shape[0] not in (1, 3) or values.numel() == 0:
        raise ShapeError(
            "save_image expected one image with axes (1, channel, height, width) and 1 or 3 "
            f"channels, got shape {shape}. Save the images of a batch one by one."
        )
    if not values.isfinite().all():
        raise NonFiniteError(
            f"save_image expected finite values, got {int((~values.isfinite()).sum())} that are "
            f"NaN or infinite among {values.numel()}. Find out where they arise."
        )
    low, high = values.min().item(), values.max().item()
    if not clip and (low < -ROUNDING or high > 1 + ROUNDING):
        raise InputError(
            f"save_image expected values in [0, 1], got {low:.4g} to {high:.4g}. Rescale the "
            "image, or pass clip=True to cut values off."
        )
    return values.clamp(0.0, 1.0)
