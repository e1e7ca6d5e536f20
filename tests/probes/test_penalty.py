"""The penalty on pixels outside the range."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError
from calcarine.probes import range_penalty


def test_the_mean_square_of_what_sticks_out_per_image():
    image = torch.tensor([[0.0, 0.5, 1.0, 0.2], [-2.0, 0.5, 1.5, 0.5]]).reshape(2, 1, 2, 2)
    torch.testing.assert_close(range_penalty(image), torch.tensor([0.0, (4 + 0.25) / 4]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_another_range_size_and_dtype(dtype):
    image = torch.full((2, 3, 5, 7), 12.0, dtype=dtype)
    found = range_penalty(image, -1.0, 10.0)
    assert found.dtype == dtype
    assert found.tolist() == [4.0, 4.0]


def test_the_gradient_pulls_back_only_what_sticks_out():
    image = torch.tensor([-1.0, 0.5, 3.0, 1.0]).reshape(1, 1, 2, 2).requires_grad_()
    range_penalty(image).sum().backward()
    assert image.grad.flatten().tolist() == [-0.5, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_an_empty_range_is_refused(low, high):
    with pytest.raises(InputError, match="low < high"):
        range_penalty(torch.zeros(1, 1, 2, 2), low, high)
