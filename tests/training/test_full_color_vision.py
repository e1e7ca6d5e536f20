"""The full colour cortex as a task: what its recipes say, and that they can be learned from."""

from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.errors import InputError, RecipeError
from calcarine.training import fit, open_run

pytest.importorskip("zuko")

TINY = [
    "retina.size=24",
    "cortex.size=24",
    "stimuli={type: image_patches, size: 70}",
    "retina.max_shift_px=3",
    "cortex.widths=[4, 8]",
    "batch_size=2",
    "precision=fp32",
    "training.loggers=[local]",
    "training.warmup_updates=5",
]


def tiny(*overrides: str) -> recipe.Recipe:
    return recipe.load("color-128", [*TINY, *overrides])


@pytest.mark.parametrize("name", ["color", "color-64", "color-128"])
def test_published_recipes_learn_everything(name):
    loaded = recipe.load(name, []).to_dict()
    cortex, retina = loaded["cortex"], loaded["retina"]
    assert (cortex["inhibition"], cortex["positions"]) == ("learned", "learned")
    assert cortex["movement"] == "estimated"
    assert cortex["size"] == retina["size"]
    assert loaded["stimuli"]["size"] == 2 * retina["size"] + 2 * retina["max_shift_px"]


@pytest.mark.parametrize(
    "parts",
    [
        (),
        ("cortex.movement='true'",),
        ("cortex.positions=published",),
        ("cortex.movement=published", "cortex.positions='true'", "cortex.inhibition='true'"),
        ("cortex.positions=lattice", "cortex.inhibition=none", "retina.inhibition=false"),
        ("retina.mosaic=MS+L_ratio_M", "cortex.inhibition='true'"),
        ("retina.mosaic=LMSQ", "retina.peaks_nm=[560, 530, 419, 506]"),
    ],
    ids=lambda parts: ",".join(parts) or "as it is",
)
def test_every_part_can_be_swapped_by_recipe(parts):
    if "retina.mosaic=LMSQ" in parts:
        parts = (*parts, "stimuli={type: spectral_leaves, size: 70}")
    task = tiny(*parts).build_task()
    losses = task.losses(torch.Generator().manual_seed(0))
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    for name, parameters in task.objectives().items():
        gradients = torch.autograd.grad(losses[name], parameters, allow_unused=True)
        assert all(g is not None for g in gradients)


def test_a_run_learns_and_opens_with_what_it_learned(tmp_path):
    made = tiny("training.updates=12", "training.learning_rate=0.01")
    task = made.build_task()
    start = {n: p.detach().clone() for n, p in task.cortex.named_parameters()}
    fit(task, made.training, tmp_path, recipe=made.to_dict(), seed=0, progress=False)
    for name, parameter in task.cortex.named_parameters():
        assert not torch.equal(parameter, start[name]), name
    opened = open_run(tmp_path).task.cortex
    for name, value in task.cortex.state_dict().items():
        assert torch.equal(opened.state_dict()[name], value), name


def test_what_the_retina_lacks_cannot_be_told():
    with pytest.raises((InputError, RecipeError), match="this retina has none"):
        tiny("cortex.inhibition='true'", "retina.inhibition=false").build_task()
    with pytest.raises(RecipeError, match="positions"):
        tiny("cortex.positions=leaned")
