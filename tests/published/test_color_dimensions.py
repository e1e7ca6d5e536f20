"""As many dimensions of colour as cone types, after the recipes' own training (minutes each).

Prints the tables of the documentation:

    pytest -m slow tests/published -s
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from calcarine import recipe
from calcarine.probes import ColorMatching, color_matching, movement_readout
from calcarine.report.cortex_readouts import cortex_readouts
from calcarine.stimuli import ImagePatches
from calcarine.training import fit, open_run
from calcarine.training.color_vision import ColorVisionTask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LMSQ = "retina.peaks_nm=[560, 530, 419, 506]"
HUMAN = "retina.peaks_nm=[560, 530, 419, 545]"


def grow(name: str, folder: Path, *changes: str) -> dict[int, ColorMatching]:
    """Train a recipe as it stands; return what is matched at birth and at the end."""
    made = recipe.load(name, ["training.snapshots=[0]", *changes])
    done = fit(
        made.build_task(), made.training, folder, recipe=made.to_dict(), seed=made.seed,
        progress=False,
    )  # fmt: skip
    assert done.skipped == 0
    found = {}
    for age in (0, done.updates):
        run = open_run(folder, age)
        cortex = run.task.cortex
        found[age] = color_matching(
            run.task.retina, cortex.decode, metric=cortex.identity.metric(8)
        )
    after = found[done.updates]
    print(
        f"\n{name} {' '.join(changes)} {done.seconds:5.0f} s  mean residuals "
        + " ".join(f"{r:.4f}" for r in after.mean_residual)
        + "  singular values "
        + " ".join(f"{s:.4f}" for s in after.singular_values[:5])
        + f"  {after.verdict()}"
    )
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("mosaic", "dimension"), [("L", 1), ("LM", 2), ("LS", 2), ("MS", 2), ("LMS", 3)]
)
def test_color_has_as_many_dimensions_as_there_are_cone_types(mosaic, dimension, seed, tmp_path):
    birth, grown = grow(
        "color-sandbox", tmp_path, f"retina.mosaic={mosaic}", f"seed={seed}"
    ).values()
    assert birth.dimension == 1
    assert grown.dimension == dimension


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_new_pigment_gives_a_dichromat_a_third_dimension(seed, tmp_path):
    start, end = tmp_path / "ms", tmp_path / "cured"
    _, before = grow("color-sandbox", start, "retina.mosaic=MS", f"seed={seed}").values()
    _, after = grow("color-therapy", end, f"start.run={start}", f"seed={seed}").values()
    assert (before.dimension, after.dimension) == (2, 3)


@pytest.mark.parametrize(
    "changes", [("seed=0",), ("seed=1",), (HUMAN, "training.updates=15000")], ids=" ".join
)
def test_a_tetrachromat_has_a_fourth_dimension(changes, tmp_path):
    birth, grown = grow("color-tetrachromat", tmp_path, *changes).values()
    assert (birth.dimension, grown.dimension) == (1, 4)


def test_adam_does_not_find_the_fourth_dimension(tmp_path):
    """The control: the same eye, scenes, rate and number of updates."""
    _, grown = grow("color-tetrachromat", tmp_path, "training.optimiser=adam").values()
    assert grown.dimension == 3


@pytest.mark.parametrize("seed", [0, 1])
def test_a_new_pigment_gives_a_trichromat_a_fourth_dimension(seed, tmp_path):
    three = ("retina.mosaic=LMS", "retina.peaks_nm=[560, 530, 419]", f"seed={seed}")
    start, end = tmp_path / "lms", tmp_path / "more"
    _, before = grow("color-tetrachromat", start, *three).values()
    _, after = grow("color-boost", end, f"start.run={start}", f"seed={seed}").values()
    assert (before.dimension, after.dimension) == (3, 4)


@pytest.mark.parametrize(
    ("name", "changes", "dimension"),
    [
        ("color-64", ("seed=0",), 3),
        ("color-64", ("seed=1",), 3),
        ("color-64", ("retina.mosaic=LMSQ", LMSQ, "stimuli.lamps=3"), 4),
        ("color-128", ("training.updates=4000",), 3),
    ],
)
def test_a_cortex_that_is_told_nothing_has_them_too(name, changes, dimension, tmp_path):
    birth, grown = grow(name, tmp_path, *changes).values()
    assert (birth.dimension, grown.dimension) == (1, dimension)
    run = open_run(tmp_path)
    found = cortex_readouts(run)
    movements = {pixels: exact_movements(run.task, pixels) for pixels in (8, 15)}
    print(f"{found}  exact on photographs, by the largest movement in px: {movements}")
    assert found.position_error_cells < 0.3
    assert found.cone_accuracy > 0.99
    assert found.kernel_error < 0.2
    assert min(movements.values()) > 0.95


@torch.no_grad()
def exact_movements(task: ColorVisionTask, largest_px: int, pairs: int = 256) -> float:
    """Share of eye movements that are told to the pixel from two looks at a photograph."""
    eye = copy.deepcopy(task.retina).train()
    eye.max_shift_px = largest_px
    draw = torch.Generator().manual_seed(1)
    photographs = ImagePatches(size=eye.window + 2 * largest_px).draw(pairs, draw)
    told, true = [], []
    for some in photographs.split(16):
        seen = eye(task.space.linear_to_cones(task.space.srgb_to_linear(some)), draw)
        told.append(task.cortex.estimate(seen.optic_nerve))
        true.append(seen.eye_shift)
    return movement_readout(torch.cat(told), torch.cat(true), field_px=eye.window).exact
