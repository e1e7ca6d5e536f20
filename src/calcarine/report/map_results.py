"""Orientation maps of a run at several ages, measured once and kept beside it.

    <run>/results/orientation_map.json                  numbers by stage and age, each with a digest
    <run>/results/orientation_maps/<stage>-<age>.safetensors    the maps themselves

The stage is ``afferent``, before settling, or ``settled``. The digest covers the weights file, the
model and the stimuli's geometry; a map whose digest differs, or that cannot be read, is measured
again. Stability compares every map with the last one of its stage.

Axes    H W of the map, rows down, columns right
Units   ages in updates
Source  stevens2013 (stability, gratings), kaschube2010 (pinwheel density)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from calcarine.errors import CalcarineError, InputError
from calcarine.files import write_text
from calcarine.models import Gcal
from calcarine.probes import OrientationMap, map_readout, orientation_map
from calcarine.report.results import weights_file
from calcarine.training.map_task import MapTask, MapView
from calcarine.training.run import Run

__all__ = [
    "MEASURES",
    "MapStage",
    "map_measures",
    "maps_over_time",
    "read_digits",
    "write_measures",
]

FORMAT = 1
"""Version of the file; raise it also when the measurement changes its numbers."""

MapStage = Literal["afferent", "settled"]

MEASURES = (
    "selectivity", "pinwheels", "pinwheel_density", "hypercolumn", "smoothness", "stability",
)  # fmt: skip
"""What is read off every map, in this order."""


def maps_over_time(
    run: Run,
    ages: Sequence[int] | None = None,
    *,
    stage: MapStage = "afferent",
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[int, OrientationMap]:
    """Measure the orientation maps of a run at several ages.

    Args:
        run: The run of a map.
        ages: Ages in updates; by default all that were kept.
        stage: The response before settling, or after.
        force: Measure again what has been measured before.
        progress: Called with a line of text before every measurement.

    Returns:
        Maps by age, ascending.

    Raises:
        InputError: If this is not the run of a map, or no age is given.
        CheckpointError: If the run has no weights of an age.
    """
    _check(run)
    chosen = sorted(set((*run.ages, run.update) if ages is None else ages))
    if not chosen:
        raise InputError("maps_over_time expected at least one age, got none.")
    found = {}
    for age in chosen:
        digest = _digest(run, age)
        path = run.folder / "results" / "orientation_maps" / f"{stage}-{age:08d}.safetensors"
        kept = None if force else _kept(path, digest)
        if kept is None:
            if progress is not None:
                progress(f"measuring the map at age {age}")
            kept = _measure(run, age, stage)
            kept.save(path)
            write_text(path.with_suffix(".sha256"), f"{digest}\n")
        found[age] = kept
    return found


def map_measures(maps: Mapping[int, OrientationMap]) -> dict[int, dict[str, float]]:
    """Read numbers off maps; NaN where a map has no hypercolumn, or is too small for one.

    Returns:
        By age: :data:`MEASURES`. ``selectivity`` is the mean over units, ``hypercolumn`` in units.
    """
    final = maps[max(maps)]
    measured = {}
    for age, found in maps.items():
        spectral = min(found.curves.shape[:2]) >= 8
        measured[age] = {
            "selectivity": found.selectivity.mean().item(),
            "pinwheels": float(len(found.pinwheels())),
            "pinwheel_density": found.pinwheel_density() if spectral else math.nan,
            "hypercolumn": found.hypercolumn().wavelength if spectral else math.nan,
            "smoothness": found.smoothness(),
            "stability": found.stability(final),
        }
    return measured


def write_measures(run: Run, stage: MapStage, measured: Mapping[int, Mapping[str, float]]) -> Path:
    """Write the numbers of one stage to ``orientation_map.json``; the other's stay.

    Numbers that are not finite are written as ``null``, since JSON has none.
    """
    path = run.folder / "results" / "orientation_map.json"
    ages = {
        str(age): {k: v if math.isfinite(v) else None for k, v in numbers.items()}
        for age, numbers in measured.items()
    }
    data = {"format": FORMAT, **_read(path), stage: ages}
    return write_text(path, json.dumps(data, indent=1) + "\n")


def read_digits(run: Run, age: int, *, seed: int = 0) -> dict[str, float]:
    """Tell how well handwritten digits are read from V1, see :func:`calcarine.probes.map_readout`.

    Args:
        run: The run of a map.
        age: Age of the map in updates.
        seed: Of the split into learning and held-out digits.

    Returns:
        Share of held-out digits read correctly from the pixels, from V1 before learning (where the
        run has kept it), and from V1 at that age; always the settled response.

    Raises:
        InputError: If this is not the run of a map.
        CheckpointError: If the run has no weights of that age.
        MissingDependencyError: If scikit-learn is not installed.
    """
    _check(run)
    tasks = {f"V1 at age {each}": _task(run, each) for each in sorted({*run.ages[:1], age})}
    views = {name: MapView(task.model).eval() for name, task in tasks.items()}
    task = run.task
    side = task.model.area if isinstance(task.model, Gcal) else (1.0, 1.0)
    retina = task.model.retina_shape
    # A digit covers the part of the retina that the sheet is about.
    digit_px = min(round(min(side) * task.stimuli.density), *retina)
    return map_readout(views, retina, digit_px, seed=seed).accuracy


def _check(run: Run) -> None:
    if not isinstance(run.task, MapTask):
        raise InputError(
            f"{run.folder} is expected to be the run of a map (map_task), but it is one of "
            f"{type(run.task).__name__}. Grow a map with: calcarine train gcal-orientation"
        )


def _task(run: Run, age: int) -> MapTask:
    return run.task if age == run.update else run.at(age).task


def _measure(run: Run, age: int, stage: MapStage) -> OrientationMap:
    task = _task(run, age)
    view = MapView(task.model, settled=stage == "settled").eval()
    return orientation_map(view, task.stimuli.sheet)


def _digest(run: Run, age: int) -> str:
    content = hashlib.sha256(weights_file(run, age).read_bytes())
    recipe = run.recipe.to_dict()
    sheet = run.task.stimuli.sheet
    parts = [FORMAT, recipe["model"], sheet.density, sheet.half_sides]
    content.update(json.dumps(parts, sort_keys=True).encode())
    return content.hexdigest()


def _kept(path: Path, digest: str) -> OrientationMap | None:
    """Return a kept map if it is of these weights and can be read."""
    try:
        if path.with_suffix(".sha256").read_text(encoding="utf-8").strip() != digest:
            return None
        return OrientationMap.load(path)
    except (OSError, ValueError, CalcarineError):
        return None


def _read(path: Path) -> dict[str, Any]:
    """Return the numbers of both stages, without those that cannot be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        return {}
    return {stage: data[stage] for stage in ("afferent", "settled") if stage in data}
