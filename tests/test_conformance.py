"""Every registered stage keeps the contract; the kit finds every way of breaking it."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from calcarine import registry
from calcarine.errors import InputError, UnknownNameError
from calcarine.stage import DynamicStage, FusedStage, Pathway, Stage
from calcarine.testing import check_model, check_stage

STAGES = [name for name in registry.names() if registry.entry(name).example is not None]


@pytest.mark.parametrize("name", STAGES)
def test_registered_stages_keep_the_contract(name):
    entry = registry.entry(name)
    stage = registry.get(name)(**entry.settings)
    example = torch.rand(entry.example, generator=torch.Generator().manual_seed(0))
    report = check_stage(stage, example, skip=entry.skip)
    print(report)
    report.raise_if_failed()
    assert len(report.checks) >= 8


class State(NamedTuple):
    v: Tensor


class Good(DynamicStage):
    def initial_state(self, like: Tensor) -> State:
        return State(torch.zeros_like(like))

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        v = 0.5 * state.v + torch.tanh(x)
        return v, State(v)


class MixesBatch(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean()


class WritesInput(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(1.0).add_(1e-3)


class Random(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class FixedDtype(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x.float() * 2


class FixedDevice(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1, keepdim=True) * torch.ones(1).numpy().item() + torch.zeros(
            1, device="cpu"
        )


class WrongGradient(Stage):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach() * x


class Remembers(Good):
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        self.count = getattr(self, "count", 0) + 1
        v = 0.5 * state.v + x * self.count
        return v, State(v)


class WritesState(Good):
    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        state.v.mul_(0.5).add_(x)
        return state.v.clone(), state


class BareState(Good):
    def initial_state(self, like: Tensor) -> tuple[Tensor]:
        return (torch.zeros_like(like),)

    def forward(self, x: Tensor, state: tuple[Tensor]) -> tuple[Tensor, tuple[Tensor]]:
        v = 0.5 * state[0] + x
        return v, (v,)


class WrongScan(Good, FusedStage):
    def scan(self, movie: Tensor, state: State) -> tuple[Tensor, State]:
        return movie, State(movie[-1])


@pytest.mark.parametrize(
    ("stage", "check"),
    [
        (MixesBatch(), "batch_items_independent"),
        (WritesInput(), "input_untouched"),
        (Random(), "deterministic"),
        (FixedDtype(), "dtype_followed"),
        (WrongGradient(), "gradient"),
        (Remembers(), "state_is_a_value"),
        (WritesState(), "state_is_a_value"),
        (BareState(), "state_is_a_value"),
        (WrongScan(), "scan_agrees"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_kit_finds_the_fault(stage, check):
    report = check_stage(stage, torch.rand(3, 4))
    assert check in {failed.name for failed in report.failures}
    assert "FAILED" in str(report)
    with pytest.raises(InputError, match=check):
        report.raise_if_failed()


@pytest.mark.parametrize("stage", [Good(), Pathway(a=Good(), b=nn.Tanh(), c=Good())])
def test_the_kit_passes_what_is_right(stage):
    report = check_stage(stage, torch.rand(3, 4)).raise_if_failed()
    assert report.passed
    assert {"stop_and_resume", "compiles", "scan_agrees"} <= {c.name for c in report.checks}


def test_skips_have_to_name_real_checks_and_examples_a_batch():
    with pytest.raises(UnknownNameError, match="Did you mean 'gradient'"):
        check_stage(Good(), torch.rand(2, 3), skip=["gradint"])
    with pytest.raises(InputError, match="two batch items"):
        check_stage(Good(), torch.rand(1, 3))


IMAGE = torch.rand(1, 1, 16, 12)


class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.5).to(x)


class HiddenNoise(nn.Module):
    """Random in one layer deep inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.ReLU(), Random()))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ThroughNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(x.detach().numpy() ** 2)


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("model", "image", "check", "advice"),
    [
        (frozen(nn.BatchNorm2d(1)).train(), IMAGE, "no_side_effects", "model.eval()"),
        (frozen(nn.Dropout()).train(), IMAGE, "repeatable", "model.eval()"),
        (frozen(HiddenNoise()), IMAGE, "repeatable", "remove the randomness"),
        (frozen(ThroughNumpy()), IMAGE, "differentiable", "torch operations only"),
        (lambda x: x.sqrt() if x.requires_grad else x, IMAGE * 0, "differentiable", "not finite"),
        (lambda x: x[:, :, None], IMAGE, "output", "3-D or 4-D"),
        (lambda x: {"response": x}, IMAGE, "output", "got dict; return one tensor"),
        (nn.Conv2d(1, 2, 3).eval(), IMAGE, "parameters_frozen", "requires_grad_(False)"),
        (frozen(nn.Flatten()), IMAGE, "output", "3-D or 4-D"),
        (frozen(nn.ReLU()), IMAGE[0], "image", "(batch, channel, height, width)"),
        (frozen(nn.ReLU()), (IMAGE * 255).to(torch.uint8), "image", "floating point"),
        (frozen(nn.ReLU()), IMAGE / 0 * 0, "image", "NaN"),
        (frozen(Random()), IMAGE, "repeatable", "randomness"),
        (frozen(NoGradient()), IMAGE, "differentiable", "differentiable"),
        (lambda x: (x * 255).long(), IMAGE, "output", "floating point"),
        (lambda x: x.double(), IMAGE, "output", "follow the input"),
        (lambda x: [x], IMAGE, "output", "return one tensor"),
        (lambda x: x / 0 * 0, IMAGE, "output", "NaN"),
        (frozen(nn.Conv2d(1, 2, 3)).to("meta"), IMAGE, "same_device", "model.to"),
    ],
)
def test_models_that_cannot_be_probed_are_told_what_to_change(model, image, check, advice):
    report = check_model(model, image)
    failed = {c.name: c.detail for c in report.failures}
    assert check in failed
    assert advice in failed[check]


@pytest.mark.parametrize(
    "model",
    [
        frozen(nn.Conv2d(1, 2, 3)),
        frozen(nn.BatchNorm2d(1)),
        torch.sigmoid,
        torch.fft.fft2,
        lambda x: x.flatten(2),
    ],
)
def test_models_that_can_be_probed_pass(model):
    assert check_model(model, IMAGE).raise_if_failed().passed
    with torch.no_grad():
        assert check_model(model, IMAGE).passed


def test_training_mode_without_consequences_is_remarked_upon():
    report = check_model(frozen(nn.Conv2d(1, 2, 3)).train(), IMAGE).raise_if_failed()
    assert "call model.eval()" in next(c.detail for c in report.checks if "side" in c.name)


def test_checking_a_model_leaves_it_as_it_was():
    model = frozen(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert not check_model(model, IMAGE).passed
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
