"""Reading image files strictly: complete, upright, in sRGB, in full precision.

Pillow does the decoding. What is added: 16 bits per colour channel instead of 8 (one pass for the
high and one for the low bytes), conversion from an embedded colour profile, the orientation that a
camera noted, and one kind of error for every way in which a file can be bad.

Axes    H W rows down, columns right | C channel, 1 (grey) or 3 (red green blue)
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from calcarine.errors import FileFormatError, suggestion

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["SUFFIXES", "as_bytes", "decode"]

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm"),
    *(".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
"""Suffixes, in lower case, of the files that a folder of images is searched for."""

Pixels = npt.NDArray[Any]

_lock = threading.Lock()


class _Strict:
    """How many threads decode at the moment, and what Pillow was set to before the first."""

    users: int = 0
    before: bool = False


def decode(source: str | Path | bytes, label: str, *, background: float = 1.0) -> Pixels:
    """Decode the first frame of an image.

    Args:
        source: Path of the file, or its content.
        label: What to call it in an error.
        background: Code value, in [0, 1], that shows through where the image is transparent.

    Returns:
        Array (H, W, C) of sRGB code values, C being 1 for grey files: ``uint8`` with white 255,
        ``uint16`` with white 65535, or floating point with white 1.

    Raises:
        FileFormatError: If the file is missing, a folder, empty, damaged, incomplete, not an image,
            too large to be trusted, or has values without a known white.
    """
    content = source if isinstance(source, bytes) else _content(Path(source), label)
    if not content:
        raise FileFormatError(f"Expected an image in {label}, but it is empty (0 bytes).")
    try:
        with _no_partial_images():
            pixels, alpha = _read(content, label)
    except (FileFormatError, MemoryError):
        raise
    except Exception as error:  # decoders of damaged files raise nearly everything there is
        raise FileFormatError(f"{_reason(error, label)} ({error}).") from error
    return pixels if alpha is None else _composite(pixels, alpha, background)


def as_bytes(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Round decoded pixels to 8 bits."""
    if pixels.dtype == np.uint8:
        return pixels
    white = 65535 if pixels.dtype == np.uint16 else 1
    return np.rint(pixels * (255 / white)).astype(np.uint8)


