"""Correlation and comparison of planes: the compiled kernel gives what torch gives."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.cortex import _sliding_kernel as KERNEL
from calcarine.cortex._sliding_kernel import compare, correlate, halve, neighbours

RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-13}


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize(
    ("items", "size", "kernel_size"),
    [(3, (255, 301), (7, 7)), (2, (40, 64), (1, 9)), (2, (73, 70), (9, 1)), (1, (4, 3), (4, 3))],
)
def test_correlation_and_its_gradients_are_those_of_torch(kernel, dtype, items, size, kernel_size):
    planes, weights = random((items, 1, *size), dtype), random(kernel_size, dtype, 1)
    wanted = planes.requires_grad_(), weights.requires_grad_()
    ours, theirs = correlate(planes, weights), F.conv2d(planes, weights[None, None])
    gradient = random(tuple(ours.shape), dtype, 2)
    pairs = [
        (ours, theirs),
        *zip(*(torch.autograd.grad(y, wanted, gradient) for y in (ours, theirs)), strict=True),
    ]
    for a, b in pairs:
        assert a.shape == b.shape
        assert (a - b).norm() < RELATIVE[dtype] * b.norm()


def test_layouts_do_not_matter(kernel):
    planes, weights = random((1, 1, 12, 15), torch.double), random((3, 5), torch.double, 1)
    found = correlate(planes.mT.contiguous().mT, weights.T.contiguous().T)
    assert torch.equal(found, correlate(planes, weights))


def plainly(first, second, shift, known, window) -> tuple[float, float]:
    """One mean difference, pixel by pixel."""
    (dx, dy), total, count = shift, 0.0, 0
    height, width = first.shape
    for y in range(*window[0].indices(height)):
        for x in range(*window[1].indices(width)):
            there = (y + dy, x + dx)
            if 0 <= there[0] < height and 0 <= there[1] < width and known[y, x] and known[there]:
                total += abs(first[there] - second[y, x]).item()
                count += 1
    return total, count


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("masks", [0, 1, 2])
def test_comparison_is_the_mean_of_what_is_known_in_both(compiled, masks, by_torch):
    first, second = random((2, 9, 11), torch.double), random((2, 9, 11), torch.double, 1)
    shifts = torch.tensor([[[0, 0], [3, -2]], [[-7, 1], [40, 0]]])
    known = (random((masks or 1, 9, 11), torch.double, 2) > -0.8).double() if masks else None
    window = slice(1, 9), slice(2, 8)

    def found() -> Tensor:
        return compare(first, second, shifts, 1, known, window, least=0.3)

    cost = found() if compiled else by_torch(found)
    assert cost.shape == (2, 2, 9)
    assert cost.isinf().any()
    everywhere = torch.ones(1, 9, 11)
    for item in range(2):
        mask = (everywhere if known is None else known)[item if masks == 2 else 0]
        for n, shift in enumerate(shifts[item]):
            for s, around in enumerate(neighbours(1, shift.device)):
                tried = (shift + around).tolist()
                total, count = plainly(first[item], second[item], tried, mask, window)
                wanted = total / count if count >= 0.3 * 48 else float("inf")
                assert cost[item, n, s].item() == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("size", [(255, 301), (16, 70)])
def test_kernel_and_torch_agree_on_large_planes(kernel, by_torch, dtype, size):
    first, second = random((3, *size), dtype), random((3, *size), dtype, 1)
    known = (random((1, *size), dtype, 2) > -1).to(dtype)
    shifts = torch.tensor([[[0, 0]], [[9, -8]], [[-1, 3]]])

    def found() -> Tensor:
        return compare(first, second, shifts, 2, known)

    assert torch.allclose(found(), by_torch(found), rtol=RELATIVE[dtype])


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("masks", [1, 2])
def test_halving_averages_what_is_known(compiled, masks, by_torch):
    frames = random((2, 2, 1, 9, 14), torch.double)
    planes = frames[:, 1]  # with gaps between the items
    known = (random((masks, 1, 9, 14), torch.double, 1) > -0.5).double()
    known[0, 0, :2, :2], known[0, 0, 2:4, :2] = 0, 1

    def found() -> tuple[Tensor, Tensor]:
        return halve(planes, known)

    halved, all_known = found() if compiled else by_torch(found)
    assert halved.shape == (2, 1, 4, 7)
    assert all_known.shape == (masks, 1, 4, 7)
    squares = (known * planes)[..., :8, :].unflatten(2, (4, 2)).unflatten(4, (7, 2)).sum((3, 5))
    count = known[..., :8, :].unflatten(2, (4, 2)).unflatten(4, (7, 2)).sum((3, 5))
    assert torch.allclose(halved, squares / count.clamp(min=1))
    assert torch.equal(all_known, (count == 4).double())
    assert halved[0, 0, 0, 0] == 0
    assert all_known[0, 0, :2, 0].tolist() == [0, 1]


def test_it_says_what_does_the_work():
    assert "torch operations" in (said := KERNEL.kernel_status()) or "kernel" in said
