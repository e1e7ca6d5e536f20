"""Cone positions kept on disk, so that the second start of a program is quick.

The folder is that of :func:`calcarine.files.cache_folder`. A cache is a convenience: a folder that
cannot be written, a missing home or a damaged file only means that positions are computed again.
"""

from __future__ import annotations

import contextlib

import numpy as np

from calcarine.files import atomic_file, cache_folder

__all__ = ["load_array", "save_array"]


def load_array(key: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the finite float64 array stored under ``key``, or ``None``."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        with (
            (folder / f"{key}.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as stored,
        ):
            array = stored["array"]
    except Exception:  # anything a damaged file can raise: zip, header, key, permission
        return None
    if array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
        return None
    return np.asarray(array)


def save_array(key: str, array: np.ndarray) -> None:
    """Store an array under ``key``, complete or not at all; give up quietly where impossible."""
    folder = cache_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError), atomic_file(folder / f"{key}.npz") as file:
        np.savez(file, array=array)
