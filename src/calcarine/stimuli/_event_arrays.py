"""Events in NumPy archives and HDF5 files: one array per column.

    .npz   arrays t, x, y, p, and height, width or size; or one structured array of such fields
    .h5    the same names as data sets, at the top, in the group ``events`` or in ``CD``

Nothing that a file could use to run code is ever unpacked.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from calcarine.errors import FileFormatError, require
from calcarine.stimuli._event_names import RawEvents, column_of

__all__ = ["read_hdf5", "read_npz"]

BLOCK = 1 << 20
_GROUPS = ("", "events", "CD", "CD/events")


def read_npz(path: Path, label: str) -> RawEvents:
    """Read a NumPy archive of columns.

    Raises:
        FileFormatError: If it is damaged, or columns are missing or hold objects.
    """
    try:
        # opened here, since NumPy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array instead of an archive")
            names = list(archive.files)
            found = _named(names)
            if not found and len(names) == 1:
                table = archive[names[0]]
                fields = table.dtype.names or names
                found = _named(fields)
                _check_complete(found, fields, label)
                return _table_columns(table, found, None)
            _check_complete(found, names, label)
            columns = {key: archive[name] for key, name in found.items()}
            values: dict[str, Any] = {
                name: archive[name] for name in ("size", "height", "width") if name in names
            }
    except FileFormatError:
        raise
    except (
        *(ValueError, OSError, EOFError, KeyError, TypeError, MemoryError, OverflowError),
        *(zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError),
    ) as error:
        # NumPy's own advice on objects is to load them unsafely
        reason = "it is no archive of arrays" if "pickle" in str(error) else error
        raise FileFormatError(
            f"{label} is no complete .npz archive of plain columns t, x, y and perhaps p "
            f"({reason}). Archives with objects in them are refused, since they can run code."
        ) from error
    size = _size(values, label)
    return RawEvents(
        columns["t"], columns["x"], columns["y"], columns.get("p"), size, "row {}".format
    )


def read_hdf5(path: Path, label: str) -> RawEvents:
    """Read an HDF5 file of columns.

    Raises:
        FileFormatError: If it is damaged or columns are missing.
        MissingDependencyError: If h5py is not installed.
    """
    library = require("h5py", extra="events", purpose="Reading HDF5 files of events")
    try:
        with library.File(path, "r") as file:
            return _from_hdf5(library, file, label)
    except FileFormatError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise FileFormatError(
            f"{label} is no complete HDF5 file of columns t, x, y and perhaps p ({error}). Fetch "
            "it again, or write it with EventStream.save."
        ) from error


def _from_hdf5(library: Any, file: Any, label: str) -> RawEvents:
    seen: list[str] = []
    for place in _GROUPS:
        node = file.get(place) if place else file
        if isinstance(node, library.Dataset) and node.dtype.names:
            found = _named(node.dtype.names)
            if found:
                _check_complete(found, node.dtype.names, label)
                return _table_columns(node, found, _hdf5_size(file, node, label))
        if not isinstance(node, library.Group):
            continue
        names = [name for name in node if isinstance(node.get(name), library.Dataset)]
        seen += [f"{place}/{name}".lstrip("/") for name in node]
        found = _named(names)
        if not found:
            continue
        _check_complete(found, names, label)
        columns = {key: node[name][()] for key, name in found.items()}
        offset = file.get("t_offset", node.get("t_offset"))
        if isinstance(offset, library.Dataset) and offset.ndim == 0:
            columns["t"] = columns["t"] + np.int64(offset[()])
        return RawEvents(
            columns["t"],
            columns["x"],
            columns["y"],
            columns.get("p"),
            _hdf5_size(file, node, label),
            "row {}".format,
        )
    _check_complete({}, seen, label)
    raise AssertionError  # without columns the check never passes


def _hdf5_size(file: Any, node: Any, label: str) -> tuple[int, int] | None:
    values: dict[str, Any] = {}
    for attributes in (file.attrs, node.attrs):
        values |= {k: attributes[k] for k in ("size", "height", "width") if k in attributes}
    return _size(values, label)


def _table_columns(table: Any, found: dict[str, str], size: tuple[int, int] | None) -> RawEvents:
    """Split a structured array, a block at a time where it lies on disk."""
    kinds = {key: table.dtype[name] for key, name in found.items()}
    columns = {key: np.empty(len(table), kind) for key, kind in kinds.items()}
    for first in range(0, len(table), BLOCK):
        block = table[first : first + BLOCK]
        for key, name in found.items():
            columns[key][first : first + len(block)] = block[name]
    return RawEvents(
        columns["t"], columns["x"], columns["y"], columns.get("p"), size, "row {}".format
    )


def _named(names: Iterable[str]) -> dict[str, str]:
    """Return which name holds which column; of two names for one the first counts."""
    found: dict[str, str] = {}
    for name in names:
        if key := column_of(name):
            found.setdefault(key, name)
    return found


def _check_complete(found: dict[str, str], names: Iterable[str], label: str) -> None:
    missing = [key for key in "txy" if key not in found]
    if missing:
        raise FileFormatError(
            f"{label} expected columns t, x, y and perhaps p, but {', '.join(missing)} is missing. "
            f"It holds: {', '.join(names) or 'nothing'}."
        )


def _size(values: dict[str, Any], label: str) -> tuple[int, int] | None:
    """Return height and width of what a file says about its sensor."""
    if "size" in values:
        pair = np.asarray(values["size"])
    elif {"height", "width"} <= set(values):
        pair = np.asarray([values["height"], values["width"]])
    else:
        return None
    if pair.shape == (2,) and pair.dtype.kind in "iu" and (pair > 0).all():
        return int(pair[0]), int(pair[1])
    raise FileFormatError(
        f"{label} expected the size of the sensor as height and width, got {pair.tolist()!r}."
    )
