"""Probes: what a model sees, what it cannot see, and what it makes of it."""

from calcarine.probes.area_recording import AreaRecording, open_recording
from calcarine.probes.color_matching import ColorMatching, color_matching, perfect_observer
from calcarine.probes.cone_readout import ConeReadout, cone_readout
from calcarine.probes.decay_times import TimeConstants, fit_decay, time_constants
from calcarine.probes.detection_score import DetectionScore, score_detections
from calcarine.probes.eigendistortion import Eigendistortion
from calcarine.probes.geodesic import Geodesic
from calcarine.probes.hypercolumn import Hypercolumn, hypercolumn
from calcarine.probes.kernel_readout import KernelReadout, kernel_readout
from calcarine.probes.mad import MADCompetition, mad_competition
from calcarine.probes.map_measures import preference_histogram, smoothness, stability
from calcarine.probes.map_readout import MapReadout, map_readout
from calcarine.probes.matching_confidence import MatchingConfidence, matching_confidence
from calcarine.probes.metamer import Metamer
from calcarine.probes.metrics import l2_norm, model_metric, ms_ssim, mse, nlpd, ssim
from calcarine.probes.movement_readout import (
    MovementReadout,
    movement_readout,
    unexplained_variance,
)
from calcarine.probes.neural_scope import NeuralScope, mosaic_scope, percept_scope
from calcarine.probes.noise_robustness import NoiseRobustness, noise_robustness
from calcarine.probes.orientation_map import OrientationMap, orientation_map
from calcarine.probes.penalty import range_penalty
from calcarine.probes.pinwheels import Pinwheels, pinwheel_density, pinwheels
from calcarine.probes.position_readout import PositionReadout, position_readout
from calcarine.probes.preference_map import (
    PreferenceMap,
    frequency_map,
    ocular_dominance,
    preference_map,
)
from calcarine.probes.readout import readout
from calcarine.probes.receptive_field import ReceptiveField, receptive_field
from calcarine.probes.record_areas import record_areas
from calcarine.probes.return_to_baseline import BaselineReturn, return_to_baseline
from calcarine.probes.scanning import scan
from calcarine.probes.time_course import AccuracyOverTime, accuracy_over_time
from calcarine.probes.trajectories import Trajectories, principal_trajectories
from calcarine.probes.tuning import TuningCurves, tuning_curves
from calcarine.probes.velocity_tuning import VelocityTuning, velocity_tuning
from calcarine.testing import check_model

__all__ = [
    "AccuracyOverTime",
    "AreaRecording",
    "BaselineReturn",
    "ColorMatching",
    "ConeReadout",
    "DetectionScore",
    "Eigendistortion",
    "Geodesic",
    "Hypercolumn",
    "KernelReadout",
    "MADCompetition",
    "MapReadout",
    "MatchingConfidence",
    "Metamer",
    "MovementReadout",
    "NeuralScope",
    "NoiseRobustness",
    "OrientationMap",
    "Pinwheels",
    "PositionReadout",
    "PreferenceMap",
    "ReceptiveField",
    "TimeConstants",
    "Trajectories",
    "TuningCurves",
    "VelocityTuning",
    "accuracy_over_time",
    "check_model",
    "color_matching",
    "cone_readout",
    "fit_decay",
    "frequency_map",
    "hypercolumn",
    "kernel_readout",
    "l2_norm",
    "mad_competition",
    "map_readout",
    "matching_confidence",
    "model_metric",
    "mosaic_scope",
    "movement_readout",
    "ms_ssim",
    "mse",
    "nlpd",
    "noise_robustness",
    "ocular_dominance",
    "open_recording",
    "orientation_map",
    "percept_scope",
    "perfect_observer",
    "pinwheel_density",
    "pinwheels",
    "position_readout",
    "preference_histogram",
    "preference_map",
    "principal_trajectories",
    "range_penalty",
    "readout",
    "receptive_field",
    "record_areas",
    "return_to_baseline",
    "scan",
    "score_detections",
    "smoothness",
    "ssim",
    "stability",
    "time_constants",
    "tuning_curves",
    "unexplained_variance",
    "velocity_tuning",
]
