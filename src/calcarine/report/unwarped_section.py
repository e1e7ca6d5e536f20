"""The percept laid out in the visual field: as its cells lie, and as the cortex believes they lie.

    on the lattice    percept(u)                          as the optic nerve is laid out
    unwarped          percept(P^-1(R^T (x - t) / a))      P, where the cortex believes its cells
    as cells lie      percept(nearest cell to x)          the same with the truth

a, R and t are the similarity transform that brings positions closest to the true ones: size, place
and direction of its field are the cortex's own. What is not covered by cells is left grey.

Axes    S cells along a side | R side of the field of view, px
Source  kotani2024 (unwarped percepts); the alignment is that of the position read-out
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine import plot
from calcarine.color import linear_to_srgb, srgb_to_linear
from calcarine.cortex.given_positions import cell_centres
from calcarine.cortex.visual_field import look_up
from calcarine.errors import InputError
from calcarine.probes import position_readout
from calcarine.report.builder import Report
from calcarine.report.color_vision import likeness, percepts
from calcarine.report.cortex_readouts import true_positions
from calcarine.retina import UniformSampling
from calcarine.retina.eye_motion import crop_center
from calcarine.training.color_vision import ColorVisionTask
from calcarine.training.run import Run

__all__ = ["Unwarped", "add_unwarped", "unwarped"]

_NOWHERE = 0.5  # grey, where the cortex has no cells


class Unwarped(NamedTuple):
    """One photograph and its percept, sRGB in [0, 1].

    Attributes:
        scene: What the eye looked at.
        on_lattice: The percept, one point per cell.
        in_field: The percept where the cortex believes its cells to be.
        as_cells_lie: The percept where its cells are.
        known: Where in the field the cortex has cells.
    """

    scene: Float[Tensor, "1 3 R R"]
    on_lattice: Float[Tensor, "1 3 S S"]
    in_field: Float[Tensor, "1 3 R R"]
    as_cells_lie: Float[Tensor, "1 3 R R"]
    known: Tensor


@torch.no_grad()
def unwarped(run: Run, image: Float[Tensor, "1 3 H W"]) -> Unwarped:
    """Lay the percept of one fixation out in the visual field.

    Args:
        run: The run of a colour cortex behind a foveated eye, at the age of interest.
        image: sRGB code values in [0, 1], at least as large as the eye's field of view.

    Raises:
        InputError: If this is not the run of a colour cortex, or its cells are on a lattice.
        ShapeError: If the picture has other axes or is too small.
    """
    as_cells_lie = percepts(run, image)["percept"]
    assert isinstance(run.task, ColorVisionTask)
    retina, cortex = run.task.retina, run.task.cortex
    if isinstance(retina.sampling, UniformSampling):
        raise InputError(
            "unwarped expected a foveated eye; here cells are on a regular lattice, and the "
            "percept is laid out as it is. See report.percepts."
        )
    scene = crop_center(image.to(retina.mosaic), retina.window)
    nerve = retina.snapshot(run.task.space.linear_to_cones(srgb_to_linear(scene)))
    shown = linear_to_srgb(run.task.percept_scope(cortex.decode(nerve))).clamp(0, 1)
    points = _believed(run, cell_centres(retina.window, shown))
    seen, known = look_up(shown, cortex.positions.to_lattice(points))
    return Unwarped(scene, shown, seen + _NOWHERE * ~known, as_cells_lie, known)


def _believed(run: Run, points: Float[Tensor, "1 2 R R"]) -> Float[Tensor, "1 2 R R"]:
    """Return true places in the coordinates in which the cortex believes its cells to be."""
    cortex, retina = run.task.cortex, run.task.retina
    learned = cortex.positions.positions(retina.mosaic)[0]
    fit = position_readout(
        learned, true_positions(retina), field_px=retina.window, border=cortex.border
    )
    angle = math.radians(fit.rotation_deg)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)  # y points down
    turned = torch.einsum("ij,jhw->ihw", turn, learned.detach().cpu().double())
    offset = (fit.aligned - fit.scale * turned).mean(dim=(1, 2))
    back = points.cpu().double() - offset[:, None, None]
    return (torch.einsum("ji,njhw->nihw", turn, back) / fit.scale).to(points)


def add_unwarped(page: Report, laid_out: dict[str, Unwarped]) -> None:
    """Add what the cortex sees where, if the lattice of cells is not the visual field."""
    if not laid_out:
        return
    page.section(
        "Where it sees it",
        "The optic nerve lays the cells of a fovea out evenly, so the percept on their lattice "
        "magnifies the middle. The cortex unwarps it by the positions that it believes in, apart "
        "from size, place and direction, which nothing tells. Were they right, the third picture "
        "would be the fourth.",
    )
    for name, each in laid_out.items():
        found = [likeness(x, each.scene)["psnr_db"] for x in (each.in_field, each.as_cells_lie)]
        figure = plot.image_grid(
            [each.scene, each.on_lattice, each.in_field, each.as_cells_lie],
            titles=[
                "scene\n",
                "percept\non the lattice",
                f"unwarped by the cortex\n{found[0]:.1f} dB",
                f"where its cells are\n{found[1]:.1f} dB",
            ],
            limits=(0, 1),
            columns=4,
            width_in=2.3,
        )
        covered = float(each.known.double().mean())
        page.figure(
            figure,
            alt=f"The scene {name}, its percept on the lattice of cells, and unwarped to the "
            f"visual field: {found[0]:.1f} dB; with the true positions {found[1]:.1f} dB.",
            caption=f"“{name}”: {covered:.0%} of the field lie between cells, as the cortex "
            "believes; the rest is grey.",
        )
