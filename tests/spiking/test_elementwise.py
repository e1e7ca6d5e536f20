"""Parts without memory: factors and steps, one for all, per channel or per unit."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.spiking import Scale, Threshold


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_factors_act_on_the_axes_after_the_batch(dtype):
    x = torch.ones(2, 3, 5, 7, dtype=dtype)
    assert torch.equal(Scale(factor=2.5)(x), 2.5 * x)
    y = Scale(factor=[1.0, 2.0, 3.0])(x)
    assert y.dtype == dtype
    assert y[:, :, 4, 6].tolist() == [[1, 2, 3], [1, 2, 3]]


def test_a_factor_is_learned_without_bounds():
    scale = Scale(factor=1.0, learnable=True)
    scale(torch.tensor([[2.0, 3.0]])).sum().backward()
    assert [p.grad.item() for p in scale.parameters()] == [5.0]


def test_thresholds_are_strict_and_have_a_slope():
    x = torch.tensor([[0.9, 1.0, 1.1]], dtype=torch.float64, requires_grad=True)
    z = Threshold(threshold=1.0, alpha=10.0)(x)
    assert z.tolist() == [[0.0, 0.0, 1.0]]
    z.sum().backward()
    assert x.grad[0].tolist() == pytest.approx([0.25, 1.0, 0.25])


def test_bad_settings():
    with pytest.raises(InputError, match="factor expected finite"):
        Scale(factor=float("nan"))
    with pytest.raises(UnknownNameError, match="Did you mean 'arctan'"):
        Threshold(surrogate="arctn")
    with pytest.raises(ShapeError, match="factor has values of shape"):
        Scale(factor=[1.0, 2.0])(torch.ones(1, 3))
