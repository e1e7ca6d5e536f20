"""Opening a run folder again: its recipe, and its task with the weights of some age."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calcarine import recipe
from calcarine.errors import FileFormatError
from calcarine.training.checkpoint import checkpoint_updates
from calcarine.training.snapshots import load_weights, snapshot_ages

__all__ = ["Run", "open_run"]


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Args:
        folder: Where it lies.
        recipe: What it was made from.
        task: The task, in ``eval()``, with the weights of ``update``.
        update: Age of the weights in updates.
    """

    folder: Path
    recipe: recipe.Recipe
    task: Any
    update: int

    @property
    def ages(self) -> tuple[int, ...]:
        """Ages at which weights were kept for good, ascending."""
        return snapshot_ages(self.folder)

    def at(self, update: int) -> Run:
        """Return the same run with the weights of a kept age.

        Raises:
            CheckpointError: If there is no snapshot of that age.
        """
        return open_run(self.folder, update)


def open_run(folder: str | Path, update: int | None = None) -> Run:
    """Open a run folder.

    Args:
        folder: The folder that a training run wrote.
        update: Age of the weights; the latest checkpoint by default. A task that learns in phases
            is brought into the phase of that age.

    Raises:
        FileFormatError: If the folder is not that of a run.
        CheckpointError: If there are no weights of that age, or they are damaged.
    """
    folder = Path(folder)
    if not (folder / "recipe.yaml").is_file():
        raise FileFormatError(
            f"{folder} is not the folder of a run: it has no recipe.yaml. Train one first, for "
            "example with: calcarine train color-sandbox"
        )
    made_from = recipe.load(folder / "recipe.yaml")
    task = made_from.build_task()
    age = checkpoint_updates(folder)[-1:] if update is None else (update,)
    if made_from.training.phases and age and age[0]:
        task.enter(made_from.training.span(age[0] - 1).phase, resumed=True)
    loaded = load_weights(folder, task.modules(), update)
    assert loaded is not None  # weights of a run folder always tell their age
    for module in task.modules().values():
        module.eval()
    return Run(folder, made_from, task, loaded)
