"""What the staged training of CordsNet promises, after the recipe's own training (minutes each).

Prints the table of the documentation:

    pytest -m slow tests/published/test_cordsnet_digits.py -s
"""

from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.probes import return_to_baseline
from calcarine.training import fit


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_in_time_reads_digits_nearly_as_well_as_its_twin(seed, tmp_path):
    made = recipe.load("cordsnet-digits", [f"seed={seed}"])
    task = made.build_task()
    done = fit(task, made.training, tmp_path, recipe=made.to_dict(), seed=made.seed, progress=False)
    reached = {name: done.scalars[f"{name}_accuracy"] for name in ("twin", "model", "direct")}
    task.model.eval()
    images = next(task.data.held_out(16)).images
    back = return_to_baseline(task.model, images, generator=torch.Generator().manual_seed(0))
    print(
        f"\nseed {seed} {done.seconds:5.0f} s  "
        + "  ".join(f"{name} {share:.3f}" for name, share in reached.items())
        + f"  back after {back.worst_return_ms:.0f} ms"
    )
    assert done.skipped == 0
    assert reached["model"] >= 0.96
    assert reached["model"] >= reached["twin"] - 0.02
    assert reached["model"] > reached["direct"]
    assert back.mono_stable
    assert back.worst_return_ms <= 200
