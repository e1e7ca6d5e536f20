"""Where the eye looks, and what the cortex tells of it, on the page of its run.

    true        movements drawn as in training, (dx, dy) from fixation to fixation
    told        what the cortex makes of the optic nerve alone; nothing where it is given movements
    path        the sum of movements since the first fixation

Axes    B batch | F fixations | N movements
Source  kotani2024 (movements are told from the signals)
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine import plot
from calcarine.color import srgb_to_linear
from calcarine.probes import movement_readout
from calcarine.report.builder import Report
from calcarine.retina import RandomShifts
from calcarine.retina.eye_motion import limits
from calcarine.stimuli import HELD_OUT_SAMPLES, sample_image
from calcarine.training.run import Run

__all__ = ["Gaze", "add_gaze", "follow_gaze"]

_FIXATIONS = 16
_ROOM = 4  # largest movements from the centre that a photograph leaves room for


class Gaze(NamedTuple):
    """Fixations on a photograph, and movements over scenes, all in px; told ones may be missing.

    Attributes:
        picture: The photograph, sRGB.
        path: Where the eye looked, from the centre.
        told_path: Where it looked as the cortex tells.
        movements: True movements over scenes drawn as in training.
        told_movements: The same as the cortex tells.
    """

    picture: Float[Tensor, "1 3 H W"]
    path: Int[Tensor, "F 2"]
    told_path: Float[Tensor, "F 2"] | None
    movements: Float[Tensor, "N 2"]
    told_movements: Float[Tensor, "N 2"] | None


@torch.no_grad()
def follow_gaze(run: Run, *, batches: int = 8, seed: int = 0) -> Gaze:
    """Let the eye of a run look at a photograph and at scenes, and ask the cortex how it moved.

    Args:
        run: The run of a colour cortex, at the age of interest.
        batches: Batches of scenes.
        seed: Seed of scenes and movements.
    """
    task, draw = run.task, torch.Generator().manual_seed(seed)
    retina, half = task.retina, task.retina.window / 2
    told = task.cortex.movement != "true"
    room = retina.window + 2 * _ROOM * max(retina.max_shift_px, 1)
    picture = sample_image(HELD_OUT_SAMPLES[-1], size=room, channels="rgb").to(retina.mosaic)
    reach = limits(picture.shape[-2], picture.shape[-1], retina.window)
    path = RandomShifts(retina.max_shift_px).path(1, _FIXATIONS, reach, draw)
    told_path = None
    if told:
        scene = task.space.linear_to_cones(srgb_to_linear(picture))
        shift = task.cortex.estimate(retina(scene, path=path).optic_nerve)[0].cpu() * half
        told_path = torch.cat([path[0, :1].to(shift), path[0, :1] + shift.cumsum(0)])
    true, guessed = [], []
    moving = copy.deepcopy(retina).train()
    for _ in range(batches):
        eye = moving(task.draw(draw)[1], draw)
        true.append(eye.eye_shift.flatten(0, 1).cpu() * half)
        if told:
            guessed.append(task.cortex.estimate(eye.optic_nerve).flatten(0, 1).cpu() * half)
    return Gaze(picture, path[0], told_path, torch.cat(true), torch.cat(guessed) if told else None)


def add_gaze(page: Report, run: Run, gaze: Gaze) -> None:
    """Add the path of the eye, and how well the cortex tells its movements."""
    asked = gaze.told_movements is not None
    page.section(
        "Where its eye looks",
        "The eye moves by whole pixels; the cortex is told nothing of it, and finds the movement "
        "under which one fixation explains the next."
        if asked
        else "The eye moves by whole pixels, which this cortex is told.",
    )
    page.figure(
        plot.fixation_path(gaze.picture, gaze.path, run.task.retina.window, told_px=gaze.told_path),
        alt=f"A path of {len(gaze.path)} fixations over a photograph.",
        caption="Fixations on a photograph; the frames are the field of view at the first and, "
        "dashed, at the last."
        + (" Errors of single movements add up along the told path." if asked else ""),
    )
    if gaze.told_movements is None:
        return
    found = movement_readout(gaze.told_movements, gaze.movements, field_px=2)
    page.figure(
        plot.movement_figure(gaze.told_movements, gaze.movements),
        alt=f"Movements as told against true ones: {found.exact:.0%} are exact, the mean error is "
        f"{found.error_px:.2f} px.",
        caption=f"Movements between two fixations on scenes as in training: {found.exact:.0%} are "
        f"exact, the mean error is {found.error_px:.2f} px.",
    )
