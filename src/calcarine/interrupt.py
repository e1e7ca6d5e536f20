"""Ctrl-C and the scheduler's SIGTERM: finish the step, save, return; the second one aborts."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupt"]

_NOTICE = b"\nStopping after this step and saving. Press Ctrl-C again to abort at once.\n"


class Interrupt:
    """Turns the first interrupt inside its ``with`` block into a request.

    Outside the main thread, where Python delivers no signals, and for signals that the process was
    told to ignore, everything stays as it was.

    Attributes:
        requested: Whether an interrupt has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(kind) is not signal.SIG_IGN:
                    self._before[kind] = signal.signal(kind, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE)  # a buffered write is not safe inside a signal handler
