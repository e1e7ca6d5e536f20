"""Checkpoints: everything needed to continue a run, verified when read.

    <run>/checkpoints/00000500/weights.safetensors   parameters and buffers of every module
                               training.pt           optimisers, guard, random state, task's own
                               checkpoint.json       format, version, recipe, SHA-256 of the others

A folder appears under its name only when it is whole. ``training.pt`` holds plain tensors,
numbers, lists and dicts and is read with ``weights_only=True``: reading runs no code.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calcarine import __version__
from calcarine.errors import CheckpointError
from calcarine.files import load_tensors
from calcarine.training.storage import digest, remove_folder, replace_folder
from calcarine.training.weights import decode_weights, encode_weights

__all__ = [
    "FORMAT",
    "Checkpoint",
    "checkpoint_updates",
    "good_ones",
    "numbered",
    "read_checkpoint",
    "read_folder",
    "write_checkpoint",
]

FORMAT = 1
"""Format of a checkpoint folder. Later formats keep reading the earlier ones."""

_KIND = "calcarine training checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read from disk.

    Attributes:
        path: Its folder.
        update: Number of updates done when it was written.
        identity: Recipe, settings and seed of the run.
        weights: Tensors by ``<module>.<name>``, on the CPU.
        training: Optimisers, guard, random state and the task's own, on the CPU.
        run_id: Name of the run for experiment trackers, the same through all its parts.
        phase: Name of the phase of its last update; empty before the first and without phases.
    """

    path: Path
    update: int
    identity: dict[str, Any]
    weights: dict[str, Tensor]
    training: dict[str, Any]
    run_id: str
    phase: str = ""


def write_checkpoint(
    folder: Path,
    *,
    modules: Mapping[str, nn.Module],
    update: int,
    training: dict[str, Any],
    identity: dict[str, Any],
    run_id: str,
    keep: int,
    phase: str = "",
) -> Path:
    """Write a checkpoint and remove the oldest ones.

    Args:
        folder: The run's folder.
        modules: Whose weights to save.
        update: Number of updates done.
        training: Plain tensors, numbers, strings, lists and dicts.
        identity: Recipe, settings and seed of the run.
        run_id: Name of the run for experiment trackers.
        keep: How many checkpoints to keep, this one included.
        phase: Name of the phase of the last update; empty in a run without phases.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: If it cannot be written; earlier checkpoints are then untouched.
    """
    stream = io.BytesIO()
    torch.save(training, stream)
    files = {
        "weights.safetensors": encode_weights(modules, update=update),
        "training.pt": stream.getvalue(),
    }
    label = {
        "kind": _KIND,
        "format": FORMAT,
        "calcarine": __version__,
        "update": update,
        "run_id": run_id,
        **({"phase": phase} if phase else {}),
        "sha256": {name: digest(content) for name, content in files.items()},
        "identity": identity,
    }
    files["checkpoint.json"] = json.dumps(label, indent=1).encode()
    path = folder / "checkpoints" / f"{update:08d}"
    try:
        replace_folder(path, files)
        for old in checkpoint_updates(folder)[:-keep]:
            remove_folder(folder / "checkpoints" / f"{old:08d}")
    except OSError as error:
        raise CheckpointError(
            f"The checkpoint of update {update} could not be written to {path} ({error}). "
            f"{good_ones(folder)} Make room, or make the folder writable, and resume."
        ) from error
    return path


def read_checkpoint(folder: Path, update: int | None = None) -> Checkpoint:
    """Read the latest checkpoint of a run, or the one of a given update, and verify it.

    Raises:
        CheckpointError: If there is none, or it is damaged, foreign or of a later format.
    """
    updates = checkpoint_updates(folder)
    if not updates:
        raise CheckpointError(
            f"{folder} is expected to be a run folder with checkpoints, but it has none. Give the "
            "folder that training wrote to."
        )
    chosen = updates[-1] if update is None else update
    path = folder / "checkpoints" / f"{chosen:08d}"
    try:
        return read_folder(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error} {good_ones(folder, before=chosen, verify=True)}") from error


def checkpoint_updates(folder: Path) -> tuple[int, ...]:
    """Return the updates at which a run has checkpoints, ascending."""
    return numbered((folder / "checkpoints").glob("*"))


def read_folder(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder; :func:`read_checkpoint` finds it in a run."""
    label = _label(path)
    files = {}
    for name, expected in label["sha256"].items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"The checkpoint {path} is incomplete: {name} is missing.")
        files[name] = file.read_bytes()
        if digest(files[name]) != expected:
            raise CheckpointError(
                f"The checkpoint {path} is damaged: {name} was cut short or changed since it was "
                "written (its SHA-256 differs)."
            )
    training = load_tensors(
        io.BytesIO(files["training.pt"]),
        lambda reason: CheckpointError(
            f"{path / 'training.pt'} cannot be read as plain tensors and numbers ({reason})."
        ),
    )
    weights = path / "weights.safetensors"
    return Checkpoint(
        path=path,
        update=label["update"],
        identity=label["identity"],
        weights=decode_weights(files.get(weights.name, b""), path=weights),
        training=training,
        run_id=label["run_id"],
        phase=label.get("phase", ""),
    )


def _label(path: Path) -> dict[str, Any]:
    """Read ``checkpoint.json`` and refuse what is damaged, foreign or newer."""
    file = path / "checkpoint.json"
    if not file.is_file():
        raise CheckpointError(
            f"{path} is not a calcarine checkpoint: it has no checkpoint.json. Give the folder "
            "that training wrote to."
        )
    try:
        label = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} was cut short or changed ({error}).") from error
    if not isinstance(label, dict) or label.get("kind") != _KIND:
        raise CheckpointError(
            f"{file} was not written by calcarine's training: it does not say {_KIND!r}."
        )
    if label["format"] > FORMAT:
        raise CheckpointError(
            f"The checkpoint {path} has format {label['format']} and was written by calcarine "
            f"{label['calcarine']}. This is calcarine {__version__}, which reads formats up to "
            f"{FORMAT}. Install at least that version: pip install "
            f"'calcarine>={label['calcarine']}'"
        )
    return label


def good_ones(folder: Path, *, before: int | None = None, verify: bool = False) -> str:
    """Say which checkpoint is still there to continue from."""
    for update in reversed(checkpoint_updates(folder)):
        if before is not None and update >= before:
            continue
        path = folder / "checkpoints" / f"{update:08d}"
        try:
            if verify:
                read_folder(path)
        except CheckpointError:
            continue
        retreat = f"; delete checkpoints/{before:08d} to continue from it" if before else ""
        return f"The previous good checkpoint is {path}{retreat}."
    return "There is no earlier checkpoint."


def numbered(paths: Iterable[Path]) -> tuple[int, ...]:
    """Return the numbers that name some files or folders, ascending."""
    return tuple(sorted(int(path.stem) for path in paths if path.stem.isdecimal()))
