"""What a colour cortex knows of its eye, measured against the truth, while it learns.

    positions     error after the best similarity transform       learned, or taken for granted
    kernel        error after the best scaling                    learned, or told
    cone types    share that a linear read-out names              always learned
    movement      share that is exact to the pixel                told by the cortex, or to it
    prediction    error of the next signals, relative to their variance
    percept       PSNR of what the percept scope shows, in sRGB code values

Scenes and eye movements are drawn as in training, but with numbers of their own, the same at every
age. A part that is given is said to be given; its numbers then say how wrong what is given is.

Axes    B batch | T fixations | S cells along a side
Source  kotani2024 (what is compared); the measures are those of the probes
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calcarine.color import linear_to_srgb
from calcarine.cortex import LatticePositions
from calcarine.errors import InputError
from calcarine.files import write_text
from calcarine.probes import (
    cone_readout,
    kernel_readout,
    movement_readout,
    position_readout,
    unexplained_variance,
)
from calcarine.retina.eye_motion import crop_center
from calcarine.training.color_vision import ColorVisionTask
from calcarine.training.run import Run

__all__ = ["CortexReadouts", "cortex_readouts", "readouts_over_time", "true_positions"]


@dataclass(frozen=True)
class CortexReadouts:
    """What a cortex knows at one age; NaN where there is nothing to compare.

    Args:
        learned: How each part is known: ``"learned"``, ``"estimated"``, ``"given"`` or ``"none"``.
        position_error_cells: Root mean square error of positions, in cells.
        position_error_px: The same in pixels of the field of view.
        kernel_error: Relative error of the kernel of lateral inhibition.
        cone_accuracy: Share of cells whose type a linear read-out names.
        cone_chance: What calling all cells alike would give.
        movement_exact: Share of eye movements told right to the pixel.
        movement_error_px: Mean error of eye movements.
        prediction_error: Error of predicted signals, relative to their variance.
        percept_psnr_db: Peak signal-to-noise ratio of the percept, as the percept scope shows it.
    """

    learned: dict[str, str]
    position_error_cells: float
    position_error_px: float
    kernel_error: float
    cone_accuracy: float
    cone_chance: float
    movement_exact: float
    movement_error_px: float
    prediction_error: float
    percept_psnr_db: float


def readouts_over_time(
    run: Run,
    ages: Sequence[int] | None = None,
    *,
    batches: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[int, CortexReadouts]:
    """Measure what a cortex knows at several ages, and keep it as results/cortex_readouts.json.

    Args:
        run: The run of a colour cortex.
        ages: Ages in updates; by default all that were kept.
        batches: Batches of scenes per age, for movement, prediction and percept.
        seed: Seed of the scenes.
        progress: Called with a line of text before every age.

    Raises:
        InputError: If this is not the run of a colour cortex.
        CheckpointError: If the run has no weights of an age.
    """
    _check(run)
    found = {}
    for age in sorted({*run.ages, run.update} if ages is None else set(ages)):
        if progress is not None:
            progress(f"comparing what the cortex knows at age {age} with the truth")
        found[age] = cortex_readouts(
            run if age == run.update else run.at(age), batches=batches, seed=seed
        )
    _write(run.folder / "results" / "cortex_readouts.json", found)
    return found


@torch.no_grad()
def cortex_readouts(run: Run, *, batches: int = 4, seed: int = 0) -> CortexReadouts:
    """Measure what the cortex of a run knows of its eye.

    Args:
        run: The run of a colour cortex, at the age of interest.
        batches: Batches of scenes for movement, prediction and percept.
        seed: Seed of the scenes.

    Raises:
        InputError: If this is not the run of a colour cortex, or there are no batches.
    """
    task = _check(run)
    if batches < 1:
        raise InputError(f"cortex_readouts expected batches >= 1, got {batches}.")
    cortex, retina = task.cortex, task.retina
    places = position_readout(
        cortex.positions.positions(retina.mosaic)[0],
        true_positions(retina),
        field_px=retina.window,
        border=cortex.border,
    )
    kernel = math.nan
    if cortex.inhibition is not None and retina.inhibition is not None:
        kernel = kernel_readout(cortex.inhibition.kernel, retina.inhibition.kernel).error
    try:
        cones = cone_readout(cortex.identity.unit(), retina.mosaic, border=cortex.border)
        accuracy, chance = cones.accuracy, cones.chance
    except InputError:  # every cell holds a mixture
        accuracy = chance = math.nan
    moves, error, psnr = _on_scenes(task, batches, seed)
    return CortexReadouts(
        _how_known(task), places.error_cells, places.error_px, kernel, accuracy, chance,
        moves.exact, moves.error_px, error, psnr,
    )  # fmt: skip


def true_positions(retina: Any) -> Tensor:
    """Return where the cells of an eye are, (2, S, S) in halves of the field of view."""
    return retina.sampling.positions


def _check(run: Run) -> ColorVisionTask:
    if not isinstance(run.task, ColorVisionTask):
        raise InputError(
            "Read-outs of a cortex expected the run of a colour cortex (color_vision_task), got "
            f"one of {type(run.task).__name__}."
        )
    return run.task


def _how_known(task: ColorVisionTask) -> dict[str, str]:
    cortex = task.cortex

    def part(module: Any) -> str:
        if module is None:
            return "none"
        return "learned" if any(True for _ in module.parameters()) else "given"

    lattice = isinstance(cortex.positions, LatticePositions)
    return {
        "positions": "given" if lattice else part(cortex.positions),
        "kernel": part(cortex.inhibition),
        "cone types": "learned",
        "movement": "given" if cortex.movement == "true" else "estimated",
    }


def _on_scenes(task: ColorVisionTask, batches: int, seed: int) -> tuple[Any, float, float]:
    """Return movements, relative prediction error and PSNR over scenes of their own."""
    cortex, retina = task.cortex, task.retina
    draw = torch.Generator().manual_seed(seed)
    told, true, predicted, actual, known, squared = [], [], [], [], [], []
    inner = slice(cortex.border, cortex.size - cortex.border)
    for _ in range(batches):
        linear, scene = task.draw(draw)
        with _learning(retina):
            eye = retina(scene, draw)
        given = cortex.movement == "true"
        shift = eye.eye_shift if given else cortex.estimate(eye.optic_nerve)
        prediction = cortex.predict(eye.optic_nerve, shift)
        told.append(shift.cpu())
        true.append(eye.eye_shift.cpu())
        predicted.append(prediction.optic_nerve[..., inner, inner])
        actual.append(eye.optic_nerve[:, 1:].flatten(0, 1)[:, None, inner, inner])
        known.append(prediction.known[..., inner, inner])
        seen = retina.sampling(crop_center(linear, retina.window))[..., inner, inner]
        shown = task.percept_scope(prediction.percept[:: retina.frames - 1])[..., inner, inner]
        squared.append((_code(shown) - _code(seen)).square().mean())
    moves = movement_readout(torch.cat(told), torch.cat(true), field_px=retina.window)
    error = unexplained_variance(torch.cat(predicted), torch.cat(actual), torch.cat(known))
    return moves, error, -10 * math.log10(max(float(torch.stack(squared).mean()), 1e-12))


def _code(linear: Tensor) -> Tensor:
    return linear_to_srgb(linear).clamp(0, 1)


@contextmanager
def _learning(retina: Any) -> Iterator[None]:
    """Let the eye move and be noisy as while learning, and put it back."""
    modes = {module: module.training for module in retina.modules()}
    retina.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _write(path: Path, found: dict[int, CortexReadouts]) -> None:
    plain = {
        str(age): {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(readouts).items()
        }
        for age, readouts in found.items()
    }
    write_text(path, json.dumps({"format": 1, "ages": plain}, indent=1) + "\n")
