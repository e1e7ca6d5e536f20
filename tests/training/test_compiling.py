"""The compiled step of the colour cortex: one graph, the same losses and gradients."""

from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.errors import CalcarineWarning, InputError, RecipeError
from calcarine.training import fit
from calcarine.training.compiling import CompiledStep, resolve_compiling

SANDBOX = (
    "color-sandbox",
    ["retina.size=16", "cortex.size=16", "stimuli.size=22", "retina.max_shift_px=3"],
)
FULL = (
    "color-128",
    [
        "retina.size=24",
        "cortex.size=24",
        "stimuli={type: image_patches, size: 70}",
        "retina.max_shift_px=3",
    ],
)
SMALL = [
    "cortex.widths=[4, 8]",
    "batch_size=2",
    "precision=fp32",
    "training.loggers=[local]",
    "training.warmup_updates=2",
]


def tiny(kind, *overrides):
    name, changes = kind
    return recipe.load(name, [*changes, *SMALL, *overrides])


def gradients(task, losses):
    parameters = [p for group in task.objectives().values() for p in group]
    return torch.autograd.grad(list(losses.values()), parameters, allow_unused=True)


def check_step(task, backend):
    """Compare losses and gradients on one draw; the graph must not break."""
    drawn = [each.double() for each in task.draw(torch.Generator().manual_seed(0))]
    for module in task.modules().values():
        module.double()  # gradients of positions are small differences
    plain = task.losses_on(*drawn, torch.Generator().manual_seed(1))
    expected = gradients(task, plain)
    task.compile = True
    task._compiled = torch.compile(task._step, backend=backend, fullgraph=True, dynamic=False)
    losses = task.losses_on(*drawn, torch.Generator().manual_seed(1))
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(plain[name].item(), rel=1e-9), name
    for got, wanted in zip(gradients(task, losses), expected, strict=True):
        scale = wanted.abs().max()
        assert scale > 0
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=float(1e-6 * scale))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_step_of_the_sandbox_is_one_graph(precision):
    if precision == "fp32":
        check_step(tiny(SANDBOX).build_task(), "aot_eager")
        return
    task = tiny(SANDBOX, "precision=bf16").build_task()
    plain = task.losses(torch.Generator().manual_seed(0))
    task.compile = True
    task._compiled = torch.compile(task._step, backend="aot_eager", fullgraph=True, dynamic=False)
    for name, loss in task.losses(torch.Generator().manual_seed(0)).items():
        assert loss.item() == pytest.approx(plain[name].item(), rel=0.01), name


def test_the_step_of_the_full_cortex_is_one_graph():
    pytest.importorskip("zuko")
    task = tiny(FULL).build_task()
    torch.manual_seed(0)
    with torch.no_grad():  # away from the start, at which positions are the identity
        for parameter in task.cortex.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    check_step(task, "aot_eager")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:Torchinductor does not support")
@pytest.mark.parametrize("kind", [SANDBOX, FULL], ids=["sandbox", "full"])
def test_code_made_by_the_compiler_gives_the_same(kind):
    pytest.importorskip("zuko")
    check_step(tiny(kind).build_task(), "inductor")


def test_a_compiled_run_learns_what_a_plain_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "calcarine.training.color_vision.CompiledStep",
        lambda step: CompiledStep(step, backend="aot_eager"),
    )
    ends = []
    for compiled in ("false", "true"):
        made = tiny(SANDBOX, "training.updates=6", f"compile={compiled}")
        task = made.build_task()
        folder = tmp_path / compiled
        fit(task, made.training, folder, recipe=made.to_dict(), seed=0, progress=False)
        assert (task._compiled is not None) == (compiled == "true")
        ends.append(task.cortex.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


def test_auto_compiles_on_a_gpu_only():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [resolve_compiling("auto", d) for d in (cpu, gpu)] == [False, True]
    assert [resolve_compiling(True, d) for d in (cpu, gpu)] == [True, True]
    assert [resolve_compiling(False, d) for d in (cpu, gpu)] == [False, False]
    with pytest.raises(InputError, match="'auto', true or false, got 'yes'"):
        resolve_compiling("yes", cpu)
    with pytest.raises(RecipeError, match="compile"):
        tiny(SANDBOX, "compile=sometimes")
    assert tiny(SANDBOX).to_dict()["compile"] == "auto"
    assert tiny(SANDBOX, "compile=true").to_dict()["compile"] is True


def test_where_the_compiler_fails_learning_goes_on():
    calls = []

    def step(x):
        calls.append(1)
        return 2 * x

    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    run = CompiledStep(step, backend=broken)
    with pytest.warns(CalcarineWarning, match="torch.compile failed .*; learning goes on without"):
        assert run(torch.ones(1)).item() == 2
    assert run(torch.ones(1)).item() == 2
    assert len(calls) >= 2


def test_what_the_step_itself_raises_is_not_hidden():
    def step(x):
        raise InputError("Expected something else.")

    with pytest.raises(InputError, match="something else"):
        CompiledStep(step, backend="aot_eager")(torch.ones(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", [SANDBOX, FULL], ids=["sandbox", "full"])
@pytest.mark.parametrize("stimuli", ["image_patches", "spectral_leaves"])
def test_on_a_gpu_the_host_does_not_wait_within_an_update(kind, stimuli, tmp_path):
    from calcarine.training.session import Session

    size = {"color-sandbox": 22, "color-128": 70}[kind[0]]
    changes = [f"stimuli={{type: {stimuli}, size: {size}}}"]
    if stimuli == "spectral_leaves":
        changes.append("illuminant_spread=0")
    made = tiny(kind, *changes)
    task = made.build_task()
    for module in task.modules().values():
        module.to("cuda")
    session = Session(task, made.training, seed=0, device=torch.device("cuda"))
    for _ in range(3):  # compile, fill caches
        session.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            session.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.tensor(value).isfinite() for value in session.scalars().values())
