"""The full colour cortex arranged as in the published code, written plainly.

Kept apart from the package: it exists to be timed against, and to check that the package computes
the same loss. Lateral inhibition is multiplied and divided as full complex spectra of size 2 S - 1;
the map of cells is a chain of the flow library's modules, inverted again for every use; movements
are compared in Python loops over items, levels and shifts. Of two fixations the U-Net fills in the
first, as the tutorial says. Its convolutions have torch's default layout, since no other one is
published; ``side_by_side`` gives them the one that is fastest on the CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine.cortex.cell_positions import FRAME_POINTS, SLOPE, CellPositions
from calcarine.cortex.lateral_inhibition import FLOOR
from calcarine.cortex.movement import BLUR_CELLS, BLUR_SIGMA, LEAST_OVERLAP, REACH
from calcarine.cortex.visual_field import SLACK_CELLS


class _DoubleConvolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        sizes = ((inputs, outputs), (outputs, outputs))
        first, second = (
            nn.Conv2d(i, o, 3, padding=1, padding_mode="reflect", bias=False) for i, o in sizes
        )
        super().__init__(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))


class PublishedDeepUNet(nn.Module):
    """U-Net of widths 16-32-64-128."""

    def __init__(self, latent: int = 8, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        pairs = list(zip((latent, *widths), widths, strict=False))
        self.down = nn.ModuleList(_DoubleConvolution(i, o) for i, o in pairs)
        rising = [(o, i) for i, o in pairs[:0:-1]]
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in rising)
        self.join = nn.ModuleList(_DoubleConvolution(2 * o, o) for _, o in rising)
        self.leave = nn.Conv2d(widths[0], latent, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map injected signals (B, latent, H, W) to a percept of the same shape."""
        skips = []
        for index, level in enumerate(self.down):
            x = level(F.max_pool2d(x, 2) if index else x)
            skips.append(x)
        for up, join, skip in zip(self.up, self.join, skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], dim=1))
        return self.leave(x)


