"""Simple and complex cells: Gabor filters in quadrature, rectified or summed as energy.

    z        = even response + i odd response              of the filters in calcarine.v1._gabor
    simple   = max(0, Re(z exp(-i phase)))                 the real part itself without halfwave
    complex  = |z|^2
    normalised complex = |z|^2 / (semi_saturation^2 + sum over all cells there of |z|^2)

The gain is such that a grating of amplitude a at the preferred frequency and orientation gives
simple responses between -a and a, and an energy of a^2 at every phase. Images wrap around.

Axes    B batch | C image channel, treated independently | N cell type; H W position
Units   frequencies in cycles per pixel; orientations in degrees, 0 = horizontal contour,
        counter-clockwise on screen; phases in degrees, 0 = bright centre
Source  daugman1985 (receptive field); adelson1985 (energy); heeger1992 (normalisation)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stage import Stage
from calcarine.v1._gabor import Gabors

__all__ = ["ComplexCells", "SimpleCells"]

_FREQUENCIES = (0.25, 0.125, 0.0625)  # an octave apart, from half the highest on; ours
_ORIENTATIONS = (0.0, 45.0, 90.0, 135.0)  # ours


class SimpleCells(Stage):
    """Linear Gabor receptive fields, half-wave rectified.

    The channels of the output follow each other by image channel, frequency, orientation, phase,
    the last fastest; ``cells`` lists them for one image channel.

    Args:
        image_shape: Height and width of the images in pixels.
        frequencies_cpp: Preferred frequencies in cycles per pixel.
        orientations_deg: Preferred contours.
        phases_deg: Phases of the receptive field; 0 has a bright centre, 180 a dark one.
        halfwave: Whether responses below zero are cut off, as those of firing rates are.
        bandwidth_octaves: Distance of the frequencies at half height. devalois1982, median.
        aspect_ratio: Width of the envelope relative to its length. jones1987, mid-range.

    Attributes:
        cells: (frequency, orientation, phase) of every channel.

    Raises:
        InputError: If a setting is out of range.
    """

    sources: ClassVar[tuple[str, ...]] = ("daugman1985", "jones1987", "devalois1982")

    def __init__(
        self,
        image_shape: tuple[int, int],
        frequencies_cpp: tuple[float, ...] = _FREQUENCIES,
        orientations_deg: tuple[float, ...] = _ORIENTATIONS,
        phases_deg: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0),
        *,
        halfwave: bool = True,
        bandwidth_octaves: float = 1.4,
        aspect_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        self.gabors = Gabors(
            "SimpleCells",
            image_shape,
            frequencies_cpp,
            orientations_deg,
            bandwidth_octaves,
            aspect_ratio,
        )
        self.image_shape, self.frequencies_cpp = image_shape, self.gabors.frequencies_cpp
        self.orientations_deg = self.gabors.orientations_deg
        self.phases_deg = _checked_phases(phases_deg)
        self.halfwave = halfwave
        self.bandwidth_octaves, self.aspect_ratio = bandwidth_octaves, aspect_ratio
        self.cells = tuple(
            (frequency, orientation, phase)
            for frequency in self.frequencies_cpp
            for orientation in self.orientations_deg
            for phase in self.phases_deg
        )

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C*N H W"]:
        """Return the response of every cell at every position.

        Raises:
            ShapeError: If the images have another size.
        """
        even, odd = self.gabors(image)
        waves = [(math.cos(p), math.sin(p)) for p in map(math.radians, self.phases_deg)]
        responses = torch.stack([c * even + s * odd for c, s in waves], dim=3).flatten(1, 3)
        return responses.relu() if self.halfwave else responses


class ComplexCells(Stage):
    """Energy of a quadrature pair: tuned like the simple cells, whatever the phase.

    The channels of the output follow each other by image channel, frequency, orientation, the last
    fastest; ``cells`` lists them for one image channel.

    Args:
        image_shape: Height and width of the images in pixels.
        frequencies_cpp: Preferred frequencies in cycles per pixel.
        orientations_deg: Preferred contours.
        root: Whether to return the amplitude, the square root of the energy.
        normalize: Whether to divide the energy by that of all cells at the same position.
        semi_saturation: Amplitude at which the normalised response of a single active cell is half
            its maximum of 1. Without effect unless ``normalize``. Ours.
        bandwidth_octaves: Distance of the frequencies at half height. devalois1982, median.
        aspect_ratio: Width of the envelope relative to its length. jones1987, mid-range.

    Attributes:
        cells: (frequency, orientation) of every channel.

    Raises:
        InputError: If a setting is out of range.
    """

    sources: ClassVar[tuple[str, ...]] = (
        "adelson1985",
        "daugman1985",
        "jones1987",
        "devalois1982",
        "heeger1992",
    )

    def __init__(
        self,
        image_shape: tuple[int, int],
        frequencies_cpp: tuple[float, ...] = _FREQUENCIES,
        orientations_deg: tuple[float, ...] = _ORIENTATIONS,
        *,
        root: bool = False,
        normalize: bool = False,
        semi_saturation: float = 0.1,
        bandwidth_octaves: float = 1.4,
        aspect_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        self.gabors = Gabors(
            "ComplexCells",
            image_shape,
            frequencies_cpp,
            orientations_deg,
            bandwidth_octaves,
            aspect_ratio,
        )
        if not 0 < semi_saturation < math.inf:
            raise InputError(
                f"ComplexCells expected semi_saturation > 0, got {semi_saturation!r}. Pass "
                "normalize=False for energies that are not divided."
            )
        self.image_shape, self.frequencies_cpp = image_shape, self.gabors.frequencies_cpp
        self.orientations_deg = self.gabors.orientations_deg
        self.root, self.normalize, self.semi_saturation = root, normalize, semi_saturation
        self.bandwidth_octaves, self.aspect_ratio = bandwidth_octaves, aspect_ratio
        self.cells = tuple(
            (frequency, orientation)
            for frequency in self.frequencies_cpp
            for orientation in self.orientations_deg
        )

    def forward(self, image: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C*N H W"]:
        """Return the energy at every position.

        Raises:
            ShapeError: If the images have another size.
        """
        even, odd = self.gabors(image)
        energy = even * even + odd * odd
        if self.normalize:
            energy = energy / (self.semi_saturation**2 + energy.sum(dim=2, keepdim=True))
        if self.root:
            # The root has no gradient at zero: the addend gives it one, far below any response.
            energy = (energy + torch.finfo(energy.dtype).eps ** 3).sqrt()
        return energy.flatten(1, 2)


def _checked_phases(phases_deg: Iterable[float]) -> tuple[float, ...]:
    phases = tuple(phases_deg) if isinstance(phases_deg, Iterable) else ()
    if not phases or not all(math.isfinite(phase) for phase in phases):
        raise InputError(
            f"SimpleCells expected at least one phase in phases_deg, in degrees, got "
            f"{phases_deg!r}. For example (0, 90)."
        )
    return tuple(float(phase) for phase in phases)
