"""Shapes that maps learn from besides Gaussians: bars with ends, and three-dot faces.

    bar    background + contrast inside, 0 outside, a linear edge one unit wide
    face   background + contrast max over two eyes and a mouth of exp(-d^2 / (2 sigma^2))

Orientation 0 is a horizontal bar or an upright face, counter-clockwise on screen. Places and
combination are as in :mod:`calcarine.stimuli.patterns`.

Axes    B batch | 1 channel | H W rows down, columns right
Units   lengths in sheet units, degrees; light from 0
Source  miikkulainen2005 (three-dot faces as a training pattern); ours: sizes
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.stimuli._pattern import (
    Combine,
    Pattern,
    Span,
    checked_combine,
    checked_count,
    checked_pair,
    checked_span,
    combined,
    from_chance,
    placed,
    rotated,
)

__all__ = ["Bars", "ThreeDotFaces"]


class Bars(Pattern):
    """Bars of light with ends, at random places and orientations.

    Args:
        density: Units per sheet unit.
        half_side: From the centre to the border of the retina.
        per_image: Bars per picture.
        center_half_side: Half-sides of the box of centres. As for Gaussians of miikkulainen2005.
        length: Along the orientation. Ours: twice the standard deviation of those Gaussians.
        width: Across it. Ours: as the length.
        contrast: Light above the background, or (low, high) to draw from.
        orientations_deg: Range of orientations.
        combine: ``"maximum"`` or ``"sum"``.
        background: Light without a bar.

    Raises:
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)

    def __init__(
        self,
        *,
        density: float = 24.0,
        half_side: Span = 1.646,
        per_image: int = 2,
        center_half_side: Span = 0.75,
        length: Span = 0.4125,
        width: Span = 0.0884,
        contrast: Span = 1.0,
        orientations_deg: tuple[float, float] = (0.0, 180.0),
        combine: Combine = "maximum",
        background: float = 0.0,
    ) -> None:
        super().__init__(density, half_side)
        self.per_image = checked_count("Bars", per_image)
        self.center_half_side = checked_pair("Bars", "center_half_side", center_half_side)
        self.length = checked_span("Bars", "length", length, low=1e-6)
        self.width = checked_span("Bars", "width", width, low=1e-6)
        self.contrast = checked_span("Bars", "contrast", contrast)
        self.orientations_deg = checked_span(
            "Bars", "orientations_deg", orientations_deg, -360, 360
        )
        self.combine = checked_combine("Bars", combine)
        self.background, _ = checked_span("Bars", "background", background)

    @property
    def chances(self) -> int:
        """How many random numbers one picture takes: contrast, then five per bar."""
        return 1 + 5 * self.per_image

    def pictures(
        self, chances: Float[Tensor, "B n"], y: Float[Tensor, "H 1"], x: Float[Tensor, "1 W"]
    ) -> Float[Tensor, "B H W"]:
        """Make one picture of every row of chances."""
        contrast = from_chance(chances[:, 0], self.contrast)

        def inside(distance: Tensor, chance: Tensor, span: tuple[float, float]) -> Tensor:
            half = from_chance(chance, span)[:, None, None] / 2
            return ((half - distance.abs()) * self.density + 0.5).clamp(0, 1)

        def bar(chance: Tensor) -> Tensor:
            orientation = from_chance(chance[:, 2], self.orientations_deg)
            along, across = rotated(y, x, placed(chance, self.center_half_side), orientation)
            return inside(along, chance[:, 3], self.length) * inside(
                across, chance[:, 4], self.width
            )

        bars = (bar(chances[:, 1 + 5 * k : 6 + 5 * k]) for k in range(self.per_image))
        return self.background + contrast[:, None, None] * combined(bars, self.combine)


class ThreeDotFaces(Pattern):
    """Three dots in the places of two eyes and a mouth, eyes above the mouth.

    Args:
        density: Units per sheet unit.
        half_side: From the centre to the border of the retina.
        per_image: Faces per picture.
        center_half_side: Half-sides of the box of centres. As for Gaussians of miikkulainen2005.
        eye_distance: Between the eyes. Ours: as ``eye_to_mouth``.
        eye_to_mouth: From the line of the eyes down to the mouth. Ours: a face fills a third of
            the sheet.
        sigma: Standard deviation of a dot. Ours: dots are two widths of a Gaussian of
            miikkulainen2005.
        contrast: Peak above the background, or (low, high) to draw from.
        tilt_deg: Range of tilts, counter-clockwise. Ours: heads are mostly upright.
        combine: ``"maximum"`` or ``"sum"``, of several faces.
        background: Light without a face.

    Raises:
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)

    def __init__(
        self,
        *,
        density: float = 24.0,
        half_side: Span = 1.646,
        per_image: int = 1,
        center_half_side: Span = 0.75,
        eye_distance: float = 0.33,
        eye_to_mouth: float = 0.33,
        sigma: float = 0.0884,
        contrast: Span = 1.0,
        tilt_deg: tuple[float, float] = (-15.0, 15.0),
        combine: Combine = "maximum",
        background: float = 0.0,
    ) -> None:
        super().__init__(density, half_side)
        name = type(self).__name__
        self.per_image = checked_count(name, per_image)
        self.center_half_side = checked_pair(name, "center_half_side", center_half_side)
        self.eye_distance, _ = checked_span(name, "eye_distance", eye_distance)
        self.eye_to_mouth, _ = checked_span(name, "eye_to_mouth", eye_to_mouth)
        self.sigma, _ = checked_span(name, "sigma", sigma, low=1e-6)
        self.contrast = checked_span(name, "contrast", contrast)
        self.tilt_deg = checked_span(name, "tilt_deg", tilt_deg, -360, 360)
        self.combine = checked_combine(name, combine)
        self.background, _ = checked_span(name, "background", background)

    @property
    def chances(self) -> int:
        """How many random numbers one picture takes: contrast, then three per face."""
        return 1 + 3 * self.per_image

    def pictures(
        self, chances: Float[Tensor, "B n"], y: Float[Tensor, "H 1"], x: Float[Tensor, "1 W"]
    ) -> Float[Tensor, "B H W"]:
        """Make one picture of every row of chances."""
        contrast = from_chance(chances[:, 0], self.contrast)
        side, up = self.eye_distance / 2, self.eye_to_mouth / 2
        dots = ((-side, up), (side, up), (0.0, -up))

        def face(chance: Tensor) -> Tensor:
            tilt = from_chance(chance[:, 2], self.tilt_deg)
            along, across = rotated(y, x, placed(chance, self.center_half_side), tilt)
            near = [(along - a) ** 2 + (across - u) ** 2 for a, u in dots]
            nearest = torch.minimum(torch.minimum(near[0], near[1]), near[2])
            return torch.exp(-nearest / (2 * self.sigma**2))

        faces = (face(chances[:, 1 + 3 * k : 4 + 3 * k]) for k in range(self.per_image))
        return self.background + contrast[:, None, None] * combined(faces, self.combine)
