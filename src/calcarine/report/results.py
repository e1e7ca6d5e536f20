"""Measurements on a run that take seconds each, made once and kept beside it.

    <run>/results/color_matching.json    outcome by age, each with a digest of what it came from

The digest covers the weights file and the parts of the recipe that the experiment depends on. An
outcome whose digest differs, that tried too few primaries, or that cannot be read is measured
again, so a stale number is never shown.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calcarine.errors import CalcarineWarning, CheckpointError, InputError, RunError
from calcarine.files import write_text
from calcarine.probes import ColorMatching, color_matching
from calcarine.training.run import Run

__all__ = ["color_matching_over_time", "select_ages"]

FORMAT = 2
"""Version of the file; raise it also when the experiment changes its numbers."""

_FILE = "color_matching.json"


def select_ages(ages: Sequence[int], count: int = 8) -> tuple[int, ...]:
    """Return about ``count`` of the ages, evenly spread on a logarithmic axis.

    The first, and thus age 0 if there is one, and the last are always among them.

    >>> select_ages((0, 100, 200, 500, 1000, 2000, 5000), 5)
    (0, 100, 500, 1000, 5000)
    """
    known = sorted(set(ages))
    if len(known) <= count:
        return tuple(known)
    first = [known[0]]
    rest = known[1:] if known[0] == 0 else known
    wanted = count - 1 if known[0] == 0 else count
    low, high = math.log(rest[0]), math.log(rest[-1])
    marks = [low + (high - low) * i / (wanted - 1) for i in range(wanted)]
    nearest = {min((abs(math.log(age) - mark), age) for age in rest)[1] for mark in marks}
    return tuple(sorted({*first, *nearest}))


def color_matching_over_time(
    run: Run,
    ages: Sequence[int] | None = None,
    *,
    most_primaries: int = 5,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[int, ColorMatching]:
    """Count the dimensions of a cortex's colour at several ages.

    Args:
        run: The run of a colour cortex.
        ages: Ages in updates; by default about eight of those that were kept, spread evenly on a
            logarithmic axis, with the first and the last.
        most_primaries: Largest number of primaries to try at the last age; at earlier ones it is 4
            at most.
        force: Measure again what has been measured before.
        progress: Called with a line of text before every measurement.

    Returns:
        Outcomes by age, ascending.

    Raises:
        InputError: If this is not the run of a colour cortex, or no age is given.
        CheckpointError: If the run has no weights of an age.
    """
    _check(run, most_primaries)
    chosen = sorted(set(select_ages((*run.ages, run.update)) if ages is None else ages))
    if not chosen:
        raise InputError("color_matching_over_time expected at least one age, got none.")
    known = _read(run)
    found: dict[int, ColorMatching] = {}
    for age in chosen:
        most = most_primaries if age == chosen[-1] else min(4, most_primaries)
        digest = _digest(run, age)
        kept = None if force else _usable(known.get(str(age)), digest, most)
        if kept is None:
            if progress is not None:
                progress(f"matching colours at age {age}")
            kept = _measure(run, age, most, progress)
            known = {
                **_read(run, quiet=True),
                str(age): {"digest": digest, "outcome": kept.to_dict()},
            }
            _write(run, known)
        found[age] = kept
    return found


def _check(run: Run, most_primaries: int) -> None:
    from calcarine.training.color_vision import ColorVisionTask

    if not isinstance(run.task, ColorVisionTask):
        raise InputError(
            "color_matching_over_time expected the run of a colour cortex (color_vision_task), got "
            f"one of {type(run.task).__name__}."
        )
    if not isinstance(most_primaries, int) or most_primaries < 1:
        raise InputError(f"Expected most_primaries >= 1, got {most_primaries!r}.")


def _measure(
    run: Run, age: int, most_primaries: int, progress: Callable[[str], None] | None
) -> ColorMatching:
    task = run.task if age == run.update else run.at(age).task
    border = task.retina.mosaic.shape[-1] // 8
    return color_matching(
        task.retina,
        task.cortex.decode,
        metric=task.cortex.identity.metric(border).detach(),
        border=border,
        most_primaries=most_primaries,
        progress=progress,
    )


def weights_file(run: Run, age: int) -> Path:
    """Return the file that holds the weights of an age.

    Raises:
        CheckpointError: If there is none.
    """
    name = f"{age:08d}"
    places = (
        run.folder / "snapshots" / f"{name}.safetensors",
        run.folder / "checkpoints" / name / "weights.safetensors",
    )
    for path in places:
        if path.is_file():
            return path
    ages = sorted({*run.ages, run.update})
    raise CheckpointError(
        f"{run.folder} has no weights of update {age}. It has those of updates "
        f"{', '.join(map(str, ages))}."
    )


def _digest(run: Run, age: int) -> str:
    content = hashlib.sha256(weights_file(run, age).read_bytes())
    recipe = run.recipe.to_dict()
    parts = {name: recipe.get(name) for name in ("retina", "cortex")}
    content.update(json.dumps(parts, sort_keys=True).encode())
    return content.hexdigest()


def _usable(entry: Any, digest: str, most_primaries: int) -> ColorMatching | None:
    """Return a kept outcome if it is of these weights and tried enough primaries."""
    if not isinstance(entry, dict) or entry.get("digest") != digest:
        return None
    outcome = _outcome(entry)
    return outcome if outcome and len(outcome.mean_residual) >= most_primaries else None


def _outcome(entry: dict[str, Any]) -> ColorMatching | None:
    """Rebuild an outcome from plain data, or return ``None`` if it is not one."""
    try:
        data = {k: v for k, v in entry["outcome"].items() if k != "dimension"}
        lists = {k: tuple(map(float, v)) for k, v in data.items() if k not in _NOT_NUMBERS}
        primaries = tuple(tuple(map(float, some)) for some in data["primaries_nm"])
        residuals = tuple(tuple(map(float, some)) for some in data["residuals"])
        threshold = float(data["threshold"])
        outcome = ColorMatching(
            **lists, primaries_nm=primaries, residuals=residuals, threshold=threshold
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    sizes = {
        len(outcome.mean_residual), len(outcome.max_residual), len(outcome.linear_residual),
        len(outcome.observer_residual), len(primaries), len(residuals),
    }  # fmt: skip
    return outcome if len(sizes) == 1 and sizes != {0} else None


_NOT_NUMBERS = ("primaries_nm", "residuals", "threshold")


def _read(run: Run, *, quiet: bool = False) -> dict[str, Any]:
    """Return what was kept, by age; nothing, with a warning, if the file is damaged."""
    path = run.folder / "results" / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        return {} if quiet else _damaged(path, str(error))
    if isinstance(data, dict) and data.get("format") != FORMAT and "format" in data:
        return {}  # of another version: measured again, and replaced
    ages = data.get("ages") if isinstance(data, dict) else None
    sound = isinstance(ages, dict) and all(
        age.isdecimal() and isinstance(entry, dict) and _outcome(entry) is not None
        for age, entry in ages.items()
    )
    if not sound:
        return {} if quiet else _damaged(path, "it does not hold outcomes by age")
    assert isinstance(ages, dict)
    return ages


def _damaged(path: Path, why: str) -> dict[str, Any]:
    warnings.warn(
        f"{path} cannot be used ({why}). What it held is measured again.",
        CalcarineWarning,
        stacklevel=4,
    )
    return {}


def _write(run: Run, ages: dict[str, Any]) -> None:
    path = run.folder / "results" / _FILE
    ordered = dict(sorted(ages.items(), key=lambda item: int(item[0])))
    try:
        write_text(path, json.dumps({"format": FORMAT, "ages": ordered}, indent=1) + "\n")
    except RunError as error:
        warnings.warn(
            f"The outcome could not be kept and will be measured again next time: {error}",
            CalcarineWarning,
            stacklevel=3,
        )
