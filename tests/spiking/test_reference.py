"""Reference arrays of an independent implementation, and gradients derived by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calcarine import simulate
from calcarine.simulate import Recording
from calcarine.spiking import LIF, LeakyIntegrator, LeakyIntegratorBox, LIFBox

with np.load(Path(__file__).parent.parent / "data" / "spiking.npz") as _file:
    DATA = {name: torch.as_tensor(_file[name]) for name in _file.files}

DT_MS, TAU_MEM_MS, TAU_SYN_MS = (1000 * s for s in DATA["params"][:3].tolist())
V_TH, ALPHA = DATA["params"][3].item(), DATA["alpha"].item()
MEMBRANE = {"tau_mem_ms": TAU_MEM_MS, "dt_ms": DT_MS}
SPIKES = {"v_th": V_TH, "alpha": ALPHA}


@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        ("lif_box", LIFBox(**MEMBRANE, **SPIKES)),
        ("lif_box_sub", LIFBox(**MEMBRANE, **SPIKES, reset="subtract")),
        ("lif", LIF(**MEMBRANE, **SPIKES, tau_syn_ms=TAU_SYN_MS)),
        ("li_box", LeakyIntegratorBox(**MEMBRANE)),
        ("li", LeakyIntegrator(**MEMBRANE, tau_syn_ms=TAU_SYN_MS)),
    ],
)
def test_spikes_and_potentials_are_those_of_the_reference(name, neuron):
    v = Recording()
    z, _ = simulate.run(neuron, DATA["input"], record={"v": v})
    fires = name.startswith("lif")
    torch.testing.assert_close(z, DATA[f"{name}_z"], rtol=0, atol=0 if fires else 1e-5)
    torch.testing.assert_close(v.values, DATA[f"{name}_v"], rtol=0, atol=1e-5)
    assert z.sum() > 30


def test_the_gradient_through_time_is_that_of_the_reference():
    x = DATA["input"].clone().requires_grad_()
    z, _ = simulate.run(LIFBox(**MEMBRANE, **SPIKES), x, engine="plain")
    (gradient,) = torch.autograd.grad((z * DATA["grad_weight"]).sum(), x)
    torch.testing.assert_close(gradient, DATA["lif_box_grad"], rtol=0, atol=1e-5)
    assert gradient.abs().max() > 0.05


def by_hand(
    x: Tensor, weight: Tensor, neuron: LIFBox | LIF, tau_syn_ms: float | None
) -> tuple[Tensor, Tensor]:
    """Run forward and backward through time with every derivative written out."""
    r = neuron.dt_ms / neuron.tau_mem_ms
    keep = 0.0 if tau_syn_ms is None else 1 - neuron.dt_ms / tau_syn_ms
    v, i = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    z, before = torch.zeros_like(x), torch.zeros_like(x)
    for t in range(len(x)):
        drive = i + x[t]
        before[t] = v + r * (neuron.v_leak - v + drive)
        z[t] = (before[t] > neuron.v_th).double()
        after = neuron.v_reset if neuron.reset == "value" else before[t] - neuron.v_th
        v = torch.where(z[t] > 0, after, before[t])
        i = drive * keep
    gradient, dv, di = torch.zeros_like(x), torch.zeros_like(v), torch.zeros_like(v)
    for t in reversed(range(len(x))):
        slope = 1 / (neuron.alpha * (before[t] - neuron.v_th).abs() + 1) ** 2
        by_value = neuron.reset == "value"
        jump = neuron.v_reset - before[t] if by_value else torch.full_like(v, -neuron.v_th)
        dz = weight[t] + dv * jump
        dbefore = dv * ((1 - z[t]) if by_value else 1) + dz * slope
        gradient[t] = r * dbefore + keep * di
        dv, di = (1 - r) * dbefore, gradient[t]
    return z, gradient


@pytest.mark.parametrize("dt_ms", [1.0, 0.25])
@pytest.mark.parametrize("reset", ["value", "subtract"])
@pytest.mark.parametrize("kind", [LIFBox, LIF])
def test_the_gradient_through_time_is_the_one_derived_by_hand(kind, reset, dt_ms):
    generator = torch.Generator().manual_seed(3)
    x = 3 * torch.rand(80, 2, 7, generator=generator, dtype=torch.float64)
    weight = torch.randn(80, 2, 7, generator=generator, dtype=torch.float64)
    settings = {"v_reset": -0.2} if reset == "value" else {}
    neuron = kind(tau_mem_ms=8.0, v_th=0.7, reset=reset, dt_ms=dt_ms, alpha=5.0, **settings)
    expected_z, expected = by_hand(x, weight, neuron, 5.0 if kind is LIF else None)
    x.requires_grad_()
    z, _ = simulate.run(neuron, x, engine="plain")
    (gradient,) = torch.autograd.grad((z * weight).sum(), x)
    assert torch.equal(z.detach(), expected_z)
    assert z.sum() > 20
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)
