"""Chance drawn beforehand: what the eye sees is the same."""

from __future__ import annotations

import pytest
import torch

from calcarine.retina import Retina
from calcarine.retina.noise import Noise, draw_noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"inhibition": False}, {"frames": 3}, {"noise": False}])
def test_drawing_before_looking_is_drawing_while_looking(options, dtype):
    retina = Retina(9, sampling="uniform", max_shift_px=2, **options).to(dtype).train()
    scene = torch.rand(3, 3, 15, 13, dtype=dtype)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    seen = retina(scene, generators[0])
    again = retina(scene, chance=retina.chance(scene, generators[1]))
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert (seen.eye_shift != 0).any()


def test_an_eye_at_rest_draws_no_noise():
    retina = Retina(9, sampling="uniform", max_shift_px=2).eval()
    scene = torch.rand(2, 3, 13, 13)
    chance = retina.chance(scene)
    assert chance.photon is None
    assert chance.bipolar is None
    assert torch.equal(retina(scene).optic_nerve, retina(scene, chance=chance).optic_nerve)


def test_given_numbers_are_used_as_they_are():
    retina = Retina(9, sampling="uniform", max_shift_px=2).train()
    x = torch.rand(2, 1, 9, 9)
    quiet = retina.inhibition(x, noise=False)
    normal = torch.full_like(x, 2.0)
    noisy = retina.inhibition(x, noise=Noise(torch.tensor(0.5), normal))
    torch.testing.assert_close(noisy, quiet * (1 + 0.5 * 0.01 * 2))


def test_strengths_are_tenths_and_numbers_standard_normal():
    generator = torch.Generator().manual_seed(0)
    options = {"dtype": torch.float64, "device": torch.device("cpu")}
    noises = [draw_noise((40, 50), generator, **options) for _ in range(300)]
    tenths = {round(10 * noise.strength.item()) for noise in noises}
    assert tenths == set(range(11))
    assert noises[0].normal.std().item() == pytest.approx(1, abs=0.05)
    assert noises[0].normal.dtype == torch.float64
