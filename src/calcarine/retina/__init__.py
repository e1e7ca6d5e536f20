"""The retina: eye motion, cone sampling, cone mosaic, lateral inhibition and spikes."""

from calcarine.retina.activation import ConeActivation
from calcarine.retina.density import cone_density
from calcarine.retina.eye_motion import EyeMotion, FixationalDrift, GivenPath, RandomShifts, crop
from calcarine.retina.inhibition import LateralInhibition
from calcarine.retina.mosaic import MOSAIC_KINDS, cone_fractions, cone_mosaic
from calcarine.retina.noise import NoisyStage
from calcarine.retina.positions import cone_positions, density_error, jacobian, local_spacing
from calcarine.retina.retina import Retina, RetinaOutput
from calcarine.retina.sampling import FovealSampling, UniformSampling
from calcarine.retina.spikes import RetinalSpikes, RetinalSpikesState

__all__ = [
    "MOSAIC_KINDS",
    "ConeActivation",
    "EyeMotion",
    "FixationalDrift",
    "FovealSampling",
    "GivenPath",
    "LateralInhibition",
    "NoisyStage",
    "RandomShifts",
    "Retina",
    "RetinaOutput",
    "RetinalSpikes",
    "RetinalSpikesState",
    "UniformSampling",
    "cone_density",
    "cone_fractions",
    "cone_mosaic",
    "cone_positions",
    "crop",
    "density_error",
    "jacobian",
    "local_spacing",
]
