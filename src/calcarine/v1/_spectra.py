"""Half spectra of real images: grids, radial and angular profiles, cropping and padding.

    r = 2 |f|                      1 at half a cycle per pixel
    high_s(r) = cos(pi/2 clip(log2 r + s, -1, 0)),   low_s = sqrt(1 - high_s^2)
    steer_b(theta) = c cos(theta - pi b / O)^n,      sum over b of steer_b^2 = 1,  O = n + 1

A spectrum is what ``torch.fft.rfft2`` returns: every row frequency, the non-negative column
frequencies. A smaller grid holds the low frequencies of a larger one.

Axes    H W pixels, rows down, columns right | K = W // 2 + 1 column frequencies
Units   cycles per pixel of the full image; radians from the x axis towards +y (down)
Source  simoncelli1995; portilla2000, appendix A (transition of one octave)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = [
    "Grid",
    "crop",
    "frequency_grid",
    "half_size",
    "half_weights",
    "high",
    "low",
    "oriented",
    "pad",
    "passed",
    "steering",
    "to_image",
    "to_spectrum",
]


class Grid(NamedTuple):
    """Polar coordinates of the frequencies of a half spectrum.

    Attributes:
        radius: 1 at half a cycle per pixel, 0 at the constant.
        angle: Direction, in radians from +x towards +y (down).
    """

    radius: Float[Tensor, "H K"]
    angle: Float[Tensor, "H K"]


def frequency_grid(size: tuple[int, int], full: tuple[int, int], *, half: bool = True) -> Grid:
    """Return the frequencies that a grid of ``size`` holds of an image of size ``full``.

    Args:
        size: Height and width of the grid.
        full: Height and width of the image.
        half: Whether to leave out negative column frequencies.
    """
    (h, w), (height, width) = size, full
    rows = torch.fft.fftfreq(h, 1 / h, dtype=torch.float64)[:, None] / height
    frequencies = torch.fft.rfftfreq if half else torch.fft.fftfreq
    columns = frequencies(w, 1 / w, dtype=torch.float64)[None] / width
    angle = torch.atan2(*torch.broadcast_tensors(rows, columns))
    return Grid(2 * torch.sqrt(rows**2 + columns**2), angle)


def _octave(radius: Tensor, scale: int) -> Tensor:
    return (math.pi / 2) * (torch.log2(radius) + scale).clamp(-1, 0)


def high(radius: Tensor, scale: int) -> Tensor:
    """Pass what lies above ``2**-scale`` fully, nothing one octave below."""
    return torch.cos(_octave(radius, scale))


def low(radius: Tensor, scale: int) -> Tensor:
    """Pass the power that :func:`high` stops; zero from ``2**-scale`` on."""
    return -torch.sin(_octave(radius, scale))


def steering(angle: Tensor, order: int, *, quadrature: bool = False) -> Float[Tensor, "O H K"]:
    """Return the angular profiles of the oriented filters of one order.

    Args:
        angle: Directions in radians.
        order: Power of the cosine; there are ``order + 1`` orientations.
        quadrature: Return the profiles of the quadrature partner: the same size, with the sign
            flipped on the far half plane.
    """
    count = order + 1
    # The squares of the profiles sum to one over the orientations.
    power = 2 ** (2 * order) * math.factorial(order) ** 2 / (count * math.factorial(2 * order))
    directions = math.pi * torch.arange(count, dtype=angle.dtype) / count
    cosine = torch.cos(angle - directions[:, None, None])
    profile = math.sqrt(power) * cosine**order
    return profile * torch.sign(cosine) if quadrature else profile


def passed(radius: Tensor, scale: int) -> Tensor:
    """Return what the low-pass filters of steps 0 to ``scale`` leave."""
    steps = (low(radius, step) for step in range(scale + 1))
    return math.prod(steps, start=torch.ones_like(radius))


def oriented(
    grid: Grid, scale: int, order: int, *, quadrature: bool = False
) -> Complex[Tensor, "P H K"]:
    """Return the oriented filters of a scale, then, if wanted, their quadrature partners."""
    radial = (-1j) ** order * passed(grid.radius, scale) * high(grid.radius, scale + 1)
    real = radial * steering(grid.angle, order)
    if not quadrature:
        return real
    return torch.cat([real, -1j * radial * steering(grid.angle, order, quadrature=True)])


def half_size(size: tuple[int, int], halvings: int = 1) -> tuple[int, int]:
    """Return the size after halving, rounded up: enough for every frequency that is kept."""
    height, width = size
    for _ in range(halvings):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def crop(
    spectrum: Complex[Tensor, "*B H K"], size: tuple[int, int], *, half: bool = True
) -> Complex[Tensor, "*B h k"]:
    """Keep the frequencies that a smaller grid holds, of a half spectrum or a full one."""
    h, w = size
    spectrum = spectrum[..., : w // 2 + 1] if half else _inner(spectrum, w, -1)
    return _inner(spectrum, h, -2)


def _inner(spectrum: Tensor, count: int, axis: int) -> Tensor:
    """Keep the lowest frequencies along an axis that holds negative ones too."""
    present, negative = spectrum.shape[axis], count // 2
    if present == count:
        return spectrum
    ends = (0, count - negative), (present - negative, negative)
    return torch.cat([spectrum.narrow(axis, *end) for end in ends], dim=axis)


def pad(spectrum: Complex[Tensor, "*B h k"], size: tuple[int, int]) -> Complex[Tensor, "*B H K"]:
    """Place the spectrum of a smaller grid into that of a larger one, zero elsewhere."""
    height, width = size
    h, k = spectrum.shape[-2:]
    spectrum = F.pad(spectrum, (0, width // 2 + 1 - k))
    if h == height:
        return spectrum
    gap = spectrum.new_zeros((*spectrum.shape[:-2], height - h, spectrum.shape[-1]))
    return torch.cat([spectrum[..., : h - h // 2, :], gap, spectrum[..., h - h // 2 :, :]], dim=-2)


def half_weights(width: int) -> Float[Tensor, "K"]:
    """Return how often a column of a half spectrum occurs in the full one."""
    weights = torch.full((width // 2 + 1,), 2.0, dtype=torch.float64)
    weights[0] = 1
    if width % 2 == 0:
        weights[-1] = 1
    return weights


def to_image(spectrum: Complex[Tensor, "*B H K"], width: int) -> Float[Tensor, "*B H W"]:
    """Return the real image of a half spectrum, like ``irfft2``."""
    if torch.compiler.is_compiling():  # which takes plain operations only
        return torch.fft.irfft2(spectrum, s=(spectrum.shape[-2], width))
    return _ToImage.apply(spectrum, width)


def to_spectrum(image: Float[Tensor, "*B H W"]) -> Complex[Tensor, "*B H K"]:
    """Return the half spectrum of a real image, like ``rfft2``."""
    if torch.compiler.is_compiling():
        return torch.fft.rfft2(image)
    return _ToSpectrum.apply(image)


class _ToImage(torch.autograd.Function):
    """``irfft2``, one axis at a time: nearly twice as fast on a CPU, with a gradient as fast."""

    generate_vmap_rule = True

    @staticmethod
    def forward(spectrum: Tensor, width: int) -> Tensor:
        return torch.fft.irfft(torch.fft.ifft(spectrum, dim=-2), n=width, dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.width = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        spectrum = to_spectrum(gradient)
        weights = half_weights(ctx.width) / (gradient.shape[-2] * ctx.width)
        # Complex times complex is far faster than complex times real.
        return spectrum * weights.to(spectrum), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return to_image(tangent, ctx.width)


class _ToSpectrum(torch.autograd.Function):
    """``rfft2`` with a gradient through half spectra only."""

    generate_vmap_rule = True

    @staticmethod
    def forward(image: Tensor) -> Tensor:
        return torch.fft.rfft2(image)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.width = inputs[0].shape[-1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        weights = gradient.shape[-2] * ctx.width / half_weights(ctx.width)
        return to_image(gradient * weights.to(gradient), ctx.width)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return to_spectrum(tangent)
