"""Plots: every figure and animation, as objects that are shown, embedded or saved.

style           figure_png, save_figure
images          image_grid, retina_stages
curves          loss_curve, residual_curve, dimension_over_time, singular_values
classification  classification_figure
cones           cone_fundamentals, cone_identities, identity_accuracy, mosaic_picture
readouts        readouts_over_time, positions_figure, kernel_figure
readouts        movement_figure, fixation_path
synthesis       synthesis_loss, representation_error
phases          phases_figure
probe_figures   metamer_figure, eigendistortion_figure, mad_figure
pyramid         pyramid_bands
spectra         power_spectrum
eigenvalues     eigenvalue_cloud, mode_figure
spiking         raster, membrane, confusion
maps            orientation_map_figure, orientation_histogram, map_picture, map_animation
development     map_development
fields          weight_grid, field_figure, stage_activity
animation       save_animation, animation_bytes, caption_frames
film            synthesis_animation
events          event_figure, event_animation
dynamics        accuracy_figure, return_figure, robustness_figure, decay_figure
trajectories    trajectory_figure
velocity        velocity_tuning_figure, detection_figure
"""

from __future__ import annotations

from calcarine.plot.animation import animation_bytes, caption_frames, save_animation
from calcarine.plot.classification import classification_figure
from calcarine.plot.cones import (
    cone_fundamentals,
    cone_identities,
    identity_accuracy,
    mosaic_picture,
)
from calcarine.plot.curves import dimension_over_time, loss_curve, residual_curve, singular_values
from calcarine.plot.development import map_development
from calcarine.plot.dynamics import (
    accuracy_figure,
    decay_figure,
    return_figure,
    robustness_figure,
)
from calcarine.plot.eigenvalues import eigenvalue_cloud, mode_figure
from calcarine.plot.events import event_animation, event_figure
from calcarine.plot.fields import field_figure, stage_activity, weight_grid
from calcarine.plot.film import synthesis_animation
from calcarine.plot.images import image_grid, retina_stages
from calcarine.plot.maps import (
    map_animation,
    map_picture,
    orientation_histogram,
    orientation_map_figure,
)
from calcarine.plot.phases import phases_figure
from calcarine.plot.probe_figures import eigendistortion_figure, mad_figure, metamer_figure
from calcarine.plot.pyramid import pyramid_bands
from calcarine.plot.readouts import (
    fixation_path,
    kernel_figure,
    movement_figure,
    positions_figure,
    readouts_over_time,
)
from calcarine.plot.spectra import power_spectrum
from calcarine.plot.spiking import confusion, membrane, raster
from calcarine.plot.style import figure_png, save_figure
from calcarine.plot.synthesis import representation_error, synthesis_loss
from calcarine.plot.trajectories import trajectory_figure
from calcarine.plot.velocity import detection_figure, velocity_tuning_figure

__all__ = [
    "accuracy_figure",
    "animation_bytes",
    "caption_frames",
    "classification_figure",
    "cone_fundamentals",
    "cone_identities",
    "confusion",
    "decay_figure",
    "detection_figure",
    "dimension_over_time",
    "eigendistortion_figure",
    "eigenvalue_cloud",
    "event_animation",
    "event_figure",
    "field_figure",
    "figure_png",
    "fixation_path",
    "identity_accuracy",
    "image_grid",
    "kernel_figure",
    "loss_curve",
    "mad_figure",
    "map_animation",
    "map_development",
    "map_picture",
    "membrane",
    "metamer_figure",
    "mode_figure",
    "mosaic_picture",
    "movement_figure",
    "orientation_histogram",
    "orientation_map_figure",
    "phases_figure",
    "positions_figure",
    "power_spectrum",
    "pyramid_bands",
    "raster",
    "readouts_over_time",
    "representation_error",
    "residual_curve",
    "retina_stages",
    "return_figure",
    "robustness_figure",
    "save_animation",
    "save_figure",
    "singular_values",
    "stage_activity",
    "synthesis_animation",
    "synthesis_loss",
    "trajectory_figure",
    "velocity_tuning_figure",
    "weight_grid",
]
