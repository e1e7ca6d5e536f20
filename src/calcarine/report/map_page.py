"""The sections about a map that grew on the page of its run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from calcarine import plot
from calcarine.probes import OrientationMap
from calcarine.report import map_figures as figures
from calcarine.report.builder import Report
from calcarine.report.map_results import map_measures, maps_over_time
from calcarine.training.run import Run

__all__ = ["MapResults", "add_map_sections", "measure_maps"]

_MISSING = "–"


@dataclass(frozen=True)
class MapResults:
    """What was measured on a map.

    Args:
        maps: Orientation maps of the afferent response by age.
        measured: Numbers read off them.
    """

    maps: dict[int, OrientationMap]
    measured: dict[int, dict[str, float]]

    @property
    def last(self) -> int:
        """Age of the last map."""
        return max(self.maps)

    def key_numbers(self) -> dict[str, str]:
        """Return the numbers that tell most about the map."""
        numbers = self.measured[self.last]
        return {
            "mean orientation selectivity": _cell("selectivity", numbers["selectivity"]),
            "pinwheels": _cell("pinwheels", numbers["pinwheels"]),
            "pinwheels per hypercolumn² (animals: 3.14)": _cell(
                "pinwheel_density", numbers["pinwheel_density"]
            ),
        }


def measure_maps(run: Run, progress: Callable[[str], None]) -> MapResults:
    """Measure the maps of all ages that were kept."""
    maps = maps_over_time(run, progress=progress)
    return MapResults(maps, map_measures(maps))


def add_map_sections(page: Report, run: Run, results: MapResults) -> None:
    """Add the map at the end, what its units look at, and how it came about."""
    _add_map(page, results)
    _add_fields(page, run)
    _add_development(page, results)


def _add_map(page: Report, results: MapResults) -> None:
    found, numbers = results.maps[results.last], results.measured[results.last]
    page.section(
        "The orientation map",
        "Sine gratings of 24 orientations and 12 phases are shown to the sheet; the colour of a "
        "unit is the orientation that it prefers, by the vector sum of its afferent responses "
        "before settling. Around a pinwheel all orientations are preferred, in order.",
    )
    page.figure(
        figures.map_figure(found),
        alt=f"Orientation map with {numbers['pinwheels']:.0f} pinwheels.",
        caption=f"After {results.last} updates. Right: the same, units without preference dark.",
    )
    if math.isnan(numbers["pinwheel_density"]):
        page.note(
            "The map has no measurable hypercolumn, so a density of pinwheels cannot be told: its "
            "spectrum has no clear peak."
        )
    page.figure(
        plot.orientation_histogram(found.direction),
        alt="Polar histogram of the preferred orientations.",
        caption="How many units prefer each orientation.",
    )


def _add_fields(page: Report, run: Run) -> None:
    page.section("What its units look at", "Afferent fields of units all over the sheet.")
    page.figure(
        figures.fields_figure(run.task.model),
        alt="Afferent weights of units all over the sheet, in their order.",
        caption="In the order of the sheet. With ON and OFF cells: red where light excites, blue "
        "where darkness does.",
    )


def _add_development(page: Report, results: MapResults) -> None:
    page.section("How the map developed")
    if len(results.maps) > 1:
        page.animation(
            figures.map_film(results.maps),
            fps=1.5,
            alt=f"The orientation map from age {min(results.maps)} to {results.last}.",
            caption="The map while it grew; units without preference are dark.",
        )
        page.figure(
            figures.development_figure(results.measured),
            alt="Pinwheel density, selectivity and stability by age.",
            caption="Stability is the likeness to the last map: 1 if equal, 0 if unrelated.",
        )
    names = list(results.measured[results.last])
    page.table(
        ["age (updates)", *(name.replace("_", " ") for name in names)],
        [
            [str(age), *(_cell(name, numbers[name]) for name in names)]
            for age, numbers in results.measured.items()
        ],
        caption="Hypercolumns in units of the sheet; density in pinwheels per hypercolumn². "
        f"{_MISSING}: the map has no measurable hypercolumn.",
    )


def _cell(name: str, value: float) -> str:
    digits = {"pinwheels": 0, "hypercolumn": 1, "pinwheel_density": 2}
    return _MISSING if math.isnan(value) else f"{value:.{digits.get(name, 3)}f}".replace("-", "−")
