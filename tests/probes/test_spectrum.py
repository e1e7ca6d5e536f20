"""Spectra of operators: against dense matrices and closed forms, and what has no answer."""

import numpy as np
import pytest
import torch

from calcarine.errors import CalcarineWarning, InputError, NonFiniteError, ShapeError
from calcarine.probes._products import Product
from calcarine.probes._spectral_filters import ENDS, choose_filter
from calcarine.probes.spectrum import (
    dense_matrix,
    leading_eigenvalues,
    leading_eigenvectors,
    power_iteration,
    spectral_radius,
)

SHAPE = (1, 10, 10, 10)


@pytest.fixture(scope="module")
def convolution():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(10, 10, 3, 3, generator=generator, dtype=torch.float64) / 10
    return lambda x: torch.nn.functional.conv2d(x, weight.to(x.dtype), padding=1)


@pytest.fixture(scope="module")
def dense_values(convolution):
    return torch.linalg.eigvals(dense_matrix(convolution, SHAPE, dtype=torch.float64))


def test_the_dense_matrix_is_the_operator(convolution):
    x = torch.randn(SHAPE, dtype=torch.float64)
    matrix = dense_matrix(convolution, SHAPE, dtype=torch.float64)
    torch.testing.assert_close((matrix @ x.flatten()).reshape(SHAPE), convolution(x))


@pytest.mark.parametrize("method", ["arpack", "arnoldi"])
@pytest.mark.parametrize("which", ["LM", "LR", "SR", "LI"])
def test_leading_eigenvalues_are_those_of_the_dense_matrix(
    convolution, dense_values, method, which
):
    size = {"LM": dense_values.abs(), "LR": dense_values.real, "SR": -dense_values.real}
    size["LI"] = dense_values.imag.abs()
    expected = dense_values[size[which].argsort(descending=True)[:20]]
    found = leading_eigenvectors(convolution, SHAPE, 20, which, dtype=torch.float64, method=method)
    assert found.status == "converged"
    distance = (found.values[:, None] - expected[None]).abs()
    assert distance.min(1).values.max() < 1e-6
    assert distance.min(0).values.max() < 1e-6
    assert (found.values.imag != 0).any()  # complex pairs are among them
    again = torch.complex(
        *(convolution(part) for part in (found.vectors[0].real, found.vectors[0].imag))
    )
    torch.testing.assert_close(again, found.values[0] * found.vectors[0], rtol=0, atol=1e-6)


def test_single_precision_agrees_to_1e_4(convolution, dense_values):
    found = leading_eigenvalues(convolution, SHAPE, 20, dtype=torch.float32)
    expected = dense_values.abs().sort(descending=True).values[:20]
    torch.testing.assert_close(found.values.abs(), expected, rtol=0, atol=1e-4)


def test_too_few_products_are_told(convolution):
    with pytest.warns(CalcarineWarning, match="largest residual"):
        found = leading_eigenvalues(
            convolution, SHAPE, 20, dtype=torch.float64, method="arnoldi", max_products=40
        )
    assert found.status == "max_products"
    assert found.residuals.max() > 1e-6


