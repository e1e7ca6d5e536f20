"""Gabor filters in quadrature, applied in the frequency domain.

    G(k) = e(k - f) - e(f) / e(0) e(k)        e(k) = exp(-2 pi^2 s^2 [k_across^2 + (k_along / a)^2])
    s    = (2^b + 1) / (2^b - 1) sqrt(ln 2 / 2) / (pi f)      half height b octaves apart

``e`` is the spectrum of a Gaussian envelope, f lies across the contour, a is the aspect ratio and b
the bandwidth. The second term takes the response to uniform light away. The even filter is the
even part of G, the odd filter its odd part.

Axes    B batch | C channel | N frequency, then orientation | H W position
Units   cycles per pixel; degrees, 0 = horizontal contour, counter-clockwise on screen
Source  daugman1985
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError
from calcarine.v1._bank import FilterBank
from calcarine.v1._spectra import to_image, to_spectrum

__all__ = ["Gabors"]


class Gabors(nn.Module):
    """Even and odd Gabor filters of every frequency and orientation.

    Args:
        owner: Name of the stage, for messages.
        image_shape: Height and width of the images in pixels.
        frequencies_cpp: Preferred frequencies.
        orientations_deg: Preferred contours.
        bandwidth_octaves: Distance of the frequencies at half height.
        aspect_ratio: Width of the envelope across the contour, relative to its length.
    """

    def __init__(
        self,
        owner: str,
        image_shape: tuple[int, int],
        frequencies_cpp: tuple[float, ...],
        orientations_deg: tuple[float, ...],
        bandwidth_octaves: float,
        aspect_ratio: float,
    ) -> None:
        super().__init__()
        self.owner, self.image_shape = owner, _checked_shape(owner, image_shape)
        self.frequencies_cpp = _checked(
            f"{owner} expected frequencies_cpp above 0 and up to 0.5 cycles per pixel",
            frequencies_cpp,
            lambda frequency: 0 < frequency <= 0.5,
        )
        self.orientations_deg = _checked(
            f"{owner} expected orientations_deg from 0 to below 180 degrees",
            orientations_deg,
            lambda orientation: 0 <= orientation < 180,
        )
        (self.bandwidth_octaves, self.aspect_ratio) = _checked(
            f"{owner} expected bandwidth_octaves and aspect_ratio above 0 and up to 4",
            (bandwidth_octaves, aspect_ratio),
            lambda value: 0 < value <= 4,
        )
        self.filters = FilterBank(self._filters)

    def forward(
        self, image: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B C N H W"], Float[Tensor, "B C N H W"]]:
        """Return the responses of the even and of the odd filters.

        Raises:
            ShapeError: If the images have another size.
        """
        if image.ndim != 4 or not image.is_floating_point():
            raise ShapeError(
                f"{self.owner} expected floating-point images with axes (batch, channel, height, "
                f"width), got {image.dtype} of shape {tuple(image.shape)}."
            )
        if tuple(image.shape[-2:]) != self.image_shape:
            raise ShapeError(
                f"{self.owner} expected images of {self.image_shape[0]} x {self.image_shape[1]} "
                f"pixels, got {image.shape[-2]} x {image.shape[-1]}. Build one for this size, or "
                "resize the image."
            )
        spectrum = to_spectrum(image)[:, :, None]
        even, odd = (self.filters.table(name, image.dtype) for name in ("even", "odd"))
        width = self.image_shape[1]
        return to_image(spectrum * even, width), to_image(spectrum * odd, width)

    def _filters(self) -> dict[str, Tensor]:
        height, width = self.image_shape
        rows = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        columns = torch.fft.rfftfreq(width, dtype=torch.float64)[None]
        even, odd = [], []
        for frequency in self.frequencies_cpp:
            for orientation in self.orientations_deg:
                ahead = self._spectrum(rows, columns, frequency, orientation)
                behind = self._spectrum(-rows, -columns, frequency, orientation)
                even.append(ahead + behind)
                odd.append(-1j * (ahead - behind))
        return {"even": torch.stack(even) + 0j, "odd": torch.stack(odd)}

    def _spectrum(
        self, rows: Tensor, columns: Tensor, frequency: float, orientation_deg: float
    ) -> Tensor:
        """Return G, one at its peak."""
        angle = math.radians(orientation_deg)
        # Rows point down: a contour at the angle runs along (cos, -sin), its normal is (sin, cos).
        across = columns * math.sin(angle) + rows * math.cos(angle)
        along = columns * math.cos(angle) - rows * math.sin(angle)
        octaves = 2.0**self.bandwidth_octaves
        spread = (octaves + 1) / (octaves - 1) * math.sqrt(math.log(2) / 2) / (math.pi * frequency)
        rate = 2 * (math.pi * spread) ** 2
        lengthwise = torch.exp(-rate * (along / self.aspect_ratio) ** 2)
        uniform = math.exp(-rate * frequency**2)
        profile = torch.exp(-rate * (across - frequency) ** 2)
        profile = (profile - uniform * torch.exp(-rate * across**2)) / (1 - uniform**2)
        return profile * lengthwise


def _checked(
    expectation: str, values: Iterable[float], fits: Callable[[float], bool]
) -> tuple[float, ...]:
    numbers = tuple(values) if isinstance(values, Iterable) else ()
    if not numbers or not all(fits(float(value)) for value in numbers):
        raise InputError(f"{expectation}, got {values!r}.")
    return tuple(float(value) for value in numbers)


def _checked_shape(owner: str, image_shape: tuple[int, int]) -> tuple[int, int]:
    sides = tuple(image_shape) if isinstance(image_shape, Iterable) else ()
    if len(sides) != 2 or not all(isinstance(n, int) and n > 0 for n in sides):
        raise InputError(
            f"{owner} expected image_shape=(height, width) in whole pixels, got {image_shape!r}."
        )
    return sides
