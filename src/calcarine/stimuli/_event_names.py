"""What files call the columns of events."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["NAMES", "RawEvents", "column_of"]

NAMES = {
    "t": frozenset(
        {"t", "ts", "time", "times", "timestamp", "timestamps", "t_us", "time_us", "timestamp_us"}
    ),
    "x": frozenset({"x", "xs", "x_px", "column", "col"}),
    "y": frozenset({"y", "ys", "y_px", "row"}),
    "p": frozenset({"p", "ps", "pol", "polarity", "polarities", "on"}),
}
"""Names of each column, in lower case. Times are microseconds; other units are not guessed."""


class RawEvents(NamedTuple):
    """Columns as a file holds them, not yet checked."""

    t: Any
    x: Any
    y: Any
    p: Any
    size: tuple[int, int] | None
    place: Callable[[int], str]


def column_of(name: str) -> str:
    """Return which of t, x, y and p a column is, or an empty string."""
    plain = re.sub(r"[\[(]us[\])]|[\s\"']+", "", name.lower())
    return next((key for key, names in NAMES.items() if plain in names), "")
