"""Probes: what a model sees, what it cannot see, and what it makes of it."""

from calcarine.probes.color_matching import ColorMatching, color_matching, perfect_observer
from calcarine.probes.neural_scope import NeuralScope, mosaic_scope, percept_scope
from calcarine.probes.scanning import scan
from calcarine.testing import check_model

__all__ = [
    "ColorMatching",
    "NeuralScope",
    "check_model",
    "color_matching",
    "mosaic_scope",
    "percept_scope",
    "perfect_observer",
    "scan",
]
