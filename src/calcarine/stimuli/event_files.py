"""Reading recordings of events by the kind of their file.

    .csv .txt           text, ``t,x,y[,p]`` to a line, with or without a header
    .npz                NumPy archive of columns
    .h5 .hdf5           HDF5 file of columns
    .aedat4 .es .raw    cameras: iniVation, Event Stream, Prophesee EVT2 and EVT3
    .dat                Prophesee DAT, or a tensor: the first bytes tell
    .pt .pth            tensor (time, x, y) that torch.save wrote

A file is read completely or refused. Times stay as the file has them.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calcarine.errors import CalcarineWarning, FileFormatError, ShapeError, suggestion
from calcarine.stimuli._checks import checked_size
from calcarine.stimuli._event_arrays import read_hdf5, read_npz
from calcarine.stimuli._event_cameras import read_camera
from calcarine.stimuli._event_checks import MOST_PIXELS, checked_columns, positive
from calcarine.stimuli._event_names import RawEvents
from calcarine.stimuli._event_tensors import is_tensor_file, read_tensor
from calcarine.stimuli._event_text import read_text
from calcarine.stimuli.events import EventStream

__all__ = ["read_events"]

_TEXT = (".csv", ".txt")
_HDF5 = (".h5", ".hdf5")
_CAMERAS = (".aedat4", ".es", ".raw")
_TENSORS = (".pt", ".pth")
_SUFFIXES = (*_TEXT, ".npz", *_HDF5, *_CAMERAS, ".dat", *_TENSORS)


def read_events(
    path: str | Path,
    size: tuple[int, int] | None = None,
    dt_ms: float = 1.0,
    *,
    sort: bool = False,
) -> EventStream:
    """Read a recording; the suffix of the name says the kind of file.

    Text and arrays have columns t (microseconds), x, y and, if polarities were recorded, p (1 and
    0, or 1 and -1). ``.aedat4``, ``.es``, ``.raw`` and Prophesee ``.dat`` need faery, HDF5 needs
    h5py: ``pip install 'calcarine[events]'``.

    Args:
        path: Name of the file.
        size: Height and width of the sensor. ``None``: as the file says, or else just large enough
            for its events, with a warning.
        dt_ms: Time from frame to frame of a tensor file, ms; without effect on others.
        sort: Sort events that the file holds out of order, those of one time staying in the order
            of the file, instead of refusing them.

    Raises:
        FileFormatError: If the file is missing, of an unknown kind, damaged or incomplete, or an
            event in it is impossible. The line, row, event or byte is named.
        MissingDependencyError: If reading this kind of file needs a package that is missing.
    """
    path = Path(path).expanduser()
    label = f"The event file {path.name}"
    if size is not None:
        size = checked_size("read_events", size)
    dt_ms = positive("read_events", "dt_ms", dt_ms)
    raw = _read(path, label, dt_ms)
    if sort:
        raw = _sorted(raw)
    inferred = size is None and raw.size is None
    if inferred and not len(raw.t):
        raise FileFormatError(
            f"{label} holds no events and does not say the size of the sensor. Is it complete? "
            "Pass size=(height, width) to read it as an empty recording."
        )
    try:
        *columns, size = checked_columns(
            label, *raw[:4], size or raw.size or _inferred(raw), raw.place, FileFormatError
        )
    except ShapeError as error:
        raise FileFormatError(f"{error}") from error
    if inferred:
        warnings.warn(
            f"{label} does not say the size of the sensor; height {size[0]} and width {size[1]} "
            "just hold its events. Pass size=(height, width) if you know it.",
            CalcarineWarning,
            stacklevel=2,
        )
    return EventStream._with(*columns, size=size)


def _read(path: Path, label: str, dt_ms: float) -> RawEvents:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise FileFormatError(
            f"read_events expected a name ending in {', '.join(_SUFFIXES)}, got {path.name!r}."
        )
    try:
        if path.is_dir():
            raise FileFormatError(f"Expected an event file, but {path.name} is a folder.")
        if path.stat().st_size == 0:
            raise FileFormatError(f"{label} is empty (0 bytes).")
        if suffix in _TEXT:
            return read_text(path, label)
        if suffix == ".npz":
            return read_npz(path, label)
        if suffix in _HDF5:
            return read_hdf5(path, label)
        if suffix in _TENSORS or (suffix == ".dat" and is_tensor_file(path)):
            return read_tensor(path, label, dt_ms)
        if suffix == ".dat":
            _check_dat(path, label)
        return read_camera(path, label)
    except OSError as error:
        near = ""
        if path.parent.is_dir():
            near = suggestion(path.name, [p.name for p in path.parent.iterdir()])
        raise FileFormatError(f"Cannot read {path}: {error.strerror or error}.{near}") from error


def _check_dat(path: Path, label: str) -> None:
    with path.open("rb") as file:
        start = file.read(16)
    if not start.startswith(b"%"):
        raise FileFormatError(
            f"{label} is neither of the two kinds that end in .dat: byte 0 starts {start!r}. "
            "Accepted are Prophesee DAT recordings, whose header starts with '%', and tensors with "
            "axes (time, x, y), sparse or dense, that torch.save wrote."
        )


def _sorted(raw: RawEvents) -> RawEvents:
    times = torch.as_tensor(raw.t)
    if times.ndim != 1 or not len(times) or (times[1:] >= times[:-1]).all():
        return raw
    order = times.argsort(stable=True)

    def taken(column: Any) -> Any:
        return None if column is None else torch.as_tensor(column)[order]

    t, x, y, p = (taken(column) for column in raw[:4])
    return RawEvents(t, x, y, p, raw.size, lambda i: raw.place(int(order[i])))


def _inferred(raw: RawEvents) -> tuple[int, int]:
    """Return the smallest sensor that holds all events."""
    sides = []
    for column in (raw.y, raw.x):
        values = np.asarray(column)
        usable = values.ndim == 1 and len(values) and values.dtype.kind in "iu"
        sides.append(max(0, min(int(values.max()), MOST_PIXELS - 1)) + 1 if usable else 1)
    return sides[0], sides[1]
