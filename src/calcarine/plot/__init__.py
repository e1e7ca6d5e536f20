"""Plots: every figure and animation, as objects that are shown, embedded or saved.

style        figure_png, save_figure
images       image_grid, retina_stages
curves       loss_curve, residual_curve, dimension_over_time, singular_values
cones        cone_fundamentals, cone_identities, identity_accuracy, mosaic_picture
animation    save_animation, animation_bytes, caption_frames
"""

from __future__ import annotations

from calcarine.plot.animation import animation_bytes, caption_frames, save_animation
from calcarine.plot.cones import (
    cone_fundamentals,
    cone_identities,
    identity_accuracy,
    mosaic_picture,
)
from calcarine.plot.curves import dimension_over_time, loss_curve, residual_curve, singular_values
from calcarine.plot.images import image_grid, retina_stages
from calcarine.plot.style import figure_png, save_figure

__all__ = [
    "animation_bytes",
    "caption_frames",
    "cone_fundamentals",
    "cone_identities",
    "dimension_over_time",
    "figure_png",
    "identity_accuracy",
    "image_grid",
    "loss_curve",
    "mosaic_picture",
    "residual_curve",
    "retina_stages",
    "save_animation",
    "save_figure",
    "singular_values",
]
