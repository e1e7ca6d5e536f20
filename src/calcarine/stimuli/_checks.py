"""Checks that several files of this room share."""

from __future__ import annotations

import torch

from calcarine.errors import InputError, ShapeError

__all__ = ["checked_dtype", "checked_image_shape", "checked_size", "is_count"]


def is_count(value: object) -> bool:
    """Say whether a value is a whole number of at least one."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def checked_size(owner: str, size: object) -> tuple[int, int]:
    """Return ``(height, width)`` of a pair, or of one number for a square.

    Raises:
        InputError: If it is neither.
    """
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) == 2 and all(is_count(n) for n in pair):
        return pair[0], pair[1]
    raise InputError(
        f"{owner} expected size as a whole number of pixels or a pair (height, width), each at "
        f"least 1, got {size!r}."
    )


def checked_image_shape(owner: str, shape: object) -> tuple[int, int, int, int]:
    """Return a shape ``(batch, channel, height, width)`` of whole numbers.

    Raises:
        ShapeError: If it is anything else.
    """
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else ()
    if len(sizes) == 4 and all(is_count(n) for n in sizes):
        return sizes[0], sizes[1], sizes[2], sizes[3]
    raise ShapeError(
        f"{owner} expected a shape (batch, channel, height, width) of four whole numbers, each at "
        f"least 1, got {shape!r}. For one grey image pass (1, 1, height, width)."
    )


def checked_dtype(owner: str, dtype: torch.dtype | None) -> torch.dtype:
    """Return the floating-point type asked for, or torch's default one.

    Raises:
        InputError: If it is not a real floating-point type.
    """
    if dtype is None:
        return torch.get_default_dtype()
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(
            f"{owner} expected a floating-point dtype such as torch.double, got {dtype!r}. Convert "
            "the result yourself if you need whole numbers."
        )
    return dtype
