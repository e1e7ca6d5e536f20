"""The spike function: a step forward, the published slopes backward."""

import math

import pytest
import torch

from calcarine.errors import InputError, UnknownNameError
from calcarine.spiking import spike, surrogate_slope

X = torch.tensor([-2.0, -0.3, -1e-3, 0.0, 1e-3, 0.3, 2.0], dtype=torch.float64)
SURROGATES = ["superspike", "arctan", "sigmoid", "triangular", "straight_through"]


def closed_form(name: str, x: float, alpha: float) -> float:
    return {
        "superspike": 1 / (alpha * abs(x) + 1) ** 2,
        "arctan": 1 / (1 + (math.pi * alpha * x / 2) ** 2),
        "sigmoid": 1 / math.cosh(alpha * x / 2) ** 2,
        "triangular": max(0.0, 1 - alpha * abs(x)),
        "straight_through": 1.0,
    }[name]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_spike_is_a_step_that_is_zero_at_the_threshold(dtype):
    z = spike(X.to(dtype))
    assert z.dtype == dtype
    assert z.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [0.7, 10.0, 100.0])
def test_the_slope_is_the_published_one_and_one_at_the_threshold(name, alpha):
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(spike(x, name, alpha).sum(), x)
    expected = torch.tensor([closed_form(name, value, alpha) for value in X.tolist()])
    torch.testing.assert_close(slope, expected.double(), rtol=1e-6, atol=1e-12)
    assert slope[3] == 1
    assert torch.equal(slope, surrogate_slope(X, name, alpha))


@pytest.mark.parametrize("name", SURROGATES)
def test_every_mode_of_differentiation_gives_the_same_slope(name):
    def fire(x):
        return spike(x, name, 3.0)

    slope = surrogate_slope(X, name, 3.0)
    _, forward = torch.func.jvp(fire, (X,), (torch.ones_like(X),))
    torch.testing.assert_close(forward, slope)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(fire))(X), slope)


@pytest.mark.parametrize("name", SURROGATES)
def test_a_compiled_spike_is_the_same(name):
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: spike(x, name, 3.0), backend="aot_eager", fullgraph=True)
    x = X.clone().requires_grad_()
    z = compiled(x)
    assert torch.equal(z, spike(X))
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(slope, surrogate_slope(X, name, 3.0))


def test_the_slope_has_a_slope_of_its_own():
    """Second derivatives, as Hessian products need them: d/dx (1 + a x)^-2 = -2 a (1 + a x)^-3."""
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(spike(x, "superspike", 2.0), x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    assert second.item() == pytest.approx(-2 * 2.0 / 2.0**3)


def test_unknown_names_and_impossible_steepness_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'superspike'"):
        spike(X, "super_spike")
    with pytest.raises(UnknownNameError, match="no surrogate gradient named 'step'"):
        surrogate_slope(X, "step")
    for alpha in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="0 < alpha < inf"):
            spike(X, alpha=alpha)
