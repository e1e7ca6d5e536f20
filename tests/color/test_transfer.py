"""The sRGB curve: against reference values, its inverse, and its gradient."""

from __future__ import annotations

import pytest
import torch

from calcarine.color import linear_to_srgb, srgb_to_linear
from calcarine.errors import InputError


def test_matches_the_reference_values(reference):
    linear = srgb_to_linear(reference["srgb"])
    assert torch.allclose(linear, reference["linear"], atol=1e-5, rtol=0)
    assert torch.allclose(linear_to_srgb(linear), reference["back"], atol=1e-5, rtol=0)
    assert linear.min() == 0
    assert linear.max() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_curves_are_inverse_also_beyond_the_gamut(dtype):
    values = torch.linspace(-0.5, 1.8, 997, dtype=dtype)
    back = linear_to_srgb(srgb_to_linear(values))
    assert back.dtype == dtype
    # The two published knees differ by 6e-8 in linear light.
    assert torch.allclose(back, values, atol=2e-6, rtol=0)


def test_negative_values_follow_the_linear_part():
    assert srgb_to_linear(torch.tensor(-0.5)).item() == pytest.approx(-0.5 / 12.92)
    assert linear_to_srgb(torch.tensor(-0.01)).item() == pytest.approx(-0.1292)


@pytest.mark.parametrize("curve", [srgb_to_linear, linear_to_srgb])
def test_gradient_is_right_and_finite_everywhere(curve):
    values = torch.tensor([-1.0, 0.0, 0.001, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(curve, values)


@pytest.mark.parametrize("curve", [srgb_to_linear, linear_to_srgb])
def test_eight_bit_images_are_refused_with_advice(curve):
    with pytest.raises(InputError, match="image / 255"):
        curve(torch.zeros(3, 4, 4, dtype=torch.uint8))
