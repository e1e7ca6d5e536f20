"""The recurrent wrapper: the same as a loop written out, and no way to oneself."""

import pytest
import torch
from torch import nn

from calcarine import simulate
from calcarine.errors import InputError, ShapeError
from calcarine.spiking import IAF, LIF, AdaptiveLIF, AdEx, Izhikevich, LIFBox, Recurrent
from calcarine.testing import check_stage


def matrix(units: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return 0.5 * torch.randn(units, units, generator=generator, dtype=dtype)


def movie(steps: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    return 3 * torch.rand(steps, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("self_connection", [False, True])
@pytest.mark.parametrize("kind", [LIFBox, LIF, AdaptiveLIF, AdEx, IAF])
def test_the_last_spikes_come_back_through_the_matrix(kind, self_connection):
    weight, x, neuron = matrix(7), movie(50, 2, 7), kind()
    network = Recurrent(neuron, weight, self_connection=self_connection)
    z, _ = simulate.run(network, x, engine="plain")
    used = weight if self_connection else weight - weight.diagonal().diag()
    state, back, expected = neuron.initial_state(x[0]), torch.zeros(2, 7).double(), []
    for frame in x:
        back, state = neuron(frame + back @ used.T, state)
        expected.append(back)
    assert torch.equal(z.detach(), torch.stack(expected))
    alone, _ = simulate.run(neuron, x, engine="plain")
    assert not torch.equal(z.detach(), alone)


def test_the_diagonal_has_no_effect_and_learns_nothing():
    weight, x = matrix(7), movie(40, 2, 7)
    network = Recurrent(LIFBox(alpha=5.0), weight)
    z, _ = simulate.run(network, x, engine="plain")
    z.sum().backward()
    gradient = network.weight.weight.grad
    assert (gradient.diagonal() == 0).all()
    assert (gradient + torch.eye(7) != 0).all()
    with torch.no_grad():
        network.weight.weight.fill_diagonal_(1e3)
    again, _ = simulate.run(network, x, engine="plain")
    assert torch.equal(z, again)


def test_a_linear_layer_keeps_its_bias_and_any_module_may_connect():
    x = movie(30, 2, 4)
    linear = nn.Linear(4, 4).double()
    z, _ = simulate.run(Recurrent(LIF(), linear), x, engine="plain")
    with torch.no_grad():
        silent = nn.Linear(4, 4).double()
        silent.weight.zero_()
        silent.bias.copy_(linear.bias)
        linear.weight.zero_()
    flat, _ = simulate.run(Recurrent(LIF(), linear), x, engine="plain")
    shifted, _ = simulate.run(LIF(), x + silent.bias, engine="plain")
    assert torch.equal(flat, shifted)
    image = movie(10, 2, 3, 6, 5)
    convolution = nn.Conv2d(3, 3, 3, padding=1).double()
    z, _ = simulate.run(Recurrent(LIF(), convolution, self_connection=True), image)
    assert z.shape == image.shape
    assert z.sum() > 0


@pytest.mark.parametrize("neuron", [LIF(), LIFBox(refractory_ms=2.0), Izhikevich()])
def test_a_recurrent_network_keeps_the_contract(neuron):
    network = Recurrent(neuron, matrix(5, torch.float32))
    check_stage(network, 4 * torch.rand(3, 5), skip=["gradient"]).raise_if_failed()


def test_connections_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"axes \(units, units\), got shape \(3, 4\)"):
        Recurrent(LIF(), torch.zeros(3, 4))
    with pytest.raises(ShapeError, match=r"got shape \(2, 3\)"):
        Recurrent(LIF(), nn.Linear(3, 2))
    with pytest.raises(
        InputError, match=r"self-connection of a Conv2d\. Pass self_connection=True"
    ):
        Recurrent(LIF(), nn.Conv2d(1, 1, 3))
    with pytest.raises(InputError, match="a stage with memory, as LIF"):
        Recurrent(nn.ReLU(), torch.zeros(3, 3))
    network = Recurrent(LIF(), torch.zeros(3, 3))
    frame = torch.zeros(2, 4)
    with pytest.raises(ShapeError, match="connects 3 units"):
        network(frame, network.initial_state(frame))
    with pytest.raises(ShapeError, match=r"state of shape \(2, 3\)"):
        network(torch.zeros(2, 3), network.initial_state(torch.zeros(1, 3)))
    shrinking = Recurrent(LIF(), nn.Conv2d(1, 1, 3), self_connection=True)
    frame = torch.zeros(2, 1, 6, 6)
    with pytest.raises(ShapeError, match="keeps the shape"):
        shrinking(frame, shrinking.initial_state(frame))
