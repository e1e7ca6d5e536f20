"""The colour-vision task: what it learns from, what it refuses, and that it learns."""

from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.errors import (
    CheckpointError,
    FileFormatError,
    InputError,
    RecipeError,
    UnknownNameError,
)
from calcarine.training import fit, open_run
from calcarine.training.precision import multiply_in, resolve_precision

SMALL = [
    "retina.size=16",
    "cortex.size=16",
    "stimuli.size=22",
    "retina.max_shift_px=3",
    "cortex.widths=[4, 8]",
    "cortex.plasticity=1",
    "batch_size=4",
    "precision=fp32",
    "training.loggers=[local]",
    "training.warmup_updates=5",
]


def small(*overrides: str) -> recipe.Recipe:
    return recipe.load("color-sandbox", [*SMALL, *overrides])


def test_the_cortex_learns_to_predict_and_the_scopes_to_show(tmp_path):
    made = small("training.updates=200", "training.learning_rate=0.02", "illuminant_spread=0")
    task = made.build_task()
    generator = torch.Generator().manual_seed(1)
    linear, scene = task.draw(generator)
    state = generator.get_state()
    before = {n: v.item() for n, v in task.losses_on(linear, scene, generator).items()}
    fit(task, made.training, tmp_path, recipe=made.to_dict(), seed=0, progress=False)
    generator.set_state(state)
    after = {n: v.item() for n, v in task.losses_on(linear, scene, generator).items()}
    # The first percept is faint, so the first error is about that of predicting nothing.
    assert after["cortex"] < before["cortex"] / 2
    assert after["percept_scope"] < before["percept_scope"]
    assert after["mosaic_scope"] < before["mosaic_scope"]


def test_each_loss_teaches_its_own_module_only():
    task = small().build_task()
    losses = task.losses(torch.Generator().manual_seed(0))
    for name, loss in losses.items():
        reached = {
            other
            for other, parameters in task.objectives().items()
            for g in torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            if g is not None
        }
        assert reached == {name}


def test_draws_depend_on_the_generator_alone():
    task = small().build_task()
    first, second = (task.draw(torch.Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], task.draw(torch.Generator().manual_seed(5))[0])


def test_illuminants_change_the_colour_of_the_light_and_stay_in_range():
    plain, lit = (
        small("illuminant_spread=0").build_task(),
        small("illuminant_spread=1").build_task(),
    )
    before, _ = plain.draw(torch.Generator().manual_seed(4))
    after, cones = lit.draw(torch.Generator().manual_seed(4))
    light = lit._light((22, 22), torch.Generator().manual_seed(4))
    assert light.amax() <= 1
    assert light.amin() > 0
    corners = torch.stack(
        [light[..., 0, 0], light[..., 0, -1], light[..., -1, 0], light[..., -1, -1]]
    )
    assert (corners.amax(0) / corners.amin(0)).amax() > 2
    ratio = light[:, 2] / light[:, 0]
    assert (ratio.amax((1, 2)) / ratio.amin((1, 2))).median() > 1.5
    assert (after <= before + 1e-6).all()
    assert (after < 0.9 * before).float().mean() > 0.3
    assert torch.allclose(cones, lit.space.linear_to_cones(after))


@pytest.mark.parametrize(
    ("override", "advice"),
    [
        ("cortex.size=20", "cortex.size=16"),
        ("stimuli.size=21", "stimuli.size=22"),
        ("retina.frames=1", "retina.frames=2"),
        ("retina.spikes=lif", "retina.spikes=null"),
        ("batch_size=0", "batch_size >= 1"),
        ("illuminant_spread=-1", "illuminant_spread"),
    ],
)
def test_parts_that_do_not_fit_are_told_what_to_set(override, advice):
    with pytest.raises(InputError, match=advice):
        small(override).build_task()


def test_unknown_precision_is_refused():
    with pytest.raises(RecipeError, match="precision"):
        small("precision=fp16")
    with pytest.raises(UnknownNameError):
        resolve_precision("fp16", torch.device("cpu"))


def test_precision_follows_the_hardware_only_when_asked():
    cpu = torch.device("cpu")
    assert resolve_precision("fp32", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"
    assert resolve_precision("auto", cpu) in {"fp32", "bf16"}
    assert resolve_precision("auto", torch.device("meta")) == "fp32"
    a = torch.rand(4, 4)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with multiply_in(precision, cpu):
            assert (a @ a).dtype == dtype


def test_low_precision_learns_the_same_thing():
    full, low = (small(f"precision={p}").build_task() for p in ("fp32", "bf16"))
    losses = [t.losses(torch.Generator().manual_seed(0)) for t in (full, low)]
    for name in losses[0]:
        assert losses[1][name].item() == pytest.approx(losses[0][name].item(), rel=0.02)
    assert losses[1]["cortex"] != losses[0]["cortex"]


def test_a_resumed_run_is_the_run_that_never_stopped(tmp_path):
    made = small("training.updates=12", "training.checkpoint_every=5", "training.snapshots=[0, 12]")
    options = {"recipe": made.to_dict(), "seed": 3, "progress": False}
    whole = made.build_task()
    fit(whole, made.training, tmp_path / "whole", **options)
    stopped = made.build_task()
    update, calls = stopped.losses, []

    def stop_at_8(generator):
        calls.append(1)
        if len(calls) == 8:
            raise RuntimeError("power cut")
        return update(generator)

    stopped.losses = stop_at_8
    with pytest.raises(RuntimeError, match="power cut"):
        fit(stopped, made.training, tmp_path / "cut", **options)
    resumed = made.build_task()
    fit(resumed, made.training, tmp_path / "cut", resume=True, **options)
    for name, module in whole.modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, resumed.modules()[name].state_dict()[key]), key


def test_a_run_opens_at_every_age(tmp_path):
    made = small("training.updates=6", "training.snapshots=[0, 3, 6]")
    task = made.build_task()
    fit(task, made.training, tmp_path, recipe=made.to_dict(), seed=0, progress=False)
    run = open_run(tmp_path)
    assert run.ages == (0, 3, 6)
    assert run.update == 6
    assert run.recipe == made
    assert not run.task.cortex.training
    assert torch.equal(run.task.cortex.identity.vectors, task.cortex.identity.vectors)
    young = run.at(0).task.cortex.identity.vectors
    assert (young[0] == 1).all()
    with pytest.raises(CheckpointError, match="no weights of update 4"):
        run.at(4)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"no recipe\.yaml"):
        open_run(tmp_path)