def _content(path: Path, label: str) -> bytes:
    if path.is_dir():
        raise FileFormatError(
            f"Expected an image file, but {label} is a folder. Name one file in it, or pass the "
            "folder to ImagePatches(source=...)."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        near = ""
        if path.parent.is_dir():
            near = suggestion(path.name, [p.name for p in path.parent.iterdir()])
        raise FileFormatError(
            f"Cannot read the image {label}: {error.strerror or error}.{near}"
        ) from error


def _reason(error: Exception, label: str) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return _too_large(label)
    if isinstance(error, UnidentifiedImageError):
        return (
            f"{label} is damaged or not an image that Pillow knows. Expected a format such as PNG, "
            "JPEG or TIFF (grey or 8 to 16 bits per colour)"
        )
    return f"The image {label} is incomplete or damaged. Fetch it again or remove it"


def _too_large(label: str) -> str:
    return (
        f"The image {label} is larger than the limit of PIL.Image.MAX_IMAGE_PIXELS, which guards "
        "against files made to exhaust the memory. Raise the limit if you trust the file"
    )


@contextmanager
def _no_partial_images() -> Iterator[None]:
    """Keep Pillow from accepting incomplete files, whatever other code has set."""
    from PIL import ImageFile

    with _lock:
        if _Strict.users == 0:
            _Strict.before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _Strict.users += 1
    try:
        yield
    finally:
        with _lock:
            _Strict.users -= 1
            if _Strict.users == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _Strict.before


def _read(content: bytes, label: str) -> tuple[Pixels, Pixels | None]:
    """Return pixels (H, W, C) and, where the file has transparency, alpha (H, W, 1)."""
    from PIL import Image, ImageFile

    with Image.open(io.BytesIO(content)) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise FileFormatError(f"{_too_large(label)} ({image.width} x {image.height} pixels).")
        if 0 in image.size:
            raise FileFormatError(f"The image {label} has no pixels (size {image.size}).")
        low_mode = _low_byte_mode(image)
        if low_mode is None:
            return _channels(_to_srgb(_upright(image)), label)
        grey = low_mode == "RGBA"
        high = np.asarray(_upright(image), dtype=np.uint16)
    with Image.open(io.BytesIO(content)) as image:
        assert isinstance(image, ImageFile.ImageFile)
        image.tile = [_with_mode(tile, low_mode) for tile in image.tile]
        low = np.asarray(_upright(image), dtype=np.uint16)
    if grey:  # the second pass has read the four bytes of grey and alpha as they are
        values = low[..., 0::2] * 256 + low[..., 1::2]
        return values[..., :1], values[..., 1:]
    values = high * 256 + low
    return values[..., :3], values[..., 3:] if values.shape[-1] > 3 else None


def _upright(image: Image.Image) -> Image.Image:
    """Load all pixels, then turn them the way the camera was held."""
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the notes beside the pixels are damaged, the pixels are not
        return image


def _low_byte_mode(image: Image.Image) -> str | None:
    """Return the raw mode that reads the low bytes where Pillow keeps only the high ones."""
    tiles = getattr(image, "tile", None)
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    args = tiles[0][3]
    raw = args if isinstance(args, str) else args[0] if args else ""
    if raw == "LA;16B":
        return "RGBA"
    kind, _, order = str(raw).partition(";16")
    if kind not in ("RGB", "RGBA", "RGBX") or order not in ("B", "L", "N"):
        return None
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    return f"{kind};16{'L' if big else 'B'}"


def _with_mode(tile: Any, mode: str) -> Any:
    args = mode if isinstance(tile[3], str) else (mode, *tile[3][1:])
    return tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Convert from the colour space that the file names; without one, colours are sRGB."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif profile and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))  # type: ignore[assignment]
            if "sRGB" in ImageCms.getProfileDescription(source):
                return image
        except (OSError, ImageCms.PyCMSError):
            return image  # a profile that nothing can read says nothing
    else:
        return image
    try:
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except ImageCms.PyCMSError:
        return image
    return image if converted is None else converted


def _channels(image: Image.Image, label: str) -> tuple[Pixels, Pixels | None]:
    """Split a Pillow image of any mode into colour and transparency."""
    mode = image.mode
    if mode.startswith("I"):
        return _whole_numbers(image, label), None
    if mode == "F":
        return _real_numbers(image, label), None
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    elif mode not in ("L", "RGB"):
        image = image.convert("L" if mode == "1" else "RGB")
    pixels = np.atleast_3d(np.asarray(image))
    colours = 3 if pixels.shape[-1] >= 3 else 1
    values, alpha = pixels[..., :colours], pixels[..., colours:]
    if mode in ("P", "PA") and (values == values[..., :1]).all():
        values = values[..., :1]  # a palette of greys
    return values, alpha if alpha.shape[-1] else None


def _whole_numbers(image: Image.Image, label: str) -> Pixels:
    values = np.asarray(image)[..., None]
    if values.min() < 0 or values.max() > 65535:
        raise FileFormatError(
            f"The image {label} holds whole numbers from {values.min()} to {values.max()}, and no "
            "convention says which of them is white. Save it with 8 or 16 bits, or as floating "
            "point in [0, 1]."
        )
    return values.astype(np.uint16)


def _real_numbers(image: Image.Image, label: str) -> Pixels:
    values = np.asarray(image)[..., None]
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise FileFormatError(
            f"The image {label} holds real numbers from {values.min()} to {values.max()}; expected "
            "finite values in [0, 1]. Rescale it before saving."
        )
    return values


def _composite(pixels: Pixels, alpha: Pixels, background: float) -> Pixels:
    """Lay a transparent image over a uniform background, in code values as browsers do."""
    white = np.iinfo(pixels.dtype).max
    share = alpha / white
    mixed = pixels * share + background * white * (1 - share)
    return np.rint(mixed).astype(pixels.dtype)
