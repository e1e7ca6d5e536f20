"""Gaussian kernels, and filtering by products of spectra.

    G(y, x) = exp(-(y^2 + x^2) / (2 std^2)) / sum        Y(f) = H(f) X(f)

A circular Gaussian is the product of a column and a row, in space and in frequency. Filtering is
the correlation that ``conv2d`` computes, aligned so that the size is kept: (K - 1) // 2 samples
before a pixel and K // 2 behind it. Spectra serve circular images; :mod:`calcarine.lgn.bands`
serves every border.

Axes    B batch | C channel | H W image | K samples of a profile | T Gaussians | O outputs
Units   standard deviations and sizes in pixels
Source  berardino2017 (the filters)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.lgn.borders import reaches

__all__ = [
    "check_kernel_size",
    "full_spectrum",
    "gaussian_kernel",
    "gaussian_profile",
    "gaussian_spectrum",
    "spectral_filter",
]

_TOGETHER = 2**17
"""Values of a spectrum up to which all outputs are transformed at once. Ours, measured: larger
intermediate results leave the cache."""


def gaussian_profile(size: int, std: Float[Tensor, "T"]) -> Float[Tensor, "T K"]:
    """Return centred 1-D Gaussians that sum to one.

    Args:
        size: Samples K; an even size has its centre between two samples.
        std: Standard deviations in pixels.
    """
    offset = torch.arange(size, dtype=std.dtype, device=std.device) - (size - 1) / 2
    return torch.softmax(-(offset**2) / (2 * std[:, None] ** 2), dim=1)


def gaussian_kernel(size: int | tuple[int, int], std: float | Tensor) -> Float[Tensor, "*T Ky Kx"]:
    """Return the centred circular Gaussian divided by its sum.

    Args:
        size: Side length, or (height, width), in pixels.
        std: Standard deviation in pixels. A tensor gives one kernel for each of its values, and
            the kernels follow its dtype, device and gradient.

    Raises:
        InputError: If a size is not a positive integer or a given number is not positive.
    """
    height, width = check_kernel_size("gaussian_kernel", size)
    if not isinstance(std, Tensor):
        if not 0 < std < math.inf:
            raise InputError(f"gaussian_kernel expected std > 0 in pixels, got {std}.")
        std = torch.tensor(float(std))
    flat = std.reshape(-1)
    kernel = gaussian_profile(height, flat)[:, :, None] * gaussian_profile(width, flat)[:, None, :]
    return kernel.reshape(*std.shape, height, width)


def check_kernel_size(owner: str, size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a kernel.

    Raises:
        InputError: If the size is not one or two positive integers.
    """
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(sides) != 2 or not all(type(s) is int and s >= 1 for s in sides):
        raise InputError(
            f"{owner} expected a kernel size of one or two positive integers, got {size!r}. For "
            "example 31, or (31, 15) for height and width."
        )
    return sides[0], sides[1]


def gaussian_spectrum(
    std: Float[Tensor, "T"], kernel: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """Return the responses of Gaussians to the frequencies of ``rfft2``, axes (T, H, W // 2 + 1).

    Real for odd kernels, which are symmetric; even ones shift the image by half a pixel.

    Args:
        std: Standard deviations in pixels.
        kernel: Height and width of the kernel.
        size: Height and width of the image.
    """
    down = _profile_spectrum(gaussian_profile(kernel[0], std), size[0], size[0])
    right = _profile_spectrum(gaussian_profile(kernel[1], std), size[1], size[1] // 2 + 1)
    return down[:, :, None] * right[:, None, :]


def _profile_spectrum(profile: Tensor, length: int, frequencies: int) -> Tensor:
    samples = profile.shape[1]
    offset = torch.arange(samples, device=profile.device) - reaches(samples)[0]
    cycles = torch.arange(frequencies, device=profile.device)[:, None] * offset
    angle = (cycles % length).to(torch.float64) * (2 * math.pi / length)
    real = profile @ angle.cos().to(profile.dtype).T
    if samples % 2:
        return real
    return torch.complex(real, profile @ angle.sin().to(profile.dtype).T)


def full_spectrum(half: Tensor, width: int) -> Tensor:
    """Complete the frequencies of ``rfft2`` (O, H, W // 2 + 1) to those of ``fft2`` (O, H, W)."""
    row = -torch.arange(half.shape[1], device=half.device) % half.shape[1]
    column = width - torch.arange(width // 2 + 1, width, device=half.device)
    mirrored = half[:, row][:, :, column]
    return torch.cat([half, mirrored.conj().resolve_conj()], dim=2)


def spectral_filter(x: Float[Tensor, "B C H W"], spectrum: Tensor) -> Float[Tensor, "B O H W"]:
    """Filter circular images.

    Args:
        x: Images with one channel, or with one for every output; any number for one output.
        spectrum: Responses to the frequencies of ``rfft2``, axes (O, H, W // 2 + 1).
    """
    size = (x.shape[-2], x.shape[-1])
    transformed = torch.fft.rfft2(x)
    if spectrum.shape[0] == 1 or x.shape[0] * spectrum.numel() <= _TOGETHER:
        return torch.fft.irfft2(transformed * spectrum, s=size)
    apart = transformed.expand(-1, spectrum.shape[0], -1, -1).unbind(1)
    outputs = [
        torch.fft.irfft2(one * response, s=size)
        for one, response in zip(apart, spectrum.unbind(0), strict=True)
    ]
    return torch.stack(outputs, dim=1)
