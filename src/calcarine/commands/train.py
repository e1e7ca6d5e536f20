"""``calcarine train``: let a model learn by a recipe."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from calcarine.errors import CalcarineError, CalcarineWarning, InputError

if TYPE_CHECKING:
    from calcarine.distributed import World
    from calcarine.recipe import Recipe
    from calcarine.training import FitResult

__all__ = ["train"]

DEFAULT_RECIPE = "color-sandbox"

_AFTERWARDS = {
    "color_vision_task": (
        "calcarine colour-match {folder}",
        "calcarine see sample:coffee --run {folder}",
    ),
    "cordsnet_task": (
        "calcarine classify --run {folder}",
        "calcarine spectrum {folder}",
    ),
    "map_task": ("calcarine map {folder}",),
    "disk_velocity_task": ("calcarine detect sample:moving-disks --truth --run {folder}",),
}
"""What a run of a task is for: the commands to go on with."""


def train(
    recipe: str | None = None,
    /,
    *,
    file: Annotated[str | None, Parameter(name=("--file", "-f"))] = None,
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    run: Path | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    quiet: bool = False,
) -> int:
    """Let a model learn by a recipe.

    Everything is written into one folder, the run: recipe, log, weights at several ages, and
    checkpoints. Ctrl-C saves and stops; `--resume` goes on, with the same result as if the training
    had never stopped.

    ```
    calcarine train
    calcarine train color-sandbox --set training.updates=500 --run runs/short
    calcarine train --set retina.mosaic=LM --run runs/dichromat
    calcarine train --run runs/dichromat --resume
    calcarine train -f Sandbox.yaml
    ```

    Recipes that allow it share every batch between several processes, each on a GPU of its own or
    all on the CPU; the first one writes and prints. `torchrun` starts them:
    `torchrun --nproc-per-node 2 -m -- calcarine train cordsnet-digits`.

    Args:
        recipe: Name of a recipe, or path of a YAML file; by default color-sandbox, or with --resume
            that of the run. `calcarine recipes` lists them.
        file: A YAML file: a recipe, or a configuration in the format published with the colour
            model (Experiment, RetinaModel, ...), which is translated.
        overrides: A change KEY=VALUE to the recipe, such as training.updates=500, or of one phase
            training.phases.finetune.updates=50; may be repeated. `calcarine recipes --options`
            explains every key.
        run: Folder to write to; by default runs/ and the name of the recipe.
        resume: Continue the run in that folder from its latest checkpoint; begin where there is
            none.
        device: Where to compute; auto takes a CUDA GPU if there is one, each process its own.
        quiet: Print nothing but warnings and errors.
    """
    from calcarine.distributed import echoed, join, leave

    place = join(device)
    try:
        code = _train(
            place, recipe, file, overrides, run, resume=resume, device=device, quiet=quiet
        )
    except CalcarineError as error:
        if not echoed(error):
            raise
        return 2 if isinstance(error, InputError) else 1  # the first process says why
    leave()
    return code


def _train(
    place: World,
    recipe: str | None,
    file: str | None,
    overrides: tuple[str, ...],
    run: Path | None,
    *,
    resume: bool,
    device: str,
    quiet: bool,
) -> int:
    def read() -> Recipe:
        return _read_recipe(recipe, file, overrides, _recipe_of_run(run, resume))

    chosen = place.on_writer(read) or _silently(read)
    folder = Path("runs") / chosen.name if run is None else run
    before = place.on_writer(lambda: _updates_done(folder, resume))
    found = place.any(before is not None)
    quiet = quiet or not place.is_writer
    if resume and not found and not quiet:
        print(f"There is nothing to resume in {folder}; beginning a new run.")
    where = str(place.device) if device == "auto" else device
    result = _fit(chosen, folder, resume=found, device=where, progress=not quiet)
    if result.status == "interrupted":
        if place.is_writer:
            _say_how_to_go_on(chosen, result)
        return 130
    if not quiet:
        _summarise(chosen, result, before or 0)
    return 0


def _silently(read: Callable[[], Recipe]) -> Recipe:
    """Read the recipe once more in a process that does not print."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalcarineWarning)
        return read()


