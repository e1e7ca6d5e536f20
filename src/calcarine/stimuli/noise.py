"""White and pink noise.

    white   x = mean + std n                      n independent standard normal
    pink    |X(f)| = c f^-a  for f > 0            f = sqrt(fx^2 + fy^2), cycles per pixel

Pink noise has random phases and *exactly* this amplitude at every frequency of the discrete Fourier
transform, in every image and channel; c follows from ``std``. Values are not clipped to [0, 1].

Axes    B batch | C channel (independent of each other) | H W rows down, columns right
Source  field1987 (amplitude spectra of natural images fall as 1/f)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli._checks import checked_dtype, checked_image_shape
from calcarine.stimuli.light import work_dtype

__all__ = ["pink_noise", "white_noise"]


def white_noise(
    shape: tuple[int, int, int, int],
    *,
    mean: float = 0.5,
    std: float = 0.1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "B C H W"]:
    """Draw Gaussian white noise.

    ``mean`` and ``std`` belong to the distribution; those of one image scatter around them. With
    the defaults one value in two million lies outside [0, 1].

    Args:
        shape: Batch, channels, height, width.
        mean: Mean of the distribution.
        std: Standard deviation of the distribution.
        generator: Source of randomness. Noise is drawn on its device and then moved.
        dtype: Floating-point type, torch's default one if left out.
        device: Where to put the result, the generator's device if left out.

    Raises:
        ShapeError: If ``shape`` is not four whole numbers of at least 1.
        InputError: If ``std`` is negative or a number is not finite.
    """
    sizes = checked_image_shape("white_noise", shape)
    dtype = checked_dtype("white_noise", dtype)
    _check_moments("white_noise", mean, std)
    normal = _standard_normal(sizes, generator, dtype, device)
    return (mean + std * normal).to(device=device, dtype=dtype)


def pink_noise(
    shape: tuple[int, int, int, int],
    *,
    exponent: float = 1.0,
    mean: float = 0.5,
    std: float = 0.1,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "B C H W"]:
    """Draw random-phase noise whose amplitude falls as a power of frequency.

    Every image and channel has exactly the mean and the standard deviation asked for. The noise is
    periodic: the left edge continues the right one. Height and width may be odd and differ;
    frequency is in cycles per pixel along both axes.

    Args:
        shape: Batch, channels, height, width.
        exponent: Amplitude falls as frequency to the power ``-exponent``: 1 as in natural images,
            0 for a flat spectrum, 2 for brown noise. (Power falls with twice the exponent.)
        mean: Mean of every image.
        std: Standard deviation over the pixels of every image.
        generator: Source of randomness. Noise is drawn on its device and then moved.
        dtype: Floating-point type, torch's default one if left out.
        device: Where to put the result, the generator's device if left out.

    Raises:
        ShapeError: If ``shape`` is not four whole numbers of at least 1, or has one pixel only.
        InputError: If ``std`` is negative or a number is not finite.
    """
    sizes = checked_image_shape("pink_noise", shape)
    dtype = checked_dtype("pink_noise", dtype)
    _check_moments("pink_noise", mean, std)
    if not math.isfinite(exponent):
        raise InputError(f"pink_noise expected a finite exponent, got {exponent!r}.")
    height, width = sizes[-2:]
    if height * width < 2:
        raise ShapeError("pink_noise expected at least two pixels: one pixel has no frequencies.")
    spectrum = torch.fft.rfft2(_standard_normal(sizes, generator, dtype, device))
    amplitude = _amplitude((height, width), exponent, spectrum.real)
    noise = torch.fft.irfft2(amplitude * _unit(spectrum), s=(height, width))
    noise = noise * (std / noise.std(dim=(-2, -1), correction=0, keepdim=True))
    return (mean + noise).to(device=device, dtype=dtype)


def _unit(spectrum: Tensor) -> Tensor:
    """Return phases as numbers of modulus one; a modulus of zero, if ever drawn, has phase zero."""
    modulus = spectrum.abs()
    return torch.where(modulus > 0, spectrum / modulus, torch.ones_like(spectrum))


def _amplitude(size: tuple[int, int], exponent: float, like: Tensor) -> Tensor:
    """Return f^-exponent on the half plane of a real transform, zero at f = 0."""
    fy = torch.fft.fftfreq(size[0], dtype=like.dtype, device=like.device)[:, None]
    fx = torch.fft.rfftfreq(size[1], dtype=like.dtype, device=like.device)
    frequency = torch.hypot(fy, fx)
    frequency[0, 0] = 1.0
    amplitude = frequency**-exponent
    amplitude[0, 0] = 0.0
    return amplitude


def _standard_normal(
    sizes: tuple[int, ...],
    generator: torch.Generator | None,
    dtype: torch.dtype,
    device: torch.device | str | None,
) -> Tensor:
    where = generator.device if generator is not None else device
    return torch.randn(sizes, generator=generator, dtype=work_dtype(dtype), device=where)


def _check_moments(owner: str, mean: float, std: float) -> None:
    if not math.isfinite(mean) or not math.isfinite(std) or std < 0:
        raise InputError(
            f"{owner} expected a finite mean and a finite std of at least 0, got mean={mean!r} and "
            f"std={std!r}."
        )
