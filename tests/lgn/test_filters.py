"""Kernels and filtering: closed forms, and the plain convolution in every mode and size."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.lgn import CenterSurround, Gaussian, gaussian_kernel

MODES = ["reflect", "circular", "replicate", "zeros"]
EXACT = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("size", [1, 7, 8, (5, 12)])
@pytest.mark.parametrize("std", [0.3233, 2.0, 170.99])
def test_a_kernel_is_the_formula_divided_by_its_sum(size, std):
    height, width = (size, size) if isinstance(size, int) else size
    values = [
        [
            math.exp(-((i - (height - 1) / 2) ** 2 + (j - (width - 1) / 2) ** 2) / (2 * std**2))
            for j in range(width)
        ]
        for i in range(height)
    ]
    expected = torch.tensor(values, dtype=torch.float64)
    kernel = gaussian_kernel(size, torch.tensor(std, dtype=torch.float64))
    assert torch.allclose(kernel, expected / expected.sum(), atol=1e-15, rtol=1e-12)


def test_several_kernels_follow_their_standard_deviations():
    std = torch.tensor([1.0, 2.5], dtype=torch.float64, requires_grad=True)
    kernels = gaussian_kernel(9, std)
    assert kernels.shape == (2, 9, 9)
    assert kernels.dtype == torch.float64
    assert torch.equal(kernels[1], gaussian_kernel(9, std[1]))
    (slope,) = torch.autograd.grad(kernels[0, 4, 4], std)
    assert slope[0] < 0  # a wider kernel is lower in the middle
    assert slope[1] == 0


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size", "kernel"),
    [
        ((255, 301), 31),
        ((120, 98), 30),
        ((120, 98), (7, 12)),
        ((40, 107), 30),
        ((40, 33), 31),
        ((40, 33), 1),
    ],
)
@pytest.mark.parametrize("pad_mode", MODES)
def test_equals_the_plain_convolution(pad_mode, size, kernel, dtype, learn, convolve):
    """Sizes below and above the point where matrices are cut, transforms with and without."""
    stage = CenterSurround(kernel, (1.0, 0.7), (4.0, 2.0), (True, False), pad_mode=pad_mode)
    stage.to(dtype).requires_grad_(learn)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, *size, dtype=dtype, generator=generator).requires_grad_()
    sign = torch.tensor([1.25, -1.25], dtype=dtype)[:, None, None]
    difference = gaussian_kernel(kernel, stage.center_std) - gaussian_kernel(
        kernel, stage.surround_std
    )
    expected = convolve(x, sign * difference, pad_mode)
    found = stage(x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, atol=EXACT[dtype], rtol=0)
    assert kernel == 1 or found.std() > 0.01

    weight = torch.randn(found.shape, dtype=dtype, generator=generator)
    wanted = [x, stage.center_std, stage.surround_std] if learn else [x]
    slopes = zip(
        torch.autograd.grad(found, wanted, weight),
        torch.autograd.grad(expected, wanted, weight),
        strict=True,
    )
    for number, (ours, theirs) in enumerate(slopes):
        # The slope of a parameter sums 300 000 terms of both signs; the image's sums a thousand.
        scale = 1 if number == 0 else 100
        assert torch.allclose(ours, theirs, atol=scale * EXACT[dtype], rtol=scale * EXACT[dtype])


@pytest.mark.parametrize("size", [(10, 4), (3, 100)])
@pytest.mark.parametrize("pad_mode", ["circular", "replicate", "zeros"])
def test_a_kernel_may_be_larger_than_the_image(pad_mode, size, convolve):
    kernel = tuple(2 * n - 1 for n in size)
    stage = Gaussian(kernel, 5.0, pad_mode).double()
    x = torch.rand(2, 1, *size, dtype=torch.float64)
    expected = convolve(x, gaussian_kernel(kernel, stage.std), pad_mode)
    assert torch.allclose(stage(x), expected, atol=1e-12, rtol=0)


def test_a_circular_kernel_may_wrap_several_times(convolve):
    x = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    stage = Gaussian(31, 4.0, "circular").double()
    tiled = x.repeat(1, 1, 9, 9)
    expected = convolve(tiled, gaussian_kernel(31, stage.std), "circular")[..., :5, :6]
    assert torch.allclose(stage(x), expected, atol=1e-12, rtol=0)


def test_a_mirror_image_reaches_only_so_far():
    with pytest.raises(ShapeError, match=r"at least 16 x 16 px \(height x width\), got 40 x 15"):
        Gaussian(31)(torch.rand(1, 1, 40, 15))
    assert Gaussian(31)(torch.rand(1, 1, 40, 16)).shape == (1, 1, 40, 16)


@pytest.mark.parametrize("size", [(64, 48), (128, 100), (127, 99)])
@pytest.mark.parametrize("kernel", [31, 8])
@pytest.mark.parametrize("frequency", [(0, 0), (3, 5), (0, 22), (20, 0)])
def test_the_response_to_a_grating_is_the_grating_times_its_transfer(size, kernel, frequency):
    """A circular filter is shift invariant, so that gratings are its eigenvectors."""
    stage = CenterSurround(kernel, 1.962, 4.235, pad_mode="circular").double()
    down = torch.arange(size[0], dtype=torch.float64)[:, None] * frequency[0] / size[0]
    right = torch.arange(size[1], dtype=torch.float64) * frequency[1] / size[1]
    phase = 2 * math.pi * (down + right)
    response = stage(torch.stack([phase.cos(), phase.sin()])[:, None])
    transfer = stage.transfer_function(size)[0, frequency[0], frequency[1]]
    expected = torch.polar(torch.ones_like(phase), phase) * transfer
    assert torch.allclose(response[0, 0], expected.real, atol=1e-12)
    assert torch.allclose(response[1, 0], expected.imag, atol=1e-12)
    assert transfer.is_complex() == (kernel == 8)
    assert (transfer.abs() > 1e-9) == (frequency != (0, 0))


@pytest.mark.parametrize("size", [(16, 16), (15, 14), (13, 11)])
@pytest.mark.parametrize("kernel", [7, 6, (5, 4)])
def test_the_transfer_function_is_the_spectrum_of_the_response_to_a_point(size, kernel):
    stage = CenterSurround(kernel, (0.8, 0.5), (1.6, 2.0), pad_mode="circular").double()
    point = torch.zeros(1, 1, *size, dtype=torch.float64)
    point[..., 0, 0] = 1
    expected = torch.fft.fft2(stage(point))[0]
    found = stage.transfer_function(size).to(expected.dtype)
    assert torch.allclose(found, expected, atol=1e-12)


def test_the_blur_of_a_dark_place_beside_a_bright_one_is_not_negative():
    """Transforms would round below zero there, and the root of contrast would not exist."""
    x = torch.zeros(1, 1, 256, 256)
    x[..., 100:110, 100:110] = 1e4
    stage = Gaussian(31, 2.0, "circular")
    assert stage(x).min() < 0
    positive = stage(x, positive=True)
    assert positive.min() == 0
    assert torch.allclose(positive, stage(x), atol=1e-2)


@pytest.mark.parametrize("size", [0, -3, 2.5, True, (3, 0), (3, 3, 3)])
def test_a_kernel_needs_positive_integers(size):
    for make in (lambda: gaussian_kernel(size, 1.0), lambda: Gaussian(size)):
        with pytest.raises(InputError, match="one or two positive integers"):
            make()


@pytest.mark.parametrize("std", [0.0, -1.0, math.inf, math.nan])
def test_a_standard_deviation_is_positive(std):
    with pytest.raises(InputError, match="std > 0"):
        gaussian_kernel(5, std)
    with pytest.raises(InputError, match="std > 0"):
        Gaussian(5, std)
