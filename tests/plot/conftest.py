from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine.probes import ColorMatching, perfect_observer


@pytest.fixture(scope="session")
def outcomes() -> dict[str, ColorMatching]:
    """Perfect observers behind two and three types of cones, and one that four do not suffice."""
    lights = {"most_primaries": 4, "wavelengths_nm": list(range(400, 701, 25))}
    three = perfect_observer(**lights)
    return {
        "two": perfect_observer((560.0, 419.0), **lights),
        "three": three,
        "more": ColorMatching(
            **{**three.__dict__, "mean_residual": (0.9, 0.8, 0.7, 0.6), "max_residual": (1.0,) * 4}
        ),
    }


class Losses(NamedTuple):
    representation: Tensor
    penalty: Tensor


class History(NamedTuple):
    iterations: tuple[int, ...]
    images: Tensor


class Channels(nn.Module):
    """Blurred images times 1, 2, 3, ...; complex if asked."""

    def __init__(self, count: int = 1, *, is_complex: bool = False) -> None:
        super().__init__()
        self.count, self.is_complex = count, is_complex

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(x, 3, 1, 1) * torch.arange(1, self.count + 1).to(x)[:, None, None]
        return torch.complex(y, -y) if self.is_complex else y


class Moments(nn.Module):
    """A representation without a place: (batch, 1, statistic)."""

    def __init__(self, count: int = 5) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        powers = torch.arange(1, self.count + 1).to(x)
        return (x.flatten(1)[..., None] ** powers).mean(dim=1)[:, None]


def synthesis(model: nn.Module, iterations: int = 12) -> SimpleNamespace:
    """What a metamer looks like from outside, every second picture stored."""
    draw = torch.Generator().manual_seed(0)
    image, initial = torch.rand(2, 2, 1, 15, 18, generator=draw, dtype=torch.double)
    stored = tuple(range(0, iterations + 1, 2))
    way = [torch.lerp(initial, image, k / iterations / 2) for k in stored]
    penalty = torch.zeros(iterations + 1).double()
    penalty[3:6] = 0.1
    return SimpleNamespace(
        image=image,
        initial=initial,
        metamer=way[-1],
        model=model,
        target=model(image),
        losses=Losses(0.5 ** torch.arange(iterations + 1).double(), penalty),
        history=History(stored, torch.stack(way).float()),
        status="max_iter",
        iterations=iterations,
        seconds=0.5,
    )


@pytest.fixture
def metamer() -> SimpleNamespace:
    return synthesis(Channels())


@pytest.fixture
def make_synthesis():
    """Make the result of a synthesis by kind of representation."""
    models = {
        "one": Channels,
        "five": lambda: Channels(5),
        "complex": lambda: Channels(2, is_complex=True),
        "few": Moments,
        "many": lambda: Moments(80),
    }
    return lambda kind: synthesis(models[kind]())
