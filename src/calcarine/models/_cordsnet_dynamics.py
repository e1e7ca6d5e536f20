"""The whole CordsNet as one function of rates, image and weights that are folded once.

    r_k <- r_k + dt / tau (relu(W_k * r_k + f_k) - r_k)      all areas at once
    f_1 = b_1 + V_1 * h                                      h = average pool (stem * image)
    f_2 = b_2 + V_2 * (r_1 + S_2 * h)
    f_k = b_k + V_k * (r_k-1 + r_k-2)                        k odd
    f_k = b_k + V_k * (r_k-1 + S_k * r_k-2)                  k even

with relu(r) wherever an area is read by another. What depends on the image alone, f_1 and
V_2 * S_2 * h, is computed once per image; without an image it is b_1 and 0, and no stem is needed.
Where no gradient is wanted a compiled kernel may take the steps, see _cordsnet_kernel.py.

Axes    B batch | c channels of the image | C channels | H W rows down, columns right
Source  soo2024
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex.recurrent_area import AreaWeights
from calcarine.models._cordsnet_kernel import PackCache, Stepper, covered, laid_out

__all__ = [
    "Drive",
    "NetworkWeights",
    "Rates",
    "expanded",
    "flickering",
    "largest_change",
    "off_on_off",
    "relaxed",
    "summed",
    "unroll",
]

Rates = tuple[Tensor, ...]
"""Rates of every area, first to last, each with axes (batch, channel, height, width)."""


class Drive(NamedTuple):
    """What reaches the first two areas as long as the image stays."""

    first: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"]
    second: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"]


class NetworkWeights(NamedTuple):
    """All weights, with weight normalisation carried out.

    ``packs`` keeps them in the layout of the compiled kernel, and ``kernel`` takes steps with them
    where it can.
    """

    stem: Float[Tensor, "64 c 7 7"]
    areas: tuple[AreaWeights, ...]
    skips: tuple[Float[Tensor, "C D k k"], ...]
    readout: Float[Tensor, "classes C"]
    readout_bias: Float[Tensor, " classes"]
    packs: PackCache | None = None
    kernel: Stepper | None = None

    def detached(self) -> NetworkWeights:
        """Return the same weights cut off from the parameters."""
        return NetworkWeights(
            self.stem.detach(),
            tuple(area.detached() for area in self.areas),
            tuple(skip.detach() for skip in self.skips),
            self.readout.detach(),
            self.readout_bias.detach(),
            self.packs,
        )

    def prepared(self, rates: Rates) -> NetworkWeights:
        """Return weights whose steps from ``rates`` on the kernel takes, where it covers them."""
        tensors = [*self.skips, *rates, *(t for area in self.areas for t in area.tensors())]
        if not covered(tensors):
            return self
        packs = PackCache() if self.packs is None else self.packs
        packed, learned = packs.get(self.areas, self.skips), any(t.requires_grad for t in tensors)
        return self._replace(kernel=Stepper(packed, rates[0].shape[0], learned))

    def zero(self) -> Rates:
        """Return rates of 0, for a batch of one."""
        return tuple(torch.zeros_like(area.bias[None]).detach() for area in self.areas)

    def pooled(self, image: Float[Tensor, "B c H W"]) -> Float[Tensor, "B 64 h w"]:
        """Return h, what the stem makes of an image."""
        return F.avg_pool2d(F.conv2d(image, self.stem, stride=2, padding=3), 3, 2, 1)

    def drive(self, image: Float[Tensor, "B c H W"] | None) -> Drive:
        """Return what an image sends to the first two areas; ``None`` is no image, not a black one.

        No convolution has a bias, so both give the same numbers.
        """
        first, second = self.areas[:2]
        if image is None:
            return Drive(first.bias, second.bias)
        h = self.pooled(image)
        skipped = F.conv2d(h, self.skips[0], padding=1)
        return Drive(first.bias + first.feed(h), second.bias + second.feed(skipped))

    def fed(self, rates: Rates, drive: Drive) -> list[Tensor]:
        """Return f, the input of every area."""
        seen = [torch.relu(r) for r in rates[:-1]]
        fed = [drive.first, drive.second + self.areas[1].feed(seen[0])]
        for k, area in enumerate(self.areas[2:], start=2):
            below = seen[k - 2]
            if k % 2:
                below = F.conv2d(below, self.skips[k // 2], stride=2)
            fed.append(area.bias + area.feed(seen[k - 1] + below))
        return fed

    def step(self, rates: Rates, drive: Drive, slope: float = 0.0) -> Rates:
        """Return the rates of all areas one step later.

        ``slope`` is that of the nonlinearity inside areas for negative drive: 0 is relu, 1 makes
        areas linear. What one area reads of another is rectified all the same.
        """
        if self.kernel is not None and not slope and self.kernel.takes((*rates, *drive)):
            return self.kernel.step(rates, *drive)
        fed = self.fed(rates, drive)
        return tuple(a.step(r, f, slope) for a, r, f in zip(self.areas, rates, fed, strict=True))

    def target(self, rates: Rates, drive: Drive) -> Rates:
        """Return where the rates tend; at a fixed point, the rates themselves."""
        fed = self.fed(rates, drive)
        return tuple(a.target(r, f) for a, r, f in zip(self.areas, rates, fed, strict=True))

    def logits(self, rates: Rates) -> Float[Tensor, "B classes"]:
        """Read the classes from the average rates of the last two areas."""
        return F.linear(summed(rates), self.readout, self.readout_bias)


def summed(rates: Sequence[Tensor]) -> Float[Tensor, "B C"]:
    """Return the average over positions of the rectified sum of the last two areas."""
    return (torch.relu(rates[-1]) + torch.relu(rates[-2])).mean((2, 3))


@torch.no_grad()
def largest_change(before: Rates, after: Rates) -> Tensor:
    """Return the largest change of any unit relative to the largest rate."""
    change = torch.stack([(b - a).abs().amax() for a, b in zip(before, after, strict=True)])
    scale = torch.stack([r.abs().amax() for r in after])
    return change.amax() / scale.amax().clamp_min(torch.finfo(change.dtype).tiny)


def expanded(rates: Rates, batch: int) -> Rates:
    """Return the rates of one item for every item of a batch."""
    return tuple(r.expand(batch, *r.shape[1:]) for r in rates)


def unroll(
    weights: NetworkWeights, rates: Rates, images: Tensor | Iterator[Tensor] | None, steps: int
) -> Iterator[Rates]:
    """Yield the rates after each step.

    ``images`` stand still with four axes and move with five, frame by frame; an iterator gives the
    image of each step, and ``None`` is no image.
    """
    if not steps:
        return
    if isinstance(images, Tensor) and images.ndim == 5:
        images = images[0] if images.stride(0) == 0 else iter(images)
    still = images is None or isinstance(images, Tensor)
    drive = weights.drive(images) if still else None  # type: ignore[arg-type]
    weights = weights.prepared(rates)
    if weights.kernel is None:
        rates = tuple(r.contiguous() for r in rates)  # the kernel's layout slows convolutions down
    elif drive is not None:
        drive = Drive(laid_out(drive.first), laid_out(drive.second))
    for _ in range(steps):
        now = drive if drive is not None else weights.drive(next(images))  # type: ignore[arg-type]
        rates = weights.step(rates, now)
        yield rates


def relaxed(weights: NetworkWeights, steps: int) -> Rates:
    """Return the rates of one item after so many steps without input, from 0."""
    rates = weights.zero()
    for after in unroll(weights, rates, None, steps):
        rates = after
    return rates


def off_on_off(
    weights: NetworkWeights,
    start: Rates,
    images: Tensor | Iterator[Tensor],
    steps: tuple[int, int, int],
    batch: int,
) -> Iterator[Rates]:
    """Yield the rates of a trial without input, with images and without; the first has no graph.

    Rates of a single item stand for a whole batch until the images come.
    """
    rates = expanded(start, batch)
    with torch.no_grad():
        for alone in unroll(weights.detached(), start, None, steps[0]):
            rates = expanded(alone, batch)
            yield rates
    for shown, count in ((images, steps[1]), (None, steps[2])):
        for later in unroll(weights, rates, shown, count):
            yield later
            rates = later


def flickering(
    images: Tensor, steps: int, noise: float, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """Yield the image of every step with Gaussian noise drawn anew."""
    for step in range(steps):
        frame = images[step] if images.ndim == 5 else images
        drawn = torch.randn(
            frame.shape, generator=generator, dtype=frame.dtype, device=frame.device
        )
        yield frame + noise * drawn
