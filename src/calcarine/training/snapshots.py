"""The weights of a run at chosen ages, and loading them into modules.

<run>/snapshots/00000500.safetensors   weights after 500 updates, kept for good
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from calcarine.errors import CheckpointError, InputError, RunError
from calcarine.files import write_bytes
from calcarine.training.checkpoint import (
    checkpoint_updates,
    good_ones,
    numbered,
    read_checkpoint,
    read_folder,
)
from calcarine.training.weights import (
    check_names,
    decode_weights,
    encode_weights,
    stored_age,
    take_over,
)

__all__ = ["load_weights", "snapshot_ages", "write_snapshot"]


def write_snapshot(folder: Path, modules: Mapping[str, nn.Module], *, update: int) -> Path:
    """Save the weights of some modules for good, under their age.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    path = folder / "snapshots" / f"{update:08d}.safetensors"
    try:
        write_bytes(path, encode_weights(modules, update=update))
    except RunError as error:
        raise CheckpointError(
            f"The snapshot of update {update} could not be written. {error} "
            f"{good_ones(folder)} Make room, or make the folder writable, and resume."
        ) from error
    return path


def snapshot_ages(folder: str | Path) -> tuple[int, ...]:
    """Return the ages in updates at which a run has snapshots, ascending."""
    return numbered((Path(folder) / "snapshots").glob("*.safetensors"))


def load_weights(
    folder_or_file: str | Path, modules: Mapping[str, nn.Module], update: int | None = None
) -> int | None:
    """Load trained weights into modules.

    >>> load_weights("runs/color-vision", {"cortex": cortex}, update=1000)

    Args:
        folder_or_file: A run folder, one of its checkpoint folders, or a ``.safetensors`` file.
        modules: The modules to load, by the names under which the task saved them. The run may
            have others; each module asked for has to fit exactly.
        update: Age of the weights: a snapshot, or else a checkpoint, of the run. Left out, the
            latest checkpoint is taken.

    Returns:
        Age of the weights in updates; ``None`` for a file from elsewhere that does not say.

    Raises:
        CheckpointError: If there are no such weights, or they do not fit the modules.
        InputError: If ``update`` is given for a single file.
    """
    path = Path(folder_or_file)
    check_names(modules)
    single = path.is_file() or (path / "checkpoint.json").is_file()
    if single and update is not None:
        raise InputError(
            f"update is expected together with a run folder, but {path} holds the weights of one "
            "age only. Leave update out."
        )
    if path.is_file():
        source, age = path, stored_age(path)
        tensors = decode_weights(path.read_bytes(), path=path)
    elif update is not None and update in snapshot_ages(path):
        source, age = path / "snapshots" / f"{update:08d}.safetensors", update
        tensors = decode_weights(source.read_bytes(), path=source)
    else:
        checkpoint = read_folder(path) if single else read_checkpoint(path, _known(path, update))
        source, age, tensors = checkpoint.path, checkpoint.update, checkpoint.weights
    take_over(modules, tensors, path=source)
    return age


def _known(folder: Path, update: int | None) -> int | None:
    """Check that a run has a checkpoint of that update."""
    if update is not None and update not in checkpoint_updates(folder):
        ages = sorted({*snapshot_ages(folder), *checkpoint_updates(folder)})
        raise CheckpointError(
            f"{folder} has no weights of update {update}. It has those of updates "
            f"{', '.join(map(str, ages)) or 'none'}."
        )
    return update
