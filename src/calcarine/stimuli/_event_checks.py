"""What makes columns of events a stream: lengths, types, order, and pixels inside the sensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli._checks import checked_size, is_count

__all__ = [
    "MOST_PIXELS",
    "Place",
    "checked_columns",
    "count",
    "first_true",
    "microseconds",
    "positive",
    "span",
]

MOST_PIXELS = torch.iinfo(torch.int16).max
"""Largest height or width, so that a coordinate takes two bytes."""

Place = Callable[[int], str]
"""Says where event number i stands: ``event 7``, or ``line 8`` of a file."""

Columns = tuple[Tensor, Tensor, Tensor, Tensor, tuple[int, int]]


def checked_columns(
    owner: str,
    t_us: Any,
    x: Any,
    y: Any,
    polarity: Any,
    size: object,
    place: Place = "event {}".format,
    error: type[InputError] = InputError,
) -> Columns:
    """Return columns as int64, int16, int16 and bool tensors, copied only where they must be.

    Args:
        owner: What to call the place that the columns come from.
        t_us: Times, see :class:`calcarine.stimuli.EventStream`, as are the others.
        x: Columns of the sensor.
        y: Rows of the sensor.
        polarity: Polarities or ``None``.
        size: Height and width.
        place: Names an event by its number.
        error: Class of the errors about values.

    Raises:
        ShapeError: If the columns are not one-dimensional or not of one length.
        InputError: If a value is impossible.
    """
    height, width = checked_size(owner, size)
    if max(height, width) > MOST_PIXELS:
        raise error(
            f"{owner} expected a sensor of at most {MOST_PIXELS} pixels a side, got height {height}"
            f" and width {width}."
        )
    named = {"t_us": t_us, "x": x, "y": y}
    if polarity is not None:
        named["polarity"] = polarity
    raw = {name: _column(owner, name, values) for name, values in named.items()}
    if len({len(column) for column in raw.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column)}" for name, column in raw.items())
        raise ShapeError(f"{owner} expected columns of one length, got {lengths} events.")
    times = _whole(owner, "t_us", raw["t_us"], error).to(torch.int64)
    later = first_true(times[1:] < times[:-1])
    if later is not None:
        raise error(
            f"{owner} expected times that never decrease, but {place(later + 1)} is at "
            f"{times[later + 1].item()} us, after {times[later].item()} us. Sort the events first "
            "(torch.argsort(t_us, stable=True), or read_events(..., sort=True))."
        )
    columns = _pixels(owner, "x", raw["x"], "width", width, place, error)
    rows = _pixels(owner, "y", raw["y"], "height", height, place, error)
    signs = torch.ones(len(times), dtype=torch.bool)
    if polarity is not None:
        signs = _signs(owner, raw["polarity"], place, error)
    return times, columns, rows, signs, (height, width)


def first_true(mask: Tensor) -> int | None:
    """Return the number of the first true element, or ``None``."""
    return int(mask.to(torch.uint8).argmax()) if mask.any() else None


def microseconds(owner: str, name: str, ms: object) -> int:
    """Return a time in ms as whole microseconds, the grain of all events.

    Raises:
        InputError: If it is not a finite number.
    """
    if isinstance(ms, (int, float)) and not isinstance(ms, bool) and math.isfinite(ms):
        us = round(ms * 1000)
        if abs(us) < 2**62:
            return us
    raise InputError(f"{owner} expected {name} as a finite time in milliseconds, got {ms!r}.")


def span(times: Tensor, start_ms: float | None, stop_ms: float | None) -> tuple[int, int]:
    """Return the numbers of the first event inside [start, stop) and of the first after it."""
    start = None if start_ms is None else microseconds("between", "start_ms", start_ms)
    stop = None if stop_ms is None else microseconds("between", "stop_ms", stop_ms)
    if start is not None and stop is not None and stop < start:
        raise InputError(
            f"between expected start_ms <= stop_ms, got start_ms={start_ms} and stop_ms={stop_ms}."
        )
    first = 0 if start is None else int(torch.searchsorted(times, start))
    last = len(times) if stop is None else int(torch.searchsorted(times, stop))
    return first, max(first, last)


def positive(owner: str, name: str, value: object) -> float:
    """Return a finite number above 0.

    Raises:
        InputError: If it is anything else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise InputError(f"{owner} expected {name} as a finite number above 0, got {value!r}.")


def count(owner: str, name: str, value: object, least: int = 1) -> int:
    """Return a whole number that is large enough.

    Raises:
        InputError: If it is anything else.
    """
    if is_count(value) or (value == 0 and least == 0 and not isinstance(value, (bool, float))):
        assert isinstance(value, int)
        return value
    raise InputError(f"{owner} expected {name} as a whole number >= {least}, got {value!r}.")


def _column(owner: str, name: str, values: Any) -> Tensor:
    try:
        if isinstance(values, np.ndarray):
            # torch shares memory only with arrays that are native, writable and run forward
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
            if not values.flags.writeable or min(values.strides, default=0) < 0:
                values = values.copy()
        column = torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"{owner} expected {name} as one column (N,) of numbers, got "
            f"{type(values).__name__} that is none ({error})."
        ) from error
    if column.layout != torch.strided or column.ndim != 1:
        raise ShapeError(
            f"{owner} expected {name} as a dense column with axes (event,), got shape "
            f"{tuple(column.shape)}. Flatten it, or pass frames to events_from_frames."
        )
    return column.detach()


def _whole(owner: str, name: str, column: Tensor, error: type[InputError]) -> Tensor:
    """Return a column of whole numbers, whatever type it is held in."""
    if not len(column):
        return column.to(torch.int64)
    if column.is_complex() or column.is_floating_point() or column.dtype == torch.bool:
        unit = " of microseconds" if name == "t_us" else ""
        raise error(
            f"{owner} expected {name} as whole numbers{unit}, got {column.dtype}. Round it yourself"
            f", as in {name}.round().long()."
        )
    if column.dtype == torch.uint64:
        wrapped = column.view(torch.int64)
        if wrapped.min() < 0:
            raise error(f"{owner} expected {name} below 2^63, got a larger number.")
        return wrapped
    return column


def _pixels(
    owner: str,
    name: str,
    column: Tensor,
    side: str,
    end: int,
    place: Place,
    error: type[InputError],
) -> Tensor:
    whole = _whole(owner, name, column, error)
    if whole.dtype in (torch.uint16, torch.uint32):  # torch compares few of the unsigned types
        whole = whole.to(torch.int32 if whole.dtype == torch.uint16 else torch.int64)
    outside = first_true((whole < 0) | (whole >= end))
    if outside is not None:
        raise error(
            f"{owner} expected 0 <= {name} < {side} {end}, but {place(outside)} has {name} = "
            f"{whole[outside].item()}. Is the size (height, width) right, or are x and y swapped?"
        )
    return whole.to(torch.int16)


def _signs(owner: str, column: Tensor, place: Place, error: type[InputError]) -> Tensor:
    if column.dtype == torch.bool:
        return column
    whole = _whole(owner, "polarity", column, error)
    signed = first_true(whole == -1) is not None if whole.dtype != torch.uint8 else False
    strange = first_true((whole != 1) & (whole != (-1 if signed else 0)))
    if strange is not None:
        raise error(
            f"{owner} expected polarities of 0 and 1, or of -1 and 1, but {place(strange)} has "
            f"{whole[strange].item()}."
        )
    return whole == 1
