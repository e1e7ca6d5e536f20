from __future__ import annotations

import pytest
import torch

from calcarine.color import linear_to_srgb, srgb_to_linear
from calcarine.stimuli import luminance
from calcarine.stimuli.light import resize


def test_published_values_of_the_srgb_curve():
    code = torch.tensor([0.0, 0.04045, 0.5, 1.0, -0.1], dtype=torch.double)
    linear = srgb_to_linear(code)
    assert linear.tolist() == pytest.approx(
        [0.0, 0.04045 / 12.92, 0.21404114, 1.0, -0.1 / 12.92], abs=1e-8
    )


def test_both_directions_are_inverse_and_have_finite_gradients():
    code = torch.linspace(-0.5, 1.5, 401, dtype=torch.double, requires_grad=True)
    back = linear_to_srgb(srgb_to_linear(code))
    assert torch.allclose(back, code, atol=1e-7)  # the published constants meet to 1e-7
    back.sum().backward()
    assert code.grad is not None
    assert torch.allclose(code.grad, torch.ones_like(code), atol=1e-6)


def test_luminance_keeps_greys_and_orders_primaries():
    grey = torch.rand(2, 1, 4, 5, dtype=torch.double).expand(2, 3, 4, 5)
    assert torch.allclose(luminance(grey), grey[:, :1])
    red, green, blue = luminance(torch.eye(3, dtype=torch.double)[:, :, None, None]).flatten()
    assert green > red > blue > 0


def test_resize_keeps_the_mean_light():
    image = torch.rand(1, 2, 60, 40, dtype=torch.double)
    small = resize(image, (15, 10))
    assert small.shape == (1, 2, 15, 10)
    light = srgb_to_linear(image).mean()
    assert srgb_to_linear(small).mean().item() == pytest.approx(light.item(), rel=0.02)
    assert resize(image, (60, 40)) is image
