"""As many dimensions of colour as cone types, after the recipes' own training (minutes each).

Prints the tables of the documentation:

    pytest -m slow tests/published -s
"""

from __future__ import annotations

from pathlib import Path

import pytest

from calcarine import recipe
from calcarine.probes import ColorMatching, color_matching
from calcarine.training import fit, open_run

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


@pytest.mark.parametrize(
    ("mosaic", "seed", "dimension"),
    [
        ("L", 0, 1), ("LM", 0, 2), ("LS", 0, 2), ("MS", 0, 2),
        ("LMS", 0, 3), ("LMS", 1, 3), ("LMS", 2, 3),
    ],
)  # fmt: skip
def test_color_has_as_many_dimensions_as_there_are_cone_types(mosaic, seed, dimension, tmp_path):
    birth, grown = grow(
        "color-sandbox", tmp_path, f"retina.mosaic={mosaic}", f"seed={seed}"
    ).values()
    assert birth.dimension == 1
    assert grown.dimension == dimension


def test_a_new_pigment_gives_a_dichromat_a_third_dimension(tmp_path):
    _, before = grow("color-sandbox", tmp_path / "ms", "retina.mosaic=MS").values()
    _, after = grow("color-therapy", tmp_path / "cured", f"start.run={tmp_path / 'ms'}").values()
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


def test_a_new_pigment_gives_a_trichromat_a_fourth_dimension(tmp_path):
    three = ("retina.mosaic=LMS", "retina.peaks_nm=[560, 530, 419]")
    _, before = grow("color-tetrachromat", tmp_path / "lms", *three).values()
    _, after = grow("color-boost", tmp_path / "more", f"start.run={tmp_path / 'lms'}").values()
    assert (before.dimension, after.dimension) == (3, 4)


@pytest.mark.parametrize(
    ("changes", "dimension"),
    [((), 3), (("retina.mosaic=LMSQ", LMSQ, "stimuli.lamps=3"), 4)],
    ids=["LMS", "LMSQ"],
)
def test_a_cortex_that_is_told_nothing_has_them_too(changes, dimension, tmp_path):
    birth, grown = grow("color-64", tmp_path, *changes).values()
    assert (birth.dimension, grown.dimension) == (1, dimension)