def test_middle_sized_and_large_operators_agree():
    """Rectangular and odd, large enough for the tensor method in single precision."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(8, 8, 3, 3, generator=generator, dtype=torch.float64) / 9
    shape = (1, 8, 51, 61)

    def convolution(x):
        return torch.nn.functional.conv2d(x, weight.to(x.dtype), padding=1)

    found = leading_eigenvectors(convolution, shape, 4)
    assert found.status == "converged"
    assert found.residuals.max() < 1e-5 * found.values.abs().max()
    exact = leading_eigenvalues(
        convolution, shape, 4, method="arpack", dtype=torch.float64, tolerance=1e-6
    )
    torch.testing.assert_close(found.values.abs(), exact.values.abs(), rtol=0, atol=1e-4)
    lengths = found.vectors.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("which", ["LM", "LR", "SR"])
@pytest.mark.parametrize("centre", [0.0, 0.8, -3.0], ids=["around 0", "off 0", "far off 0"])
def test_the_polynomial_orders_eigenvalues_as_asked(which, centre):
    """Known eigenvalues fill a disk; those that p makes largest are those asked for."""
    generator = torch.Generator().manual_seed(7)
    radius = 0.3 * torch.rand(500, generator=generator, dtype=torch.float64).sqrt()
    angle = 2 * torch.pi * torch.rand(500, generator=generator, dtype=torch.float64)
    values = (centre + torch.polar(radius, angle)).numpy()
    blocks = np.stack([values.real, values.imag], 1)

    def rotate(x):  # multiplication by every eigenvalue, on pairs (real, imaginary)
        re, im = torch.from_numpy(blocks).unbind(1)
        return torch.stack([re * x[:, 0] - im * x[:, 1], im * x[:, 0] + re * x[:, 1]], 1)

    product = Product(rotate, (500, 2), torch.float64, "cpu")
    chosen = choose_filter(values, 6, which)
    ones = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(500)
    image = chosen(product, ones).reshape(500, 2).norm(dim=1).numpy()
    assert product.count == len(chosen.gains) == 8
    wanted = np.argsort(-ENDS[which](values))[:6]
    assert set(wanted) <= set(np.argsort(-image)[:9])
    assert image[wanted].min() > 2 * np.median(image)


def test_eigenvalues_that_die_away_fast_are_found():
    """Eight products would lose the sixth eigenvalue, a thousand times smaller than the first."""
    diagonal = 4.0 ** -torch.arange(100, dtype=torch.float64)
    found = leading_eigenvalues(
        lambda x: diagonal * x, (100,), 6, dtype=torch.float64, method="arnoldi"
    )
    assert found.status == "converged"
    torch.testing.assert_close(found.values.real, diagonal[:6], rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_of_the_whole_space_is_found_as_often_as_asked(dtype):
    """A start vector is an eigenvector: its space is invariant and has one dimension."""
    found = leading_eigenvectors(lambda x: -2 * x, (10, 10), 5, dtype=dtype, method="arnoldi")
    assert found.status == "converged"
    torch.testing.assert_close(found.values.real, torch.full((5,), -2.0, dtype=torch.float64))
    gram = found.vectors.flatten(1) @ found.vectors.flatten(1).mH
    assert torch.linalg.matrix_rank(gram) == 5


def test_an_operator_of_zeros_has_eigenvalues_of_zero():
    found = leading_eigenvalues(lambda x: 0 * x, (100,), 3, method="arnoldi")
    assert found.status == "converged"
    assert found.values.abs().max() == 0


def test_the_same_seed_gives_the_same_numbers(convolution):
    once, again = (
        leading_eigenvalues(convolution, SHAPE, 4, dtype=torch.float64, method="arnoldi")
        for _ in range(2)
    )
    assert torch.equal(once.values, again.values)
    assert once.products == again.products
    other = leading_eigenvalues(
        convolution, SHAPE, 4, dtype=torch.float64, method="arnoldi",
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    torch.testing.assert_close(once.values.abs(), other.values.abs(), rtol=0, atol=1e-7)
    assert not torch.equal(once.values, other.values)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_eigenvalues(convolution, dense_values):
    weight = dense_matrix(convolution, SHAPE, dtype=torch.float64).cuda()
    found = leading_eigenvalues(
        lambda x: (weight @ x.flatten()).reshape(SHAPE), SHAPE, 20, dtype=torch.float64,
        device="cuda",
    )  # fmt: skip
    expected = dense_values.abs().sort(descending=True).values[:20]
    torch.testing.assert_close(found.values.abs(), expected, rtol=0, atol=1e-6)


def test_large_operators_that_are_not_finite_are_refused():
    with pytest.raises(NonFiniteError, match="was NaN or infinite"):
        leading_eigenvalues(lambda x: x / 0, (200,), 3, method="arnoldi")
    with pytest.raises(NonFiniteError, match="was NaN or infinite"):
        leading_eigenvalues(lambda x: x / 0, (200,), 3, method="arpack")


def test_a_random_convolution_has_a_leading_pair(convolution):
    assert power_iteration(convolution, SHAPE, dtype=torch.float64).status == "no spectral gap"
    radius = spectral_radius(convolution, SHAPE, dtype=torch.float64)
    assert 0.5 < radius < 2


def test_bad_operators_and_settings_are_refused(convolution):
    with pytest.raises(ShapeError, match="map \\(4,\\) to itself"):
        leading_eigenvalues(lambda x: x[:2], (4,), 1)
    with pytest.raises(NonFiniteError, match="Product 1"):
        leading_eigenvalues(lambda x: x / 0, (4,), 1)
    with pytest.raises(InputError, match="k between 1 and the 4"):
        leading_eigenvalues(lambda x: x, (4,), 5)
