"""How sure the number of dimensions is that a colour-matching experiment found.

    resampling   seeds drawn from the runs, lights drawn from the lights, both with replacement
    residual     its mean over both, for every number of primaries; the interval holds 95 % of them
    dimension    counted anew in every resampling; how often it comes out is how sure it is

The number of dimensions rests on a threshold, and says nothing where a residual lies close to it.
So two yardsticks stand beside it that do not: the noise floor, which is how much a light differs
from itself when seen twice, and the perfect observer, who has as many dimensions as the eye has
types of cones. A residual far above the noise is a difference that this cortex makes; how much of
the perfect observer's residual it is says how much of that dimension the cortex has learned.

Axes    R runs | N numbers of primaries | L lights | B resamplings
Source  efron1979 (bootstrap); the yardsticks are ours
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from calcarine.errors import InputError
from calcarine.probes.color_matching import ColorMatching

__all__ = ["MatchingConfidence", "matching_confidence"]

SURE, LIKELY = 0.95, 0.8
"""Shares of resamplings from which a count is called sure, and likely; ours."""

ABOVE_NOISE = 3.0
"""How many times the noise floor a residual must be to count as a difference; ours."""


@dataclass(frozen=True)
class MatchingConfidence:
    """How sure a count of dimensions is; index n - 1 of every list belongs to n primaries.

    Args:
        runs: How many outcomes were pooled: runs of the same recipe with other seeds.
        lights: How many test lights each has.
        dimension: Fewest primaries that match every light, of the mean over runs; ``None`` if the
            most tried do not.
        probability: Share of resamplings in which that is the dimension.
        shares: Share of resamplings by dimension; the last one is that of more than the most tried.
        mean_residual: Mean over runs and lights.
        interval: Where the mean lies in 95 % of the resamplings.
        observer_residual: Mean residual of the perfect observer of the same cones.
        noise_floor: How much a light differs from itself, mean over runs and lights; NaN if it was
            not measured.
        threshold: Mean residual below which the lights count as matched.
    """

    runs: int
    lights: int
    dimension: int | None
    probability: float
    shares: tuple[float, ...]
    mean_residual: tuple[float, ...]
    interval: tuple[tuple[float, float], ...]
    observer_residual: tuple[float, ...]
    noise_floor: float
    threshold: float

    @property
    def times_noise(self) -> tuple[float, ...]:
        """Residuals in units of the noise floor; NaN if that was not measured."""
        floor = self.noise_floor
        return tuple(r / floor if floor > 0 else math.nan for r in self.mean_residual)

    @property
    def share_of_observer(self) -> tuple[float, ...]:
        """Residuals relative to the perfect observer's; NaN where that one matches exactly."""
        pairs = zip(self.mean_residual, self.observer_residual, strict=True)
        return tuple(m / o if o > 1e-6 else math.nan for m, o in pairs)

    @property
    def discerned(self) -> int | None:
        """Dimensions that stand out from the noise, however weak; ``None`` if unknown or more."""
        within = [n for n, times in enumerate(self.times_noise, 1) if times < ABOVE_NOISE]
        return within[0] if within else None

    def sentence(self) -> str:
        """Say how sure the count is, and what it rests on."""
        pooled = f"{self.lights} lights" + (f" x {self.runs} runs" if self.runs > 1 else "")
        sure = self.probability
        word = "sure" if sure >= SURE else "likely" if sure >= LIKELY else "undecided"
        count = f"more than {len(self.shares) - 1}" if self.dimension is None else self.dimension
        said = (
            f"{count} dimension{'' if count == 1 else 's'}, {word}: {sure:.0%} of the resamplings "
        )
        said += f"of {pooled}"
        if sure < SURE:
            said += f" ({self._others()})"
        parts = [said]
        below = len(self.shares) - 1 if self.dimension is None else self.dimension - 1
        if below:
            parts.append(self._remains(below))
        weak = self._weaker()
        return ". ".join([*parts, weak] if weak else parts) + "."

    def _others(self) -> str:
        """Name the other counts that came out."""
        mine = len(self.shares) if self.dimension is None else self.dimension
        most = len(self.shares)
        return ", ".join(
            f"{f'more than {most - 1}' if n == most else n} in {share:.0%}"
            for n, share in enumerate(self.shares, 1)
            if n != mine and share >= 0.005
        )

    def _remains(self, n: int) -> str:
        low, high = self.interval[n - 1]
        said = (
            f"With {n} {'primary' if n == 1 else 'primaries'} {self.mean_residual[n - 1]:.4f} of a "
            f"light remain (95 %: {low:.4f} to {high:.4f})"
        )
        times, share = self.times_noise[n - 1], self.share_of_observer[n - 1]
        yardsticks = [] if math.isnan(times) else [f"{times:.0f} times the noise"]
        if not math.isnan(share):
            yardsticks.append(f"{share:.0%} of what the perfect observer has")
        return ": ".join([said, ", ".join(yardsticks)]) if yardsticks else said

    def _weaker(self) -> str:
        """Say whether the cones allow a dimension that the threshold does not count."""
        n = self.dimension
        if n is None or math.isnan(share := self.share_of_observer[n - 1]):
            return ""
        said = f"The cones allow more: {self._remains(n)[0].lower()}{self._remains(n)[1:]}"
        if self.discerned is not None and self.discerned <= n:
            return said
        return f"{said}, so there is a further dimension, too weak to count" if share > 0 else said


