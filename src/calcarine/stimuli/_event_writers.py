"""Writing events to .npz, .csv and .h5, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from calcarine.errors import InputError, require
from calcarine.files import output_file

if TYPE_CHECKING:
    from calcarine.stimuli.events import EventStream

__all__ = ["save_events"]

BLOCK = 1 << 17
"""Events that become text at once."""


def save_events(stream: EventStream, path: str | Path) -> Path:
    """Write a stream, see :meth:`calcarine.stimuli.EventStream.save`."""
    path = Path(path)
    suffix = path.suffix.lower()
    writers = {".npz": _write_npz, ".csv": _write_csv, ".h5": _write_hdf5, ".hdf5": _write_hdf5}
    if suffix not in writers:
        raise InputError(
            f"EventStream.save expected a name ending in .npz, .csv or .h5, got {path.name!r}."
        )
    with output_file(path) as file:
        writers[suffix](stream, file)
    return path


def _arrays(stream: EventStream) -> dict[str, np.ndarray]:
    columns = {"t": stream.t_us, "x": stream.x, "y": stream.y, "p": stream.polarity}
    return {name: column.numpy() for name, column in columns.items()}


def _write_npz(stream: EventStream, file: IO[bytes]) -> None:
    height, width = (np.int64(n) for n in stream.size)
    columns: dict[str, Any] = _arrays(stream)
    np.savez_compressed(file, **columns, height=height, width=width)


def _write_csv(stream: EventStream, file: IO[bytes]) -> None:
    height, width = stream.size
    file.write(f"# events={len(stream)} height={height} width={width}\nt,x,y,p\n".encode())
    for first in range(0, len(stream), BLOCK):
        part = stream[first : first + BLOCK]
        columns = (part.t_us, part.x, part.y, part.polarity.byte())
        rows = zip(*(column.tolist() for column in columns), strict=True)
        file.write("".join(f"{t},{x},{y},{p}\n" for t, x, y, p in rows).encode())


def _write_hdf5(stream: EventStream, file: IO[bytes]) -> None:
    library = require("h5py", extra="events", purpose="Writing HDF5 files of events")
    # HDF5 goes back and forth while it writes, which a file opened for writing only cannot
    with tempfile.TemporaryFile() as draft:
        with library.File(draft, "w") as out:
            group = out.create_group("events")
            for name, column in _arrays(stream).items():
                kind = np.uint8 if name == "p" else column.dtype
                options = {"compression": "gzip", "compression_opts": 1} if len(column) else {}
                group.create_dataset(name, data=column.astype(kind), **options)
            group.attrs["height"], group.attrs["width"] = stream.size
        draft.seek(0)
        shutil.copyfileobj(draft, file)