class PublishedFullCortex(nn.Module):
    """Weights of the full cortex, and the loss of one batch of two fixations."""

    def __init__(self, size: int = 256, latent: int = 8, kernel_size: int = 7) -> None:
        super().__init__()
        self.size = size
        self.kernel = nn.Parameter(torch.zeros(kernel_size, kernel_size))
        self.kernel.data[kernel_size // 2, kernel_size // 2] = 1.0
        self.identity = nn.Parameter(torch.zeros(1, latent, size, size))
        self.identity.data[:, 0] = 1.0
        self.unet = PublishedDeepUNet(latent)
        self.flow = CellPositions(size, published=True).couplings

    def side_by_side(self) -> PublishedFullCortex:
        """Lay the U-Net's weights out as is fastest on the CPU."""
        self.unet.to(memory_format=torch.channels_last)
        return self

    def spectrum(self) -> Tensor:
        """Full complex spectrum of the kernel, on 2 S - 1 points."""
        side, half = 2 * self.size - 1, self.kernel.shape[-1] // 2
        placed = F.pad(self.kernel.flip(0, 1), (0, side - 2 * half - 1, 0, side - 2 * half - 1))
        return torch.fft.fft2(placed.roll((-half, -half), (0, 1)).to(torch.complex64))

    def inhibit(self, signal: Tensor, *, undo: bool = False) -> Tensor:
        """Multiply with the kernel's spectrum, or divide by it."""
        side = 2 * self.size - 1
        padded = F.pad(signal, (0, side - self.size, 0, side - self.size)).to(torch.complex64)
        spectrum = self.spectrum()
        if undo:
            spectrum = spectrum.conj() / spectrum.abs().square().clamp(min=FLOOR**2)
        product = torch.fft.ifft2(torch.fft.fft2(padded) * spectrum)
        return product.real[..., : self.size, : self.size]

    def lattice(self, side: int) -> Tensor:
        """Centres of a regular lattice as (side * side, 2)."""
        axis = (2 * torch.arange(side) + 1) / side - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        return torch.stack([x, y], dim=-1).view(-1, 2)

    def frame(self) -> tuple[Tensor, Tensor]:
        """Centre of the cells, and their linear map to be undone."""
        sites = points = self.lattice(FRAME_POINTS)
        for block in self.flow:
            points = block()(points)
        centre = points.mean(0)
        return centre, (points - centre).T @ sites / sites[:, 0].square().sum() / SLOPE

    def to_field(self, points: Tensor) -> Tensor:
        """Lattice (N, 2) to visual field."""
        centre, root = self.frame()
        for block in self.flow:
            points = block()(points)
        return (points - centre) @ root.inverse().T

    def to_lattice(self, points: Tensor) -> Tensor:
        """Visual field (N, 2) to lattice."""
        centre, root = self.frame()
        points = points @ root.T + centre
        for block in reversed(self.flow):
            points = block().inv(points)
        return points

    def sample(self, image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Read one image (1, K, S, S) at lattice points, with a mask of what is known."""
        side = int(len(points) ** 0.5)
        edge = 1 - (1 - 2 * SLACK_CELLS) / self.size
        known = (points.detach().abs() <= edge).all(-1).view(1, 1, side, side)
        grid = points.view(1, side, side, 2)
        values = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
        return values * known, known.float()

    @torch.no_grad()
    def movement(self, first: Tensor, second: Tensor) -> Tensor:
        """Tell the movement of every item, one after the other."""
        at = torch.arange(BLUR_CELLS) - BLUR_CELLS // 2
        profile = torch.exp(-(at**2) / (2 * BLUR_SIGMA**2))
        kernel = torch.outer(profile, profile)[None, None] / profile.sum() ** 2
        shifts = []
        for item in range(first.shape[0]):
            levels = []
            for signal in (first, second):
                padded = F.pad(signal[item : item + 1], [BLUR_CELLS // 2] * 4, mode="reflect")
                points = self.to_lattice(self.lattice(self.size))
                levels.append(self.sample(F.conv2d(padded, kernel), points))
            shifts.append(self.search(levels[0][0], levels[1][0], levels[0][1]))
        return torch.tensor(shifts)

    def search(self, before: Tensor, after: Tensor, known: Tensor) -> tuple[int, int]:
        """Follow the best shift from coarse to fine, one candidate at a time."""
        pyramid = [(before, after, known)]
        while pyramid[-1][0].shape[-1] >= 8:
            pyramid.append(tuple(F.avg_pool2d(x, 2) for x in pyramid[-1]))
        x, y = 0, 0
        axis = range(-REACH, REACH + 1)
        candidates = sorted(
            ((i, j) for i in axis for j in axis), key=lambda s: abs(s[0]) + abs(s[1])
        )
        for a, b, mask in reversed(pyramid):
            mask, best = mask > 0.99, (float("inf"), (0, 0))
            for dx, dy in ((2 * x + i, 2 * y + j) for i, j in candidates):
                cost = self.difference(a, b, mask, dx, dy)
                if cost < best[0]:
                    best = (cost, (dx, dy))
            x, y = best[1]
        return x, y

    def difference(self, a: Tensor, b: Tensor, mask: Tensor, dx: int, dy: int) -> float:
        """Return the mean difference where both are known, of one shift."""
        side = a.shape[-1]
        rows = (slice(max(0, -dy), side - max(0, dy)), slice(max(0, dy), side - max(0, -dy)))
        columns = (slice(max(0, -dx), side - max(0, dx)), slice(max(0, dx), side - max(0, -dx)))
        here, there = (..., rows[0], columns[0]), (..., rows[1], columns[1])
        both = mask[there] & mask[here]
        count = both.sum()
        if count < LEAST_OVERLAP * side**2:
            return float("inf")
        return (((a[there] - b[here]).abs() * both).sum() / count).item()

    def loss(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the prediction error of a batch; (B, 1, S, S) each."""
        unit = self.identity / (self.identity.norm(dim=1, keepdim=True) + 1e-5)
        cones, then = self.inhibit(first, undo=True), self.inhibit(second, undo=True)
        percept = self.unet(cones * unit)
        shift = self.movement(cones, then) * (2 / self.size)
        moved, known = [], []
        for item in range(first.shape[0]):
            looked_at = self.to_field(self.lattice(self.size)) + shift[item]
            values, mask = self.sample(percept[item : item + 1], self.to_lattice(looked_at))
            moved.append(values)
            half = self.kernel.shape[-1] // 2
            known.append(1 - F.max_pool2d(1 - mask, 2 * half + 1, 1, half))
        predicted = self.inhibit((torch.cat(moved) * unit).sum(1, keepdim=True))
        mask = torch.cat(known)[..., 3:-3, 3:-3]
        error = ((predicted - second)[..., 3:-3, 3:-3] ** 2 * mask).sum(0)
        return (error / (mask.sum(0) + 1)).sum()
