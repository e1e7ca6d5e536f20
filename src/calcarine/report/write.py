"""The page of a run: what it has learned, how, and from which recipe.

Any run gets its state, its losses, the pictures that its task drew, its recipe and its sources. A
colour cortex gets what it sees, its dimensions of colour and what it knows of its cones besides, a
map that grew its orientations, pinwheels and development, a spiking network what it reads and how,
a network that finds disks its tuning, its constants and what it finds, a recurrent network that
recognises images its phases, its answers over time, its return to rest and its modes.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from calcarine import plot
from calcarine.errors import CalcarineError, FileFormatError, require
from calcarine.recipe import parse_yaml, read_text
from calcarine.report.builder import Report, check_name
from calcarine.report.color_page import ColorResults, add_color_sections, measure
from calcarine.report.cordsnet_page import (
    CordsNetResults,
    add_cordsnet_sections,
    measure_cordsnet,
)
from calcarine.report.disk_page import DiskResults, add_disk_sections, measure_disks
from calcarine.report.map_page import MapResults, add_map_sections, measure_maps
from calcarine.report.spiking_page import (
    SpikingResults,
    add_spiking_sections,
    measure_spiking,
)
from calcarine.sources import bibliography, source_keys
from calcarine.stimuli import load_image
from calcarine.training import read_log, snapshot_ages
from calcarine.training.checkpoint import checkpoint_updates
from calcarine.training.color_vision import ColorVisionTask
from calcarine.training.cordsnet_task import CordsNetTask
from calcarine.training.disk_velocity import DiskVelocityTask
from calcarine.training.map_task import MapTask
from calcarine.training.run import Run, open_run
from calcarine.training.spiking_digits import SpikingDigitsTask

__all__ = ["write_report"]

_MOST_PICTURES = 8

Results = ColorResults | CordsNetResults | DiskResults | MapResults | SpikingResults


def write_report(
    run_folder: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write one self-contained HTML page about a run, finished or not.

    Args:
        run_folder: Folder of the run.
        path: File to write; by default ``report.html`` inside the run.
        progress: Called with a line of text before whatever takes long.

    Returns:
        The file.

    Raises:
        FileFormatError: If the folder is not that of a run.
        MissingDependencyError: If matplotlib is not installed.
        InputError: If the name of the file does not end in .html.
    """
    folder = Path(run_folder)
    if not (folder / "recipe.yaml").is_file():
        raise FileFormatError(
            f"{folder} is not the folder of a run: it has no recipe.yaml. Train one first, for "
            "example with: calcarine train color-sandbox"
        )
    target = check_name(folder / "report.html" if path is None else path)
    require("matplotlib", extra="viz", purpose="A report")
    say = progress or (lambda line: None)
    recipe = parse_yaml(read_text(folder / "recipe.yaml"), str(folder / "recipe.yaml"))
    run, problems = _open(folder)
    measured = _measured(run, say, problems)
    name = recipe.get("name") or folder.resolve().name
    page = Report(str(name), subtitle=str(recipe.get("description") or "A training run."))
    _add_state(page, folder, recipe, run, problems, measured)
    if run is not None:
        _add_measured(page, run, measured)
    _add_learning(page, folder)
    _add_pictures(page, folder)
    _add_recipe(page, folder, recipe)
    if run is not None:
        _add_sources(page, run)
    say("writing the page")
    return page.save(target)


def _open(folder: Path) -> tuple[Run | None, list[str]]:
    """Open a run at its latest readable age; say what stood in the way."""
    problems: list[str] = []
    for age in sorted({*snapshot_ages(folder), *checkpoint_updates(folder)}, reverse=True):
        try:
            return open_run(folder, age), problems
        except CalcarineError as error:
            if str(error) not in problems:
                problems.append(str(error))
    return None, problems


def _measured(run: Run | None, say: Callable[[str], None], problems: list[str]) -> Results | None:
    """Measure what there is to measure on such a run; say what stood in the way."""
    try:
        if run is not None and isinstance(run.task, ColorVisionTask):
            return measure(run, say)
        if run is not None and isinstance(run.task, MapTask):
            return measure_maps(run, say)
        if run is not None and isinstance(run.task, SpikingDigitsTask):
            return measure_spiking(run, say)
        if run is not None and isinstance(run.task, DiskVelocityTask):
            return measure_disks(run, say)
        if run is not None and isinstance(run.task, CordsNetTask):
            return measure_cordsnet(run, say)
    except CalcarineError as error:
        problems.append(f"What it sees could not be measured: {error}")
    return None


def _add_measured(page: Report, run: Run, results: Results | None) -> None:
    if isinstance(results, ColorResults):
        add_color_sections(page, run, results)
    elif isinstance(results, MapResults):
        add_map_sections(page, run, results)
    elif isinstance(results, SpikingResults):
        add_spiking_sections(page, run, results)
    elif isinstance(results, DiskResults):
        add_disk_sections(page, run, results)
    elif isinstance(results, CordsNetResults):
        add_cordsnet_sections(page, run, results)


