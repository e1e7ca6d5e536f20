"""Cortex: parts of the colour cortex, and recurrent convolutional areas."""

from calcarine.cortex.cell_positions import CellPositions
from calcarine.cortex.cone_identity import ConeIdentity
from calcarine.cortex.demosaicing import Demosaicing
from calcarine.cortex.given_positions import GivenPositions, LatticePositions
from calcarine.cortex.lateral_inhibition import GivenInhibition, LearnedInhibition
from calcarine.cortex.movement import estimate_movement
from calcarine.cortex.movement_search import search_movement
from calcarine.cortex.recurrent_area import RecurrentArea, RecurrentAreaState
from calcarine.cortex.translation import translate
from calcarine.cortex.visual_field import warp

__all__ = [
    "CellPositions",
    "ConeIdentity",
    "Demosaicing",
    "GivenInhibition",
    "GivenPositions",
    "LatticePositions",
    "LearnedInhibition",
    "RecurrentArea",
    "RecurrentAreaState",
    "estimate_movement",
    "search_movement",
    "translate",
    "warp",
]
