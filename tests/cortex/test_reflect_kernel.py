"""The compiled rectified convolution against torch operations in double precision."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.cortex import Demosaicing
from calcarine.cortex import _reflect_kernel as kernel
from calcarine.cortex.reflect_convolution import reflect_convolution

needs_compiler = pytest.mark.skipif(
    kernel.kernel_status().startswith("torch"), reason=kernel.kernel_status()
)

TOLERANCE = 1e-5
"""Of the largest number; tiles of 4 x 4 give up to 3e-6 with these weights."""


def problem(size, channels, outputs, batch=2) -> tuple[Tensor, ...]:
    """Return a weight and sources that give outputs of both signs, before rectification."""
    generator = torch.Generator().manual_seed(7)
    sources = [torch.randn(batch, c, *size, generator=generator) for c in channels]
    weight = torch.randn(outputs, sum(channels), 3, 3, generator=generator)
    return weight / (3 * sum(channels) ** 0.5), *sources


def linear(weight: Tensor, *sources: Tensor) -> Tensor:
    return F.conv2d(F.pad(torch.cat(sources, dim=1), (1, 1, 1, 1), mode="reflect"), weight)


def both(inputs: tuple[Tensor, ...], pull: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return output and gradients of ours, and in double precision, rectified at the same places.

    Where an output is zero but for rounding, either gradient would be right.
    """
    mine = [x.detach().requires_grad_() for x in inputs]
    y = reflect_convolution(*mine)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    expected = linear(*exact)
    gradients = torch.autograd.grad(expected, exact, pull.double() * (y > 0))
    return [y, *torch.autograd.grad(y, mine, pull)], [expected.relu(), *gradients]


def agree(found: list[Tensor], expected: list[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert b.abs().max() > 0.01
        assert (a - b).abs().max() < TOLERANCE * b.abs().max()


@needs_compiler
@pytest.mark.parametrize("channels", [(8,), (16, 16), (5, 3), (20, 9, 32), (64,)])
@pytest.mark.parametrize("outputs", [8, 16, 33])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (34, 6), (65, 37), (2, 11), (3, 2)])
def test_output_and_gradients_are_those_of_double_precision(size, channels, outputs, monkeypatch):
    """Sides that tiles fill and do not, several bands of rows, groups of channels that are full."""
    monkeypatch.setattr(kernel, "_pays", lambda *given: True)
    inputs = problem(size, channels, outputs)
    assert kernel.covered(inputs[0], inputs[1:])
    pull = torch.randn(2, outputs, *size, generator=torch.Generator().manual_seed(1))
    agree(*both(inputs, pull))


@needs_compiler
@pytest.mark.parametrize(
    ("size", "channels", "outputs"), [((255, 301), 16, 8), ((64, 31), 128, 96)]
)
def test_large_maps_and_many_channels_are_as_exact(size, channels, outputs):
    inputs = problem(size, (channels,), outputs, batch=1)
    pull = torch.randn(1, outputs, *size, generator=torch.Generator().manual_seed(1))
    agree(*both(inputs, pull))


@needs_compiler
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_layouts_do_not_matter(layout):
    inputs = problem((9, 14), (8, 8), 16)
    pull = torch.randn(14, 9, 16, 2).permute(3, 2, 1, 0)  # contiguous in neither layout
    found, expected = both(inputs, pull)
    agree(found, expected)
    again, _ = both(tuple(x.to(memory_format=layout) for x in inputs), pull)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    strided = tuple(torch.stack([x, x], dim=-1)[..., 0] for x in inputs)
    again, _ = both(strided, pull)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@needs_compiler
def test_gradients_may_be_expanded_and_of_some_inputs_only():
    inputs = problem((10, 13), (8, 24), 16)
    (_, *expected), _ = both(inputs, torch.ones(2, 16, 10, 13))
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        given = [x.clone().requires_grad_(w) for x, w in zip(inputs, wanted, strict=True)]
        reflect_convolution(*given).sum().backward()
        for x, want, gradient in zip(given, wanted, expected, strict=True):
            assert (x.grad is not None) == want
            assert not want or torch.equal(x.grad, gradient)