def matching_confidence(
    outcomes: Sequence[ColorMatching], *, resamples: int = 2000, seed: int = 0
) -> MatchingConfidence:
    """Say how sure a count of dimensions is, from one run or several.

    One run says how much the lights matter, not how much another run would differ.

    Args:
        outcomes: Of runs that differ in their seed only.
        resamples: How often to resample.
        seed: Seed of the resampling.

    Raises:
        InputError: If there are no outcomes, or they are of other lights, eyes or thresholds.
    """
    found = list(outcomes)
    _check_alike(found)
    if resamples < 1:
        raise InputError(f"matching_confidence expected resamples >= 1, got {resamples}.")
    first, most = found[0], _most(found)
    residuals = torch.tensor([o.residuals[:most] for o in found], dtype=torch.float64)
    means = _resampled(residuals, resamples, torch.Generator().manual_seed(seed))
    ends = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0)
    counted = torch.bincount(_dimensions(means, first.threshold), minlength=most + 1)
    shares = (counted / resamples).tolist()
    mean = residuals.mean(dim=(0, 2))
    index = int(_dimensions(mean[None], first.threshold))
    noise = [outcome.mean_noise for outcome in found]
    return MatchingConfidence(
        len(found), residuals.shape[2], index + 1 if index < most else None, shares[index],
        tuple(shares), tuple(mean.tolist()), tuple((a, b) for a, b in ends.T.tolist()),
        first.observer_residual[:most], sum(noise) / len(noise), first.threshold,
    )  # fmt: skip


def _most(found: Sequence[ColorMatching]) -> int:
    """Return the largest number of primaries that all have tried."""
    return min(len(outcome.residuals) for outcome in found)


def _check_alike(found: Sequence[ColorMatching]) -> None:
    if not found or not all(outcome.residuals for outcome in found):
        raise InputError(
            "matching_confidence expected at least one outcome with the residuals of all lights, "
            f"got {len(found)} outcome(s). Measure with color_matching."
        )
    first = found[0]
    most = _most(found)
    for other in found[1:]:
        same = zip(first.observer_residual[:most], other.observer_residual[:most], strict=True)
        if (
            other.wavelengths_nm != first.wavelengths_nm
            or other.threshold != first.threshold
            or any(abs(a - b) > 1e-6 for a, b in same)
        ):
            raise InputError(
                "Runs are pooled if they differ in their seed only, but these have other lights, "
                "thresholds or cones. Match their colours one by one."
            )


def _resampled(residuals: torch.Tensor, resamples: int, generator: torch.Generator) -> torch.Tensor:
    """Return mean residuals (B, N) over runs and lights drawn with replacement."""
    runs, _, lights = residuals.shape
    weights = []
    for count in (runs, lights):
        drawn = torch.randint(count, (resamples, count), generator=generator)
        ones = torch.ones(drawn.shape, dtype=residuals.dtype)
        times = torch.zeros(resamples, count, dtype=residuals.dtype).scatter_add_(1, drawn, ones)
        weights.append(times / count)
    return torch.einsum("br,rnl,bl->bn", weights[0], residuals, weights[1])


def _dimensions(means: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the index of the first mean below the threshold, or how many there are, (B,)."""
    matched = torch.cat([means < threshold, torch.ones_like(means[:, :1]).bool()], dim=1)
    return matched.to(torch.uint8).argmax(dim=1)
