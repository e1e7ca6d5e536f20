"""A recording of areas on disk: its files, and how they are read without loading them.

    folder/recording.json      what was recorded, how, and the time of every frame
    folder/area2-00000.npy     area 2 in batch 0, axes (time, batch, channel, row, column)

Every file is whole or absent. Files open as arrays on disk, of which only what is touched is read.

Axes    T recorded frames | B batch | ... whatever the area has
Units   time in ms since onset
Source  ours
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import FileFormatError, InputError, UnknownNameError
from calcarine.files import write_text

__all__ = [
    "FORMAT",
    "AreaRecording",
    "announce",
    "area_file",
    "begun",
    "digest",
    "open_recording",
    "write_settings",
]

FORMAT = "calcarine area recording 1"


@dataclass(frozen=True)
class AreaRecording:
    """A recording on disk.

    Attributes:
        folder: Where it is.
        areas: Names of what was recorded.
        batches: Number of batches.
        time_ms: Time since onset of every frame; 0 is the baseline, just before the image.
        stimulus_ms: When the image went.
        dt_ms: Step of the model; frames may lie several steps apart.
    """

    folder: Path
    areas: tuple[str, ...]
    batches: int
    time_ms: Float[Tensor, " T"]
    stimulus_ms: float
    dt_ms: float

    def values(self, area: str, batch: int = 0) -> np.ndarray:
        """Return an array on disk, axes (time, batch, ...), not to be written to.

        Raises:
            UnknownNameError: If the area was not recorded.
            InputError: If there is no such batch.
            FileFormatError: If the file is missing or damaged.
        """
        if area not in self.areas:
            raise UnknownNameError("recorded area", area, self.areas)
        if not 0 <= batch < self.batches:
            raise InputError(f"Expected a batch within 0..{self.batches - 1}, got {batch}.")
        path = area_file(self.folder, area, batch)
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FileFormatError(f"Cannot read {path}: {error}. Record it again.") from error
        if len(values) != len(self.time_ms):
            raise FileFormatError(
                f"{path} holds {len(values)} frames, expected {len(self.time_ms)}. Record it again."
            )
        return values

    def batched(self, area: str) -> list[np.ndarray]:
        """Return the arrays of all batches, as ``principal_trajectories`` takes them.

        Raises:
            UnknownNameError: If the area was not recorded.
            FileFormatError: If a file is missing or damaged.
        """
        return [self.values(area, batch) for batch in range(self.batches)]


def open_recording(folder: str | Path) -> AreaRecording:
    """Open a recording that :func:`record_areas` has finished.

    Raises:
        FileFormatError: If there is none, it is not finished, or it is damaged.
    """
    folder = Path(folder)
    found = _read_settings(folder)
    if found is None:
        raise FileFormatError(f"There is no recording in {folder}.")
    batches = found["batches"]
    if batches is None:
        raise FileFormatError(
            f"The recording in {folder} is not finished. Call record_areas again to go on."
        )
    try:
        return AreaRecording(
            folder,
            tuple(str(name) for name in found["areas"]),
            int(batches),
            torch.tensor([float(t) for t in found["time_ms"]], dtype=torch.double),
            float(found["stimulus_ms"]),
            float(found["dt_ms"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder / 'recording.json'} is damaged: {error!r}.") from error


def begun(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Begin a recording, or go on with the one that is there."""
    before = _read_settings(folder)
    if before is None:
        write_settings(folder, settings)
        return settings
    for key, value in settings.items():
        if key not in ("batches", "images") and before.get(key) != value:
            raise InputError(
                f"{folder} holds a recording with other {key}: {_short(before.get(key))} instead "
                f"of {_short(value)}. Choose another folder."
            )
    return {**before, "batches": None}


def announce(folder: Path, settings: dict[str, Any], number: int, batch: Tensor) -> None:
    """Note which images a batch shows before its files appear; refuse other ones."""
    shown, seen = digest([batch]), settings["images"]
    if number < len(seen) and seen[number] != shown:
        raise InputError(
            f"{folder} holds other images in batch {number}. Choose another folder, or pass the "
            "same images to go on."
        )
    if number >= len(seen):
        seen.append(shown)
        write_settings(folder, settings)


def digest(tensors: Iterable[Tensor]) -> str:
    """Return a number that tells these tensors from others."""
    found = hashlib.sha256()
    for tensor in tensors:
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(raw.numpy().data)
    return found.hexdigest()


def area_file(folder: Path, area: str, batch: int) -> Path:
    """Return where one area is recorded while it sees one batch."""
    return folder / f"{area}-{batch:05d}.npy"


def write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write what is recorded and how.

    Raises:
        RunError: If the folder cannot be written.
    """
    write_text(folder / "recording.json", json.dumps(settings, indent=1) + "\n")


def _read_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / "recording.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"Cannot read {path}: {error}.") from error
    listed = isinstance(found, dict) and isinstance(found.get("images"), list)
    if not listed or found.get("format") != FORMAT or "batches" not in found:
        raise FileFormatError(f"{path} is not one of a {FORMAT!r}.")
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
