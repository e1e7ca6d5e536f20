"""Writing files so that a reader never meets half of one, and unpacking what strangers wrote.

Everything is written under a temporary name in the same folder, synced, and renamed when it is
complete; renaming within a folder is atomic on every system that Python runs on. A name that starts
with a dot and ends in ``.part`` is unfinished work of a process that was killed; nobody reads it.

What ``torch.save`` wrote is unpacked as tensors, numbers and containers of these, and as nothing
else: a file that wants to run code is refused.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from calcarine.errors import CalcarineError, RunError

__all__ = [
    "atomic_file",
    "cache_folder",
    "load_tensors",
    "output_file",
    "sync_folder",
    "write_bytes",
    "write_text",
]


@contextmanager
def atomic_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under ``path`` only if the block ends without an error.

    Missing parent folders are made.

    Raises:
        OSError: If the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def output_file(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file as :func:`atomic_file` does, for a place that the user chose.

    Raises:
        RunError: If the folder cannot be made or written. What goes wrong inside the block is
            raised as it is.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(atomic_file(path))
        except OSError as error:
            raise _cannot_write(path, error) from error
        yield file


def sync_folder(path: Path) -> None:
    """Make a rename last through a power failure, where folders can be synced."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``path`` atomically and return the path.

    Raises:
        RunError: If the folder cannot be made or written, or the disk is full.
    """
    try:
        with atomic_file(path) as file:
            file.write(data)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``path`` atomically and return the path.

    Raises:
        RunError: If the folder cannot be made or written, or the disk is full.
    """
    return write_bytes(path, text.encode())


def load_tensors(source: str | Path | IO[bytes], refusal: Callable[[str], CalcarineError]) -> Any:
    """Unpack on the CPU what ``torch.save`` wrote, without running code.

    Args:
        source: A path, or an open file.
        refusal: Makes the error that is raised, out of the reason in one line.

    Raises:
        CalcarineError: What ``refusal`` returns, if the file is damaged, cannot be read, or holds
            other things than tensors, numbers, strings and containers of these.
    """
    import torch

    try:
        return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged or foreign file raises is nowhere listed
        lines = str(error).strip().splitlines()
        raise refusal(lines[0] if lines else repr(error)) from error


def cache_folder() -> Path | None:
    """Return the cache folder, which need not exist, or ``None`` without a home directory.

    It is ``$CALCARINE_CACHE``, or else ``~/.cache/calcarine``.
    """
    named = os.environ.get("CALCARINE_CACHE")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache" / "calcarine"
    except RuntimeError:
        return None


def _cannot_write(path: str | Path, error: OSError) -> RunError:
    return RunError(
        f"Cannot write {path}: {error.strerror or error}. Choose a folder you may write to."
    )


def _umask() -> int:
    """Return the process's umask; there is no way to read it without setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
