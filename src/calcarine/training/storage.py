"""Folders that are either whole or absent: written under a temporary name, synced, renamed.

A name that starts with a dot and ends in ``.part`` is unfinished work of a process that was killed;
nobody reads it, and the next run removes it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from calcarine.files import atomic_file, sync_folder

__all__ = ["clean_up", "digest", "remove_folder", "replace_folder"]


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def replace_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files so that ``path`` is either whole or as before."""
    part = _part(path)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, content in files.items():
        with atomic_file(part / name) as file:
            file.write(content)
    remove_folder(path)
    part.replace(path)
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder, if it is there, so that it is never seen half removed."""
    if path.exists():
        gone = _part(path.with_name(f"{path.name}.old"))
        shutil.rmtree(gone, ignore_errors=True)
        path.replace(gone)
        shutil.rmtree(gone, ignore_errors=True)


def clean_up(folder: Path) -> None:
    """Remove the unfinished work of killed processes from a folder."""
    for part in folder.glob(".*.part") if folder.is_dir() else ():
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
