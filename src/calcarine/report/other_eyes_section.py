"""The section about colour-deficient eyes in front of a trained cortex, on the page of its run."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from calcarine import plot
from calcarine.report.builder import Report
from calcarine.report.color_vision import likeness, other_eye, see
from calcarine.training.run import Run

__all__ = ["add_other_eyes", "seen_through_other_eyes"]

_ANOMALOUS_M_NM = 550.0  # peak of the anomalous M pigment; kotani2024
_EYES = {
    "anomalous trichromat, M at 550 nm": None,
    "tritanope, no S cones": "LM",
    "deuteranope, no M cones": "LS",
    "protanope, no L cones": "MS",
}


def seen_through_other_eyes(
    run: Run, photograph: Float[Tensor, "1 3 H W"]
) -> dict[str, dict[str, Tensor]]:
    """Return what the cortex of a trichromat sees of a photograph through other eyes, by name.

    Each is what :func:`calcarine.report.see` returns. Empty for the run of an eye that lacks a type
    of cone or has more than three.
    """
    retina = run.task.retina
    lacking = (retina.mosaic.flatten(1).sum(dim=1) == 0).tolist()
    if len(retina.peaks_nm) != 3 or any(lacking):
        return {}
    anomalous = (retina.peaks_nm[0], _ANOMALOUS_M_NM, retina.peaks_nm[2])
    eyes = {"this eye": run}
    for name, mosaic in _EYES.items():
        eyes[name] = other_eye(run, mosaic, anomalous if mosaic is None else None)
    return {name: see(eye, photograph) for name, eye in eyes.items()}


def add_other_eyes(page: Report, seen: dict[str, dict[str, Tensor]]) -> None:
    """Add what was seen through other eyes, if anything."""
    if not seen:
        return
    page.section(
        "What it would see through other eyes",
        "The same cortex gets the signals of eyes with their cells in the same places but other "
        "pigments in them, and is not told. It has not learned with these eyes: what is lost here "
        "is lost at once, and what colour is left can be wrong.",
    )
    first = next(iter(seen.values()))
    figure = plot.image_grid(
        [first["original"], *(shown["percept"] for shown in seen.values())],
        titles=["photograph", *(name.replace(", ", "\n") for name in seen)],
        limits=(0, 1),
        columns=3,
        width_in=1.95,
    )
    rows = []
    for name, shown in seen.items():
        found = likeness(shown["percept"], first["original"])
        rows.append([name, *(f"{found[key]:.2f}" for key in ("red_green", "blue_yellow"))])
    page.figure(
        figure,
        alt="Percepts of one photograph through other eyes; correlations with the photograph: "
        + "; ".join(f"{name}: red-green {rg}, blue-yellow {by}" for name, rg, by in rows),
        caption="The photograph, and its percept through this eye and through others.",
    )
    page.table(
        ["eye", "red–green", "blue–yellow"],
        rows,
        caption="Correlation of percept and photograph by opponent channel, as above.",
    )
