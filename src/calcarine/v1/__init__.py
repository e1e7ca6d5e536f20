"""Primary visual cortex: local connections and learning sheets, oriented filters and pyramids."""

from calcarine.v1.activation import PiecewiseSigmoid, piecewise_sigmoid
from calcarine.v1.cells import ComplexCells, SimpleCells
from calcarine.v1.laplacian_pyramid import LaplacianPyramid
from calcarine.v1.local_connection import LocalConnection
from calcarine.v1.plasticity import HomeostaticThreshold, hebbian_together_, normalize_together_
from calcarine.v1.settling_sheet import LateralInteraction, SettlingSheet
from calcarine.v1.steerable_pyramid import SteerablePyramid
from calcarine.v1.weights import (
    difference_of_gaussians_weights,
    gaussian_cloud_weights,
    gaussian_weights,
)

__all__ = [
    "ComplexCells",
    "HomeostaticThreshold",
    "LaplacianPyramid",
    "LateralInteraction",
    "LocalConnection",
    "PiecewiseSigmoid",
    "SettlingSheet",
    "SimpleCells",
    "SteerablePyramid",
    "difference_of_gaussians_weights",
    "gaussian_cloud_weights",
    "gaussian_weights",
    "hebbian_together_",
    "normalize_together_",
    "piecewise_sigmoid",
]
