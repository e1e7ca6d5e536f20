"""Neural scopes and scanning."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.probes import mosaic_scope, percept_scope, scan
from calcarine.probes.neural_scope import NeuralScope


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def test_a_scope_shows_nothing_at_first_and_teaches_the_cortex_nothing(generator):
    scope = percept_scope(latent=4, border=1)
    percept = torch.rand(2, 4, 6, 6, generator=generator, requires_grad=True)
    assert scope(percept).abs().max() == 0
    target = torch.rand(2, 3, 6, 6, generator=generator)
    loss = scope.loss(percept, target)
    assert torch.allclose(loss, target[..., 1:-1, 1:-1].square().sum())
    loss.backward()
    assert percept.grad is None
    assert scope.readout.weight.grad.abs().sum() > 0


def test_a_scope_finds_a_linear_relation(generator):
    scope = mosaic_scope(latent=5, types=3)
    mixing = torch.randn(3, 5, generator=generator)
    optimizer = torch.optim.LBFGS(scope.parameters(), max_iter=200)
    x = torch.randn(1, 5, 12, 12, generator=generator)
    target = torch.einsum("oi,bihw->bohw", mixing, x) + 0.5

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = scope.loss(x, target)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.allclose(scope.readout.weight[:, :, 0, 0], mixing, atol=1e-3)
    assert torch.allclose(scope.readout.bias, torch.full((3,), 0.5), atol=1e-3)


def test_a_scope_refuses_other_channels():
    with pytest.raises(ShapeError, match="batch, 8"):
        NeuralScope()(torch.rand(1, 3, 4, 4))
    with pytest.raises(InputError, match="positive channels"):
        NeuralScope(inputs=0)


@pytest.mark.parametrize("size", [(16, 16), (17, 40), (61, 23)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_scanning_with_a_faithful_eye_gives_the_picture(size, overlap, generator):
    scene = torch.rand(1, 3, *size, generator=generator)
    calls = []
    seen = scan(lambda field: calls.append(len(field)) or 2 * field, scene, 16, overlap)
    assert torch.allclose(seen, 2 * scene, atol=1e-5)
    assert sum(calls) >= (size[0] // 16) * (size[1] // 16)


def test_scanning_trusts_the_middle_of_a_field_more_than_its_border():
    border = torch.ones(1, 1, 16, 16)
    border[..., 4:-4, 4:-4] = 0
    seen = scan(lambda field: border.expand(len(field), -1, -1, -1), torch.rand(1, 1, 40, 40), 16)
    assert seen[..., 8:-8, 8:-8].mean() < border.mean() / 2


def test_scanning_needs_a_scene_as_large_as_the_field():
    with pytest.raises(ShapeError, match="at least 16 px"):
        scan(lambda x: x, torch.rand(1, 3, 16, 15), 16)
    with pytest.raises(ShapeError, match="one scene"):
        scan(lambda x: x, torch.rand(2, 3, 16, 16), 16)
