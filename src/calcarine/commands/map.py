"""``calcarine map``: measure the orientation maps of a run."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calcarine.commands.shared import check_run, chosen_ages, note, print_table

if TYPE_CHECKING:
    from calcarine.probes import OrientationMap
    from calcarine.report.map_results import MapStage
    from calcarine.training import Run

__all__ = ["map_"]

Measures = Mapping[int, Mapping[str, float]]


def map_(
    run: Path,
    /,
    *,
    ages: Annotated[str, Parameter(name=("--ages", "--age"))] = "all",
    settled: bool = False,
    digits: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Measure the orientation maps of a run.

    Sine gratings of 24 orientations are shown to the sheet as it was at each age. The table gives
    the mean selectivity, pinwheels and their density (animals: 3.14), the size of a hypercolumn in
    units, and stability: likeness to the last map, 1 if equal, 0 if unrelated. Maps, numbers and
    figures are kept in the folder results of the run.

    ```
    calcarine map runs/gcal-orientation
    calcarine map runs/gcal-orientation --ages 0,1000,final --settled
    calcarine map runs/gcal-orientation --ages final --digits --json map.json
    ```

    Args:
        run: Folder of the run.
        ages: Ages in updates, separated by commas; final, or all that were kept.
        settled: Measure the settled response of V1 instead of the afferent one before settling.
        digits: Also tell how well handwritten digits can be read from V1: the settled response,
            before learning and at the last age, and the pixels themselves for comparison.
        json_file: Write the numbers to this file too.
        force: Measure again what has been measured before.
        quiet: Print the table only.
    """
    from calcarine.training import open_run

    opened = open_run(check_run(run))

    from calcarine.report.map_results import map_measures, maps_over_time, write_measures

    stage: MapStage = "settled" if settled else "afferent"
    chosen = chosen_ages(ages, run, opened.ages, opened.update)
    maps = maps_over_time(
        opened, chosen, stage=stage, force=force, progress=None if quiet else note
    )
    measured = map_measures(maps)
    _show(measured, stage)
    written = [write_measures(opened, stage, measured), *_draw(opened, stage, maps, measured)]
    read = _read_digits(opened, max(maps), written) if digits else {}
    if json_file is not None:
        written.append(_write_json(json_file, stage, measured, read))
    if not quiet:
        print(f"\nWrote {', '.join(map(str, written))}")
        print(f"\nNow try:\n  calcarine report {shlex.quote(str(run))}")


def _show(measured: Measures, stage: str) -> None:
    formats = {"pinwheels": ".0f", "hypercolumn": ".1f", "pinwheel_density": ".2f"}
    rows = []
    for age, numbers in measured.items():
        cells = [
            "-" if math.isnan(value) else f"{value:{formats.get(name, '.3f')}}"
            for name, value in numbers.items()
        ]
        rows.append((age, *cells))
    names = (name.replace("_", " ") for name in next(iter(measured.values())))
    print_table(
        (">age", *(f">{name}" for name in names)), rows, title=f"Orientation map, {stage} response"
    )


def _draw(
    run: Run, stage: str, maps: Mapping[int, OrientationMap], measured: Measures
) -> list[Path]:
    """Draw the last map and, of several ages, the development."""
    from calcarine import plot
    from calcarine.report import map_figures as figures

    place = run.folder / "results"
    last = max(maps)
    found, title = maps[last], f"{run.recipe.name} after {last} updates"
    model = run.task.model if last == run.update else run.at(last).task.model
    ending = "" if stage == "afferent" else "_settled"
    drawn = {
        f"orientation_map{ending}": figures.map_figure(found, title=title),
        f"orientation_histogram{ending}": plot.orientation_histogram(found.direction, title=title),
        "afferent_fields": figures.fields_figure(model, title=title),
    }
    if len(maps) > 1:
        drawn[f"map_development{ending}"] = figures.development_figure(measured)
    written = [plot.save_figure(figure, place / f"{name}.png") for name, figure in drawn.items()]
    if len(maps) > 1:
        film = place / f"map_development{ending}.webp"
        written.append(plot.save_animation(figures.map_film(maps), film, fps=1.5))
    return written


def _read_digits(run: Run, age: int, written: list[Path]) -> dict[str, float]:
    """Print how well digits are read from pixels, and from V1 before and after learning."""
    from calcarine.files import write_text
    from calcarine.report.map_results import read_digits

    accuracy = read_digits(run, age)
    rows = [(name, f"{100 * value:.1f} %") for name, value in accuracy.items()]
    print_table(("what", ">correct of those held out"), rows, title="\nDigits read from")
    path = run.folder / "results" / "digits.json"
    written.append(write_text(path, json.dumps(accuracy, indent=1) + "\n"))
    return accuracy


def _write_json(path: Path, stage: str, measured: Measures, digits: Mapping[str, float]) -> Path:
    from calcarine.files import write_text

    ages = {
        str(age): {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        for age, numbers in measured.items()
    }
    data = {"stage": stage, "ages": ages, **({"digits": dict(digits)} if digits else {})}
    return write_text(path, json.dumps(data, indent=2) + "\n")
