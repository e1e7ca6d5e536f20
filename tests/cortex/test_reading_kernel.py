"""Reading images at points: the compiled kernel gives what torch gives, and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from calcarine.cortex import _reading_kernel as KERNEL
from calcarine.cortex._reading_kernel import read

RELATIVE = {torch.float32: (1e-5, 1e-4), torch.float64: (1e-13, 1e-12)}  # outputs, gradients
EDGE = (0.93, 0.96)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def case(items, channels, size, sets, points, dtype, inner) -> tuple[Tensor, Tensor]:
    image, lattice = random((items, channels, *size), dtype), random((sets, 2, *points), dtype, 1)
    if inner:
        image = image.contiguous(memory_format=torch.channels_last)
    return image.requires_grad_(), (0.7 * lattice).requires_grad_()


def everything(image: Tensor, lattice: Tensor, edge=EDGE) -> list[Tensor]:
    values, known = read(image, lattice, edge)
    weights = random(tuple(values.shape), values.dtype, 2)
    gradients = torch.autograd.grad((values * weights).sum(), (image, lattice))
    return [values.detach(), *gradients, known]


@pytest.mark.parametrize("dtype", RELATIVE, ids=str)
@pytest.mark.parametrize("inner", [True, False], ids=["channels_last", "planes"])
@pytest.mark.parametrize(
    ("items", "channels", "size", "sets", "points"),
    [
        (2, 8, (33, 47), 2, (61, 31)),
        (3, 8, (16, 16), 1, (16, 16)),
        (4, 1, (25, 31), 1, (40, 13)),
        (1, 3, (9, 2), 1, (5, 70)),
    ],
)
def test_kernel_and_torch_agree(
    kernel, by_torch, dtype, inner, items, channels, size, sets, points
):
    image, lattice = case(items, channels, size, sets, points, dtype, inner)
    ours = everything(image, lattice)
    theirs = by_torch(lambda: everything(image, lattice))
    assert torch.equal(ours[3], theirs[3])
    assert 0 < ours[3].double().mean() < 1
    for index, (a, b) in enumerate(zip(ours[:3], theirs[:3], strict=True)):
        assert a.shape == b.shape
        assert (a - b).norm() < RELATIVE[dtype][index > 0] * b.norm()


@pytest.mark.parametrize("inner", [True, False])
def test_gradients_are_those_of_the_function(kernel, inner):
    image, lattice = case(2, 2, (5, 6), 1, (2, 3), torch.double, inner)
    assert torch.autograd.gradcheck(lambda i, x: read(i, x, EDGE)[0], (image, lattice))


def test_only_what_is_asked_for_is_computed(kernel):
    image, lattice = case(2, 8, (12, 12), 2, (12, 12), torch.double, True)
    both = everything(image, lattice)
    values, _ = read(image, lattice.detach(), EDGE)
    weights = random(tuple(values.shape), values.dtype, 2)
    (to_image,) = torch.autograd.grad(values, image, weights)
    values, _ = read(image.detach(), lattice, EDGE)
    (to_lattice,) = torch.autograd.grad(values, lattice, weights)
    assert torch.equal(to_image, both[1])
    assert torch.equal(to_lattice, both[2])


def test_threads_do_not_change_a_bit(kernel):
    image, lattice = case(5, 8, (40, 41), 5, (60, 33), torch.float32, True)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(everything(image, lattice))
    finally:
        torch.set_num_threads(threads)
    assert all(
        torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True)
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_what_is_not_a_number_is_neither_known_nor_silent(compiled, by_torch):
    image, lattice = case(1, 8, (12, 13), 1, (6, 7), torch.float32, True)
    lattice = lattice.detach().clamp(-0.9, 0.9)
    lattice[0, 1, 2, 3] = torch.nan

    def found() -> tuple[Tensor, Tensor]:
        return read(image, lattice, (1.0, 1.0))

    values, known = found() if compiled else by_torch(found)
    assert not known[0, 0, 2, 3]
    assert known.sum() == 41
    if compiled and KERNEL._KERNEL.library() is not None:
        assert values[0, :, 2, 3].isnan().all()
    assert values.isfinite().sum() >= 41 * 8


def test_it_says_what_does_the_work():
    assert "torch operations" in (said := KERNEL.kernel_status()) or "kernel" in said
