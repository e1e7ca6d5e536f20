"""Events of a silicon retina: what changed, where, and when, without frames.

    event = (t, x, y, polarity)      polarity True: brighter (ON), False: darker (OFF)

Axes    N events | H W rows down (y), columns right (x)
Units   t microseconds, as in the file, never shifted; x y pixels; everything named _ms milliseconds
Source  lichtsteiner2008 (the sensor and its address events)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int16, Int64
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stimuli._event_checks import checked_columns, span
from calcarine.stimuli.event_frames import count_frames, voxel_grid
from calcarine.stimuli.event_surfaces import last_times_surface, surfaces_around

__all__ = ["EventStream"]


class EventStream:
    """Events sorted by time, held in columns of 13 bytes per event.

    ``stream[a:b]`` and :meth:`between` share memory with the stream they come from, so change no
    column in place. Without polarity every event counts as ON.

    Args:
        t_us: Times (N,), whole microseconds, never decreasing.
        x: Columns (N,), pixels, 0 at the left.
        y: Rows (N,), pixels, 0 at the top.
        polarity: True for ON (N,); also 0 and 1, or -1 and 1. ``None``: all ON.
        size: Height and width of the sensor, at most 32767 each.

    Raises:
        ShapeError: If the columns are not one-dimensional or not of one length.
        InputError: If a column is not of whole numbers, times decrease, a pixel lies outside the
            sensor or a polarity is neither ON nor OFF; the first such event is named.
    """

    __slots__ = ("polarity", "size", "t_us", "x", "y")

    t_us: Int64[Tensor, " N"]
    x: Int16[Tensor, " N"]
    y: Int16[Tensor, " N"]
    polarity: Bool[Tensor, " N"]
    size: tuple[int, int]

    def __init__(
        self, t_us: Any, x: Any, y: Any, polarity: Any = None, *, size: tuple[int, int]
    ) -> None:
        self.t_us, self.x, self.y, self.polarity, self.size = checked_columns(
            "EventStream", t_us, x, y, polarity, size
        )

    def __len__(self) -> int:
        return len(self.t_us)

    def __getitem__(self, part: slice) -> EventStream:
        """Return some events by their number, without copying: ``stream[1000:2000]``."""
        if not isinstance(part, slice) or (part.step or 1) < 1:
            raise InputError(
                f"EventStream expected a slice that runs forward, as in stream[10:20], got {part!r}"
                ". For single values index a column, as in stream.t_us[10]."
            )
        columns = (column[part] for column in (self.t_us, self.x, self.y, self.polarity))
        return self._with(*columns, size=self.size)

    def __repr__(self) -> str:
        height, width = self.size
        start = f"{len(self):,} events"
        if not len(self):
            return f"EventStream({start}, {width} x {height} px)"
        seconds = self.duration_ms / 1000
        rate = f", {len(self) / seconds:,.4g} events/s" if seconds else ""
        share = self.polarity.sum().item() / len(self)
        return (
            f"EventStream({start} from {self.t_us[0].item() / 1000:,.3f} to "
            f"{self.t_us[-1].item() / 1000:,.3f} ms ({self.duration_ms:,.3f} ms){rate}, "
            f"width {width} x height {height} px, {share:.1%} ON)"
        )

    @property
    def start_ms(self) -> float:
        """Time of the first event, ms; 0 without events."""
        return self.t_us[0].item() / 1000 if len(self) else 0.0

    @property
    def duration_ms(self) -> float:
        """Time from the first to the last event, ms; 0 without events."""
        return (self.t_us[-1] - self.t_us[0]).item() / 1000 if len(self) else 0.0

    def between(self, start_ms: float | None = None, stop_ms: float | None = None) -> EventStream:
        """Return the events with start <= t < stop, sharing memory; times stay as they are.

        Args:
            start_ms: Start, ms, on the clock of the stream. ``None``: from the first event.
            stop_ms: Stop, ms; an event at this very time is left out. ``None``: to the end.

        Raises:
            InputError: If a bound is not finite, or the stop comes before the start.
        """
        first, last = span(self.t_us, start_ms, stop_ms)
        return self[first:last]

    def crop(
        self, *, rows: tuple[int, int] | None = None, columns: tuple[int, int] | None = None
    ) -> EventStream:
        """Return the events of a rectangle, its upper left pixel becoming (0, 0).

        Args:
            rows: First row, and the row after the last. ``None``: all.
            columns: First column, and the column after the last. ``None``: all.

        Raises:
            InputError: If the rectangle is empty or reaches outside the sensor.
        """
        top, bottom = _checked_range("rows", rows, self.size[0])
        left, right = _checked_range("columns", columns, self.size[1])
        if (bottom - top, right - left) == self.size:
            return self
        inside = (self.y >= top) & (self.y < bottom) & (self.x >= left) & (self.x < right)
        return self._with(
            self.t_us[inside],
            self.x[inside] - left,
            self.y[inside] - top,
            self.polarity[inside],
            size=(bottom - top, right - left),
        )

    def frames(
        self,
        dt_ms: float = 1.0,
        polarity: Literal["merge", "split"] = "merge",
        *,
        sparse: bool = False,
        steps: int | None = None,
        start_ms: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "T C H W"]:
        """Count the events of each pixel in time steps.

        Frame k counts the events with ``start_ms + k dt_ms <= t < start_ms + (k + 1) dt_ms``.

        Args:
            dt_ms: Duration of a frame, ms.
            polarity: ``"merge"`` counts both in one channel; ``"split"`` has two, numbered as the
                polarity is: channel 0 OFF, channel 1 ON.
            sparse: Return a coalesced sparse (COO) tensor instead of a dense one.
            steps: Number of frames; later events are left out. ``None``: up to the last event.
            start_ms: When frame 0 begins, ms, on the clock of the stream. A recording whose clock
                started long before it needs ``start_ms=stream.start_ms``.
            dtype: Floating-point type of the counts. ``None``: the default of torch.

        Returns:
            Counts (time, channel, height, width).

        Raises:
            InputError: If a setting is impossible, there are events before ``start_ms`` (use
                :meth:`between` to leave them out), or the frames would not fit into memory.
        """
        return count_frames(self, dt_ms, polarity, sparse, steps, start_ms, dtype)

    def time_surface(
        self, tau_ms: float, at_ms: float | None = None, *, dtype: torch.dtype | None = None
    ) -> Float[Tensor, "2 H W"]:
        """Return exp(-(t - t_last) / tau) of every pixel and polarity; 0 where nothing happened.

        Args:
            tau_ms: Time constant of the decay, ms.
            at_ms: The time t, ms, whose events count too. ``None``: that of the last event.
            dtype: Floating-point type. ``None``: the default of torch.

        Returns:
            Surface (polarity, height, width) in [0, 1], polarity 0 OFF and 1 ON. lagorce2017.

        Raises:
            InputError: If ``tau_ms`` is not positive or ``at_ms`` not finite.
        """
        return last_times_surface(self, tau_ms, at_ms, dtype)

    def local_surfaces(
        self,
        radius_px: int,
        tau_ms: float,
        *,
        events: Int64[Tensor, " M"] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "M 2 K K"]:
        """Return the time surface that each event finds around itself, as HOTS describes it.

        For event i with offset u, |u| <= radius, and polarity p it is exp(-(t_i - T) / tau), T
        being the time of the latest event j <= i at pixel (x_i, y_i) + u with polarity p; 0 where
        there was none or the sensor ends. The centre of the event's own polarity is 1.

        Args:
            radius_px: Radius R; surfaces have K = 2R + 1 pixels to a side.
            tau_ms: Time constant of the decay, ms.
            events: Numbers (M,) of the events to describe. ``None``: all of them; mind that a
                surface takes 2 K^2 numbers.
            dtype: Floating-point type. ``None``: the default of torch.

        Returns:
            Surfaces (event, polarity, row, column), polarity 0 OFF and 1 ON. lagorce2017, eqs. 2-3.

        Raises:
            InputError: If a setting is impossible, or an event number is outside the stream.
        """
        return surfaces_around(self, radius_px, tau_ms, events, dtype)

    def voxel_grid(
        self,
        bins: int,
        polarity: Literal["signed", "merge", "split"] = "signed",
        *,
        start_ms: float | None = None,
        stop_ms: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "bins C H W"]:
        """Share every event between the two nearest of several instants.

        Bin b stands for the instant ``start + b (stop - start) / (bins - 1)``; an event adds
        ``max(0, 1 - |b - b_event|)`` to it (zhu2019), so that the sum over bins counts each event
        once. With one bin, all events count fully.

        Args:
            bins: Number of instants.
            polarity: ``"signed"`` adds +1 for ON and -1 for OFF in one channel; ``"merge"`` counts
                both alike; ``"split"`` has channel 0 OFF and channel 1 ON.
            start_ms: Instant of the first bin, ms. ``None``: the first event.
            stop_ms: Instant of the last bin, ms. ``None``: the last event.
            dtype: Floating-point type. ``None``: the default of torch.

        Returns:
            Grid (bins, channel, height, width).

        Raises:
            InputError: If a setting is impossible, or events lie outside start and stop.
        """
        return voxel_grid(self, bins, polarity, start_ms, stop_ms, dtype)

    def save(self, path: str | Path) -> Path:
        """Write the stream to a file, whole or not at all, that ``read_events`` reads back.

        Args:
            path: A name ending in ``.npz``, ``.csv`` or ``.h5``. All keep the sensor size.

        Raises:
            InputError: If the name ends otherwise.
            MissingDependencyError: If ``.h5`` is asked for without h5py.
            RunError: If the file cannot be written.
        """
        from calcarine.stimuli._event_writers import save_events

        return save_events(self, path)

    @classmethod
    def _with(
        cls, t_us: Tensor, x: Tensor, y: Tensor, polarity: Tensor, *, size: tuple[int, int]
    ) -> EventStream:
        """Build a stream of columns that are known to be right."""
        stream = cls.__new__(cls)
        stream.t_us, stream.x, stream.y, stream.polarity = t_us, x, y, polarity
        stream.size = size
        return stream


def _checked_range(name: str, pair: object, end: int) -> tuple[int, int]:
    if pair is None:
        return 0, end
    if (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        and 0 <= pair[0] < pair[1] <= end
    ):
        return pair[0], pair[1]
    raise InputError(
        f"crop expected {name} as (first, last + 1) with 0 <= first < last + 1 <= {end}, got "
        f"{pair!r}."
    )
