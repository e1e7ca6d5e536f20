"""``calcarine colour-match``: count the dimensions of a cortex's colour."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from calcarine.commands.shared import check_run, chosen_ages, known_runs, note, print_table
from calcarine.errors import InputError

if TYPE_CHECKING:
    from calcarine.probes import ColorMatching

__all__ = ["colour_match"]


def colour_match(
    *runs: Path,
    ages: str = "final",
    observer: str | None = None,
    peaks: Annotated[str | None, Parameter(name="--peaks")] = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Count the dimensions of a cortex's colour.

    Colour has n dimensions when every light can be matched by a mixture of n primaries, and not by
    one of n - 1. The table gives what remains of the difference after the best match, relative to
    the light itself, and the same for a perfect observer behind the same cones. Numbers and figures
    are kept in the folder results of the run.

    Several runs of one recipe, which differ in their seed, are pooled to say how sure the count is.

    ```
    calcarine colour-match runs/color-sandbox
    calcarine colour-match runs/color-sandbox --ages all
    calcarine colour-match runs/color-sandbox --ages 0,500,final --json match.json
    calcarine colour-match runs/seed-0 runs/seed-1 runs/seed-2
    calcarine colour-match --observer LMSQ --peaks 560,530,419,506
    ```

    Args:
        runs: Folders of runs.
        ages: Ages in updates, separated by commas; final, or all that were kept.
        observer: Instead of runs, the perfect observer behind the cones of a mosaic: LMS, MS, LMSQ,
            MS+L_replace_M, ...
        peaks: Peaks of L, M, S and perhaps Q, nm, for --observer; by default 560,530,419,545.
        json_file: Write the numbers to this file too.
        force: Measure again what has been measured before.
        quiet: Print the verdict only.
    """
    if observer is not None:
        if runs:
            raise InputError("Give runs, or --observer for no run at all, not both.")
        _show_observer(observer, peaks, json_file, quiet=quiet)
        return
    if peaks is not None:
        raise InputError("--peaks has no effect on runs, whose eyes have pigments of their own.")
    if not runs:
        raise InputError(
            f"colour-match expected the folder of a run, or --observer MOSAIC. {known_runs()}"
        )
    results, written = [], []
    for run in dict.fromkeys(runs):
        found = _measure(run, ages, force=force, quiet=quiet)
        _tell(found, run.name if len(runs) > 1 else "", quiet=quiet)
        written += [run / "results" / "color_matching.json", *_draw(run, found)]
        results.append((run, found))
    if len(results) > 1:
        _pool([list(found.values())[-1] for _, found in results])
    if json_file is not None:
        several = {str(run): _plain(found) for run, found in results}
        written.append(_write_json(json_file, several if len(results) > 1 else _plain(found)))
    if not quiet:
        print(f"\nWrote {', '.join(map(str, written))}")


def _measure(run: Path, ages: str, *, force: bool, quiet: bool) -> dict[int, ColorMatching]:
    from calcarine.training.run import open_run

    opened = open_run(check_run(run))
    chosen = chosen_ages(ages, run, opened.ages, opened.update)

    from calcarine.report.results import color_matching_over_time

    return color_matching_over_time(
        opened, ages=chosen, force=force, progress=None if quiet else note
    )


def _tell(found: Mapping[int, ColorMatching], name: str, *, quiet: bool) -> None:
    """Print the outcome of every age, and how sure the last count is."""
    from calcarine.probes import matching_confidence

    prefix = f"{name}: " if name else ""
    for age, outcome in found.items():
        if not quiet:
            _show(outcome, f"Residual of the best match after {age} updates")
            if outcome.noise_floor:
                print(f"a light differs from itself, seen twice, by: {outcome.mean_noise:.2g}")
        when = "" if len(found) == 1 else f"after {age}: "
        print(f"{prefix}{when}{outcome.verdict()}")
    if not quiet:
        print(f"{prefix}how sure: {matching_confidence([outcome]).sentence()}")


def _pool(outcomes: Sequence[ColorMatching]) -> None:
    """Print how sure the count is over several runs."""
    from calcarine.probes import matching_confidence

    print(f"together: {matching_confidence(outcomes).sentence()}")


def _show_observer(mosaic: str, peaks: str | None, json_file: Path | None, *, quiet: bool) -> None:
    """Print the best that any cortex behind the cones of a mosaic can do."""
    from calcarine.probes import perfect_observer

    chosen = _pigments(mosaic, peaks)
    outcome = perfect_observer(chosen, most_primaries=min(5, len(chosen) + 1))
    if not quiet:
        listed = ", ".join(f"{peak:g}" for peak in chosen)
        _show(outcome, f"Perfect observer of {listed} nm")
    print(outcome.verdict())
    if json_file is not None:
        path = _write_json(json_file, {mosaic: outcome.to_dict()})
        if not quiet:
            print(f"\nWrote {path}")


def _pigments(mosaic: str, peaks: str | None) -> list[float]:
    """Return the peaks of the pigments that a mosaic has, nm."""
    from calcarine.commands.eyes import read_peaks
    from calcarine.retina import cone_mosaic

    layout = cone_mosaic(mosaic, 32)
    all_peaks = read_peaks(peaks, len(layout))
    if len(all_peaks) != len(layout):
        raise InputError(
            f"The mosaic {mosaic} has the planes {'LMSQ'[: len(layout)]}; --peaks expected as many "
            f"numbers, got {len(all_peaks)}."
        )
    there = (layout.flatten(1).sum(dim=1) > 0).tolist()
    return [peak for peak, has in zip(all_peaks, there, strict=True) if has]


def _show(found: ColorMatching, title: str) -> None:
    """Print the residuals by number of primaries, and the spread of the percepts."""
    rows = []
    for index, lights in enumerate(found.primaries_nm):
        ratio = found.ratio_to_observer[index]
        rows.append(
            (
                index + 1,
                f"{found.mean_residual[index]:.4f}",
                f"{found.max_residual[index]:.4f}",
                f"{found.observer_residual[index]:.4f}",
                "-" if math.isnan(ratio) else f"{ratio:.2f}",
                " ".join(f"{each:g}" for each in lights),
            )
        )
    columns = (">n", ">mean", ">max", ">perfect observer", ">ratio", "primaries, nm")
    print_table(columns, rows, title=title)
    values = "  ".join(f"{value:.2g}" for value in found.singular_values)
    print(f"singular values of all percepts: {values}")


def _draw(run: Path, found: Mapping[int, ColorMatching]) -> list[Path]:
    """Draw the outcome of the last age, and of several ages their course."""
    from calcarine.plot import dimension_over_time, residual_curve, save_figure

    ages = list(found)
    title = f"{run.name} after {ages[-1]} updates: {found[ages[-1]].verdict()}"
    last = residual_curve(found[ages[-1]], title=title)
    drawn = [save_figure(last, run / "results" / "color_matching.png")]
    if len(ages) > 1:
        course = dimension_over_time(ages, list(found.values()), title=run.name)
        drawn.append(save_figure(course, run / "results" / "color_matching_over_time.png"))
    return drawn


def _plain(found: Mapping[int, ColorMatching]) -> dict[str, Any]:
    return {str(age): outcome.to_dict() for age, outcome in found.items()}


def _write_json(path: Path, data: Mapping[str, Any]) -> Path:
    from calcarine.files import write_text

    return write_text(path, json.dumps(data, indent=2) + "\n")
