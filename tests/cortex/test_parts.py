"""Cone identity, demosaicing, translation and their shared convolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.cortex import ConeIdentity, Demosaicing, translate
from calcarine.cortex.reflect_convolution import reflect_convolution
from calcarine.errors import InputError, ShapeError


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    arrays = np.load(Path(__file__).parent.parent / "data" / "cone_identity_reference.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_cone_identity_matches_the_reference(reference):
    identity = ConeIdentity(16, 8)
    identity.vectors.data.copy_(reference["C_raw"][0])
    with torch.no_grad():
        assert torch.allclose(identity.unit(), reference["C_unit"][0], atol=1e-5)
        assert torch.allclose(
            identity.sample(reference["percept"]), reference["sampled"], atol=1e-5
        )
        assert torch.allclose(identity.inject(reference["pa"]), reference["injected"], atol=1e-5)


def test_every_cell_starts_with_the_same_identity():
    metric = ConeIdentity((6, 5), 4).metric(border=1)
    expected = torch.zeros(4, 4)
    expected[0, 0] = 1
    assert torch.allclose(metric, expected, atol=1e-4)


def test_plasticity_turns_identities_faster_and_changes_nothing_else(generator):
    slow, fast = ConeIdentity(6, 4), ConeIdentity(6, 4, plasticity=10.0)
    signal = torch.rand(2, 1, 6, 6, generator=generator)
    assert torch.allclose(slow.inject(signal), fast.inject(signal), atol=2e-4)
    pull = torch.randn(2, 4, 6, 6, generator=generator)
    turned = []
    for identity in (slow, fast):
        optimizer = torch.optim.Adam(identity.parameters(), lr=1e-3)
        (identity.inject(signal) * pull).sum().backward()
        optimizer.step()
        turned.append(identity.unit()[1:].detach().norm(dim=0).mean().item())
    assert turned[1] == pytest.approx(10 * turned[0], rel=0.02)
    with pytest.raises(InputError, match="plasticity"):
        ConeIdentity(6, plasticity=0.0)


def test_the_metric_measures_what_cells_would_notice(generator):
    identity = ConeIdentity((9, 7), 3)
    identity.vectors.data.copy_(torch.randn(3, 9, 7, generator=generator))
    difference = torch.randn(3, generator=generator)
    noticed = identity.sample(difference[None, :, None, None].expand(1, 3, 9, 7))
    quadratic = difference @ identity.metric() @ difference
    assert torch.allclose(quadratic, noticed[..., :, :].square().mean(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 2, 8, 8), (1, 8, 8)])
def test_cone_identity_refuses_other_lattices(shape):
    with pytest.raises(ShapeError, match="ConeIdentity expected"):
        ConeIdentity(8, 8).inject(torch.rand(shape))
    with pytest.raises(InputError, match="positive"):
        ConeIdentity(0)


def plain(weight: Tensor, *sources: Tensor) -> Tensor:
    padded = F.pad(torch.cat(sources, dim=1), (1, 1, 1, 1), mode="reflect")
    return F.relu(F.conv2d(padded, weight))


@pytest.mark.parametrize("size", [(2, 2), (3, 2), (7, 12)])
@pytest.mark.parametrize("channels", [(3,), (2, 3), (1, 1, 2)])
def test_reflect_convolution_is_pad_convolve_rectify(size, channels, generator):
    sources = [torch.randn(2, c, *size, generator=generator, dtype=torch.double) for c in channels]
    weight = torch.randn(4, sum(channels), 3, 3, generator=generator, dtype=torch.double)
    inputs = [t.requires_grad_() for t in (weight, *sources)]
    ours, theirs = reflect_convolution(*inputs), plain(*inputs)
    assert torch.allclose(ours, theirs)
    assert ours.sum() > 0
    pull = torch.randn(ours.shape, generator=generator, dtype=torch.double)
    gradients = [torch.autograd.grad(y, inputs, pull) for y in (ours, theirs)]
    assert all(torch.allclose(a, b) for a, b in zip(*gradients, strict=True))
    assert torch.autograd.gradcheck(reflect_convolution, inputs)


def test_reflect_convolution_pushes_tangents_forward(generator):
    x = torch.randn(2, 3, 6, 5, generator=generator, dtype=torch.double)
    weight = torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.double)
    tangents = torch.randn_like(weight), torch.randn_like(x)
    ours = torch.func.jvp(reflect_convolution, (weight, x), tangents)
    theirs = torch.func.jvp(plain, (weight, x), tangents)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b)
    only_x = torch.func.jvp(lambda x: reflect_convolution(weight, x), (x,), (tangents[1],))[1]
    assert torch.allclose(only_x, torch.func.jvp(lambda x: plain(weight, x), (x,), tangents[1:])[1])
    assert only_x.abs().sum() > 0


def test_gradients_only_where_they_are_needed(generator):
    x = torch.randn(1, 2, 4, 4, generator=generator)
    weight = torch.randn(3, 2, 3, 3, generator=generator, requires_grad=True)
    reflect_convolution(weight, x).sum().backward()
    assert weight.grad is not None
    frozen = weight.detach()
    x.requires_grad_()
    reflect_convolution(frozen, x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_autocast_multiplies_in_the_lower_precision(generator):
    x = torch.rand(1, 4, 8, 8, generator=generator)
    weight = torch.randn(4, 4, 3, 3, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        low = reflect_convolution(weight, x)
    assert low.dtype == torch.bfloat16
    error = (low.float() - reflect_convolution(weight, x)).abs().max()
    assert 0 < error < 0.05


def test_reflect_convolution_refuses_what_does_not_fit():
    weight = torch.rand(1, 3, 3, 3)
    for sources in ([torch.rand(1, 2, 4, 4)], [torch.rand(1, 3, 1, 4)],
                    [torch.rand(1, 2, 4, 4), torch.rand(1, 1, 4, 5)]):  # fmt: skip
        with pytest.raises(ShapeError, match="reflect_convolution expected"):
            reflect_convolution(weight, *sources)


@pytest.mark.parametrize("size", [(8, 8), (64, 64), (9, 14), (255, 31)])
def test_demosaicing_keeps_any_size(size, generator):
    net = Demosaicing()
    x = torch.rand(1, 8, *size, generator=generator)
    assert net(x).shape == x.shape


def test_demosaicing_has_the_published_sizes():
    """Sandbox widths: per level two bias-free 3 x 3 kernels; up 2 x 2 and read-out with bias."""
    level = lambda i, o: 9 * i * o + 9 * o * o  # noqa: E731
    down = level(8, 16) + level(16, 32) + level(32, 64)
    up = (4 * 64 * 32 + 32) + level(64, 32) + (4 * 32 * 16 + 16) + level(32, 16)
    assert sum(p.numel() for p in Demosaicing().parameters()) == down + up + (16 * 8 + 8)
    full = Demosaicing(widths=(16, 32, 64, 128))
    assert len(full.up) == 3


def test_demosaicing_reads_out_in_full_precision(generator):
    x = torch.rand(1, 8, 16, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        assert Demosaicing()(x).dtype == torch.float32


def test_demosaicing_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="sides of at least 8"):
        Demosaicing()(torch.rand(1, 8, 7, 9))
    with pytest.raises(ShapeError, match="batch, 8"):
        Demosaicing()(torch.rand(1, 3, 16, 16))
    with pytest.raises(InputError, match="positive"):
        Demosaicing(widths=())


def test_translation_follows_the_eye(generator):
    percept = torch.rand(3, 2, 6, 7, generator=generator)
    moved, known = translate(percept, torch.tensor([[2, 0], [0, -1], [-9, 3]]))
    assert torch.equal(moved[0, :, :, :5], percept[0, :, :, 2:])
    assert torch.equal(known[0, 0], (torch.arange(7) < 5).float().expand(6, 7))
    assert torch.equal(moved[1, :, 1:], percept[1, :, :5])
    assert known[2].sum() == 0
    assert moved[2].abs().sum() == 0


def test_translation_is_its_own_derivative(generator):
    x = torch.rand(2, 1, 5, 4, generator=generator, dtype=torch.double, requires_grad=True)
    shift = torch.tensor([[1, -2], [-3, 0]])
    assert torch.autograd.gradcheck(lambda x: translate(x, shift)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: translate(x, shift)[0], x)
    _, tangent = torch.func.jvp(lambda x: translate(x, shift)[0], (x,), (x,))
    assert torch.equal(tangent, translate(x, shift)[0])


def test_translation_refuses_missing_shifts():
    with pytest.raises(ShapeError, match=r"one \(dx, dy\) per item"):
        translate(torch.rand(3, 2, 6, 6), torch.zeros(2, 2, dtype=torch.long))
