"""How far long work is, on standard error: a bar on a terminal, a line now and then elsewhere.

Both show steps done, losses, learning rate, steps per second and the remaining time. They are
redrawn by the clock and not by the step, so a fast step is not slowed down.
"""

from __future__ import annotations

import datetime
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import TextIO

__all__ = ["BarProgress", "LineProgress", "Progress", "SilentProgress", "open_progress"]


class Progress(ABC):
    """Shows how far the work is."""

    @abstractmethod
    def advance(self, done: int) -> None:
        """Say how many steps are done; called after every step."""

    @abstractmethod
    def values(self, scalars: Mapping[str, float], *, title: str = "") -> None:
        """Say what the latest scalars are, under a title; called with every log line."""

    @abstractmethod
    def note(self, text: str) -> None:
        """Show a message that stays."""

    @abstractmethod
    def close(self) -> None:
        """Show the last state and leave the terminal tidy."""


class SilentProgress(Progress):
    """Shows nothing."""

    def advance(self, done: int) -> None:
        """Show nothing."""

    def values(self, scalars: Mapping[str, float], *, title: str = "") -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class _Clock:
    """Decides when to redraw, and measures the speed over the last redraws."""

    def __init__(self, done: int, every_s: float) -> None:
        now = time.perf_counter()
        self._every_s = every_s
        self._due = now + every_s
        self._marks: deque[tuple[float, int]] = deque([(now, done)], maxlen=30)

    def due(self, done: int) -> bool:
        now = time.perf_counter()
        if now < self._due:
            return False
        self._due = now + self._every_s
        self._marks.append((now, done))
        return True

    def speed(self, done: int) -> float:
        """Updates per second."""
        start, before = self._marks[0]
        return (done - before) / max(time.perf_counter() - start, 1e-9)


class LineProgress(Progress):
    """A line every few seconds, for log files and pipes.

    Args:
        total: Number of steps of the whole run.
        done: Steps done before.
        stream: Where to write.
        every_s: Seconds between two lines.
        unit: What one step is called.
    """

    def __init__(
        self,
        total: int,
        done: int,
        stream: TextIO,
        *,
        every_s: float = 10.0,
        unit: str = "update",
    ) -> None:
        self._unit = unit
        self._total, self._done, self._shown = total, done, done
        self._stream = stream
        self._clock = _Clock(done, every_s)
        self._text = ""

    def advance(self, done: int) -> None:
        """Write a line when one is due."""
        self._done = done
        if self._clock.due(done):
            self._write()

    def values(self, scalars: Mapping[str, float], *, title: str = "") -> None:
        """Remember the scalars for the next line."""
        self._text = _summary(scalars, title)

    def note(self, text: str) -> None:
        """Write the message as a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Write where the work stands, unless that was the last line."""
        if self._done != self._shown:
            self._write()

    def _write(self) -> None:
        self._shown = self._done
        speed = self._clock.speed(self._done)
        self.note(
            f"{self._unit} {self._done}/{self._total}  {self._text}  {speed:.1f}/s  "
            f"remaining {_remaining(self._total - self._done, speed)}"
        )


class BarProgress(Progress):
    """A bar that redraws itself, for terminals.

    Args:
        total: Number of steps of the whole run.
        done: Steps done before.
        stream: The terminal.
        every_s: Seconds between two redraws.
    """

    def __init__(self, total: int, done: int, stream: TextIO, *, every_s: float = 0.2) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._total, self._done = total, done
        self._clock = _Clock(done, every_s)
        self._bar = RichProgress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TextColumn("{task.fields[pace]}", markup=False),
            console=Console(file=stream),
            auto_refresh=False,
        )
        self._task = self._bar.add_task("", total=total, completed=done, text="", pace="")
        self._bar.start()

    def advance(self, done: int) -> None:
        """Redraw when it is due."""
        self._done = done
        if self._clock.due(done):
            self._draw()

    def values(self, scalars: Mapping[str, float], *, title: str = "") -> None:
        """Show the scalars from the next redraw on."""
        self._bar.update(self._task, text=_summary(scalars, title))

    def note(self, text: str) -> None:
        """Print the message above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Draw the last state and release the terminal."""
        self._draw()
        self._bar.stop()

    def _draw(self) -> None:
        speed = self._clock.speed(self._done)
        pace = f"{speed:.1f}/s  {_remaining(self._total - self._done, speed)}"
        self._bar.update(self._task, completed=self._done, pace=pace, refresh=True)


def open_progress(
    total: int,
    done: int,
    *,
    shown: bool = True,
    stream: TextIO | None = None,
    unit: str = "update",
) -> Progress:
    """Choose how to show progress.

    Args:
        total: Number of steps of the whole run.
        done: Steps done before.
        shown: Whether to show anything.
        stream: Where to; standard error when left out.
        unit: What one step is called in the lines.
    """
    stream = sys.stderr if stream is None else stream
    if not shown:
        return SilentProgress()
    if stream.isatty():
        return BarProgress(total, done, stream)
    return LineProgress(total, done, stream, unit=unit)


def _summary(scalars: Mapping[str, float], title: str = "") -> str:
    """Title, losses (or the first scalar) and learning rate, short."""
    losses = [name for name in scalars if name.startswith("loss/")]
    others = [name for name in scalars if name not in ("learning_rate", "skipped")]
    shown = losses[:3] or others[:1]
    parts = [f"{name.removeprefix('loss/')} {scalars[name]:.4g}" for name in shown]
    if losses:
        parts.insert(0, "loss")
    if title:
        parts.insert(0, title)
    if "learning_rate" in scalars:
        parts.append(f"rate {scalars['learning_rate']:.2e}")
    if scalars.get("skipped"):
        parts.append(f"skipped {scalars['skipped']:.0f}")
    return "  ".join(parts)


def _remaining(updates: int, speed: float) -> str:
    """Remaining time as h:mm:ss."""
    if speed <= 0:
        return "-:--:--"
    return str(datetime.timedelta(seconds=round(updates / speed)))
