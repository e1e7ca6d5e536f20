"""Spectral images turned into cone signals once, and kept in the cache folder.

    scenes/KEY.npy     channels of one image, float16 (rounding 5e-4, far below photon noise)
    scenes/STAMP.txt   SHA-256 of a file, found under its path, size and time of change

KEY hashes the content of the file together with everything else that decides the result, so a
renamed or copied file is not prepared again, and a changed file or another eye never meets an old
result. STAMP only saves reading unchanged files again. Both appear complete or not at all: work
that is interrupted goes on where it stopped. Entries that turn out damaged are made again.

Axes    C channels | H W rows down, columns right
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import FileFormatError, RunError
from calcarine.files import atomic_file, cache_folder, write_text

__all__ = ["PreparedScenes"]

_VERSION = "1"
_BLOCK = 2**20
_MOST = 1e3  # far above any white, far below the largest float16


class PreparedScenes:
    """The prepared images of one eye, on disk.

    Args:
        settings: Everything besides a file's content that decides what is prepared.
        make: Reads a file and returns its channels.
    """

    def __init__(self, settings: str, make: Callable[[Path], Float[Tensor, "C H W"]]) -> None:
        self._settings, self._make = settings, make
        self._folder = _folder()

    def find(self, path: Path) -> Float[np.ndarray, "C H W"] | None:
        """Return the prepared channels of an unchanged file, mapped from disk, or ``None``."""
        digest = self._stamped(path)
        return None if digest is None else self._mapped(self._entry(digest))

    def prepare(self, path: Path) -> Float[np.ndarray, "C H W"]:
        """Return the prepared channels of a file, made now if need be, mapped from disk.

        Raises:
            FileFormatError: If the file cannot be used.
            RunError: If the cache folder cannot be written.
        """
        digest = _digest(path)
        entry = self._entry(digest)
        mapped = self._mapped(entry)
        if mapped is None:
            self._write(entry, path)
            mapped = self._mapped(entry)
            if mapped is None:
                raise RunError(f"{entry} cannot be read back. Check the disk.")
        write_text(self._stamp(path), digest)
        return mapped

    def _write(self, entry: Path, path: Path) -> None:
        channels = self._make(path)
        most = float(channels.abs().amax())
        if not most < _MOST:
            raise FileFormatError(
                f"{path}: expected signals of about 1 for white, got up to {most:.3g}. Set "
                "white_balance=brightest, which finds out what white is."
            )
        try:
            with atomic_file(entry) as file:
                np.save(file, channels.to(torch.float16).numpy(), allow_pickle=False)
        except OSError as error:
            raise RunError(
                f"Cannot write {entry}: {error.strerror or error}. What is prepared already is "
                "kept. Make room, or set CALCARINE_CACHE to another folder."
            ) from error

    def _mapped(self, entry: Path) -> Float[np.ndarray, "C H W"] | None:
        try:
            array = np.load(entry, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):  # missing, cut short, or of another kind
            return None
        return array if array.ndim == 3 and array.dtype == np.float16 else None

    def _entry(self, digest: str) -> Path:
        key = hashlib.sha256(f"{_VERSION}|{digest}|{self._settings}".encode()).hexdigest()
        return self._folder / f"{key[:40]}.npy"

    def _stamp(self, path: Path) -> Path:
        facts = path.stat()
        text = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:40]}.txt"

    def _stamped(self, path: Path) -> str | None:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = self._stamp(path).read_text(encoding="utf-8")
            return text if len(text) == 64 else None
        return None


def _folder() -> Path:
    folder = cache_folder()
    if folder is None:
        raise RunError(
            "There is no home directory to keep prepared scenes in. Set CALCARINE_CACHE to a "
            "folder."
        )
    return folder / "scenes"


def _digest(path: Path) -> str:
    sha = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                sha.update(block)
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error.strerror or error}.") from error
    return sha.hexdigest()
