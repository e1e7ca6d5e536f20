"""Cortex: parts of the colour cortex."""

from calcarine.cortex.cone_identity import ConeIdentity
from calcarine.cortex.demosaicing import Demosaicing
from calcarine.cortex.movement import estimate_movement
from calcarine.cortex.translation import translate

__all__ = ["ConeIdentity", "Demosaicing", "estimate_movement", "translate"]
