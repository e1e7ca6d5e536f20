from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from calcarine.models import CordsNet
from calcarine.stage import DynamicStage


class LeakyState(NamedTuple):
    r: Tensor


class Leaky(DynamicStage):
    """r <- r + dt/tau (bias + x - r): units on their own, known in closed form."""

    def __init__(self, tau_ms: Tensor, dt_ms: float = 2.0, bias: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("tau_ms", tau_ms)
        self.dt_ms, self.bias = dt_ms, bias

    def initial_state(self, like: Tensor) -> LeakyState:
        return LeakyState(torch.zeros_like(like))

    def forward(self, x: Tensor, state: LeakyState) -> tuple[Tensor, LeakyState]:
        r = state.r + self.dt_ms / self.tau_ms * (self.bias + x - state.r)
        return r, LeakyState(r)


@pytest.fixture
def leaky() -> type[Leaky]:
    """A row of leaky units."""
    return Leaky


@pytest.fixture
def cordsnet() -> CordsNet:
    """A small network with random weights and biases, so that its baseline is not 0."""
    torch.manual_seed(3)
    model = CordsNet(depth=2, classes=5, channels=1, image_size=(17, 21)).eval()
    for area in model.areas:
        torch.nn.init.uniform_(area.bias, -0.3, 0.3)
    return model.requires_grad_(False)
