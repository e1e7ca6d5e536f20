"""Noise in the retina: how a stage is told to add it, and where its random numbers come from.

A noisy stage adds noise in ``train()`` and none in ``eval()``, unless the call says otherwise. How
strong it is changes from call to call: r is drawn from {0, 0.1, ..., 1}, so that the brain learns
from clear and from noisy signals alike.

Source  kotani2024
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from calcarine.stage import Stage

__all__ = ["NoisyStage", "normal_like", "random_strength"]

STRENGTHS = 10


class NoisyStage(Stage):
    """A stage whose forward may add noise drawn from the generator of the call."""

    @abstractmethod
    def forward(
        self, x: Tensor, generator: torch.Generator | None = None, *, noise: bool | None = None
    ) -> Tensor:
        """Map one batch of inputs to one batch of outputs.

        Args:
            x: Input, axes (batch, ...).
            generator: Source of the noise; the default generator of torch when left out.
            noise: Whether to add noise; ``None`` adds it in ``train()`` only.
        """


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the shape, dtype and device of ``x``.

    A generator on another device than ``x`` is fine: its numbers are moved.
    """
    device = x.device if generator is None else generator.device
    noise = torch.randn(x.shape, dtype=x.dtype, device=device, generator=generator)
    return noise.to(x.device)


def random_strength(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """One number from {0, 0.1, ..., 1}, dtype and device of ``x``: how noisy this call is."""
    device = x.device if generator is None else generator.device
    step = torch.randint(STRENGTHS + 1, (), device=device, generator=generator)
    return (step.to(x.dtype) / STRENGTHS).to(x.device)