def _recipe_of_run(run: Path | None, resume: bool) -> str:
    """Return the recipe to take when none is named: with ``--resume`` that of the run."""
    own = (Path("runs") / DEFAULT_RECIPE if run is None else run) / "recipe.yaml"
    return str(own) if resume and own.is_file() else DEFAULT_RECIPE


def _read_recipe(
    name: str | None, file: str | None, overrides: tuple[str, ...], default: str
) -> Recipe:
    from calcarine import recipe
    from calcarine.training.published_format import is_published, translate

    if name is not None and file is not None:
        raise InputError(f"Give a recipe or a file, not both: got {name!r} and --file {file}.")
    source = name or default
    if file is not None:
        path = Path(file)
        if not path.exists() and path.with_name(f"{path.name}.yaml").exists():
            path = path.with_name(f"{path.name}.yaml")
        source = str(path)
        data = recipe.parse_yaml(recipe.read_text(path), source)
        if not is_published(data):
            return recipe.load(data, overrides)
        translated = translate(data, label=source)
        for key, note in translated.notes.items():
            if not any(o.partition("=")[0].strip() == key for o in overrides):
                warnings.warn(f"{source}: {note}", CalcarineWarning, stacklevel=2)
        return recipe.load(translated.recipe, overrides)
    return recipe.load(source, overrides)


def _updates_done(folder: Path, resume: bool) -> int | None:
    """Return how far the run in a folder is, or ``None`` if there is none.

    Raises:
        InputError: If there is one that is not to be continued.
    """
    from calcarine.training.checkpoint import checkpoint_updates

    done = checkpoint_updates(folder)
    if done and not resume:
        raise InputError(
            f"{folder} already holds a run of {done[-1]} updates. Continue it with --resume, "
            "choose another folder with --run, or delete it."
        )
    return done[-1] if done else None


def _fit(chosen: Recipe, folder: Path, *, resume: bool, device: str, progress: bool) -> FitResult:
    from calcarine.training import fit

    task: Any = chosen.build_task()
    return fit(
        task,
        chosen.training,
        folder,
        recipe=chosen.to_dict(),
        seed=chosen.seed,
        resume=resume,
        progress=progress,
        device=device,
    )


def _say_how_to_go_on(chosen: Recipe, result: FitResult) -> None:
    span = chosen.training.span(max(result.updates - 1, 0))
    within = f" ({span.done + 1} of {span.updates} of phase {span.phase})" if span.phase else ""
    print(
        f"Interrupted after update {result.updates} of {chosen.training.updates}{within}; nothing "
        "is lost. Continue with:\n  calcarine train --resume --run "
        f"{shlex.quote(str(result.folder))}"
    )


def _summarise(chosen: Recipe, result: FitResult, before: int) -> None:
    made = result.updates - before
    if made:
        pace = f"{made} updates in {result.seconds:.1f} s ({made / result.seconds:.1f} per second)"
    else:
        pace = f"nothing left to do: all {result.updates} updates were made before"
    if result.peak_memory_bytes:
        print(f"Largest memory on the GPU: {result.peak_memory_bytes / 2**20:.0f} MiB.")
    losses = ", ".join(f"{name} {value:.4g}" for name, value in result.losses.items())
    print(f"{chosen.name}: {pace}.")
    if chosen.training.phases:
        done = (
            f"{phase.name} {phase.updates}" for phase in chosen.training.phases if phase.updates
        )
        print(f"Phases: {', '.join(done)} updates.")
    if losses:
        print(f"Losses of the last update: {losses}.")
    accuracy = result.scalars.get("held_out_accuracy")
    if accuracy is not None:
        print(f"Held-out accuracy: {accuracy:.1%}.")
    if result.skipped:
        print(f"Skipped {result.skipped} updates whose gradients were not finite.")
    folder = shlex.quote(str(result.folder))
    print(f"Written to {result.folder}\n\nNow try:")
    for command in (*_AFTERWARDS.get(chosen.config.task, ()), "calcarine report {folder}"):
        print(f"  {command.format(folder=folder)}")
