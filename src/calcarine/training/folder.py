"""The folder of one training run: may it be begun, may it be continued.

<run>/recipe.yaml    what was asked for
      log.jsonl      one line of scalars per log_every updates
      tensorboard/   the same for TensorBoard
      images/        pictures that the task drew
      checkpoints/   to continue from
      snapshots/     to look at
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from calcarine.errors import (
    CalcarineError,
    CheckpointError,
    InputError,
    RecipeError,
    RunError,
)
from calcarine.files import write_text
from calcarine.recipe import load
from calcarine.training.checkpoint import Checkpoint, checkpoint_updates, read_checkpoint
from calcarine.training.lock import LOCK_NAME
from calcarine.training.settings import CHANGEABLE, TrainingSettings
from calcarine.training.storage import clean_up

__all__ = ["begin_run", "check_space", "continue_run", "run_identity", "write_recipe"]

_MARGIN_BYTES = 16 * 2**20  # for logs
_LISTED = 8  # differences that are named


def run_identity(
    recipe: Mapping[str, Any], settings: TrainingSettings, seed: int
) -> dict[str, Any]:
    """Return what has to agree when a run is continued, as plain data.

    Raises:
        RecipeError: If the recipe holds anything but plain data.
        InputError: If the seed is not usable.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError(f"seed is expected to be a whole number from 0 to 2^63 - 1, got {seed!r}.")
    try:
        plain = json.loads(json.dumps(recipe, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RecipeError(
            "A recipe is expected to hold only mappings, lists, strings, finite numbers and "
            f"booleans ({error}). Write names instead of objects."
        ) from error
    return {"recipe": plain, "training": settings.model_dump(mode="json"), "seed": seed}


def begin_run(folder: Path) -> None:
    """Make sure that a new run may write to a folder, before anything is computed.

    Raises:
        InputError: If the folder holds something already, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable.part"
        probe.write_bytes(b"0")
        probe.unlink()
        clean_up(folder)
        clean_up(folder / "checkpoints")
    except OSError as error:
        raise InputError(
            f"Training expected a folder to write to, but {folder} is not one ({error}). Choose "
            "another folder, or change its permissions."
        ) from error
    ours = {"recipe.yaml", LOCK_NAME}
    held = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if held == ["checkpoints"] and not any((folder / "checkpoints").iterdir()):
        return  # a run that was killed before its first checkpoint
    if held:
        raise InputError(
            f"Training expected a new or empty folder, but {folder} holds {', '.join(held[:5])}"
            f"{', ...' if len(held) > 5 else ''}. Nothing was overwritten. Choose another folder, "
            "or resume the run (resume=True, --resume)."
        )


def continue_run(folder: Path, identity: dict[str, Any]) -> Checkpoint:
    """Read the latest checkpoint of a run and make sure that this is the same run.

    Raises:
        CheckpointError: If there is nothing to continue from, or the recipe differs.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"There is no run to resume in {folder}: the folder does not exist. Start without "
            "resuming, or give the folder of an earlier run."
        )
    if not checkpoint_updates(folder):
        raise CheckpointError(
            f"There is nothing to resume in {folder}: it is not a run folder, or its run was "
            "stopped before the first checkpoint. Start without resuming."
        )
    checkpoint = read_checkpoint(folder)
    differences = _differences(_completed(checkpoint.identity), identity)
    if differences:
        before, now = (each["recipe"].get("name") for each in (checkpoint.identity, identity))
        by = f"by the recipe {before!r}, this one is {now!r}" if before != now else "differently"
        more = len(differences) - _LISTED
        also = f"; and {more} more" if more > 0 else ""
        raise CheckpointError(
            f"The run in {folder} was started {by}: {'; '.join(differences[:_LISTED])}{also}. "
            "Nothing was changed. `--resume --run` alone takes the run's own recipe. Resuming "
            "needs the same recipe, or the result would be neither the one nor the other. Only "
            f"{', '.join(f'training.{name}' for name in sorted(CHANGEABLE))} may change, and "
            "training.updates with a constant schedule. Start a new run for anything else."
        )
    clean_up(folder)
    clean_up(folder / "checkpoints")
    clean_up(folder / "snapshots")
    return checkpoint


def check_space(folder: Path, needed_bytes: int) -> None:
    """Make sure that the disk has room for the run's checkpoints and snapshots.

    Raises:
        RunError: If it has not.
    """
    needed_bytes += _MARGIN_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise RunError(
            f"Training needs about {needed_bytes / 2**20:.0f} MiB in {folder} for checkpoints and "
            f"snapshots, but the disk has {free / 2**20:.0f} MiB left. Make room, choose another "
            "folder, or lower training.keep_checkpoints and training.snapshots."
        )


def write_recipe(folder: Path, identity: dict[str, Any]) -> None:
    """Write ``recipe.yaml``, unless the caller has put one there."""
    path = folder / "recipe.yaml"
    if not path.exists():
        text = yaml.safe_dump(identity["recipe"], sort_keys=False, allow_unicode=True)
        write_text(path, text)


def _completed(identity: dict[str, Any]) -> dict[str, Any]:
    """Return what a run was made from with the keys that its version did not know, by default."""
    try:
        full = load(identity["recipe"]).to_dict()
    except CalcarineError:
        return identity  # made by no recipe, or by one that this version cannot read
    return {**identity, "recipe": json.loads(json.dumps(full))}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Say which keys differ, apart from those that may."""
    flat_before, flat_now = _flat(_comparable(before)), _flat(_comparable(now))
    absent = "absent"
    return [
        f"{key} was {flat_before.get(key, absent)!r} and is {flat_now.get(key, absent)!r} now"
        for key in sorted({*flat_before, *flat_now})
        if flat_before.get(key, absent) != flat_now.get(key, absent)
    ]


def _comparable(identity: dict[str, Any]) -> dict[str, Any]:
    """Merge recipe, settings and seed, without the keys that may change.

    Settings that an earlier version did not know count with their default.
    """
    written = identity["recipe"].get("training", {})
    training = {
        **TrainingSettings().model_dump(mode="json"),
        **(written if isinstance(written, dict) else {}),
        **identity["training"],
    }
    free = CHANGEABLE | ({"updates"} if training["schedule"] == "constant" else set())
    kept = {name: value for name, value in training.items() if name not in free}
    return {**identity["recipe"], "training": kept, "seed": identity["seed"]}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one with dotted keys; phases stand under their names."""
    if prefix == "training.phases" and value:
        names = [phase["name"] for phase in value]
        value = {"(order)": names, **dict(zip(names, value, strict=True))}
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat.update(_flat(inner, f"{prefix}.{key}" if prefix else str(key)))
    return flat
