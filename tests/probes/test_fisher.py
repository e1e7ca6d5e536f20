"""Products with the Fisher matrix against Jacobians written out."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from calcarine.errors import CalcarineWarning, InputError
from calcarine.probes.fisher import FisherProduct


def energy(image: Tensor) -> Tensor:
    """Nonlinear, with more outputs than inputs."""
    shifted = image.roll(1, -1)
    return torch.cat([image.square() * shifted, (image * shifted).sin()], dim=1)


def spectrum(image: Tensor) -> Tensor:
    return torch.fft.rfft2(image.square())


def pooled(image: Tensor) -> Tensor:
    """Three axes, fewer outputs than inputs."""
    return (image.square().mean(-1) * image[..., 0]).exp()


def jacobian(model, image: Tensor) -> Tensor:
    def real(x: Tensor) -> Tensor:
        y = model(x[None])[0]
        return torch.view_as_real(y) if y.is_complex() else y

    return torch.autograd.functional.jacobian(real, image).reshape(-1, image.numel())


class Exponential(torch.autograd.Function):
    """A custom function without a forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x.exp())
        return x.exp()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


class Opaque(Exponential):
    """One whose backward pass cannot be differentiated either."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("model", [energy, spectrum, pooled])
def test_products_are_those_of_the_jacobian(model, batch, dtype):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(batch, 2, 5, 4, generator=generator, dtype=dtype)
    vectors = torch.randn(batch, 3, 40, generator=generator, dtype=dtype)
    fisher = FisherProduct(model, image)
    jacobians = torch.stack([jacobian(model, one) for one in image])
    assert fisher.response_size == jacobians.shape[1]
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {}
    torch.testing.assert_close(fisher.push(vectors), vectors @ jacobians.mT, **tolerance)
    expected = jacobians.mT @ jacobians
    torch.testing.assert_close(fisher(vectors), vectors @ expected, **tolerance)
    torch.testing.assert_close(fisher(vectors[:, :1]), vectors[:, :1] @ expected, **tolerance)
    torch.testing.assert_close(fisher.matrix(), expected, **tolerance)


def test_the_matrix_comes_from_rows_or_from_products():
    """Few responses: rows of the Jacobian, no product; many: one product per component."""
    image = torch.rand(2, 1, 5, 7, dtype=torch.float64)

    def many(x: Tensor) -> Tensor:
        return torch.cat([energy(x), x.cos()], dim=1)

    for model, counted in ((pooled, 0), (many, 35)):
        fisher = FisherProduct(model, image)
        expected = torch.stack([jacobian(model, one) for one in image])
        torch.testing.assert_close(fisher.matrix(), expected.mT @ expected)
        assert fisher.products == counted


def test_matrix_in_chunks_equals_matrix_at_once(monkeypatch):
    image = torch.rand(2, 1, 5, 7, dtype=torch.float64)
    whole = [FisherProduct(model, image).matrix() for model in (pooled, energy, spectrum)]
    monkeypatch.setattr("calcarine.probes.fisher._NUMBERS_AT_ONCE", 1000)
    chunked = [FisherProduct(model, image).matrix() for model in (pooled, energy, spectrum)]
    torch.testing.assert_close(chunked, whole)


def test_circular_padding_gives_exact_products():
    """Tracing the tangent map once and replaying it goes wrong here; repeating it does not."""
    torch.manual_seed(0)
    model = nn.Conv2d(1, 2, 5, padding=2, padding_mode="circular").double().requires_grad_(False)
    image = torch.rand(1, 1, 9, 8, dtype=torch.float64)
    fisher = FisherProduct(model, image)
    vectors = torch.randn(1, 4, 72, dtype=torch.float64)
    expected = vectors @ jacobian(model, image[0]).mT
    for _ in range(3):
        torch.testing.assert_close(fisher.push(vectors), expected)
        torch.testing.assert_close(fisher.push(vectors[:, :1]), expected[:, :1])


def test_without_forward_mode_the_transpose_takes_over_and_says_so():
    image = torch.rand(2, 1, 4, 3, dtype=torch.float64)
    fisher = FisherProduct(lambda x: Exponential.apply(x) * x.mean((1, 2, 3), True), image)
    vectors = torch.randn(2, 3, 12, dtype=torch.float64)
    with pytest.warns(CalcarineWarning, match="no forward-mode derivative"):
        pushed = fisher.push(vectors)
    assert not fisher.forward_mode
    jacobians = torch.stack([jacobian(lambda x: x.exp() * x.mean(), one) for one in image])
    torch.testing.assert_close(pushed, vectors @ jacobians.mT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        torch.testing.assert_close(fisher(vectors), vectors @ jacobians.mT @ jacobians)


def test_without_any_derivative_of_the_derivative_it_says_what_to_do():
    fisher = FisherProduct(Opaque.apply, torch.rand(1, 1, 4, 3))
    with pytest.raises(InputError, match="Give its custom autograd functions a jvp"):
        fisher.push(torch.randn(1, 1, 12))


def test_a_model_that_cannot_be_vectorised_is_called_vector_by_vector():
    def stubborn(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out.copy_(x)
        return out.square() if float(x.detach().sum()) > 0 else out

    image = torch.rand(1, 1, 3, 3, dtype=torch.float64)
    vectors = torch.randn(1, 4, 9, dtype=torch.float64)
    expected = 4 * image.reshape(1, 1, 9).square() * vectors
    torch.testing.assert_close(FisherProduct(stubborn, image)(vectors), expected)


def test_it_works_inside_no_grad_and_inference_mode_and_leaves_the_image_alone():
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    before, vectors = image.clone(), torch.randn(1, 2, 16, dtype=torch.float64)
    expected = FisherProduct(energy, image)(vectors)
    with torch.no_grad():
        torch.testing.assert_close(FisherProduct(energy, image)(vectors), expected)
    with torch.inference_mode():
        torch.testing.assert_close(FisherProduct(energy, image.clone())(vectors), expected)
    assert torch.equal(image, before)
    assert not image.requires_grad
