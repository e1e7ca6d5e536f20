"""Readouts: the right layer at the right time, with its gradient."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import InputError, RunError, UnknownNameError
from calcarine.lgn import CenterSurround
from calcarine.models import ColorVision
from calcarine.probes import check_model, mse, readout
from calcarine.retina import LateralInhibition
from calcarine.simulate import Recording, run
from calcarine.stage import DynamicStage, Pathway, Stage


class LeakState(NamedTuple):
    v: Tensor


class Leak(DynamicStage):
    """v <- v + dt / tau (x - v)."""

    def __init__(self, tau_ms: float = 10.0, dt_ms: float = 2.0) -> None:
        super().__init__()
        self.tau_ms, self.dt_ms = tau_ms, dt_ms

    def initial_state(self, like: Tensor) -> LeakState:
        return LeakState(torch.zeros_like(like))

    def forward(self, x: Tensor, state: LeakState) -> tuple[Tensor, LeakState]:
        v = state.v + self.dt_ms / self.tau_ms * (x - state.v)
        return v.square(), LeakState(v)


class Timeless(DynamicStage):
    def initial_state(self, like: Tensor) -> LeakState:
        return LeakState(torch.zeros_like(like))

    def forward(self, x: Tensor, state: LeakState) -> tuple[Tensor, LeakState]:
        return x, state


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def convnet() -> nn.Module:
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Conv2d(4, 3, 3, stride=2))
    head = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    model = nn.ModuleDict({"features": features, "head": head})
    return nn.Sequential(*model.values())


@pytest.fixture
def image() -> Tensor:
    return torch.rand(2, 1, 16, 13, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net(image: Tensor) -> nn.Module:
    model = convnet()
    model(image)
    return frozen(model)


@pytest.fixture
def pathway() -> Pathway:
    return frozen(Pathway(lgn=CenterSurround(7, 0.8, 1.6), slow=Leak(20.0), out=nn.Softplus()))


def test_a_layer_of_a_network(net, image):
    expected = net[0][1](net[0][0](image))
    probe = readout(net, "0.1")
    assert torch.equal(probe(image), expected)
    assert torch.equal(readout(net, "")(image), net(image)[:, None])
    assert not net[0][1]._forward_hooks


def test_flat_layers_get_a_channel_axis(net, image):
    assert readout(net, "1.1")(image).shape == (2, 1, 5)
    assert readout(nn.Sequential(nn.Flatten(0)), "0")(image).shape == (2 * 16 * 13, 1, 1)
    assert readout(nn.Sequential(nn.Unflatten(2, (4, 4))), "0")(image).shape == (2, 1, 4 * 4 * 13)


def test_the_gradient_is_that_of_the_layer(net, image):
    x, y = image.clone().requires_grad_(), image.clone().requires_grad_()
    readout(net, "0.2")(x).square().sum().backward()
    net[0](y).square().sum().backward()
    assert torch.equal(x.grad, y.grad)
    assert x.grad.abs().sum() > 0


def test_the_activity_of_a_pathway_is_that_of_a_recording(pathway, image):
    record = {"slow": Recording(), "slow.v": Recording(), "lgn": Recording()}
    outputs, _ = run(pathway, image.expand(15, *image.shape), record=record, engine="plain")
    for name, recording in record.items():
        for steps in (1, 2, 15):
            found = readout(pathway, name, time_ms=2.0 * steps)(image)
            assert torch.equal(found, recording.values[steps - 1])
    assert torch.equal(readout(pathway, "", time_ms=30)(image), outputs[-1])
    assert record["slow"].values[-1].sum() > record["slow"].values[0].sum() > 0


@pytest.mark.parametrize("engine", ["plain", "auto"])
def test_a_leaky_integrator_in_closed_form(image, engine):
    """Constant drive x: v after n steps is x (1 - (1 - dt / tau)^n), its slope the factor."""
    x = image.double().requires_grad_()
    probe = readout(Leak(10.0, 2.0), "v", time_ms=24, engine=engine)
    factor = 1 - 0.8**12
    v = probe(x)
    torch.testing.assert_close(v, factor * x)
    (slope,) = torch.autograd.grad(v.sum(), x)
    torch.testing.assert_close(slope, torch.full_like(x, factor))


def test_forward_mode_works_through_time(pathway, image):
    probe = readout(pathway, "slow", time_ms=10)
    direction = torch.ones_like(image)
    _, ahead = torch.func.jvp(probe, (image,), (direction,))
    _, pull = torch.func.vjp(probe, image)
    (back,) = pull(ahead)
    torch.testing.assert_close((back * direction).sum(), ahead.square().sum())
    assert ahead.abs().max() > 0


def test_readouts_can_be_probed(net, pathway, image):
    cortex = frozen(ColorVision(size=16, latent=4, widths=(4, 8), border=1))
    seen = {
        "convolution": (readout(net, "0.2"), image),
        "linear": (readout(net, "1.1"), image),
        "pathway": (readout(pathway, "slow", time_ms=20), image),
        "retina": (readout(Pathway(cells=LateralInhibition()).eval(), "cells"), image),
        "cortex": (readout(cortex, "demosaicing"), torch.rand(1, 1, 16, 16)),
    }
    for name, (probe, picture) in seen.items():
        report = check_model(probe, picture)
        assert report.passed, f"{name}: {report}"


def test_readouts_suit_plenoptic(net, pathway):
    peer = pytest.importorskip("plenoptic").validate
    peer.validate_model(readout(net, "0.2"), image_shape=(1, 1, 16, 13))
    peer.validate_model(readout(pathway, "slow", time_ms=6), image_shape=(1, 1, 16, 16))


def test_a_readout_follows_its_model(net, image):
    assert not readout(net, "0.2").training
    assert readout(net.train(), "0.2").training
    probe = readout(net.eval(), "0.2")
    twin = copy.deepcopy(probe).double()
    assert twin(image.double()).dtype == torch.float64
    assert probe(image).dtype == torch.float32
    assert mse(twin(image.double()).float(), probe(image)).max() < 1e-10


def test_the_last_of_several_calls_counts(image):
    class Twice(Stage):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.pool(x))

    assert torch.equal(readout(Twice(), "pool")(image), Twice()(image))


def test_no_tap_is_left_behind_after_a_failure(net):
    probe = readout(net, "0.0")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        probe(torch.rand(1, 1, 40, 40))
    assert not net[0][0]._forward_hooks


def test_names_that_lead_nowhere(net, pathway, image):
    with pytest.raises(UnknownNameError, match="Did you mean 'slow'"):
        readout(pathway, "slwo", time_ms=10)
    with pytest.raises(UnknownNameError, match=r"layer to read named '0\.0\.v'"):
        readout(net, "0.0.v")
    with pytest.raises(UnknownNameError, match="Known: v"):
        readout(pathway, "slow.u", time_ms=10)(image)
    with pytest.raises(InputError, match="module with named layers"):
        readout(torch.sigmoid, "0")


def test_times_that_make_no_sense(net, pathway):
    with pytest.raises(InputError, match="has memory: say when"):
        readout(pathway, "slow")
    with pytest.raises(InputError, match="has no memory"):
        readout(net, "0.0", time_ms=10)
    with pytest.raises(InputError, match="has no memory"):
        readout(Pathway(a=nn.ReLU()), "a", time_ms=10)
    for time_ms in (0, -2, 3.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="multiple of the step of 2 ms"):
            readout(pathway, "slow", time_ms=time_ms)
    with pytest.raises(InputError, match="no stage has a dt_ms"):
        readout(Timeless(), "", time_ms=10)
    with pytest.raises(InputError, match=r"steps of 1\.0, 2\.0 ms"):
        readout(Pathway(a=Leak(dt_ms=1.0), b=Leak()), "a", time_ms=10)
    with pytest.raises(InputError, match="dt_ms > 0"):
        readout(Timeless(), "", time_ms=10, dt_ms=0)
    assert readout(Timeless(), "", time_ms=10, dt_ms=2.5).steps == 4


def test_layers_that_take_no_part_or_are_no_tensors(image):
    class Idle(Stage):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return x

    class Listing(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [x]

    with pytest.raises(RunError, match="took no part"):
        readout(Idle(), "unused")(image)
    with pytest.raises(RunError, match="put out list"):
        readout(Listing(), "")(image)
