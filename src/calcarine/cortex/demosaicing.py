"""D, filling in what the cells between the cones of one type did not see: a U-Net.

    per level   two 3 x 3 convolutions, reflect-padded, without bias, each followed by ReLU
    down        2 x 2 max-pooling            up   2 x 2 transposed convolution, joined to the skip
    read-out    1 x 1 convolution with bias

Weights are drawn so that signals keep their size from level to level (he2015), and the first
percept is faint. With the usual draw of torch the first updates, which have to bring down a percept
that is far too loud, silenced whole levels for good: of 32 units of the coarse path none was left
after 200 updates of the sandbox, and the network saw its neighbourhood at one scale only.

Axes    B batch | K latent | H W lattice of cells
Source  kotani2024, appendix; ronneberger2015 (form). Widths: 16-32-64 sandbox, 16-32-64-128 full.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex._upsampling import upsample
from calcarine.cortex.reflect_convolution import reflect_convolution
from calcarine.errors import InputError, ShapeError
from calcarine.stage import Stage

__all__ = ["Demosaicing", "full_precision"]

SMALL = 0.1  # of its usual size has the read-out at first. Ours.


class _Level(nn.Module):
    """Two rectified 3 x 3 convolutions at one resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, bias=False)

    def forward(self, *sources: Tensor) -> Tensor:
        x = reflect_convolution(self.first.weight, *sources)
        return reflect_convolution(self.second.weight, x)


class Demosaicing(Stage):
    """U-Net from injected signals to the percept; the size is kept, any size of at least 8.

    Under ``torch.autocast`` the convolutions multiply in the lower precision; the linear read-out
    stays in full precision, because the prediction error is a small difference of its outputs.

    Args:
        latent: Channels in and out.
        widths: Channels per level, finest first.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "ronneberger2015", "he2015")

    def __init__(self, latent: int = 8, widths: tuple[int, ...] = (16, 32, 64)) -> None:
        super().__init__()
        if len(widths) < 1 or min(widths) < 1 or latent < 1:
            raise InputError(
                f"Demosaicing expected positive channels, got latent {latent}, widths {widths}."
            )
        self.latent, self.widths = latent, tuple(widths)
        self.down = nn.ModuleList(_Level(i, o) for i, o in pairwise((latent, *widths)))
        rising = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in rising)
        self.join = nn.ModuleList(_Level(2 * o, o) for _, o in rising)
        self.readout = nn.Conv2d(widths[0], latent, 1)
        self._draw()
        for weight in self.parameters():
            if weight.ndim == 4:  # 1.3 times faster on the CPU than the default layout
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def _draw(self) -> None:
        for module in self.modules():
            if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                continue
            std = module.in_channels**-0.5
            if module is self.readout:
                std *= SMALL
            elif isinstance(module, nn.Conv2d):  # of nine taps, whose sum the ReLU then halves
                std *= (2 / 9) ** 0.5
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
        """Map injected signals to a percept.

        Raises:
            ShapeError: If the channels differ, or a level would be smaller than 2 x 2.
        """
        smallest = 2 ** len(self.widths)
        if x.ndim != 4 or x.shape[1] != self.latent or min(x.shape[2:]) < smallest:
            raise ShapeError(
                f"Demosaicing expected axes (batch, {self.latent}, height, width) with sides of at "
                f"least {smallest}, got shape {tuple(x.shape)}."
            )
        dtype = x.dtype
        skips = []
        for index, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if index else x)
            skips.append(x)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            skip = skips.pop()
            x = join(skip, _fit(upsample(x, *up.parameters()), skip))
        with full_precision(x.device.type):
            return self.readout(x.to(dtype))


def full_precision(device: str) -> AbstractContextManager[None]:
    """Return a context in which ``torch.autocast`` does not act, for sums that nearly cancel."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, enabled=False)


def _fit(x: Tensor, like: Tensor) -> Tensor:
    """Extend by the row or column that pooling dropped when a side was odd."""
    rows, columns = like.shape[2] - x.shape[2], like.shape[3] - x.shape[3]
    return F.pad(x, (0, columns, 0, rows), mode="replicate") if rows or columns else x
