"""The inverse: the loss vanishes where a recurrence hits its target, and falls when learned."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from calcarine.cortex import RecurrentArea
from calcarine.cortex.recurrent_area import AreaWeights
from calcarine.training.cordsnet_inverse import inverse_loss


def mixing(strength: float, channels: int = 4) -> tuple[AreaWeights, torch.Tensor]:
    """An area whose recurrence mixes channels without neighbours, and the mixing matrix."""
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    matrix *= strength / torch.linalg.matrix_norm(matrix, 2)
    bias = torch.randn(channels, 5, 3, generator=generator, dtype=torch.float64)
    recurrent = functional.pad(matrix[:, :, None, None], (1, 1, 1, 1))
    return AreaWeights(torch.zeros(0), recurrent, bias, 0.2, 1), matrix


@pytest.mark.parametrize("terms", [1, 3, 5])
def test_both_parts_are_what_they_say(terms):
    area, matrix = mixing(0.6)
    fed = torch.randn(7, 4, 5, 3, dtype=torch.float64)
    start = fed + area.bias
    power, total = start, start
    for _ in range(terms):
        power = torch.einsum("ij,bjhw->bihw", matrix, power)
        total = total + power
    target = torch.randn_like(fed)
    found = inverse_loss(area, fed, target, terms)
    torch.testing.assert_close(found.error, (total - target).square().mean())
    torch.testing.assert_close(found.remainder, power.square().mean())
    torch.testing.assert_close(found.power, target.square().mean())
    torch.testing.assert_close(found.total(10.0), found.error + 10 * found.remainder)


def test_the_error_at_the_exact_inverse_is_of_the_order_of_the_first_term_left_out():
    """With |A| = s, r_3 misses (I - A)^-1 (fed + b) by s^4 / (1 - s) of it at most."""
    fed = torch.randn(7, 4, 5, 3, dtype=torch.float64)
    for strength in (0.4, 0.2, 0.1):
        area, matrix = mixing(strength)
        inverse = torch.linalg.inv(torch.eye(4, dtype=torch.float64) - matrix)
        target = torch.einsum("ij,bjhw->bihw", inverse, fed + area.bias)
        found = inverse_loss(area, fed, target)
        bound = strength**4 / (1 - strength) * (fed + area.bias).square().mean().sqrt()
        assert 0 < found.error.sqrt() < bound


def test_learning_reproduces_a_recurrence():
    torch.manual_seed(0)
    area = RecurrentArea(in_channels=1, channels=6, size=(7, 9))
    known = torch.randn(6, 6, 3, 3) * 0.3 / 54**0.5
    optimiser = torch.optim.AdamW([*area.recurrent.parameters(), area.bias], lr=1e-2)
    for step in range(150):
        fed = torch.randn(16, 6, 7, 9)
        target = r = fed
        for _ in range(30):
            r = target + functional.conv2d(r, known, padding=1)
        found = inverse_loss(area.folded(), fed, r)
        if not step:
            before = (found.error / found.power).item()
        optimiser.zero_grad()
        found.total(10.0).backward()
        optimiser.step()
    assert (found.error / found.power).item() < 0.02 * before
