"""Events in text, ``t,x,y[,p]`` to a line: plain lines fast, all others with care.

Plain lines, numbers and separators only, are parsed a block at a time: with every separator of a
block found, digit d of all numbers in a column is one gather, so the work is a few array operations
per digit. A block with anything else in it (spaces, comments, blank lines) goes line by line, which
also names the first line that cannot be read.

Columns are named by a header (any order), or else are t, x, y and, if there are four, polarity.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from calcarine.errors import FileFormatError
from calcarine.stimuli._event_names import NAMES, RawEvents, column_of

__all__ = ["read_text"]

BLOCK = 1 << 21
"""Bytes parsed at once, which bounds the memory beyond the columns."""

LONGEST_LINE = 1 << 16

_SIZE = re.compile(r"height\D{0,3}(\d{1,6})\D+width\D{0,3}(\d{1,6})")
_COUNT = re.compile(r"events=(\d{1,18})\b")
_WHOLE = re.compile(r"[+-]?\d{1,19}(\.0*)?")
_TRUTH = {"true": 1, "false": 0, "on": 1, "off": 0}
_NEWLINE, _MINUS = 10, 45
_INT64 = np.iinfo(np.int64)


class _Layout(NamedTuple):
    """How a file lays out its lines."""

    separator: str
    columns: tuple[str, ...]
    first_data: int
    first_line: int
    size: tuple[int, int] | None
    events: int | None


class _Output:
    """Columns that are filled block by block, and which lines of the file held no event."""

    def __init__(self, label: str, capacity: int, layout: _Layout) -> None:
        kinds = {"t": np.int64, "x": np.int16, "y": np.int16, "p": np.int8}
        self.label = label
        self.columns = {name: np.empty(capacity, kinds[name]) for name in layout.columns}
        self.filled = 0
        self.skipped = [0] * (layout.first_line - 1)

    def line(self, event: int) -> int:
        """Return the line number, from 1, of an event."""
        return event + 1 + bisect_right(self.skipped, event)

    def put(self, name: str, values: npt.NDArray[np.int64]) -> None:
        """Store the next values of a column, which must fit its type."""
        column = self.columns[name]
        limits = np.iinfo(column.dtype)
        if column.dtype != np.int64:
            bad = (values < (0 if name in "xy" else limits.min)) | (values > limits.max)
            if bad.any():
                at = int(bad.argmax())
                raise FileFormatError(
                    f"{self.label} expected {name} from {0 if name in 'xy' else -1} to "
                    f"{limits.max if name in 'xy' else 1}, but line {self.line(self.filled + at)} "
                    f"has {values[at]}."
                )
        column[self.filled : self.filled + len(values)] = values


def read_text(path: Path, label: str) -> RawEvents:
    """Read a text file of events.

    Raises:
        FileFormatError: If a line is no event; it is named.
    """
    with path.open("rb") as file:
        lines = sum(block.count(b"\n") for block in iter(lambda: file.read(BLOCK), b""))
        file.seek(0)
        layout = _layout(file, label)
        output = _Output(label, lines + 1, layout)
        file.seek(layout.first_data)
        rest = b""
        for block in iter(lambda: file.read(BLOCK), b""):
            if len(rest) > LONGEST_LINE:
                line = output.line(output.filled)
                raise FileFormatError(
                    f"{label} expected lines of t,x,y[,p], but line {line} is longer than "
                    f"{LONGEST_LINE} bytes. Is it a binary recording?"
                )
            whole, newline, rest = (rest + block).rpartition(b"\n")
            _parse(whole + newline, layout, output)
        if rest:
            _parse(rest + b"\n", layout, output)
    if layout.events not in (None, output.filled):
        raise FileFormatError(
            f"{label} is incomplete: it should hold {layout.events} events, but ends after "
            f"{output.filled}, in line {output.line(output.filled) - 1}."
        )
    columns = {name: column[: output.filled] for name, column in output.columns.items()}
    return RawEvents(
        columns["t"],
        columns["x"],
        columns["y"],
        columns.get("p"),
        layout.size,
        lambda event: f"line {output.line(event)}",
    )


def _layout(file: IO[bytes], label: str) -> _Layout:
    """Look at the lines up to the first event."""
    size, events, line, start = None, None, 0, 0
    for raw in iter(lambda: file.readline(LONGEST_LINE), b""):
        line += 1
        text = _decoded(raw, label, line).strip().lstrip("\ufeff")
        if text and not text.startswith(("#", "%")):
            break
        if found := _SIZE.search(text):
            size = (int(found[1]), int(found[2]))
        if found := _COUNT.search(text):
            events = int(found[1])
        start += len(raw)
    else:
        raise FileFormatError(
            f"{label} expected lines of t,x,y[,p], got {line} lines of comment or space."
        )
    separator = next((s for s in ",;\t" if s in text), " ")
    fields = _fields(text, separator)
    if any(re.match(r"[+-]?\.?\d|[+-]?(nan|inf)\b", field.lower()) for field in fields):
        if len(fields) not in (3, 4):
            raise FileFormatError(
                f"{label} expected lines of t,x,y or t,x,y,p, but line {line} has {len(fields)} "
                f"columns: {_shown(text)}"
            )
        return _Layout(separator, tuple("txyp"[: len(fields)]), start, line, size, events)
    columns = tuple(column_of(field) for field in fields)
    if not {"t", "x", "y"} <= set(columns) or len(set(columns) - {""}) < len(columns):
        known = "; ".join(f"{name}: {', '.join(sorted(NAMES[name]))}" for name in "txyp")
        raise FileFormatError(
            f"{label} expected columns t, x, y and perhaps p, but line {line} reads {_shown(text)}"
            f" Known names are {known}."
        )
    return _Layout(separator, columns, start + len(raw), line + 1, size, events)


def _parse(block: bytes, layout: _Layout, output: _Output) -> None:
    if not block:
        return
    columns = None
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if len(layout.separator) == 1:
        columns = _plain(np.frombuffer(block, np.uint8), layout)
    if columns is None:
        columns = _careful(block, layout, output)
    for name, values in columns.items():
        output.put(name, values)
    output.filled += len(columns["t"])


def _plain(buffer: npt.NDArray[np.uint8], layout: _Layout) -> dict[str, Any] | None:
    """Parse a block of whole lines, or return ``None`` if it is not of plain numbers."""
    digit = buffer - np.uint8(48)
    other = np.flatnonzero(digit > 9).astype(np.int32)
    minus = buffer[other] == _MINUS
    ends = other[~minus]
    count = len(layout.columns)
    if len(ends) % count:
        return None
    table = ends.reshape(-1, count)
    if not (buffer[table[:, -1]] == _NEWLINE).all():
        return None
    if not (buffer[table[:, :-1]] == ord(layout.separator)).all():
        return None
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    negative = buffer[starts] == _MINUS
    if np.count_nonzero(negative) != np.count_nonzero(minus):
        return None
    widths = (ends - starts - negative).reshape(-1, count)
    if widths.min() < 1 or widths.max() > 18:
        return None
    signs = negative.reshape(-1, count)
    return {
        name: _numbers(digit, table[:, k], widths[:, k], signs[:, k])
        for k, name in enumerate(layout.columns)
    }


def _numbers(digit: Any, ends: Any, widths: Any, negative: Any) -> npt.NDArray[Any]:
    """Gather the numbers that end before ``ends`` from the digits of a block."""
    shortest, longest = int(widths.min()), int(widths.max())
    total: npt.NDArray[Any] = np.zeros(len(ends), np.int64 if longest > 9 else np.int32)
    place = ends.copy()
    for k in range(longest):
        place -= 1
        here = digit[place] if k < shortest else digit[place] * (widths > k)
        total += here * total.dtype.type(10**k)
    if negative.any():
        np.negative(total, out=total, where=negative)
    return total


def _careful(block: bytes, layout: _Layout, output: _Output) -> dict[str, Any]:
    """Parse a block line by line, skipping blank lines and comments."""
    rows: list[list[int]] = []
    first = output.line(output.filled)
    for number, raw in enumerate(block.split(b"\n")[:-1], start=first):
        text = _decoded(raw, output.label, number).strip()
        if not text or text.startswith(("#", "%")):
            output.skipped.append(output.filled + len(rows))
            continue
        fields = _fields(text, layout.separator)
        if len(fields) != len(layout.columns):
            raise FileFormatError(
                f"{output.label} expected {len(layout.columns)} columns "
                f"({', '.join(layout.columns)}), but line {number} has {len(fields)}: "
                f"{_shown(text)} Is the file complete?"
            )
        rows.append(
            [
                _value(field, name, output.label, number)
                for field, name in zip(fields, layout.columns, strict=True)
            ]
        )
    table = np.array(rows, dtype=np.int64).reshape(len(rows), len(layout.columns))
    return {name: table[:, k] for k, name in enumerate(layout.columns)}


def _value(field: str, name: str, label: str, line: int) -> int:
    if name == "p" and field.lower() in _TRUTH:
        return _TRUTH[field.lower()]
    if _WHOLE.fullmatch(field):
        value = int(field.partition(".")[0])
        if _INT64.min <= value <= _INT64.max:
            return value
    hint = ""
    if name == "t" and re.fullmatch(r"[+-]?\d*\.\d+(e[+-]?\d+)?", field.lower()):
        hint = " Times in seconds must be multiplied by 1e6 first."
    unit = " of microseconds" if name == "t" else ""
    raise FileFormatError(
        f"{label} expected {name} as a whole number{unit}, but line {line} has {field!r}.{hint}"
    )


def _fields(text: str, separator: str) -> list[str]:
    if separator == " ":
        return text.split()
    return [field.strip().strip('"') for field in text.split(separator)]


def _decoded(raw: bytes, label: str, line: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{label} expected text, but line {line} holds the byte {raw[error.start]:#04x}. Is it "
            "a binary recording with the wrong suffix?"
        ) from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...") + "."
