"""The section about what a colour cortex knows of its eye, on the page of its run."""

from __future__ import annotations

import math

from calcarine import plot
from calcarine.probes import kernel_readout, position_readout
from calcarine.report.builder import Report
from calcarine.report.cortex_readouts import CortexReadouts, true_positions
from calcarine.training.run import Run

__all__ = ["add_readouts"]


def add_readouts(page: Report, run: Run, readouts: dict[int, CortexReadouts]) -> None:
    """Add what the cortex knows of its eye, by age, and of the last age in pictures."""
    cortex, retina = run.task.cortex, run.task.retina
    ages, found = list(readouts), list(readouts.values())
    last = found[-1]
    known = ", ".join(f"{part} {how}" for part, how in last.learned.items() if how != "none")
    page.section(
        "What it knows of its eye",
        f"Parts of the cortex against the truth: {known}. Scenes and eye movements are drawn as in "
        "training, with numbers of their own. Dotted: calling all cones alike.",
    )
    page.figure(
        plot.readouts_over_time(ages, found),
        alt=f"After {ages[-1]} updates: {_in_words(last)}.",
        caption=f"After {ages[-1]} updates: {_in_words(last)}.",
    )
    if last.learned["positions"] == "learned":
        true = true_positions(retina)
        places = position_readout(
            cortex.positions.positions(retina.mosaic)[0],
            true,
            field_px=retina.window,
            border=cortex.border,
        )
        page.figure(
            plot.positions_figure(places, true),
            alt=f"True and learned positions of the cells; error {places.error_cells:.2f} cells.",
            caption="Where the cells are, and where the cortex believes them to be, after the best "
            "similarity transform: size, place and direction of its field are its own.",
        )
    if last.learned["kernel"] == "learned" and retina.inhibition is not None:
        kernel = kernel_readout(cortex.inhibition.kernel, retina.inhibition.kernel)
        page.figure(
            plot.kernel_figure(kernel),
            alt=f"True and learned kernel of lateral inhibition; error {kernel.error:.2f}.",
            caption="Lateral inhibition as it is and as the cortex believes, after the best "
            "scaling. The colours are scaled to the surround.",
        )


def _in_words(known: CortexReadouts) -> str:
    """Say the numbers that there are."""
    numbers = {
        "positions are off by {:.2f} cells": known.position_error_cells,
        "the kernel by {:.1%}": known.kernel_error,
        "{:.1%} of the cells are named by a linear read-out": known.cone_accuracy,
        "{:.1%} of the movements are exact": known.movement_exact,
        "{:.2%} of the variance of the next signals is unexplained": known.prediction_error,
        "the percept has {:.1f} dB PSNR": known.percept_psnr_db,
    }
    return ", ".join(text.format(v) for text, v in numbers.items() if math.isfinite(v))
