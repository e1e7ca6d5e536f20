"""Recordings in the formats of cameras: AEDAT4, Event Stream, Prophesee DAT and EVT (RAW).

The library faery decodes them. What is added is what it lets pass: a file that ends in the middle
of an event, binary data without a header, and times that run backward, which it would hold still.

    .aedat4   iniVation      an event table in compressed packets
    .es       Event Stream   5 bytes per event, 1 byte per 127 us without any
    .dat      Prophesee      8 bytes per event
    .raw      Prophesee      EVT2 (4-byte words) or EVT3 (2-byte words)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from calcarine.errors import FileFormatError, require
from calcarine.stimuli._event_names import RawEvents

__all__ = ["read_camera"]

_MAGIC = {".aedat4": b"#!AER-DAT4.0\r\n", ".es": b"Event Stream", ".dat": b"%", ".raw": b"%"}
_KINDS = {".aedat4": "aedat", ".es": "es", ".dat": "dat", ".raw": "evt"}
_UNKNOWN = {".dat": (16384, 16384), ".raw": (2048, 2048)}
"""Width and height that the bits of a coordinate allow, for headers that name none."""
_ES_HEADER, _ES_GAP = 20, 127


def read_camera(path: Path, label: str) -> RawEvents:
    """Read a recording; its suffix says the format, its first bytes must agree.

    Raises:
        FileFormatError: If the file is damaged, incomplete or of another kind.
        MissingDependencyError: If faery is not installed.
    """
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(len(_MAGIC[suffix]))
    if start != _MAGIC[suffix]:
        raise FileFormatError(
            f"{label} expected a {suffix} recording, which starts with {_MAGIC[suffix]!r}, but "
            f"byte 0 starts {start!r}. Is the file damaged, or does it need another suffix?"
        )
    _check_words(path, suffix, label)
    library = require("faery", extra="events", purpose=f"Reading {suffix} recordings")
    packets = list(_packets(library, path, suffix, label))
    size = packets.pop()
    if suffix == ".es":
        _check_stream_end(path, packets, label)
    t, x, y, p = _joined(packets)
    known = None if size == _UNKNOWN.get(suffix) else (size[1], size[0])
    return RawEvents(t, x, y, p, known, "event {}".format)


def _packets(library: Any, path: Path, suffix: str, label: str) -> Iterator[Any]:
    """Give the columns of each packet, and at last (width, height)."""
    done = 0
    try:
        decoder = library.events_stream_from_file(
            path,
            dimensions_fallback=_UNKNOWN.get(suffix, (1, 1)),
            file_type=_KINDS[suffix],
        )
        for packet in decoder:
            done += len(packet)
            if len(packet):
                yield (
                    packet["t"].view(np.int64)
                    if packet["t"].flags.c_contiguous
                    else packet["t"].astype(np.int64),
                    packet["x"].astype(np.uint16),
                    packet["y"].astype(np.uint16),
                    packet["on"].astype(np.bool_),
                )
        yield decoder.dimensions()
    except Exception as error:  # the decoders raise errors of several kinds
        raise _damaged(label, suffix, done, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a failure inside the compiled decoder
            raise
        raise _damaged(label, suffix, done, error) from error


def _damaged(label: str, suffix: str, done: int, error: BaseException) -> FileFormatError:
    return FileFormatError(
        f"{label} is no complete {suffix} recording: after {done} events, {error}. Fetch it again, "
        "or cut it with the camera's own software."
    )


def _joined(packets: list[Any]) -> list[npt.NDArray[Any]]:
    """Join packets column by column, letting go of each part as soon as it is copied."""
    columns = [list(column) for column in zip(*packets, strict=True)] or [[], [], [], []]
    packets.clear()
    kinds = (np.int64, np.uint16, np.uint16, np.bool_)
    joined = []
    for parts, kind in zip(columns, kinds, strict=True):
        joined.append(np.concatenate(parts) if parts else np.empty(0, kind))
        parts.clear()
    return joined


def _check_words(path: Path, suffix: str, label: str) -> None:
    """Check that a Prophesee file has a whole number of words, and DAT times that do not fall."""
    if suffix not in (".dat", ".raw"):
        return
    header, text = _header(path)
    if suffix == ".dat":
        header += 2  # type and size of an event
        word = 8
    elif re.search(r"\bevt\s*2\.1|\bEVT21\b", text):
        word = 8
    elif re.search(r"\bevt\s*2|\bEVT2\b", text):
        word = 4
    elif re.search(r"\bevt\s*3|\bEVT3\b", text):
        word = 2
    else:
        raise FileFormatError(
            f"{label} expected a header that names EVT2 or EVT3, got {text[:60]!r}. Other "
            "encodings are not read; convert the file with the camera's own software."
        )
    length = path.stat().st_size - header
    if length < 0 or length % word:
        raise FileFormatError(
            f"{label} is incomplete: after a header of {header} bytes come {max(length, 0)} bytes, "
            f"which is no whole number of {word}-byte words. It ends inside an event at byte "
            f"{header + max(length, 0) // word * word}."
        )
    if suffix == ".dat" and length:
        _check_dat_times(path, header, label)


def _check_dat_times(path: Path, header: int, label: str) -> None:
    times = np.memmap(path, np.dtype([("t", "<u4"), ("_", "<u4")]), "r", header)["t"]
    block = 1 << 20
    for first in range(0, len(times), block):
        part = times[first : first + block + 1]
        falls = part[1:] < part[:-1]
        if falls.any():
            at = first + int(falls.argmax()) + 1
            raise FileFormatError(
                f"{label} expected times that never decrease, but the event at byte "
                f"{header + 8 * at} is at {times[at]} us, after {times[at - 1]} us. Is the file "
                "damaged, or longer than the 71 minutes that DAT can count?"
            )


def _header(path: Path) -> tuple[int, str]:
    """Return the length of the lines that start with a per cent sign, and their text."""
    lines, length = [], 0
    with path.open("rb") as file:
        while (line := file.readline(4096)).startswith(b"% ") and line.endswith(b"\n"):
            lines.append(line.decode("latin-1"))
            length += len(line)
            if line.strip() == b"% end":
                break
    return length, "".join(lines)


def _check_stream_end(path: Path, packets: list[Any], label: str) -> None:
    """Check that an Event Stream file ends after an event.

    An event takes 5 bytes, and each 127 us before it one byte more, so the events tell how many
    bytes they took; what is left may only be further pauses (0xfe and 0xff).
    """
    with path.open("rb") as file:
        header = file.read(_ES_HEADER)
    if len(header) < _ES_HEADER or header[15] != 1:  # only plain change events are this regular
        return
    used, last = _ES_HEADER, 0
    for t, *_ in packets:
        used += 5 * len(t) + int((np.diff(t, prepend=last) // _ES_GAP).sum())
        last = int(t[-1])
    with path.open("rb") as file:
        file.seek(used)
        pauses = file.read(1 << 16)
        while pauses and min(pauses) >= 0xFE:
            used += len(pauses)
            pauses = file.read(1 << 16)
    if pauses:
        used += next(i for i, byte in enumerate(pauses) if byte < 0xFE)
        raise FileFormatError(
            f"{label} is incomplete: it ends inside an event that starts at byte {used}."
        )
