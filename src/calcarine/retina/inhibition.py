"""Lateral inhibition: horizontal cells subtract the surround from every cone.

    b = (G_center - w G_surround) * a                  zero beyond the border
    b <- b (1 + 0.01 r N(0, 1)),   r drawn from {0, 0.1, ..., 1} once per call

G are Gaussians with unit sum on the kernel's support, so uniform light a gives (1 - w) a away from
the border. Both are separable and symmetric, and are applied as sums of shifted images.

Axes    leading axes | H W cells
Source  kotani2024
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.retina.noise import Noise, NoisyStage, noise_for

__all__ = ["LateralInhibition"]


class LateralInhibition(NoisyStage):
    """Difference of Gaussians over the cone lattice.

    The noise is multiplicative.

    Args:
        kernel_size: Cells along each side of the neighbourhood, odd. kotani2024.
        center_sigma: Standard deviation of the centre, in cells; 0.15 is the cone alone.
            kotani2024.
        surround_sigma: Standard deviation of the surround, in cells. kotani2024.
        surround_weight: Volume of the surround relative to the centre. kotani2024.
        noise_level: Relative standard deviation of the noise for r = 1; 0 switches it off.
            kotani2024.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(
        self,
        kernel_size: int = 7,
        center_sigma: float = 0.15,
        surround_sigma: float = 0.90,
        surround_weight: float = 0.91,
        *,
        noise_level: float = 0.01,
    ) -> None:
        super().__init__()
        if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(
                f"LateralInhibition expected an odd kernel_size, so that a cell is in the middle, "
                f"got {kernel_size!r}. For example {2 * (int(kernel_size) // 2) + 1}."
            )
        if not (0 < center_sigma < math.inf and 0 < surround_sigma < math.inf):
            raise InputError(
                "LateralInhibition expected sigmas > 0 in cells, got "
                f"center_sigma={center_sigma} and surround_sigma={surround_sigma}."
            )
        if not 0 <= surround_weight < math.inf or not 0 <= noise_level < math.inf:
            raise InputError(
                "LateralInhibition expected surround_weight >= 0 and noise_level >= 0, got "
                f"{surround_weight} and {noise_level}."
            )
        self.kernel_size = kernel_size
        self.center_sigma, self.surround_sigma = float(center_sigma), float(surround_sigma)
        self.surround_weight, self.noise_level = float(surround_weight), float(noise_level)

    @property
    def kernel(self) -> Float[Tensor, "K K"]:
        """The receptive field of a bipolar cell, float64."""
        center, surround = (
            torch.tensor(self._profile(sigma), dtype=torch.float64)
            for sigma in (self.center_sigma, self.surround_sigma)
        )
        return torch.outer(center, center) - self.surround_weight * torch.outer(surround, surround)

    def forward(
        self,
        x: Float[Tensor, "*B H W"],
        generator: torch.Generator | None = None,
        *,
        noise: bool | Noise | None = None,
    ) -> Float[Tensor, "*B H W"]:
        """Turn cone activations into bipolar signals.

        Args:
            x: Activations; everything in front of height and width is batch.
            generator: Source of the noise.
            noise: Whether to add noise; ``None`` adds it in ``train()`` only. Or its numbers.

        Raises:
            ShapeError: If there are no height and width.
        """
        if x.ndim < 2 or not x.is_floating_point():
            raise ShapeError(
                "LateralInhibition expected floating-point activations with axes (..., height, "
                f"width), got {x.dtype} of shape {tuple(x.shape)}."
            )
        surround = _blur(x, self._profile(self.surround_sigma))
        bipolar = torch.sub(
            _blur(x, self._profile(self.center_sigma)), surround, alpha=self.surround_weight
        )
        if self.adds_noise(noise):
            drawn = noise_for(bipolar, noise, generator)
            bipolar = bipolar * (1 + drawn.strength * self.noise_level * drawn.normal)
        return bipolar

    def _profile(self, sigma: float) -> tuple[float, ...]:
        reach = self.kernel_size // 2
        values = [math.exp(-((k / sigma) ** 2) / 2) for k in range(-reach, reach + 1)]
        return tuple(value / sum(values) for value in values)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"kernel_size={self.kernel_size}, center_sigma={self.center_sigma}, "
            f"surround_sigma={self.surround_sigma}, surround_weight={self.surround_weight}, "
            f"noise_level={self.noise_level}"
        )


def _blur(x: Tensor, profile: tuple[float, ...]) -> Tensor:
    """Weigh neighbours along both axes by a symmetric profile; zero beyond the border."""
    middle = len(profile) // 2
    # What no sum in this precision would notice is left out: the centre is mostly one cell.
    negligible = torch.finfo(x.dtype).eps / 100
    taps = [profile[middle + k] for k in range(middle + 1)]
    reach = max(k for k, tap in enumerate(taps) if k == 0 or tap > negligible)
    for axis, pad in ((-2, (0, 0, reach, reach)), (-1, (reach, reach))):
        size = x.shape[axis]
        padded = F.pad(x, pad) if reach else x
        x = padded.narrow(axis, reach, size) * taps[0]
        for k in range(1, reach + 1):
            both = padded.narrow(axis, reach - k, size) + padded.narrow(axis, reach + k, size)
            x = torch.add(x, both, alpha=taps[k])
    return x
