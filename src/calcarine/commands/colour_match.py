"""``calcarine colour-match``: count the dimensions of a cortex's colour."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calcarine.commands.shared import check_run, chosen_ages, note, print_table

if TYPE_CHECKING:
    from calcarine.probes import ColorMatching

__all__ = ["colour_match"]


def colour_match(
    run: Path,
    /,
    *,
    ages: str = "final",
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Count the dimensions of a cortex's colour.

    Colour has n dimensions when every light can be matched by a mixture of n primaries, and not by
    one of n - 1. The table gives what remains of the difference after the best match, relative to
    the light itself, and the same for a perfect observer behind the same cones. Numbers and figures
    are kept in the folder results of the run.

    ```
    calcarine colour-match runs/color-sandbox
    calcarine colour-match runs/color-sandbox --ages all
    calcarine colour-match runs/color-sandbox --ages 0,500,final --json match.json
    ```

    Args:
        run: Folder of the run.
        ages: Ages in updates, separated by commas; final, or all that were kept.
        json_file: Write the numbers to this file too.
        force: Measure again what has been measured before.
        quiet: Print the verdict only.
    """
    from calcarine.training.run import open_run

    opened = open_run(check_run(run))
    chosen = chosen_ages(ages, run, opened.ages, opened.update)

    from calcarine.report.results import color_matching_over_time

    found = color_matching_over_time(
        opened, ages=chosen, force=force, progress=None if quiet else note
    )
    for age in chosen:
        if not quiet:
            _show(found[age], age)
        print(found[age].verdict() if len(chosen) == 1 else f"after {age}: {found[age].verdict()}")
    written = [run / "results" / "color_matching.json", *_draw(run, found)]
    if json_file is not None:
        written.append(_write_json(json_file, found))
    if not quiet:
        print(f"\nWrote {', '.join(map(str, written))}")


def _show(found: ColorMatching, age: int) -> None:
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
    print_table(columns, rows, title=f"Residual of the best match after {age} updates")
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


def _write_json(path: Path, found: Mapping[int, ColorMatching]) -> Path:
    from calcarine.files import write_text

    data = {str(age): result.to_dict() for age, result in found.items()}
    return write_text(path, json.dumps(data, indent=2) + "\n")
