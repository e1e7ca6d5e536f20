"""The patterns that orientation maps learn from: oriented Gaussians, and random gratings.

    Gaussian   background + contrast exp(-along^2 / (2 (aspect sigma)^2) - across^2 / (2 sigma^2))
    grating    mean (1 + contrast cos(2 pi f across - phase))

``along`` and ``across`` are distances from the centre along an orientation and 90 degrees further;
orientation 0 is horizontal, counter-clockwise on screen. Centres are uniform in a box around the
middle of the sheet. Several patterns of one picture combine by ``"maximum"`` (stevens2013) or by
``"sum"``, which is not cut off.

Axes    B batch | 1 channel | H W rows down, columns right
Units   lengths in sheet units, degrees, cycles per sheet unit; light from 0
Source  stevens2013 (Gaussians, combined by maximum), miikkulainen2005 (Gaussians, gratings)
"""

from __future__ import annotations

import math
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

__all__ = ["OrientedGaussians", "RandomGratings"]


class OrientedGaussians(Pattern):
    """Elongated Gaussian blobs of light, as retinal waves and edges are idealised.

    >>> blobs = OrientedGaussians()                                  # those of stevens2013
    >>> batch = blobs.draw(16, torch.Generator().manual_seed(0))     # (16, 1, 79, 79)

    Args:
        density: Units per sheet unit. stevens2013.
        half_side: From the centre to the border of the retina. stevens2013, for a cortex of side 1.
        per_area: Blobs per unit area of cortex. stevens2013.
        cortex_half_side: Half-side of the cortex that ``per_area`` and ``margin`` refer to.
        margin: How far centres lie outside the cortex. stevens2013, miikkulainen2005.
        per_image: Blobs per picture, instead of ``per_area`` times the area of the cortex.
        sigma: Standard deviation across the orientation. stevens2013, miikkulainen2005.
        aspect: Standard deviation along it, relative. stevens2013, miikkulainen2005.
        contrast: Peak above the background, or (low, high) to draw from. stevens2013.
        orientations_deg: Range of orientations; a narrow one is a biased rearing.
        combine: ``"maximum"`` or ``"sum"``.
        background: Light without a pattern.

    Raises:
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("stevens2013", "miikkulainen2005")

    def __init__(
        self,
        *,
        density: float = 24.0,
        half_side: Span = 1.646,
        per_area: float = 2.0,
        cortex_half_side: Span = 0.5,
        margin: float = 0.25,
        per_image: int | None = None,
        sigma: float = 0.0442,
        aspect: float = 4.66667,
        contrast: Span = 0.7,
        orientations_deg: tuple[float, float] = (0.0, 180.0),
        combine: Combine = "maximum",
        background: float = 0.0,
    ) -> None:
        super().__init__(density, half_side)
        name = type(self).__name__
        self.per_area, _ = checked_span(name, "per_area", per_area)
        self.cortex_half_side = checked_pair(name, "cortex_half_side", cortex_half_side)
        self.margin, _ = checked_span(name, "margin", margin)
        self.per_image = per_image
        self.sigma, _ = checked_span(name, "sigma", sigma, low=1e-6)
        self.aspect, _ = checked_span(name, "aspect", aspect, low=1e-6)
        self.contrast = checked_span(name, "contrast", contrast)
        self.orientations_deg = checked_span(name, "orientations_deg", orientations_deg, -360, 360)
        self.combine = checked_combine(name, combine)
        self.background, _ = checked_span(name, "background", background)
        vertical, horizontal = self.cortex_half_side
        wanted = per_area * 4 * vertical * horizontal if per_image is None else per_image
        self.count = max(1, round(wanted)) if per_image is None else checked_count(name, per_image)

    @property
    def chances(self) -> int:
        """How many random numbers one picture takes: contrast, then three per blob."""
        return 1 + 3 * self.count

    def pictures(
        self, chances: Float[Tensor, "B n"], y: Float[Tensor, "H 1"], x: Float[Tensor, "1 W"]
    ) -> Float[Tensor, "B H W"]:
        """Make one picture of every row of chances."""
        half_v, half_h = self.cortex_half_side
        box = (half_v + self.margin, half_h + self.margin)
        contrast = from_chance(chances[:, 0], self.contrast)

        def blob(chance: Tensor) -> Tensor:
            orientation = from_chance(chance[:, 2], self.orientations_deg)
            along, across = rotated(y, x, placed(chance, box), orientation)
            return torch.exp(-((along / self.aspect) ** 2 + across**2) / (2 * self.sigma**2))

        blobs = (blob(chances[:, 1 + 3 * k : 4 + 3 * k]) for k in range(self.count))
        return self.background + contrast[:, None, None] * combined(blobs, self.combine)


class RandomGratings(Pattern):
    """Full-field sine gratings of random orientation and phase.

    Args:
        density: Units per sheet unit.
        half_side: From the centre to the border of the retina.
        frequency: Cycles per sheet unit, or (low, high). stevens2013, to measure maps.
        contrast: Michelson contrast, at most 1, or (low, high).
        orientations_deg: Range of orientations.
        mean: Grey value on average.

    Raises:
        InputError: If a setting is out of its range, or a frequency would alias.
    """

    sources: ClassVar[tuple[str, ...]] = ("stevens2013",)

    def __init__(
        self,
        *,
        density: float = 24.0,
        half_side: Span = 1.646,
        frequency: Span = 2.4,
        contrast: Span = 1.0,
        orientations_deg: tuple[float, float] = (0.0, 180.0),
        mean: float = 0.5,
    ) -> None:
        super().__init__(density, half_side)
        name = type(self).__name__
        self.frequency = checked_span(name, "frequency", frequency, 0, density / 2)
        self.contrast = checked_span(name, "contrast", contrast, 0, 1)
        self.orientations_deg = checked_span(name, "orientations_deg", orientations_deg, -360, 360)
        self.mean, _ = checked_span(name, "mean", mean)

    @property
    def chances(self) -> int:
        """How many random numbers one picture takes: orientation, frequency, phase, contrast."""
        return 4

    def pictures(
        self, chances: Float[Tensor, "B n"], y: Float[Tensor, "H 1"], x: Float[Tensor, "1 W"]
    ) -> Float[Tensor, "B H W"]:
        """Make one picture of every row of chances."""
        middle = torch.zeros_like(chances[:, 0])
        orientation = from_chance(chances[:, 0], self.orientations_deg)
        _, across = rotated(y, x, (middle, middle), orientation)
        frequency, phase, contrast = (
            from_chance(chances[:, k + 1], span)[:, None, None]
            for k, span in enumerate((self.frequency, (0.0, 2 * math.pi), self.contrast))
        )
        wave = torch.cos(2 * math.pi * frequency * across - phase)
        return self.mean * (1 + contrast * wave)
