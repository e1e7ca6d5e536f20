"""Spectra of operators: against dense matrices and closed forms, and what has no answer."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError, NonFiniteError, ShapeError
from calcarine.probes.spectrum import (
    dense_matrix,
    leading_eigenvalues,
    leading_eigenvectors,
    power_iteration,
    spectral_radius,
    stability,
)
from calcarine.stage import DynamicStage

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


def test_power_iteration_finds_a_lone_leading_eigenvalue():
    diagonal = torch.tensor([2.0, -3.0, 1.0, 0.5, 0.1], dtype=torch.float64)
    found = power_iteration(lambda x: diagonal * x, (5,), dtype=torch.float64)
    assert found.status == "converged"
    assert found.value == pytest.approx(-3, abs=1e-9)
    assert found.ratio == pytest.approx(2 / 3, abs=1e-6)
    assert found.vector[1].abs() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.0, -2, 0, 0], [2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.5]],
        [[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.5]],
        [[3.0, 0, 0, 0], [0, -3, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.5]],
    ],
    ids=["conjugate pair", "double", "opposite signs"],
)
def test_power_iteration_says_when_there_is_no_gap(matrix):
    matrix = torch.tensor(matrix, dtype=torch.float64)
    found = power_iteration(lambda x: matrix @ x, (4,), dtype=torch.float64)
    assert found.status == "no spectral gap"
    assert found.vector is None
    assert found.value == pytest.approx(matrix.abs().max().item(), abs=1e-6)


def test_a_random_convolution_has_a_leading_pair(convolution):
    assert power_iteration(convolution, SHAPE, dtype=torch.float64).status == "no spectral gap"
    radius = spectral_radius(convolution, SHAPE, dtype=torch.float64)
    assert 0.5 < radius < 2


class SpiralState(NamedTuple):
    r: Tensor


class Spiral(DynamicStage):
    """dr/dt = B r + x with the eigenvalues -1/tau +- i omega."""

    tau_ms, frequency_hz, dt_ms = 20.0, 40.0, 0.5

    def initial_state(self, like):
        return SpiralState(torch.zeros_like(like))

    def forward(self, x, state):
        turn = 2 * math.pi * self.frequency_hz / 1000
        rotated = torch.stack([-state.r[:, 1], state.r[:, 0]], 1)
        r = state.r + self.dt_ms * (-state.r / self.tau_ms + turn * rotated + x)
        return r, SpiralState(r)


def test_stability_reads_time_constant_and_frequency():
    frame = torch.zeros(1, 2, dtype=torch.float64)
    model = Spiral()
    found = stability(model, frame, model.initial_state(frame), k=2)
    torch.testing.assert_close(found.time_constants_ms, torch.full((2,), 20.0).double())
    torch.testing.assert_close(found.frequencies_hz, torch.full((2,), 40.0).double())
    assert found.stable


def test_bad_operators_and_settings_are_refused(convolution):
    with pytest.raises(ShapeError, match="map \\(4,\\) to itself"):
        leading_eigenvalues(lambda x: x[:2], (4,), 1)
    with pytest.raises(NonFiniteError, match="Product 1"):
        leading_eigenvalues(lambda x: x / 0, (4,), 1)
    with pytest.raises(InputError, match="k between 1 and the 4"):
        leading_eigenvalues(lambda x: x, (4,), 5)
    with pytest.raises(InputError, match="at least two starts"):
        power_iteration(lambda x: x, (4,), starts=1)
    with pytest.raises(InputError, match="has no dt_ms"):
        stability(torch.nn.Identity(), torch.zeros(1, 1), SpiralState(torch.zeros(1, 1)))
