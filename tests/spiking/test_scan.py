"""The fused pass over a movie: the plain step's numbers bit by bit, with less memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from calcarine import simulate
from calcarine.errors import ShapeError
from calcarine.spiking import IAF, LIF, LeakyIntegrator, LeakyIntegratorBox, LIFBox, _scan
from calcarine.stage import state_tensors

SURROGATES = ("superspike", "arctan", "sigmoid", "triangular", "straight_through")
UNITS = 37  # neither a multiple of a vector nor of a cache line
PER_UNIT = [3.0 + 0.5 * n for n in range(UNITS)]
NEURONS = {
    **{f"box {s}": lambda s=s: LIFBox(surrogate=s, alpha=10.0) for s in SURROGATES},
    **{
        f"box subtract {s}": lambda s=s: LIFBox(surrogate=s, alpha=10.0, reset="subtract")
        for s in SURROGATES
    },
    "box learned": lambda: LIFBox(alpha=10.0, v_leak=0.1, v_reset=0.2, learnable=True),
    "box per unit": lambda: LIFBox(alpha=10.0, tau_mem_ms=PER_UNIT, learnable=("tau_mem_ms",)),
    "box refractory": lambda: LIFBox(alpha=10.0, refractory_ms=3.0),
    "lif": lambda: LIF(alpha=10.0),
    "lif learned": lambda: LIF(alpha=10.0, v_reset=-0.2, learnable=True),
    "lif subtract learned": lambda: LIF(alpha=10.0, reset="subtract", learnable=True),
    "lif per unit": lambda: LIF(alpha=10.0, tau_syn_ms=PER_UNIT, v_th=PER_UNIT, learnable=True),
    "li box": lambda: LeakyIntegratorBox(),
    "li box learned": lambda: LeakyIntegratorBox(v_leak=0.3, learnable=True),
    "li learned": lambda: LeakyIntegrator(learnable=True),
    "iaf": lambda: IAF(alpha=10.0, learnable=True),
    "iaf subtract": lambda: IAF(alpha=10.0, reset="subtract"),
}


def movie(steps: int = 71, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(steps)
    return 3 * torch.rand(steps, 3, UNITS, generator=generator, dtype=torch.float64).to(dtype)


def outcome(neuron: Any, x: Tensor, **settings: Any) -> dict[str, Tensor | None]:
    """Return everything a run gives: outputs, last state, and all gradients."""
    x = x.clone().requires_grad_()
    weight = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)
    before = neuron.initial_state(x[0])
    v = (before.v + 0.1).detach().requires_grad_()
    out, state = simulate.run(neuron, x, before._replace(v=v), **settings)
    parts = [out, *(p for p in state_tensors(state) if p.is_floating_point())]
    sum((weight[: len(part)].view(-1)[: part.numel()] * part.reshape(-1)).sum()
        if part is not out else (weight * out).sum() for part in parts).backward()  # fmt: skip
    found = {"gradient": x.grad, "gradient v": v.grad}
    found |= {f"out {n}": part.detach() for n, part in enumerate(parts)}
    found |= {name: p.grad for name, p in neuron.named_parameters()}
    neuron.zero_grad()
    return found


def assert_same(a: dict[str, Tensor | None], b: dict[str, Tensor | None], rtol: float) -> None:
    for name, one in a.items():
        other = b[name]
        if name.startswith("out"):
            assert torch.equal(one, other), name
        elif one is None:
            assert other is None or not other.any(), name
        else:
            scale = one.abs().max().item()
            assert torch.allclose(one, other, rtol=rtol, atol=rtol * scale), name


@pytest.fixture
def kernel() -> None:
    if _scan._KERNEL.library() is None:
        pytest.skip(_scan.kernel_status())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NEURONS)
def test_scan_gives_the_bits_of_the_plain_step(name, dtype):
    neuron = NEURONS[name]().to(dtype)
    x = movie(dtype=dtype)
    plain, fused = outcome(neuron, x, engine="plain"), outcome(neuron, x, engine="scan")
    assert plain["out 0"].abs().sum() > 0
    assert plain["gradient"].abs().sum() > 0
    assert_same(plain, fused, 1e-5 if dtype == torch.float32 else 1e-12)


def test_compiled_chunks_give_the_bits_of_the_plain_step():
    neuron = NEURONS["lif learned"]()
    if not simulate.compiler_found(movie()):
        pytest.skip("no compiler")
    plain = outcome(neuron, movie(), engine="plain")
    assert_same(plain, outcome(neuron, movie(), engine="compiled"), 1e-5)


def test_the_kernel_is_what_runs(kernel, monkeypatch):
    """None of the neurons it covers falls back to steps."""
    monkeypatch.setattr(_scan, "run_steps", lambda *args: pytest.fail("stepped"))
    for name in NEURONS:
        if "refractory" not in name:
            simulate.run(NEURONS[name](), movie())


@pytest.mark.parametrize("steps", [1, 31, 32, 33, 64])
def test_any_number_of_steps(steps):
    neuron = LIF(alpha=10.0)
    plain = outcome(neuron, movie(steps), engine="plain")
    assert_same(plain, outcome(neuron, movie(steps), engine="scan"), 1e-5)


def test_a_scan_stops_and_resumes():
    neuron = LIF()
    whole, end = simulate.run(neuron, movie())
    first, state = simulate.run(neuron, movie()[:40])
    rest, resumed = simulate.run(neuron, movie()[40:], state)
    assert torch.equal(whole, torch.cat([first, rest]))
    assert whole.sum() > 0
    assert all(torch.equal(a, b) for a, b in zip(end, resumed, strict=True))


def test_memory_layout_does_not_matter():
    neuron = LIFBox()
    x = movie()
    expected, _ = simulate.run(neuron, x, engine="plain")
    for same in (x.transpose(1, 2).contiguous().transpose(1, 2), x.repeat(1, 1, 2)[..., :UNITS]):
        assert torch.equal(simulate.run(neuron, same)[0], expected)
    still = x[:1].expand(50, -1, -1)
    expected, _ = simulate.run(neuron, still.clone(), engine="plain")
    assert torch.equal(simulate.run(neuron, still)[0], expected)
    assert expected.sum() > 0


def test_threads_do_not_change_anything(kernel):
    x = torch.rand(40, 2, 5003, generator=torch.Generator().manual_seed(0)) * 3
    neuron, before = LIFBox(alpha=10.0), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(outcome(neuron, x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_the_kernel_does_not_cover_is_stepped():
    neuron = LIFBox(alpha=10.0)
    x = movie(12)
    half, _ = simulate.run(neuron, x.bfloat16(), engine="scan")
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, simulate.run(neuron, x.bfloat16(), engine="plain")[0])
    assert simulate.run(neuron, x.to("meta"))[0].device.type == "meta"
    with pytest.raises(ShapeError, match="state of shape"):
        simulate.run(neuron, x, neuron.initial_state(x[0, :1]))
    with pytest.raises(ShapeError, match="floating-point"):
        simulate.run(neuron, x.long(), neuron.initial_state(x[0]))


def test_transforms_see_the_plain_step():
    neuron = LeakyIntegratorBox()
    x = movie(12, torch.float64)

    def energy(x: Tensor, engine: str = "auto") -> Tensor:
        return simulate.run(neuron, x, engine=engine)[0].square().sum()

    expected = torch.func.grad(lambda x: energy(x, "plain"))(x)
    assert torch.allclose(torch.func.grad(energy)(x), expected)
    _, tangent = torch.func.jvp(energy, (x,), (torch.ones_like(x),))
    assert torch.allclose(tangent, expected.sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        tangent = torch.autograd.forward_ad.unpack_dual(energy(dual)).tangent
    assert torch.allclose(tangent, expected.sum())


@pytest.mark.parametrize("name", ["box superspike", "box subtract arctan", "lif", "li learned"])
def test_gradients_can_be_differentiated_again(name):
    neuron = NEURONS[name]().double()
    found = []
    for engine in ("plain", "scan"):
        x = movie(20, torch.float64).requires_grad_()
        out, _ = simulate.run(neuron, x, engine=engine)
        (first,) = torch.autograd.grad((out * x).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    assert found[0].abs().sum() > 0
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_gradients_that_fade_away_become_zero(kernel):
    """Denormal numbers would cost a hundred times as much; the thread's own setting is kept."""
    neuron = LIFBox()
    x = torch.zeros(1200, 1, 3, requires_grad=True)
    _, state = simulate.run(neuron, x)
    state.v.sum().backward()
    smallest = torch.finfo(torch.float32).tiny
    assert x.grad[-1].min() > 0
    assert not ((x.grad > 0) & (x.grad < smallest)).any()
    assert x.grad[0].max() == 0
    assert (torch.tensor(smallest) / 2) > 0


