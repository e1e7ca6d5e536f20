"""Cortex: parts of the colour cortex, and recurrent convolutional areas."""

from calcarine.cortex.cone_identity import ConeIdentity
from calcarine.cortex.demosaicing import Demosaicing
from calcarine.cortex.movement import estimate_movement
from calcarine.cortex.recurrent_area import RecurrentArea, RecurrentAreaState
from calcarine.cortex.translation import translate

__all__ = [
    "ConeIdentity",
    "Demosaicing",
    "RecurrentArea",
    "RecurrentAreaState",
    "estimate_movement",
    "translate",
]
