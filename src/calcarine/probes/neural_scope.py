"""Neural scopes: linear read-outs that show an internal variable in terms we know.

    percept scope    latent percept    -> linear RGB
    mosaic scope     cone identities   -> cone types

A scope learns beside the cortex from its own loss and its own optimiser; the cortex receives no
gradient from it. A good picture through a scope says nothing about dimensionality (a linear fit to
three channels is always three-dimensional): that is for :func:`calcarine.probes.color_matching`.

Axes    B batch | I inputs | O outputs | H W lattice of cells
Source  kotani2024, section 3.3
"""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError
from calcarine.stage import Stage

__all__ = ["NeuralScope", "mosaic_scope", "percept_scope"]


class NeuralScope(Stage):
    """An affine read-out per cell, zero at the start, detached from what it reads.

    Args:
        inputs: Channels of the internal variable.
        outputs: Channels of what it is shown as.
        border: Cells at every edge that the loss leaves out.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(self, *, inputs: int = 8, outputs: int = 3, border: int = 0) -> None:
        super().__init__()
        if min(inputs, outputs) < 1 or border < 0:
            raise InputError(
                f"NeuralScope expected positive channels and border >= 0, got inputs {inputs}, "
                f"outputs {outputs}, border {border}."
            )
        self.inputs, self.outputs, self.border = inputs, outputs, border
        self.readout = nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.readout.weight)
        if self.readout.bias is not None:
            nn.init.zeros_(self.readout.bias)

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O H W"]:
        """Show an internal variable."""
        if x.ndim != 4 or x.shape[1] != self.inputs:
            raise ShapeError(
                f"NeuralScope expected axes (batch, {self.inputs}, height, width), got shape "
                f"{tuple(x.shape)}."
            )
        return self.readout(x)

    def loss(
        self, x: Float[Tensor, "B I H W"], target: Float[Tensor, "B O H W"]
    ) -> Float[Tensor, ""]:
        """Return the summed squared error; no gradient reaches ``x``."""
        height, width = x.shape[2:]
        rows, columns = (slice(self.border, side - self.border) for side in (height, width))
        shown = self(x.detach()[..., rows, columns])
        return F.mse_loss(shown, target[..., rows, columns], reduction="sum")


def percept_scope(latent: int = 8, border: int = 0) -> NeuralScope:
    """Return a scope from a latent percept to linear RGB."""
    return NeuralScope(inputs=latent, outputs=3, border=border)


def mosaic_scope(latent: int = 8, types: int = 3, border: int = 0) -> NeuralScope:
    """Return a scope from cone identities to cone types."""
    return NeuralScope(inputs=latent, outputs=types, border=border)
