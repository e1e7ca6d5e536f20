"""The compiled couplings give what torch operations give, and their gradients, on any threads."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calcarine.cortex import _coupling_kernel as KERNEL
from calcarine.cortex._coupling_kernel import Tables, couple

RELATIVE = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-13, 1e-11)}  # outputs, gradients


def smooth_tables(dtype: torch.dtype, blocks: int, first: int, knots: int = 200) -> Tables:
    """Scales between 0.6 and 1.4; knots that do not reach as far as the points do.

    Blocks move x, y and the diagonals in turn, beginning with the first.
    """
    generator = torch.Generator().manual_seed(blocks)
    phase = 6.3 * torch.rand(blocks, 1, 2, generator=generator, dtype=torch.double)
    at = torch.linspace(-1.5, 1.5, knots, dtype=torch.double)[:, None]
    values = (2 * at + phase).sin() * 0.4 + torch.tensor([1.0, 0.0])
    low = torch.linspace(-1.1, -0.9, blocks, dtype=torch.double)
    rate = torch.linspace(0.8, 1.0, blocks, dtype=torch.double) * (knots - 1) / 2
    along = tuple((first + k) % 4 for k in range(blocks))
    return Tables(values.to(dtype).requires_grad_(), low.to(dtype), rate.to(dtype), along)


def some(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2.6 * torch.rand(shape, generator=generator, dtype=dtype) - 1.3).requires_grad_()


def gradients(points: Tensor, tables: Tables, offset: Tensor | None) -> list[Tensor]:
    end = couple(points, tables, offset)
    weights = torch.randn(end.shape, generator=torch.Generator().manual_seed(3), dtype=end.dtype)
    wanted = [points, tables.values, *([] if offset is None else [offset])]
    return [end.detach(), *torch.autograd.grad((end * weights).sum(), wanted)]


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize(
    ("items", "offsets", "size", "blocks", "first"),
    [(1, 0, (32, 32), 8, 0), (3, 0, (37, 53), 8, 1), (1, 5, (101, 67), 7, 2), (4, 4, (1, 3), 2, 3)],
)
def test_kernel_and_torch_agree(kernel, by_torch, dtype, items, offsets, size, blocks, first):
    tables, points = smooth_tables(dtype, blocks, first), some((items, 2, *size), dtype)
    offset = some((offsets, 2), dtype, seed=1) if offsets else None
    ours = gradients(points, tables, offset)
    theirs = by_torch(lambda: gradients(points, tables, offset))
    assert ours[0].shape == (offsets or items, 2, *size)
    for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a.shape == b.shape
        assert a.dtype == dtype
        assert (a - b).norm() < RELATIVE[dtype][index > 0] * b.norm()


def test_gradients_are_those_of_the_function(kernel):
    tables = smooth_tables(torch.double, 3, 1, knots=12)

    def end(points: Tensor, values: Tensor, offset: Tensor) -> Tensor:
        return couple(points, tables._replace(values=values), offset)

    points, offset = some((1, 2, 3, 2), torch.double), some((2, 2), torch.double, seed=1)
    assert torch.autograd.gradcheck(end, (points, tables.values, offset))


def test_threads_do_not_change_a_bit(kernel):
    tables, points = smooth_tables(torch.float32, 8, 0), some((2, 2, 150, 161), torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(gradients(points, tables, None))
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


def test_layouts_of_points_and_gradients_do_not_matter(kernel):
    tables = smooth_tables(torch.double, 4, 0)
    points = some((2, 9, 8, 2), torch.double).permute(0, 3, 1, 2)
    end = couple(points, tables)
    assert torch.equal(end, couple(points.contiguous(), tables))
    (ours,) = torch.autograd.grad(end.sum(), tables.values, retain_graph=True)
    (theirs,) = torch.autograd.grad(end, tables.values, torch.ones_like(end.mT).mT)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_not_a_number_stays_with_its_point(compiled, by_torch):
    tables = smooth_tables(torch.float32, 8, 0)
    points = some((1, 2, 6, 7), torch.float32).detach()
    points[0, 0, 2, 3] = torch.nan

    def end() -> Tensor:
        return couple(points, tables)

    found = end() if compiled else by_torch(end)
    assert found[0, :, 2, 3].isnan().all()
    assert found.isnan().sum() == 2


def test_forward_mode_goes_through_torch():
    tables = smooth_tables(torch.double, 3, 0)
    values = tables.values.detach()
    points, step = some((1, 2, 4, 5), torch.double).detach(), torch.ones(1, 2, 4, 5).double()

    def end(x: Tensor) -> Tensor:
        return couple(x, tables._replace(values=values))

    _, slope = torch.func.jvp(end, (points,), (step,))
    numeric = (end(points + 1e-6 * step) - end(points - 1e-6 * step)) / 2e-6
    assert torch.allclose(slope, numeric, atol=1e-6)


def test_it_says_what_does_the_work():
    assert "torch operations" in (said := KERNEL.kernel_status()) or "kernel" in said
