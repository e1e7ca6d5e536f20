from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli import pink_noise, white_noise

SIZES = [(16, 16), (7, 12), (33, 20), (1, 9), (11, 1), (2, 1), (40, 25)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frequencies(size: tuple[int, int]) -> torch.Tensor:
    fy = torch.fft.fftfreq(size[0], dtype=torch.double)[:, None]
    fx = torch.fft.fftfreq(size[1], dtype=torch.double)
    return torch.hypot(fy, fx)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.7, -0.5])
def test_pink_noise_has_exactly_the_spectrum_asked_for(size, exponent):
    """Amplitude times f^exponent is one constant at all frequencies, in every image and channel."""
    noise = pink_noise((2, 3, *size), exponent=exponent, generator=seeded(), dtype=torch.double)
    f = frequencies(size)
    flat = torch.fft.fft2(noise).abs()[..., f > 0] * f[f > 0] ** exponent
    assert flat.min() > 0
    assert torch.allclose(flat / flat[0, 0, 0], torch.ones_like(flat), rtol=1e-9)


def test_slope_on_logarithmic_axes_is_minus_the_exponent():
    noise = pink_noise((1, 1, 64, 48), exponent=1.0, generator=seeded(), dtype=torch.double)
    f = frequencies((64, 48)).flatten()[1:].log()
    amplitude = torch.fft.fft2(noise).abs().flatten()[1:].log()
    slope = ((f - f.mean()) * (amplitude - amplitude.mean())).sum() / (f - f.mean()).square().sum()
    assert slope.item() == pytest.approx(-1.0, abs=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_pink_noise_has_exactly_the_moments_asked_for(size):
    noise = pink_noise((2, 2, *size), mean=0.4, std=0.07, generator=seeded(1), dtype=torch.double)
    assert noise.shape == (2, 2, *size)
    assert not noise.is_complex()
    assert torch.allclose(noise.mean((-2, -1)), torch.tensor(0.4, dtype=torch.double))
    spread = noise.std((-2, -1), correction=0)
    assert torch.allclose(spread, torch.tensor(0.07, dtype=torch.double))


def test_phases_are_random_and_channels_independent():
    noise = pink_noise((200, 2, 16, 16), generator=seeded(), dtype=torch.double)
    spectrum = torch.fft.fft2(noise)
    phase = spectrum[:, :, 3, 2] / spectrum[:, :, 3, 2].abs()
    assert phase.mean(0).abs().max() < 4 / math.sqrt(200)
    assert (phase[:, 0] * phase[:, 1].conj()).mean().abs() < 4 / math.sqrt(200)


def test_white_noise_has_the_distribution_asked_for():
    """Sample moments of n values scatter by std / sqrt(n), std / sqrt(2 n)."""
    noise = white_noise((4, 3, 100, 101), mean=0.3, std=0.2, generator=seeded(), dtype=torch.double)
    n = noise.numel()
    assert noise.mean().item() == pytest.approx(0.3, abs=5 * 0.2 / math.sqrt(n))
    assert noise.std().item() == pytest.approx(0.2, abs=5 * 0.2 / math.sqrt(2 * n))
    power = torch.fft.fft2(noise - 0.3).abs().square().mean((0, 1))
    f = frequencies((100, 101))
    low, high = power[(f > 0) & (f < 0.25)].mean(), power[f > 0.25].mean()
    assert (low / high).item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("make", [white_noise, pink_noise])
def test_seed_dtype_and_default_generator(make):
    shape = (2, 1, 9, 8)
    one, same, other = (make(shape, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert one.dtype == torch.get_default_dtype()
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        noise = make(shape, generator=seeded(), dtype=dtype)
        assert noise.dtype == dtype
        assert noise.isfinite().all()
        assert noise.double().std() > 0.05
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = make(shape)
        torch.manual_seed(3)
        assert torch.equal(first, make(shape))


@pytest.mark.parametrize("make", [white_noise, pink_noise])
def test_no_spread_gives_the_mean(make):
    assert torch.equal(make((1, 1, 4, 5), mean=0.25, std=0.0), torch.full((1, 1, 4, 5), 0.25))


@pytest.mark.parametrize("make", [white_noise, pink_noise])
def test_bad_arguments(make):
    for shape in ((8, 8), (1, 1, 0, 4), (1, 1, 4.0, 4), 16, "abcd"):
        with pytest.raises(ShapeError, match="batch, channel, height, width"):
            make(shape)
    for options in ({"std": -1.0}, {"mean": float("nan")}, {"std": float("inf")}):
        with pytest.raises(InputError, match="finite"):
            make((1, 1, 4, 4), **options)
    with pytest.raises(InputError, match="floating-point"):
        make((1, 1, 4, 4), dtype=torch.int64)


def test_pink_noise_needs_frequencies_and_a_finite_exponent():
    with pytest.raises(ShapeError, match="two pixels"):
        pink_noise((1, 1, 1, 1))
    with pytest.raises(InputError, match="exponent"):
        pink_noise((1, 1, 4, 4), exponent=float("inf"))
