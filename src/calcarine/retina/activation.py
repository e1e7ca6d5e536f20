"""Phototransduction: every cone reads its own pigment's share of the light, with photon noise.

    a  = sum over types of signal * mosaic
    a  <- a + 0.01 r sqrt(a) N(0, 1),   r drawn from {0, 0.1, ..., 1} once per call

Cones are colour-blind one by one: what remains of the spectrum is one number per cell.

Axes    leading axes | T cone types | H W cells
Source  kotani2024
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.retina.mosaic import cone_mosaic
from calcarine.retina.noise import Noise, NoisyStage, noise_for

__all__ = ["ConeActivation"]


class ConeActivation(NoisyStage):
    """Activation of every cone of a mosaic.

    Args:
        size: Cells along each side, or (height, width).
        kind: Kind of mosaic, as for :func:`calcarine.retina.cone_mosaic`.
        types: Planes of the mosaic, the channels of the input: ``"LMS"`` or ``"LMSQ"``.
        noise_level: Standard deviation of the photon noise for an activation of 1 and r = 1;
            0 switches the noise off. kotani2024.
        seed: Seed of the mosaic, used when no generator is given.
        generator: Source of randomness of the mosaic, on the CPU.

    Attributes:
        mosaic: Share of each pigment in each cell (types, height, width), kept in checkpoints.
            Replace it with :meth:`use_mosaic`.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "carroll2000", "mancuso2009")

    mosaic: Tensor

    def __init__(
        self,
        size: int | tuple[int, int] = 64,
        *,
        kind: str = "LMS",
        types: Literal["LMS", "LMSQ"] = "LMS",
        noise_level: float = 0.01,
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= noise_level < float("inf"):
            raise InputError(f"Expected noise_level >= 0, got {noise_level}.")
        self.size, self.kind, self.types = size, kind, types
        self.noise_level, self.seed = float(noise_level), seed
        mosaic = cone_mosaic(kind, size, types=types, seed=seed, generator=generator)
        self.register_buffer("mosaic", mosaic)

    def use_mosaic(self, mosaic: Float[Tensor, "T H W"]) -> None:
        """Replace the mosaic by another one of the same shape, for example after therapy.

        Raises:
            ShapeError: If the shape differs from the present one.
            InputError: If the shares of a cell are negative or do not sum to 1.
        """
        if mosaic.shape != self.mosaic.shape:
            raise ShapeError(
                f"Expected a mosaic (type, height, width) of shape {tuple(self.mosaic.shape)}, got "
                f"{tuple(mosaic.shape)}. Build a new stage for another lattice."
            )
        off = (mosaic.double().sum(0) - 1).abs().amax().item()
        if not (off < 1e-5 and mosaic.amin().item() >= 0):
            raise InputError(
                "Expected pigment shares that are >= 0 and sum to 1 in every cell; the smallest is "
                f"{mosaic.amin().item():g} and a sum is off by {off:g}."
            )
        self.mosaic.copy_(mosaic)

    def forward(
        self,
        x: Float[Tensor, "*B T H W"],
        generator: torch.Generator | None = None,
        *,
        noise: bool | Noise | None = None,
    ) -> Float[Tensor, "*B H W"]:
        """Reduce one image per cone type to one activation per cone.

        Args:
            x: Cone signals sampled at every cell, for all types.
            generator: Source of the noise.
            noise: Whether to add noise; ``None`` adds it in ``train()`` only. Or its numbers.

        Raises:
            ShapeError: If types or cells differ from those of the mosaic.
        """
        mosaic = self.mosaic.to(x)
        if x.shape[-3:] != mosaic.shape:
            raise ShapeError(
                "ConeActivation expected axes (..., type, height, width) ending in "
                f"{tuple(mosaic.shape)}, got shape {tuple(x.shape)}."
            )
        activation = x.select(-3, 0) * mosaic[0]
        for plane in range(1, mosaic.shape[0]):
            activation = torch.addcmul(activation, x.select(-3, plane), mosaic[plane])
        if self.adds_noise(noise):
            return self._add_photon_noise(activation, noise_for(activation, noise, generator))
        return activation

    def _add_photon_noise(self, activation: Tensor, noise: Noise) -> Tensor:
        strength = noise.strength * self.noise_level
        # The slope of the root is infinite in darkness: noise carries no gradient.
        scale = activation.detach().clamp(min=0).sqrt_().mul_(strength)
        return torch.addcmul(activation, scale, noise.normal)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"kind={self.kind!r}, shape={tuple(self.mosaic.shape)}, noise_level={self.noise_level}"
        )
