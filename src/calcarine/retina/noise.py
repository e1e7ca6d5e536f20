"""Noise in the retina: how a stage is told to add it, and where its random numbers come from.

A noisy stage adds noise in ``train()`` and none in ``eval()``, unless the call says otherwise. How
strong it is changes from call to call: r is drawn from {0, 0.1, ..., 1}, so that the brain learns
from clear and from noisy signals alike.

Source  kotani2024
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.stage import Stage

__all__ = ["Noise", "NoisyStage", "draw_noise", "noise_for"]

STRENGTHS = 10


class Noise(NamedTuple):
    """The random numbers of one call: how noisy it is, and standard normal ones for every cell."""

    strength: Float[Tensor, ""]
    normal: Tensor


class NoisyStage(Stage):
    """A stage whose forward may add noise drawn from the generator of the call.

    Attributes:
        noise_level: How strong the noise is at most; 0 for none.
    """

    noise_level: float = 0.0

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        *,
        noise: bool | Noise | None = None,
    ) -> Tensor:
        """Map one batch of inputs to one batch of outputs.

        Args:
            x: Input, axes (batch, ...).
            generator: Source of the noise; the default generator of torch when left out.
            noise: Whether to add noise; ``None`` adds it in ``train()`` only. Or its random
                numbers, drawn before.
        """

    def adds_noise(self, noise: bool | Noise | None = None) -> bool:
        """Say whether a call with this argument adds noise."""
        return self.noise_level > 0 and (self.training if noise is None else noise is not False)


def draw_noise(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Noise:
    """Draw the numbers of one call: a strength from {0, 0.1, ..., 1}, then one number per cell.

    Args:
        shape: Axes of what the noise is added to.
        generator: Source of the numbers; one on another device is fine, they are moved.
        dtype: Their type.
        device: Where they are needed.
    """
    where = device if generator is None else generator.device
    step = torch.randint(STRENGTHS + 1, (), device=where, generator=generator)
    normal = torch.randn(shape, dtype=dtype, device=where, generator=generator)
    return Noise((step.to(dtype) / STRENGTHS).to(device), normal.to(device))


def noise_for(x: Tensor, noise: bool | Noise | None, generator: torch.Generator | None) -> Noise:
    """Return the numbers that were given, or draw them for ``x``."""
    if isinstance(noise, Noise):
        return noise
    return draw_noise(tuple(x.shape), generator, dtype=x.dtype, device=x.device)
