"""What CordsNet asks of its settings and inputs, and how it says so.

Axes    T time | B batch | c channels of the image | H W rows down, columns right
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from calcarine.constants import Value
from calcarine.errors import InputError, ShapeError, UnknownNameError

__all__ = ["check_images", "check_state", "checked_size", "chosen_areas", "per_area"]


def checked_size(
    depth: int, classes: int, channels: int, image_size: int | tuple[int, int]
) -> tuple[int, int]:
    """Return height and width of the images; refuse impossible settings."""
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if depth not in (2, 4, 6, 8):
        raise InputError(f"CordsNet expected depth 2, 4, 6 or 8, got {depth}.")
    if len(size) != 2 or min(classes, channels, *size) < 1:
        raise InputError(
            "CordsNet expected positive classes and channels and an image_size (height, width), "
            f"got classes={classes}, channels={channels}, image_size={image_size}."
        )
    return size[0], size[1]


def per_area(tau_ms: float | Sequence[Value], depth: int) -> Sequence[Value]:
    """Return one time constant per area."""
    if isinstance(tau_ms, (int, float)):
        return (tau_ms,) * depth
    if len(tau_ms) != depth:
        raise InputError(
            f"CordsNet expected tau_ms as one number or {depth} entries, one per area, got "
            f"{len(tau_ms)}."
        )
    return tau_ms


def chosen_areas(areas: Sequence[int] | None, depth: int) -> Sequence[int]:
    """Return numbers of areas from 1, all where none are asked for; refuse unknown ones."""
    known = range(1, depth + 1)
    for area in () if areas is None else areas:
        if area not in known:
            raise UnknownNameError("area", str(area), map(str, known))
    return known if areas is None else areas


def check_images(images: Tensor, axes: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    """Refuse images or movies whose axes or last three sizes are not the expected ones."""
    if images.ndim not in axes or images.shape[-3:] != expected or not images.is_floating_point():
        raise ShapeError(
            "CordsNet expected floating-point images with axes (batch, channel, height, width)"
            f"{', or movies (time, batch, ...),' * (5 in axes)} whose last three are "
            f"{expected}, got {images.dtype} of shape {tuple(images.shape)}. For one image "
            "pass image[None]; other sizes need a model with another image_size."
        )
    if images.ndim == 5 and not images.shape[0]:
        raise ShapeError("CordsNet expected a movie of at least one frame, got none.")


def check_state(rates: Sequence[Tensor], batch: int, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse rates that are not those of a batch of images in areas of these shapes."""
    if [tuple(r.shape) for r in rates] != [(batch, *shape) for shape in shapes]:
        raise ShapeError(
            f"CordsNet expected the state of {len(shapes)} areas for a batch of {batch}, got "
            f"shapes {[tuple(r.shape) for r in rates]}. Use initial_state(images) or "
            "baseline(images)."
        )
