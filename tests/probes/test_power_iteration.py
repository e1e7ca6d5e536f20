"""Power iteration: against known eigenvalues, and where there is nothing to tend to."""

import pytest
import torch

from calcarine.errors import InputError
from calcarine.probes.spectrum import power_iteration


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


def test_a_single_start_is_refused():
    with pytest.raises(InputError, match="at least two starts"):
        power_iteration(lambda x: x, (4,), starts=1)
