"""Probes: what a model sees, what it cannot see, and what it makes of it."""

from calcarine.probes.color_matching import ColorMatching, color_matching, perfect_observer
from calcarine.probes.detection_score import DetectionScore, score_detections
from calcarine.probes.eigendistortion import Eigendistortion
from calcarine.probes.geodesic import Geodesic
from calcarine.probes.hypercolumn import Hypercolumn, hypercolumn
from calcarine.probes.mad import MADCompetition, mad_competition
from calcarine.probes.map_measures import preference_histogram, smoothness, stability
from calcarine.probes.map_readout import MapReadout, map_readout
from calcarine.probes.metamer import Metamer
from calcarine.probes.metrics import l2_norm, model_metric, ms_ssim, mse, nlpd, ssim
from calcarine.probes.neural_scope import NeuralScope, mosaic_scope, percept_scope
from calcarine.probes.orientation_map import OrientationMap, orientation_map
from calcarine.probes.penalty import range_penalty
from calcarine.probes.pinwheels import Pinwheels, pinwheel_density, pinwheels
from calcarine.probes.preference_map import (
    PreferenceMap,
    frequency_map,
    ocular_dominance,
    preference_map,
)
from calcarine.probes.readout import readout
from calcarine.probes.receptive_field import ReceptiveField, receptive_field
from calcarine.probes.scanning import scan
from calcarine.probes.tuning import TuningCurves, tuning_curves
from calcarine.probes.velocity_tuning import VelocityTuning, velocity_tuning
from calcarine.testing import check_model

__all__ = [
    "ColorMatching",
    "DetectionScore",
    "Eigendistortion",
    "Geodesic",
    "Hypercolumn",
    "MADCompetition",
    "MapReadout",
    "Metamer",
    "NeuralScope",
    "OrientationMap",
    "Pinwheels",
    "PreferenceMap",
    "ReceptiveField",
    "TuningCurves",
    "VelocityTuning",
    "check_model",
    "color_matching",
    "frequency_map",
    "hypercolumn",
    "l2_norm",
    "mad_competition",
    "map_readout",
    "model_metric",
    "mosaic_scope",
    "ms_ssim",
    "mse",
    "nlpd",
    "ocular_dominance",
    "orientation_map",
    "percept_scope",
    "perfect_observer",
    "pinwheel_density",
    "pinwheels",
    "preference_histogram",
    "preference_map",
    "range_penalty",
    "readout",
    "receptive_field",
    "scan",
    "score_detections",
    "smoothness",
    "ssim",
    "stability",
    "tuning_curves",
    "velocity_tuning",
]
