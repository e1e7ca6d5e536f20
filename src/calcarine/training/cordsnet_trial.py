"""The trial from which a CordsNet learns, and the loss on it.

    off (baseline, no gradient)   on   off
    loss = mean over the last 30 on-steps of w(t) cross entropy(logits(t), class)
         + 1e-3 mean over the last 10 off-steps and areas of mean (r(t) - baseline)^2
    w = 10^-3 .. 1, thirty values at equal ratios

so that the answer may come early and must be there at the end, and the network has one resting
state to which it returns. The steps are cut into stretches, each computed a second time in the
backward pass where memory counts more than time.

Axes    B batch | c channels of the image | C channels | H W rows down, columns right | K classes
Units   times in steps
Source  soo2024; recomputing chen2016
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from calcarine.models._cordsnet_dynamics import Drive, NetworkWeights, Rates, expanded, unroll

__all__ = ["Trial", "TrialLoss", "return_distances", "trial_answers", "trial_loss"]


class Trial(NamedTuple):
    """How long everything lasts, in steps, and what it weighs. soo2024, with steps of 2 ms.

    Attributes:
        warmup: Steps without input before; they carry no gradient.
        on: Steps with the image.
        off: Steps without input after; the last of them are compared to the baseline.
        readout: Number of the last on-steps whose answers count.
        settle: Number of the last off-steps that are compared.
        settle_weight: Weight of the distance to the baseline.
        checkpoint: Steps of a stretch that the backward pass computes again; 0 keeps all steps.
    """

    warmup: int = 100
    on: int = 100
    off: int = 100
    readout: int = 30
    settle: int = 10
    settle_weight: float = 1e-3
    checkpoint: int = 0


class TrialLoss(NamedTuple):
    """Both parts of the loss, without the weight of the second."""

    answer: Float[Tensor, ""]
    distance: Float[Tensor, ""]

    def total(self, settle_weight: float) -> Float[Tensor, ""]:
        """Return what is minimised."""
        return self.answer + settle_weight * self.distance


def trial_loss(
    weights: NetworkWeights,
    images: Float[Tensor, "B c H W"],
    targets: Int[Tensor, " B"] | Float[Tensor, "B K"],
    trial: Trial,
    slope: float = 0.0,
    label_smoothing: float = 0.0,
) -> TrialLoss:
    """Return the loss of one trial.

    Args:
        weights: The network, folded with gradients.
        images: What it sees.
        targets: Class numbers, or probabilities of all classes.
        trial: Times and weights.
        slope: Of the nonlinearity inside areas; 1 is linear.
        label_smoothing: Share of the probability given to all classes alike.
    """
    baseline = _rest(weights, trial.warmup, slope)
    rates = expanded(baseline, images.shape[0])
    counted = min(trial.readout, trial.on)
    ramp = torch.logspace(-3, 0, trial.readout, dtype=images.dtype, device=images.device)[-counted:]
    answers: list[Tensor] = []
    stretches = _stretches(weights, rates, weights.drive(images), trial.on, slope, trial.checkpoint)
    for step, after in enumerate(stretches, start=1):
        rates = after
        if step > trial.on - counted:
            logits = weights.logits(rates).to(images)
            answers.append(F.cross_entropy(logits, targets, label_smoothing=label_smoothing))
    answer = (ramp * torch.stack(answers)).mean()
    distances: list[Tensor] = []
    quiet = _stretches(weights, rates, weights.drive(None), trial.off, slope, trial.checkpoint)
    for step, after in enumerate(quiet, start=1):
        if step > trial.off - trial.settle:
            distances += [(r - b).square().mean() for r, b in zip(after, baseline, strict=True)]
    distance = torch.stack(distances).mean() if distances else answer.new_zeros(())
    return TrialLoss(answer, distance)


@torch.no_grad()
def trial_answers(
    weights: NetworkWeights, images: Float[Tensor, "B c H W"], trial: Trial, slope: float = 0.0
) -> Float[Tensor, "B K"]:
    """Return the logits at the end of the on-steps."""
    rates = expanded(_rest(weights, trial.warmup, slope), images.shape[0])
    return weights.logits(_after(weights, rates, images, trial.on, slope))


@torch.no_grad()
def return_distances(
    weights: NetworkWeights,
    images: Float[Tensor, "B c H W"],
    trial: Trial,
    generator: torch.Generator,
    slope: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Say how far from the baseline the network still is when the off-steps are over.

        max over images and areas of |r(end) - baseline| / |r(start) - baseline|

    Args:
        weights: The network.
        images: What it sees.
        trial: Times.
        generator: CPU generator of the random starts.
        slope: Of the nonlinearity inside areas.

    Returns:
        From where the images have left it, and from random states: every unit anywhere between 0
        and the largest rate that the images have called forth in its area.
    """
    baseline = _rest(weights, trial.warmup, slope)
    left = _after(weights, expanded(baseline, images.shape[0]), images, trial.on, slope)
    anywhere = tuple(
        r.amax() * torch.rand(r.shape, generator=generator, dtype=r.dtype).to(r) for r in left
    )
    found = []
    for start in (left, anywhere):
        rates = _after(weights, start, None, trial.off, slope)
        shares = [
            (r - b).flatten(1).norm(dim=1) / _length_of(s - b)
            for r, s, b in zip(rates, start, baseline, strict=True)
        ]
        found.append(torch.stack(shares).amax())
    return found[0], found[1]


def _length_of(x: Tensor) -> Float[Tensor, " B"]:
    """Return the length of every item; what has not moved is not to be divided by zero."""
    return x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)


@torch.no_grad()
def _rest(weights: NetworkWeights, steps: int, slope: float) -> Rates:
    """Return the state without input, for a batch of one."""
    fixed = weights.detached()
    return _after(fixed, fixed.zero(), None, steps, slope)


def _after(
    weights: NetworkWeights, rates: Rates, images: Tensor | None, steps: int, slope: float
) -> Rates:
    """Return the rates after some steps without gradient; with relu, by the fastest way."""
    if slope:
        found = _steps(weights, rates, weights.drive(images), steps, slope)
    else:
        found = unroll(weights, rates, images, steps)
    for after in found:
        rates = after
    return rates


def _steps(
    weights: NetworkWeights, rates: Rates, drive: Drive, steps: int, slope: float
) -> Iterator[Rates]:
    for _ in range(steps):
        rates = weights.step(rates, drive, slope)
        yield rates


def _stretches(
    weights: NetworkWeights, rates: Rates, drive: Drive, steps: int, slope: float, length: int
) -> Iterator[Rates]:
    """Yield the rates after each step; stretches of ``length`` steps keep only what they yield."""
    if not length:
        yield from _steps(weights, rates, drive, steps, slope)
        return

    def stretch(count: int, *before: Tensor) -> tuple[Rates, ...]:
        return tuple(_steps(weights, before, drive, count, slope))

    for first in range(0, steps, length):
        count = min(length, steps - first)
        found = checkpoint(stretch, count, *rates, use_reentrant=False, preserve_rng_state=False)
        rates = found[-1]
        yield from found
