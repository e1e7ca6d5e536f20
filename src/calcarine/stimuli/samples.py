"""Sample images inside installed packages; nothing is ever downloaded.

The files come with scikit-image (its other samples, which it would fetch, are not offered) and with
scikit-learn, and are read straight from their folders, so their packages are not even imported.
:data:`TRAINING_SAMPLES` and :data:`HELD_OUT_SAMPLES` are colour photographs for learning and for
looking at what was learned; which is in which group is ours.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import FileFormatError, InputError, UnknownNameError, require, suggestion
from calcarine.stimuli.images import Channels, load_image

__all__ = [
    "HELD_OUT_SAMPLES",
    "TRAINING_SAMPLES",
    "sample_image",
    "sample_image_names",
    "sample_path",
]

_SKIMAGE = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "cell": "cell.png",
    "checkerboard": "chessboard_GRAY.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "colorwheel": "color.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "horse": "horse.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "logo": "logo.png",
    "microaneurysms": "microaneurysms.png",
    "moon": "moon.png",
    "page": "page.png",
    "phantom": "phantom.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "stereo_motorcycle": "motorcycle_left.png",
    "stereo_motorcycle_right": "motorcycle_right.png",
    "text": "text.png",
}
_SKLEARN = {"china": "china.jpg", "flower": "flower.jpg"}

_FILES = {name: ("skimage", f"data/{file}") for name, file in _SKIMAGE.items()} | {
    name: ("sklearn", f"datasets/images/{file}") for name, file in _SKLEARN.items()
}

TRAINING_SAMPLES: tuple[str, ...] = (
    "astronaut",
    "china",
    "flower",
    "immunohistochemistry",
    "rocket",
    "stereo_motorcycle",
)
"""Colour photographs to learn from; between them they cover all hues."""

HELD_OUT_SAMPLES: tuple[str, ...] = ("cat", "coffee")
"""Colour photographs to test on, never in :data:`TRAINING_SAMPLES`."""


def sample_image_names() -> tuple[str, ...]:
    """Return the names that :func:`sample_image` can load with the packages installed here."""
    return tuple(name for name in sorted(_FILES) if (p := _path(name)) is not None and p.is_file())


def sample_path(name: str) -> Path:
    """Return the file behind a sample image.

    Raises:
        UnknownNameError: If there is no such sample.
        MissingDependencyError: If the package that holds it is not installed.
    """
    if not isinstance(name, str):
        raise InputError(f"Expected the name of a sample image, got {name!r}.")
    if name not in _FILES:
        raise UnknownNameError("sample image", name, _FILES)
    path = _path(name)
    if path is None:
        require(_FILES[name][0], extra="data", purpose=f"The sample image {name!r}")
        raise AssertionError(f"{_FILES[name][0]} can be imported but not found")
    return path


def picture_path(picture: str) -> Path:
    """Return the file behind what a person typed: a path, or ``sample:NAME``.

    The name of a sample alone will do where there is no such file.

    Raises:
        FileFormatError: If there is neither.
        UnknownNameError: If there is no sample of the name after ``sample:``.
    """
    known = sample_image_names()
    if picture.startswith("sample:") or (picture in known and not Path(picture).exists()):
        return sample_path(picture.removeprefix("sample:"))
    if not Path(picture).exists():
        raise FileFormatError(
            f"There is no image file {picture!r}.{suggestion(picture, known)} Samples are named "
            f"like sample:astronaut; there are {', '.join(known)}."
        )
    return Path(picture)


def _path(name: str) -> Path | None:
    package, file = _FILES[name]
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / file


def sample_image(
    name: str,
    *,
    size: int | tuple[int, int] | None = None,
    channels: Channels = "as-is",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "1 C H W"]:
    """Load a sample image by name, see :func:`sample_image_names`.

    Colours are converted to sRGB: ``rocket``, which is stored in Adobe RGB, therefore looks right
    and differs from ``skimage.data.rocket()``.

    Args:
        name: The sample, for example ``"astronaut"``.
        size: As in :func:`calcarine.stimuli.load_image`.
        channels: As in :func:`calcarine.stimuli.load_image`.
        dtype: As in :func:`calcarine.stimuli.load_image`.
        device: As in :func:`calcarine.stimuli.load_image`.

    Raises:
        UnknownNameError: If there is no such sample.
        MissingDependencyError: If the package that holds it is not installed.
    """
    return load_image(sample_path(name), size=size, channels=channels, dtype=dtype, device=device)