def test_peak_memory_of_learning(kernel):
    """Input, output and their gradients are four times the input; what is kept adds a share."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("no count of this process alone")
    code = """
import re, torch
from pathlib import Path
from calcarine import simulate
from calcarine.spiking import LIFBox
neuron = LIFBox()
def learn(steps):
    x = torch.ones(steps, 64, 512).requires_grad_()
    out, _ = simulate.run(neuron, x)
    out.backward(torch.ones_like(out))
    return x.numel() * 4 / 1024
def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
learn(1)
before = peak()
size = learn(300)
print((peak() - before) / size)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert 3 < float(done.stdout) < 4.5


def test_without_the_kernel_everything_runs():
    code = """
import torch
from calcarine import simulate
from calcarine.spiking import LIFBox, _scan
x = torch.full((30, 2, 3), 2.0, requires_grad=True)
out, _ = simulate.run(LIFBox(), x)
out.sum().backward()
print(_scan.kernel_status()); print(out.sum().item(), x.grad.sum().item())
"""
    said = {}
    for choice in ("torch", "auto"):
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env=os.environ | {"CALCARINE_KERNEL": choice},
        )  # fmt: skip
        said[choice] = done.stdout.splitlines()
    assert "CALCARINE_KERNEL=torch" in said["torch"][0]
    numbers = [[float(n) for n in said[c][1].split()] for c in said]
    assert numbers[0] == pytest.approx(numbers[1])
    assert numbers[0][0] > 0
