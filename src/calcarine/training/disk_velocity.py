"""Learning the constants of the disk network by surrogate gradient.

    s_k = blurred mean spikes of channel k of the second layer at a disk's centre, over a window
    loss = cross entropy of (s_k + 0.02) / sum_j (s_j + 0.02) with the disk's class
           + mean [quiet - total]+       a disk that nothing answers to

Recordings are moving disks with noise, directions and shares of missed events drawn anew. What
learns are the time constants of integrators and channels, gains, thresholds and the strength of the
inhibition; it begins at the constants set by hand.

Source  zenke2018 (surrogate gradient); ours: the loss
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.models.disk_velocity import DiskVelocityNet
from calcarine.simulate import run
from calcarine.stimuli.moving_disks import moving_disks
from calcarine.training.task import GradientTask

__all__ = ["DiskVelocityTask"]

FLOOR = 0.02


class DiskVelocityTask(GradientTask):
    """Teach a disk network the speeds of disks.

    Args:
        net: The network, with ``learnable`` set.
        batch_size: Recordings per update. Ours.
        frames: Frames of a recording. Ours.
        settle: First frames that are not judged. Ours.
        window: Frames over which spikes are averaged. Ours.
        near_px: Distance from the centre within which spikes count. Ours.
        quiet: Spikes per frame below which a disk counts as missed. Ours.
        event_probability: Least share of events that the sensor does not miss.
        noise: Share of all events that is noise.
        size: Side of the sensor, px.
    """

    sources: ClassVar[tuple[str, ...]] = ("zenke2018",)

    def __init__(
        self,
        *,
        net: DiskVelocityNet,
        batch_size: int = 4,
        frames: int = 50,
        settle: int = 20,
        window: int = 15,
        near_px: float = 3.0,
        quiet: float = 1.0,
        event_probability: float = 0.6,
        noise: float = 0.05,
        size: int = 50,
    ) -> None:
        if not net.learnable:
            raise InputError("DiskVelocityTask expected a net that learns. Set net.learnable=true.")
        if batch_size < 1 or not 0 <= settle < frames - window + 1 or window < 1:
            raise InputError(
                "DiskVelocityTask expected batch_size >= 1, window >= 1 and settle + window <= "
                f"frames, got {batch_size}, {window}, {settle} and {frames}."
            )
        if not 0 < event_probability <= 1:
            raise InputError(
                f"DiskVelocityTask expected event_probability in (0, 1], got {event_probability}."
            )
        self.net, self.batch_size, self.frames = net, batch_size, frames
        self.settle, self.window, self.near_px, self.quiet = settle, window, near_px, quiet
        self.event_probability, self.noise, self.size = event_probability, noise, size

    def modules(self) -> dict[str, nn.Module]:
        """Return the network."""
        return {"net": self.net}

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        """Return the constants that learn."""
        return {"net": [p for p in self.net.parameters() if p.requires_grad]}

    def draw(
        self, generator: torch.Generator
    ) -> tuple[Float[Tensor, "T B 1 H W"], Float[Tensor, "T B N 2"]]:
        """Draw recordings; return their frames and the centres of slow, medium and fast disks."""
        shown = []
        for _ in range(self.batch_size):
            share = torch.rand((), generator=generator).item()
            shown.append(
                moving_disks(
                    size=self.size,
                    radius_px=self.net.radius_px,
                    speeds=self.net.speeds,
                    frames=self.frames,
                    dt_ms=self.net.dt_ms,
                    noise=self.noise,
                    event_probability=1 - share * (1 - self.event_probability),
                    generator=generator,
                )
            )
        device = self.net.ring.device
        movie = torch.stack([d.events.frames(self.net.dt_ms, steps=self.frames) for d in shown], 1)
        centers = torch.stack([d.truth.center_px for d in shown], 1)
        return movie.to(device), centers.to(device)

    def losses(self, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Draw recordings and return the loss on them."""
        return {"net": self.loss_on(*self.draw(generator))}

    def loss_on(
        self, movie: Float[Tensor, "T B 1 H W"], centers: Float[Tensor, "T B N 2"]
    ) -> Float[Tensor, ""]:
        """Return the loss on given recordings."""
        spikes, _ = run(self.net, movie, engine="plain")
        near = self._near(centers[self.settle :], movie.shape[-2:]).to(spikes)
        counts = torch.einsum("tbchw,tbnhw->tbnc", spikes[self.settle :], near)
        pooled = counts.unfold(0, self.window, self.window).mean(-1)
        share = (pooled + FLOOR) / (pooled + FLOOR).sum(-1, keepdim=True)
        right = torch.arange(3, device=share.device).expand(share.shape[:-1])
        wrong = F.nll_loss(share.log().flatten(0, -2), right.flatten())
        return wrong + F.relu(self.quiet - pooled.sum(-1)).mean()

    def _near(
        self, centers: Float[Tensor, "T B N 2"], size: torch.Size
    ) -> Float[Tensor, "T B N H W"]:
        y = torch.arange(size[0], dtype=centers.dtype, device=centers.device)[:, None]
        x = torch.arange(size[1], dtype=centers.dtype, device=centers.device)
        dx, dy = x - centers[..., 0, None, None], y - centers[..., 1, None, None]
        return (torch.hypot(dx, dy) <= self.near_px).to(centers)
