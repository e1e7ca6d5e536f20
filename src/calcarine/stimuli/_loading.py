"""Batches made ahead by other processes, in order.

Each process makes whole batches, one at a time. What a batch holds follows from its key alone, so
the number of processes changes nothing but the speed. Processes are left by the interrupts that the
main one handles, and what goes wrong in them is raised in the main one.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils import data as torch_data

from calcarine.errors import CalcarineError, CalcarineWarning, RunError

__all__ = ["Made", "made_ahead"]


class Made(NamedTuple):
    """What a process hands over.

    Attributes:
        result: What was asked for, ``None`` where that failed.
        bad: Pictures found to be bad, by the name of their split, that were not told before.
        error: Why it failed.
    """

    result: Any
    bad: dict[str, dict[int, str]]
    error: CalcarineError | None


class _Jobs(torch_data.Dataset[Made]):
    """Results by their key, as a data set for torch."""

    def __init__(
        self, make: Callable[[Any], Any], bad: Callable[[], dict[str, dict[int, str]]]
    ) -> None:
        self.make, self.bad = make, bad
        self.told: dict[str, int] = {}

    def __getitem__(self, key: Any) -> Made:
        result, problem = None, None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalcarineWarning)  # the main process tells them
            try:
                result = self.make(key)
            except CalcarineError as error:
                # other kinds of error take other arguments and may not survive the way
                problem = type(error)(*error.args) if len(error.args) == 1 else RunError(str(error))
        fresh = {}
        for split, found in self.bad().items():
            fresh[split] = dict(list(found.items())[self.told.get(split, 0) :])
            self.told[split] = len(found)
        return Made(result, fresh, problem)


class _Keys(torch_data.Sampler[Any]):
    """Keys in the order they are given, without end if they have none."""

    def __init__(self, keys: Iterable[Any]) -> None:
        self.keys = keys

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys)


def _leave_interrupts_to_the_main_process(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def made_ahead(
    make: Callable[[Any], Any],
    keys: Iterable[Any],
    *,
    workers: int,
    bad: Callable[[], dict[str, dict[int, str]]],
    found_bad: Callable[[dict[str, dict[int, str]]], None],
) -> Iterator[Any]:
    """Make results in other processes and yield them in the order of their keys.

    Args:
        make: Makes a result of a key.
        keys: The keys, maybe without end.
        workers: How many processes.
        bad: Tells, inside a process, all pictures that were found to be bad.
        found_bad: Called in the main process with what the others have found.

    Raises:
        CalcarineError: What ``make`` raised.
        RunError: If a process has died.
    """
    loader = torch_data.DataLoader(
        _Jobs(make, bad),
        batch_size=None,
        sampler=_Keys(keys),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_interrupts_to_the_main_process,
        generator=torch.Generator(),
        prefetch_factor=2,
    )
    with warnings.catch_warnings():
        # newer Pythons warn of any fork beside threads; torch keeps the new process to one thread
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        made = iter(loader)
    while True:
        try:
            item = next(made)
        except StopIteration:
            return
        except RuntimeError as error:
            raise RunError(
                f"A process that loads pictures has stopped: {error}. It may have run out of "
                "memory. Take fewer (workers=...), or none (workers=0)."
            ) from error
        found_bad(item.bad)
        if item.error is not None:
            raise item.error
        yield item.result
