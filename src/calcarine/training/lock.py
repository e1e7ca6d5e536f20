"""One training per run folder: the second is refused for as long as the first one writes.

The operating system frees the lock of a process that was killed, so there is nothing to clear away.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from calcarine.errors import CalcarineWarning, InputError

__all__ = ["LOCK_NAME", "only_training_in"]

LOCK_NAME = ".training.lock"
"""Name of the lock's file inside the run folder; left behind only by a process that was killed."""


@contextlib.contextmanager
def only_training_in(folder: Path, *, make: bool) -> Iterator[None]:
    """Keep other trainings out of a folder during the block.

    A folder that is missing or cannot be written is left to those who know what to say about it.

    Args:
        folder: The run's folder.
        make: Whether to make it if it is missing.

    Raises:
        InputError: If a training is at work in the folder.
    """
    from filelock import FileLock, Timeout  # torch brings it

    path = folder / LOCK_NAME
    lock = FileLock(path, timeout=0)
    held = False
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():  # or filelock would make it
            lock.acquire()
            held = True
    except Timeout as error:
        raise InputError(
            f"Training expected {folder} for itself, but another training is writing to it. Wait "
            "until it ends, stop it, or choose another folder."
        ) from error
    except (PermissionError, FileExistsError, NotADirectoryError):
        pass
    except (OSError, NotImplementedError) as error:
        warnings.warn(
            f"{folder} lies on a disk without locks ({error}). Make sure that no other training "
            "writes to it.",
            CalcarineWarning,
            stacklevel=4,
        )
    try:
        yield
    finally:
        if held:
            # Before it is released, or it could be the file of the next one already.
            with contextlib.suppress(OSError):
                path.unlink()
            lock.release()
