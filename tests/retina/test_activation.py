"""Cone activation: what a cone reads, and the law of its noise."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.retina import ConeActivation, cone_mosaic
from calcarine.testing import check_stage

NOISY_SEED = 2  # one whose strength is not 0


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", ["LMS", "LMSQ", "MS+L_ratio_M"])
def test_every_cone_reads_the_mixture_of_its_pigments(kind):
    types = "LMSQ" if "Q" in kind else "LMS"
    stage = ConeActivation((9, 12), kind=kind, types=types, seed=3).eval()
    signal = torch.rand(2, 5, len(types), 9, 12, generator=generator())
    expected = torch.einsum("bfthw,thw->bfhw", signal, cone_mosaic(kind, (9, 12), seed=3))
    assert torch.allclose(stage(signal), expected, atol=1e-6)


def test_keeps_the_contract_of_a_stage():
    check_stage(ConeActivation((12, 10)), torch.rand(2, 3, 12, 10)).raise_if_failed()


def test_noise_variance_grows_with_the_light():
    """Given r, the variance is (0.01 r)^2 a: its slope over a is constant, its root a tenth."""
    stage = ConeActivation((200, 200), kind="L")
    light = torch.linspace(0.0, 4.0, 40_000, dtype=torch.float64).view(1, 1, 200, 200)
    signal = light.expand(1, 3, -1, -1)
    strengths = set()
    for seed in range(60):
        noise = (stage(signal, generator(seed)) - light[:, 0])[0]
        if not noise.any():
            strengths.add(0)
            continue
        dim, bright = noise[:100], noise[100:]
        assert (bright.var() / dim.var()).item() == pytest.approx(3.0, rel=0.1)
        unit = noise / light[0, 0].sqrt().clamp(min=1e-9)
        r = unit[1:].std().item() / 0.01
        assert r == pytest.approx(round(10 * r) / 10, abs=0.02)
        strengths.add(round(10 * r))
        assert abs(unit[1:].mean().item()) < 5 * 0.01 / math.sqrt(40_000)
    assert strengths == set(range(11))


def test_noise_is_for_training_unless_the_call_says_otherwise():
    stage, signal = ConeActivation(8), torch.ones(2, 3, 8, 8)
    assert not torch.equal(stage(signal, generator(NOISY_SEED)), torch.ones(2, 8, 8))
    assert torch.equal(stage(signal, generator(NOISY_SEED)), stage(signal, generator(NOISY_SEED)))
    assert torch.equal(stage(signal, noise=False), torch.ones(2, 8, 8))
    stage.eval()
    assert torch.equal(stage(signal, generator(NOISY_SEED)), torch.ones(2, 8, 8))
    assert not torch.equal(stage(signal, generator(NOISY_SEED), noise=True), torch.ones(2, 8, 8))
    quiet = ConeActivation(8, noise_level=0)
    assert torch.equal(quiet(signal, generator(NOISY_SEED)), torch.ones(2, 8, 8))


def test_gradient_is_finite_in_darkness_and_beyond():
    stage = ConeActivation(8)
    signal = torch.zeros(1, 3, 8, 8, requires_grad=True)
    stage(signal, generator()).sum().backward()
    assert torch.equal(signal.grad[0], stage.mosaic)
    assert stage(torch.full((1, 3, 8, 8), -1.0), generator()).isfinite().all()


def test_mosaic_can_be_replaced_and_travels_with_the_checkpoint():
    stage = ConeActivation(16, kind="MS", seed=1)
    stage.use_mosaic(cone_mosaic("MS+L_replace_M", 16, seed=1))
    assert stage.mosaic[0].sum() > 0
    fresh = ConeActivation(16)
    fresh.load_state_dict(stage.state_dict())
    assert torch.equal(fresh.mosaic, stage.mosaic)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s(torch.rand(2, 4, 8, 8)), ShapeError, "type, height, width"),
        (lambda s: s(torch.rand(8, 8)), ShapeError, "axes"),
        (lambda s: s.use_mosaic(torch.rand(3, 9, 9)), ShapeError, "another lattice"),
        (lambda s: s.use_mosaic(torch.ones(3, 8, 8)), InputError, "sum to 1"),
        (lambda s: ConeActivation(8, noise_level=-1.0), InputError, "noise_level"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call(ConeActivation(8))
