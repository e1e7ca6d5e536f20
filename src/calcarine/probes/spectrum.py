"""Spectra of linear operators given as functions: convolutions, Jacobians of areas, anything.

    eigenvalues         leading_eigenvalues, leading_eigenvectors, spectral_radius, dense_matrix
    power_iteration     power_iteration
    stability           stability, step_stability, linearised, modes

One name for what is spread over these three modules.
"""

from __future__ import annotations

from calcarine.probes.eigenvalues import (
    Spectrum,
    dense_matrix,
    leading_eigenvalues,
    leading_eigenvectors,
    spectral_radius,
)
from calcarine.probes.linear_stability import (
    Stability,
    linearised,
    modes,
    stability,
    step_stability,
)
from calcarine.probes.power_iteration import PowerIteration, power_iteration

__all__ = [
    "PowerIteration",
    "Spectrum",
    "Stability",
    "dense_matrix",
    "leading_eigenvalues",
    "leading_eigenvectors",
    "linearised",
    "modes",
    "power_iteration",
    "spectral_radius",
    "stability",
    "step_stability",
]
