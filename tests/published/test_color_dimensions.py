"""As many dimensions of colour as cone types, after the recipe's own training (minutes each).

Prints the table of the documentation:

    pytest -m slow tests/published -s
"""

from __future__ import annotations

import pytest

from calcarine import recipe
from calcarine.probes import color_matching
from calcarine.training import fit, open_run


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("mosaic", "dimension"), [("L", 1), ("LM", 2), ("LS", 2), ("MS", 2), ("LMS", 3)]
)
def test_color_has_as_many_dimensions_as_there_are_cone_types(mosaic, dimension, tmp_path):
    made = recipe.load("color-sandbox", [f"retina.mosaic={mosaic}", "training.snapshots=[0]"])
    done = fit(
        made.build_task(), made.training, tmp_path, recipe=made.to_dict(), seed=made.seed,
        progress=False,
    )  # fmt: skip
    assert done.skipped == 0
    found = {}
    for age in (0, done.updates):
        run = open_run(tmp_path, age)
        cortex = run.task.cortex
        found[age] = color_matching(
            run.task.retina, cortex.decode, metric=cortex.identity.metric(8), most_primaries=4
        )
    after = found[done.updates]
    print(
        f"\n{mosaic:4s} {done.seconds:5.0f} s  mean residuals "
        + " ".join(f"{r:.4f}" for r in after.mean_residual)
        + "  singular values "
        + " ".join(f"{s:.4f}" for s in after.singular_values[:4])
        + f"  {after.verdict()}"
    )
    assert found[0].dimension == 1
    assert after.dimension == dimension
