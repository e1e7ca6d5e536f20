"""The sandbox step of the colour cortex arranged as in the published code, written plainly.

Kept apart from the package: it exists to be timed against, and to check that the package computes
the same loss. Convolutions pad by themselves, every frame is cropped and sampled on its own, the
translation is a gather, each of the three losses has its own backward pass and its own Adam.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _DoubleConvolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        def convolution(i: int, o: int) -> nn.Module:
            layer = nn.Conv2d(i, o, 3, padding=1, padding_mode="reflect", bias=False)
            return layer.to(memory_format=torch.channels_last)

        super().__init__(
            convolution(inputs, outputs), nn.ReLU(inplace=True),
            convolution(outputs, outputs), nn.ReLU(inplace=True),
        )  # fmt: skip


class PublishedUNet(nn.Module):
    """U-Net of widths 16-32-64."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.enter = _DoubleConvolution(latent, 16)
        self.down1, self.down2 = _DoubleConvolution(16, 32), _DoubleConvolution(32, 64)
        self.up1, self.join1 = nn.ConvTranspose2d(64, 32, 2, 2), _DoubleConvolution(64, 32)
        self.up2, self.join2 = nn.ConvTranspose2d(32, 16, 2, 2), _DoubleConvolution(32, 16)
        self.leave = nn.Conv2d(16, latent, 1).to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map injected signals (B, latent, H, W) to a percept of the same shape."""
        first = self.enter(x)
        second = self.down1(F.max_pool2d(first, 2))
        third = self.down2(F.max_pool2d(second, 2))
        y = self.join1(torch.cat([second, self.up1(third)], dim=1))
        y = self.join2(torch.cat([first, self.up2(y)], dim=1))
        return self.leave(y)


class PublishedStep:
    """One update on a batch of cone-space scenes: retina, cortex, two scopes, three optimisers."""

    def __init__(self, mosaic: Tensor, max_shift_px: int = 5, latent: int = 8) -> None:
        self.mosaic, self.max_shift_px = mosaic[None], max_shift_px
        self.size = mosaic.shape[-1]
        self.identity = nn.Parameter(mosaic.new_zeros(1, latent, self.size, self.size))
        self.identity.data[:, 0] = 1.0
        self.unet = PublishedUNet(latent).to(mosaic)
        self.percept_scope = nn.Conv2d(latent, 3, 1).to(mosaic)
        self.mosaic_scope = nn.Conv2d(latent, mosaic.shape[0], 1).to(mosaic)
        cortex = [self.identity, *self.unet.parameters()]
        self.main = torch.optim.Adam(cortex, lr=1e-3)
        self.percept_optimizer = torch.optim.Adam(self.percept_scope.parameters(), lr=1e-3)
        self.mosaic_optimizer = torch.optim.Adam(self.mosaic_scope.parameters(), lr=1e-3)

    def retina(self, scenes: Tensor, shift_px: Tensor, noise: bool = True) -> list[Tensor]:
        """Return the optic nerve signal of two fixations, the second one shifted."""
        signals = []
        for frame in range(2):
            views = []
            for index in range(scenes.shape[0]):
                dx, dy = (int(v) for v in shift_px[index]) if frame else (0, 0)
                x = (scenes.shape[-1] - self.size) // 2 + dx
                y = (scenes.shape[-2] - self.size) // 2 + dy
                views.append(scenes[index, :, y : y + self.size, x : x + self.size])
            activation = (torch.stack(views) * self.mosaic).sum(1, keepdim=True)
            if noise:
                level = float(torch.randint(0, 11, (1,))) / 10
                spread = 0.01 * level * activation.clamp(min=0).sqrt()
                activation = activation + spread * torch.randn_like(activation)
            signals.append(activation)
        return signals

    def translate(self, percept: Tensor, shift_px: Tensor) -> tuple[Tensor, Tensor]:
        """Shift percepts by whole cells through a padded gather, with a mask of what is known."""
        pad, size = self.max_shift_px, self.size
        padded = F.pad(percept, (pad, pad, pad, pad))
        known = F.pad(torch.ones(1, size, size), (pad, pad, pad, pad))
        rows = torch.arange(size).view(1, -1, 1) + (pad + shift_px[:, 1]).view(-1, 1, 1)
        columns = torch.arange(size).view(1, 1, -1) + (pad + shift_px[:, 0]).view(-1, 1, 1)
        rows, columns = rows.expand(-1, -1, size), columns.expand(-1, size, -1)
        item = torch.arange(percept.shape[0]).view(-1, 1, 1)
        moved = padded[item, :, rows, columns].permute(0, 3, 1, 2)
        return moved, known[:, rows, columns].permute(1, 0, 2, 3).contiguous()

    def losses(self, first: Tensor, second: Tensor, shift_px: Tensor, rgb: Tensor) -> list[Tensor]:
        """Return the prediction loss and the losses of the two scopes."""
        unit = self.identity / (self.identity.norm(dim=1, keepdim=True) + 1e-5)
        percept = self.unet(first * unit)
        moved, mask = self.translate(percept, shift_px)
        predicted = (moved * unit).sum(1, keepdim=True)
        inner = (..., slice(3, -3), slice(3, -3))
        error = ((predicted - second)[inner] ** 2 * mask[inner]).sum(0)
        prediction = (error / (mask[inner].sum(0) + 1)).sum()
        mosaic = self.mosaic_scope(unit.detach().clone())
        mosaic_loss = ((mosaic - self.mosaic)[inner] ** 2).sum()
        seen = self.percept_scope(percept.detach().clone())
        percept_loss = ((seen - rgb)[inner] ** 2).sum()
        return [prediction, percept_loss, mosaic_loss]

    def __call__(self, scenes: Tensor, rgb: Tensor) -> float:
        """Do one update and return the prediction loss."""
        shift_px = torch.randint(-self.max_shift_px, self.max_shift_px, (scenes.shape[0], 2))
        first, second = self.retina(scenes, shift_px)
        losses = self.losses(first, second, shift_px, rgb)
        optimizers = [self.main, self.percept_optimizer, self.mosaic_optimizer]
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return losses[0].item()
