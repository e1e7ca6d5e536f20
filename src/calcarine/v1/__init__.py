"""Primary visual cortex: oriented filters and pyramids, simple and complex cells."""

from calcarine.v1.cells import ComplexCells, SimpleCells
from calcarine.v1.laplacian_pyramid import LaplacianPyramid
from calcarine.v1.steerable_pyramid import SteerablePyramid

__all__ = ["ComplexCells", "LaplacianPyramid", "SimpleCells", "SteerablePyramid"]