def _add_state(
    page: Report,
    folder: Path,
    recipe: Mapping[str, Any],
    run: Run | None,
    problems: list[str],
    results: Results | None,
) -> None:
    page.section("At a glance")
    training = recipe.get("training")
    planned = training.get("updates") if isinstance(training, dict) else None
    ages = {*snapshot_ages(folder), *checkpoint_updates(folder)}
    done = run.update if run is not None else max(ages, default=0)
    numbers = {"updates made": f"{done} of {planned}" if planned else str(done)}
    if results is not None:
        numbers |= results.key_numbers()
    page.numbers(numbers)
    if not ages:
        page.note("This run has no weights yet: it was stopped before the first ones were saved.")
    elif isinstance(planned, int) and done < planned:
        nothing = "Nothing has been learned yet, and the run" if done == 0 else "The run"
        page.note(
            f"{nothing} is not finished: {done} of {planned} updates. What follows shows it as it "
            f"is. Continue with: calcarine train --resume --run {shlex.quote(str(folder))}"
        )
    for problem in problems:
        page.note(problem)


def _add_learning(page: Report, folder: Path) -> None:
    page.section("Learning")
    try:
        lines = read_log(folder / "log.jsonl")
    except (OSError, ValueError) as error:
        reason = "there is no log.jsonl" if isinstance(error, FileNotFoundError) else str(error)
        page.note(f"There are no curves to show: {reason}.")
        return
    if not any(set(line) - {"update"} for line in lines):
        page.note("There are no curves to show: nothing has been logged yet.")
        return
    names = {name for line in lines for name in line}
    losses = any(name.startswith("loss/") for name in names)
    page.figure(
        plot.loss_curve(lines),
        alt=f"{'Losses' if losses else 'Logged numbers'} over {lines[-1]['update']} updates.",
        caption="As logged, and smoothed.",
    )
    page.table(
        ["", "first", "mean of the last tenth", "smallest"],
        [[name, *cells] for name, cells in _logged_numbers(lines, losses).items()],
        caption=f"Numbers of {len(lines)} log lines.",
    )
    skipped = lines[-1].get("skipped")
    if skipped:
        page.note(f"{skipped} updates were skipped because their gradients were not finite.")


def _logged_numbers(lines: list[dict[str, Any]], losses: bool) -> dict[str, list[str]]:
    found = {}
    for name in dict.fromkeys(key for line in lines for key in line if key != "update"):
        values = [line[name] for line in lines if line.get(name) is not None]
        if values and (name.startswith("loss/") or not losses):
            label = name.removeprefix("loss/").replace("_", " ")
            end = values[-max(1, len(values) // 10) :]
            numbers = (values[0], sum(end) / len(end), min(values))
            found[label] = [f"{v:.0f}" if 1e3 <= abs(v) < 1e7 else f"{v:.4g}" for v in numbers]
    return found


def _add_pictures(page: Report, folder: Path) -> None:
    """Show what the task drew while it learned, newest last."""
    drawn = sorted((folder / "images").glob("**/*.png"))
    names = sorted({path.parent for path in drawn})
    if not names:
        return
    page.section("Pictures", "Drawn by the task while it learned.")
    for place in names:
        files = [path for path in drawn if path.parent == place and path.stem.isdecimal()]
        files = [files[round(i)] for i in _spread(len(files), _MOST_PICTURES)]
        if not files:
            continue
        name = place.relative_to(folder / "images").as_posix()
        try:
            images = [load_image(path) for path in files]
        except FileFormatError as error:
            page.note(str(error))
            continue
        titles = [f"age {int(path.stem)}" for path in files]
        page.figure(
            plot.image_grid(images, titles=titles, limits=(0, 1), columns=min(4, len(images))),
            alt=f"Pictures named {name}, at {', '.join(titles)}.",
            caption=name,
        )


def _spread(count: int, most: int) -> list[float]:
    """Return up to ``most`` indices of ``count``, evenly spread, first and last among them."""
    if count <= most:
        return [float(i) for i in range(count)]
    return [i * (count - 1) / (most - 1) for i in range(most)]


def _add_recipe(page: Report, folder: Path, recipe: Mapping[str, Any]) -> None:
    page.section("Recipe", "Everything that the run was made from, every default written out.")
    page.code(yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True, width=100))
    updates = checkpoint_updates(folder)
    if updates:
        label = folder / "checkpoints" / f"{updates[-1]:08d}" / "checkpoint.json"
        try:
            version = json.loads(label.read_text(encoding="utf-8"))["calcarine"]
        except (OSError, ValueError, KeyError, TypeError):
            return
        page.text(f"Learned with calcarine {version}.")


def _add_sources(page: Report, run: Run) -> None:
    modules = run.task.modules().values()
    keys = sorted({key for part in (run.task, *modules) for key in source_keys(part)})
    known = bibliography()
    entries = [known[key] for key in keys if key in known]
    if entries:
        page.section("Sources", "The papers that the parts of this model follow.")
        page.code("\n\n".join(entries))