@needs_compiler
def test_neither_threads_nor_company_change_a_bit():
    inputs = problem((70, 45), (16, 16), 32, batch=3)
    pull = torch.randn(3, 32, 70, 45, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(both(inputs, pull)[0])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    weight, *sources = inputs
    for item in range(3):
        part = slice(item, item + 1)
        (y, _, *gradients), _ = both((weight, *(s[part] for s in sources)), pull[part])
        whole, _, *expected = results[0]
        for a, b in zip((y, *gradients), (whole, *expected), strict=True):
            assert torch.equal(a, b[part])


@needs_compiler
def test_a_batch_of_nothing_gives_nothing():
    weight, source = problem((8, 8), (16,), 16)
    weight.requires_grad_()
    y = kernel.forward(weight.detach(), [source[:0]])
    assert y.shape == (0, 16, 8, 8)
    to_weight, to_source = kernel.backward(y, y, weight.detach(), [source[:0]], (True, True))
    assert to_source.shape == (0, 16, 8, 8)
    assert to_weight.abs().max() == 0


@needs_compiler
def test_what_is_not_finite_stays_in_the_tiles_that_read_it():
    weight, source = problem((24, 24), (8,), 16, batch=1)
    source[0, 3, 9, 10] = float("nan")
    reached = reflect_convolution(weight, source).isnan()
    assert reached[0, :, 8:11, 9:12].all()
    reached[0, :, 8:12, 8:12] = False
    assert not reached.any()


@needs_compiler
def test_nothing_is_kept_but_what_is_there_anyway():
    inputs = [x.requires_grad_() for x in problem((32, 32), (8, 8), 16)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        y = reflect_convolution(*inputs)
    known = {x.data_ptr() for x in (*inputs, y)}
    assert kept
    assert all(x.data_ptr() in known for x in kept)


@pytest.mark.parametrize("pairs", [(1, 16), (256, 64)])
def test_few_channels_and_heavy_weights_on_few_tiles_are_left_to_torch(pairs):
    inputs, outputs = pairs
    weight, source = problem((6, 6), (inputs,), outputs, batch=1)
    assert not kernel.covered(weight, [source])
    agree(*both((weight, source), torch.ones(1, outputs, 6, 6)))


def test_what_the_kernel_does_not_cover_is_left_to_torch(monkeypatch):
    weight, source = problem((12, 12), (16,), 16)
    seen = []
    monkeypatch.setattr(kernel, "forward", lambda *given: seen.append(given))
    expected = linear(weight, source).relu()
    _, tangent = torch.func.jvp(lambda x: reflect_convolution(weight, x), (source,), (source,))
    assert torch.allclose(tangent, expected, atol=1e-5)  # homogeneous
    gradient = torch.func.grad(lambda w: reflect_convolution(w, source).sum())(weight)
    assert gradient.abs().sum() > 0
    assert reflect_convolution(weight.double(), source.double()).dtype == torch.double
    with torch.autocast("cpu", torch.bfloat16):
        assert reflect_convolution(weight, source).dtype == torch.bfloat16
    assert not seen


@needs_compiler
def test_training_goes_the_same_way_without_the_kernel(monkeypatch):
    def learn() -> list[float]:
        torch.manual_seed(0)
        net, x = Demosaicing(8, (16, 32)), torch.rand(2, 8, 22, 17)
        optimiser, losses = torch.optim.Adam(net.parameters(), lr=1e-3), []
        for _ in range(12):
            optimiser.zero_grad()
            loss = (net(x) - x).square().mean()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        return losses

    ours = learn()
    monkeypatch.setattr(kernel, "covered", lambda *given: False)
    assert ours == pytest.approx(learn(), rel=1e-3)
    assert ours[-1] < 0.5 * ours[0]


def test_the_setting_that_leaves_the_kernel_out_changes_no_result():
    code = (
        "import torch; from calcarine.cortex import Demosaicing, _reflect_kernel as k;"
        "torch.manual_seed(0); y = Demosaicing()(torch.rand(1, 8, 20, 20));"
        "print(k.kernel_status()); print(y[0, :, 9, 9].tolist())"
    )
    answers = []
    for choice in ("torch", "auto"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"CALCARINE_KERNEL": choice},
        )  # fmt: skip
        status, numbers = done.stdout.splitlines()
        assert choice == "auto" or status.endswith("because CALCARINE_KERNEL=torch")
        answers.append(torch.tensor([float(x) for x in numbers.strip("[]").split(",")]))
    assert answers[0].abs().max() > 0.01
    assert torch.allclose(answers[0], answers[1], rtol=0, atol=1e-5)
