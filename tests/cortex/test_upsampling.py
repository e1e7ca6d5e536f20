"""The transposed convolution that doubles a map's sides against torch in double precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.cortex import _upsampling
from calcarine.cortex._upsampling import upsample

needs_compiler = pytest.mark.skipif(
    _upsampling.kernel_status().startswith("torch"), reason=_upsampling.kernel_status()
)


def problem(size, inputs, outputs, batch=2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(batch, inputs, *size, generator=generator)
    weight = torch.randn(inputs, outputs, 2, 2, generator=generator) / inputs**0.5
    return x, weight, torch.randn(outputs, generator=generator)


def answers(function, inputs, pull) -> list[Tensor]:
    given = [x.detach().requires_grad_() for x in inputs]
    y = function(*given)
    return [y, *torch.autograd.grad(y, given, pull)]


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv_transpose2d(x, weight, bias, stride=2)


@needs_compiler
@pytest.mark.parametrize("size", [(1, 1), (3, 14), (64, 31), (5, 29)])
@pytest.mark.parametrize(("inputs", "outputs"), [(16, 8), (32, 16), (48, 24), (128, 64)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_it_is_the_transposed_convolution_of_double_precision(size, inputs, outputs, layout):
    given = [
        x if x.ndim == 1 else x.to(memory_format=layout) for x in problem(size, inputs, outputs)
    ]
    pull = torch.randn(2, outputs, *(2 * n for n in size)).to(memory_format=layout)
    found = answers(upsample, given, pull)
    expected = answers(exact, [x.double() for x in given], pull.double())
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert b.abs().max() > 0.1
        assert (a - b).abs().max() < 2e-6 * b.abs().max()


@needs_compiler
def test_neither_threads_nor_company_change_a_bit():
    given = problem((37, 20), 32, 16, batch=3)
    pull = torch.randn(3, 16, 74, 40)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(answers(upsample, given, pull))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    alone = answers(upsample, (given[0][1:2], *given[1:]), pull[1:2])
    assert torch.equal(alone[0], results[0][0][1:2])
    assert torch.equal(alone[1], results[0][1][1:2])


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True)]
)
def test_gradients_are_given_where_they_are_wanted(wanted):
    given = problem((4, 6), 16, 8)
    _, *expected = answers(upsample, given, torch.ones(2, 8, 8, 12))
    leaves = [x.clone().requires_grad_(w) for x, w in zip(given, wanted, strict=True)]
    upsample(*leaves).sum().backward()
    for x, want, gradient in zip(leaves, wanted, expected, strict=True):
        assert (x.grad is not None) == want
        assert not want or torch.allclose(x.grad, gradient, rtol=1e-5)


@pytest.mark.parametrize(("inputs", "outputs"), [(12, 8), (16, 3), (1, 1)])
def test_other_channels_are_left_to_torch(inputs, outputs):
    given = problem((4, 5), inputs, outputs)
    assert torch.equal(upsample(*given), exact(*given))


def test_what_the_kernel_does_not_cover_is_left_to_torch(monkeypatch):
    x, weight, bias = problem((6, 5), 16, 8)
    monkeypatch.setattr(_upsampling._Upsampling, "apply", None)  # not to be called
    assert upsample(x.double(), weight.double(), bias.double()).dtype == torch.double
    tangent = torch.func.jvp(lambda x: upsample(x, weight, bias), (x,), (x,))[1]
    assert torch.allclose(tangent, exact(x, weight, 0 * bias), atol=1e-5)
    each = torch.func.vmap(lambda x: upsample(x[None], weight, bias)[0])(x)
    assert torch.allclose(each, exact(x, weight, bias), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert upsample(x, weight, bias).dtype == torch.bfloat16
