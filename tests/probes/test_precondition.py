"""The change of variables: exact transforms, a spectrum in closed form, fewer iterations."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor

from calcarine.lgn import Gaussian
from calcarine.probes import Metamer, mse
from calcarine.probes.precondition import (
    Basis,
    Preconditioner,
    can_precondition,
    measure_curvature,
    preconditioner,
)

BASES = get_args(Basis)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient_of(model, target: Tensor):
    """Return the gradient of the summed squares, whose Hessian is 2 J'J."""

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad((model(x) - target).square().sum(), x)[0]

    return gradient


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-4), (torch.float64, 1e-12)])
@pytest.mark.parametrize("size", [(16, 16), (35, 41), (20, 13)])
def test_the_transforms_undo_each_other(basis, dtype, tolerance, size):
    x = torch.randn(2, 3, *size, generator=seeded(), dtype=dtype)
    gain = 1 + 9 * torch.rand(x.shape, generator=seeded(1), dtype=dtype)
    change = Preconditioner(gain, basis)
    torch.testing.assert_close(
        change.to_image(change.from_image(x)), x, atol=tolerance, rtol=tolerance
    )
    torch.testing.assert_close(
        change.from_image(change.to_image(x)), x, atol=tolerance, rtol=tolerance
    )


@pytest.mark.parametrize("basis", BASES)
def test_the_gradient_passes_the_transforms(basis):
    z = torch.randn(1, 1, 11, 14, generator=seeded(), dtype=torch.float64, requires_grad=True)
    gain = 1 + torch.rand(z.shape, generator=seeded(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(Preconditioner(gain, basis).to_image, (z,))


@pytest.mark.parametrize("size", [(48, 48), (35, 41)])
def test_the_spectrum_of_a_circular_blur_is_the_one_of_its_filter(size):
    """For squares of a convolution with transfer H the curvature at f is 2 |H(f)|^2.

    The blur scales every wave by itself, so noise does not enter: what is left is the average over
    five by five neighbours.
    """
    model = Gaussian(9, std=1.0, pad_mode="circular")
    image = torch.rand(1, 1, *size, generator=seeded(), dtype=torch.float64)
    found = measure_curvature(gradient_of(model, model(image)), image, seeded(2))
    impulse = torch.zeros_like(image)
    impulse[..., 0, 0] = 1
    truth = 2 * torch.fft.fft2(model(impulse)).abs().square()
    padded = torch.nn.functional.pad(truth, (2, 2, 2, 2), mode="circular")
    averaged = torch.nn.functional.avg_pool2d(padded, 5, stride=1)
    assert found.basis == "torus"
    # Weighted by the squares of the noise: 100 values with the variance of a chi square.
    assert (found.spectrum - averaged).abs().mean() / averaged.mean() < 0.1
    assert float(found.mean) == pytest.approx(float(truth.mean()), rel=0.1)
    assert found.unexplained < 0.1


@pytest.mark.parametrize(("pad_mode", "basis"), [("circular", "torus"), ("reflect", "mirrors")])
@pytest.mark.parametrize("size", [(32, 32), (41, 35)])
def test_the_basis_is_that_of_the_border(pad_mode, basis, size):
    model = Gaussian(15, std=2.0, pad_mode=pad_mode)
    image = torch.rand(1, 1, *size, generator=seeded(), dtype=torch.float64)
    found = measure_curvature(gradient_of(model, model(image)), image, seeded(2))
    assert found.basis == basis


def test_pixels_with_mirrors_between_them_are_found():
    """A symmetric average over a neighbourhood repeated at the edge: type II by definition."""

    def model(x: Tensor) -> Tensor:
        p = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
        return torch.nn.functional.avg_pool2d(p, 3, stride=1)

    image = torch.rand(1, 1, 32, 32, generator=seeded(), dtype=torch.float64)
    found = measure_curvature(gradient_of(model, model(image)), image, seeded(2))
    assert found.basis == "mirrors_between"


def test_gains_fall_with_curvature_down_to_one():
    model = Gaussian(15, std=2.0, pad_mode="circular")
    image = torch.rand(2, 1, 32, 32, generator=seeded(), dtype=torch.float64)
    found = measure_curvature(gradient_of(model, model(image)), image, seeded(2))
    gain = preconditioner(found, torch.full((2,), 1e-3, dtype=torch.float64)).gain
    assert gain.flatten(1).amin(1).tolist() == pytest.approx([1, 1])
    assert gain[0, 0, 16, 16] > 5
    order = found.spectrum[0].flatten().argsort()
    assert bool((gain[0].flatten()[order].diff() <= 1e-9).all())


@pytest.mark.parametrize("pad_mode", ["circular", "reflect"])
def test_a_blur_takes_fewer_iterations(pad_mode):
    model = Gaussian(15, std=1.5, pad_mode=pad_mode).eval().requires_grad_(False)
    image = torch.rand(1, 1, 32, 32, generator=seeded(), dtype=torch.float64)
    spent = []
    for precondition in (True, False):
        probe = Metamer(image, model, generator=seeded(3))
        probe.synthesize(300, 2e-7, precondition=precondition, progress=False)
        assert mse(model(probe.metamer), probe.target).max() < 1e-6
        spent.append(probe.iterations)
    assert spent[0] < 0.4 * spent[1]


def test_an_objective_that_is_flat_or_no_number_is_left_as_it_is():
    """No curvature to measure gives gain 1, not NaN."""
    image = torch.rand(1, 1, 16, 16, generator=seeded(), dtype=torch.float64)
    for gradient in (torch.zeros_like, lambda x: x / 0 * 0):
        found = measure_curvature(gradient, image, seeded())
        change = preconditioner(found, torch.zeros(1, dtype=torch.float64))
        assert torch.equal(change.gain, torch.ones_like(image))


def test_a_probe_into_nan_does_not_count():
    """A root has no gradient below zero, where some probing noise leads."""
    image = torch.full((1, 1, 16, 16), 0.03, dtype=torch.float64)
    image[..., 0, 0] = 0.009

    def gradient(x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad((x.sqrt().square() * x).sum(), x)[0]  # x^2: curvature 2

    found = measure_curvature(gradient, image, seeded(1))
    assert found.spectrum.isfinite().all()
    assert float(found.mean) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(
    ("pixels", "possible"),
    [
        (torch.zeros(1, 1, 10, 10), True),
        (torch.zeros(1, 1, 9, 30), False),
        (torch.zeros(1, 1, 30, 30, dtype=torch.float16), False),
    ],
)
def test_small_images_and_half_precision_go_without(pixels, possible):
    assert can_precondition(pixels) == possible
