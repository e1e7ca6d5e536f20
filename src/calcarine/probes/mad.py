"""Maximum-differentiation competition: where two metrics disagree most.

    drive o(x) / o(x0) up or down   while   r(x) / r(x0) = 1

o and r are the optimised and the reference metric, both distances to the same image, and x0 is that
image in white noise. With ``tradeoff="auto"`` the reference is held by an augmented Lagrangian,

    -+ o/o0 + y (r/r0 - 1) + m (r/r0 - 1)^2 + w penalty / mse(x0),    y <- y + 2 m (r/r0 - 1)

which meets it exactly in the end; with a number, by that fixed weight m alone and y = 0, as
published, which leaves a compromise.

Axes    B batch | C channel | H W rows down, columns right | N iterations
Source  wang2008 (the competition); nocedal2006, chapter 17 (the augmented Lagrangian)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes._inputs import (
    check_same,
    check_tensor,
    check_weight,
    per_group,
    probing_generator,
)
from calcarine.probes.penalty import range_penalty
from calcarine.probes.saving import read_result, write_result
from calcarine.probes.steppers import Objective, Optimizer
from calcarine.probes.synthesis import Plan, Synthesis, SynthesisProbe
from calcarine.progress import Progress
from calcarine.testing import check_model

__all__ = ["MADCompetition", "MADLosses", "mad_competition"]

Metric = Callable[[Tensor, Tensor], Tensor]
Penalty = Callable[[Tensor], Tensor]
Direction = Literal["min", "max"]

_KIND = "mad_competition"
_NOISE_STD = 0.1
_ROUNDS = 8  # how often the multiplier is corrected
_WINDOW = 20  # iterations in which a round must get on, fewer than it has; ours
_FIRST_WEIGHT, _HELD = 10.0, 1e-3
_IDENTICAL = 1e-6  # largest value of a distance between identical images


class MADLosses(NamedTuple):
    """Metrics and penalty after every iteration, the first before any; means over the batch.

    Attributes:
        optimized: The metric driven up or down.
        reference: The metric that is held.
        penalty: The penalty, without its weight.
    """

    optimized: Float[Tensor, " N"]
    reference: Float[Tensor, " N"]
    penalty: Float[Tensor, " N"]


class MADCompetition(SynthesisProbe):
    """Find the image that one metric finds worst, or best, among those another finds equal.

    >>> distance = lambda a, b: 1 - ssim(a, b)
    >>> best = MADCompetition(image, distance, mse, "min").synthesize()

    Args:
        image: The reference images, values in [0, 1] where the penalty is the default.
        optimized_metric: Distance of two images, differentiable, 0 for identical ones: one value
            per image, or per image and channel, or one in all.
        reference_metric: The distance that is held.
        minmax: Whether the optimised metric is driven down (``"min"``) or up (``"max"``).
        tradeoff: ``"auto"``, or the weight m of a fixed compromise; see the module.
        initial: Where to begin, and whose distance is held; by default the image in white noise of
            standard deviation 0.1, within [0, 1].
        penalty: What an image pays beside; ``None`` for nothing.
        penalty_weight: Its weight, relative to the mean squared noise. It must outweigh what
            leaving the range gains: driven up, the mean squared error gains 1. Ours.
        generator: CPU generator of the noise; with a fixed seed by default.

    Attributes:
        mad_image: The synthesised images (B, C, H, W); changed in place by ``synthesize``.
        status: How the last call ended. ``"converged"`` means that the optimised metric has stopped
            moving and, with ``tradeoff="auto"``, the reference is held to 0.1 %.

    Raises:
        InputError: If a metric cannot be used, with what to change; or images do not fit.
    """

    def __init__(
        self,
        image: Float[Tensor, "B C H W"],
        optimized_metric: Metric,
        reference_metric: Metric,
        minmax: Direction,
        tradeoff: Literal["auto"] | float = "auto",
        *,
        initial: Float[Tensor, "B C H W"] | None = None,
        penalty: Penalty | None = range_penalty,
        penalty_weight: float = 30.0,
        generator: torch.Generator | None = None,
    ) -> None:
        if minmax not in ("min", "max"):
            raise InputError(f"MADCompetition expected minmax 'min' or 'max', got {minmax!r}.")
        if tradeoff != "auto" and not (isinstance(tradeoff, int | float) and tradeoff > 0):
            raise InputError(
                f"MADCompetition expected tradeoff 'auto' or a weight > 0, got {tradeoff!r}."
            )
        self.optimized_metric, self.reference_metric = optimized_metric, reference_metric
        self.minmax, self.tradeoff = minmax, tradeoff
        self.penalty = penalty
        self.penalty_weight = check_weight("MADCompetition", penalty_weight)
        check_tensor("MADCompetition", image)
        self.image = image.detach()
        if initial is None:
            drawn = torch.randn(
                image.shape, generator=probing_generator(generator), dtype=image.dtype
            )
            initial = (self.image + _NOISE_STD * drawn.to(image.device)).clamp(0, 1)
        self.initial = check_same("MADCompetition", "initial", initial, image).detach().clone()
        for name, metric in (("optimized", optimized_metric), ("reference", reference_metric)):
            _check_metric(name, metric, self.image, self.initial)
        self._synthesis = Synthesis(self.initial.clone())
        with torch.no_grad():
            self._units = self._metrics(self.initial)
        if not bool((self._units[:2] > 0).all()):
            raise InputError(
                "MADCompetition expected an initial image that both metrics tell from the image; "
                "one of them gives 0. Begin from a noisier image."
            )
        # Multiplier and weight of the reference, one per group.
        self._hold = torch.stack(
            [
                torch.zeros_like(self._units[0]),
                torch.full_like(
                    self._units[0], _FIRST_WEIGHT if tradeoff == "auto" else float(tradeoff)
                ),
            ]
        )

    def synthesize(
        self,
        max_iter: int = 400,
        tolerance: float = 1e-3,
        optimizer: Optimizer = "lbfgs",
        store_every: int | None = None,
        *,
        progress: bool = True,
    ) -> MADCompetition:
        """Drive the optimised metric; again to go on.

        Args:
            max_iter: Most iterations of this call, each one evaluation of both metrics.
            tolerance: Relative change of the objective over 20 iterations that counts as none.
            optimizer: As for :meth:`Metamer.synthesize`, made for ``[mad.mad_image]``.
            store_every: Keep the image every so many iterations, for :attr:`history`.
            progress: Whether to show how far it is, on standard error.

        Returns:
            This probe.

        Raises:
            InputError: If an argument cannot be used.
            NonFiniteError: If a metric becomes NaN or infinite, with the iteration.
        """
        names = ("optimized", "reference change")
        plan = Plan(max_iter, tolerance, "stationary", store_every, progress, names, _WINDOW)
        if self.tradeoff != "auto":
            self._synthesis.run(self._objective(), plan, optimizer)
            return self
        with self._synthesis.progress(plan) as bar:
            self._hold_exactly(plan, optimizer, bar)
        return self

    def _hold_exactly(self, plan: Plan, optimizer: Optimizer, bar: Progress) -> None:
        """Correct the multiplier from round to round."""
        last = self.iterations + plan.max_iter
        share = max(1, plan.max_iter // _ROUNDS)
        while self.iterations < last:
            round_ = plan.cut(min(share, last - self.iterations))
            before = self._excess()
            status = self._synthesis.run(self._objective(), round_, optimizer, fresh=True, bar=bar)
            excess = self._excess()
            if status in ("diverged", "interrupted"):
                break
            if status == "converged" and float(excess.abs().max()) <= _HELD:
                break
            self._correct(before, excess)
            self._synthesis.status = "max_iter"

    @property
    def mad_image(self) -> Float[Tensor, "B C H W"]:
        """The synthesised images."""
        return self._synthesis.pixels

    @property
    def losses(self) -> MADLosses:
        """Metrics and penalty after every iteration, means over the batch."""
        terms = self._synthesis.item_losses()
        if not terms.numel():
            return MADLosses(*terms.new_zeros(3, 0))
        o, r, p = self._units.cpu()
        return MADLosses(
            (terms[0] * o).mean(1), ((terms[1] + 1) * r).mean(1), (terms[3] * p).mean(1)
        )

    @property
    def reference_change(self) -> float:
        """Largest relative change of the reference metric since the beginning."""
        return float(self._excess().abs().max())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything but the metrics to one .safetensors file.

        Raises:
            InputError: If the name ends otherwise.
            RunError: If the folder cannot be written.
        """
        tensors, facts = self._synthesis.save()
        tensors |= {"image": self.image, "initial": self.initial, "hold": self._hold}
        tensors["units"] = self._units
        facts |= {
            "minmax": self.minmax, "tradeoff": self.tradeoff, "penalty_weight": self.penalty_weight,
        }  # fmt: skip
        return write_result(path, _KIND, tensors, facts)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        optimized_metric: Metric,
        reference_metric: Metric,
        *,
        penalty: Penalty | None = range_penalty,
        device: torch.device | str = "cpu",
    ) -> MADCompetition:
        """Read what :meth:`save` wrote, ready to go on where it stopped.

        Args:
            path: The file.
            optimized_metric: The metric it was made with.
            reference_metric: The metric it was made with.
            penalty: The penalty it was made with.
            device: Where to.

        Raises:
            FileFormatError: If the file cannot be read, or is that of another probe.
            InputError: If a metric gives other values than those in the file.
        """
        tensors, facts = read_result(path, _KIND)
        made = cls(
            tensors["image"].to(device),
            optimized_metric,
            reference_metric,
            facts["minmax"],
            facts["tradeoff"],
            initial=tensors["initial"].to(device),
            penalty=penalty,
            penalty_weight=facts["penalty_weight"],
        )
        units = tensors["units"].to(device)
        if made._units.shape != units.shape or not torch.allclose(made._units, units, rtol=1e-3):
            raise InputError(
                f"{path} was made with other metrics: they give other values for its images. Load "
                "it with the metrics that it was made with, in the same order."
            )
        made._hold = tensors["hold"].to(device)
        made._synthesis = Synthesis.load(tensors, facts, made._objective(), torch.device(device))
        return made

    def _metrics(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "3 G"]:
        """Return the optimised metric, the reference, and the mean squared distance."""
        apart = (self.image - x).square().flatten(1).mean(1)
        return per_group(
            [self.optimized_metric(self.image, x), self.reference_metric(self.image, x), apart],
            len(x),
        )

    def _excess(self) -> Float[Tensor, " G"]:
        record = self._synthesis.record
        return record[-1][1] if record else torch.zeros_like(self._units[1])

    def _objective(self) -> Objective:
        def terms(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "4 G"]:
            values = [self.optimized_metric(self.image, x), self.reference_metric(self.image, x)]
            values.append(x.new_zeros(len(x)) if self.penalty is None else self.penalty(x))
            optimized, reference, penalty = per_group(values, len(x)) / self._units
            excess = reference - 1
            return torch.stack([optimized, excess, excess.square(), penalty])

        ones = torch.ones_like(self._hold[0])
        sign = 1.0 if self.minmax == "min" else -1.0
        weights = [sign * ones, *self._hold, self.penalty_weight * ones]
        return Objective(terms, torch.stack(weights))

    def _correct(self, before: Float[Tensor, " G"], excess: Float[Tensor, " G"]) -> None:
        """Move the multiplier by what is missing; press harder where that has not shrunk."""
        multiplier, weight = self._hold
        multiplier = multiplier + 2 * weight * excess
        slow = excess.abs() > torch.maximum(0.5 * before.abs(), torch.full_like(before, _HELD))
        self._hold = torch.stack([multiplier, torch.where(slow, 2 * weight, weight)])


def mad_competition(
    image: Float[Tensor, "B C H W"],
    first: Metric,
    second: Metric,
    tradeoff: Literal["auto"] | float = "auto",
    *,
    max_iter: int = 400,
    initial: Float[Tensor, "B C H W"] | None = None,
    generator: torch.Generator | None = None,
    store_every: int | None = None,
    progress: bool = True,
) -> dict[str, MADCompetition]:
    """Make all four images of a competition, from the same beginning.

    Args:
        image: The reference images.
        first: A metric; see :class:`MADCompetition`.
        second: Another one.
        tradeoff: How the held metric is held.
        max_iter: Most iterations of each.
        initial: Where to begin; by default the image in white noise.
        generator: CPU generator of the noise; with a fixed seed by default.
        store_every: Keep the images every so many iterations.
        progress: Whether to show how far it is, on standard error.

    Returns:
        ``"first_min"``, ``"first_max"``, ``"second_min"``, ``"second_max"``: which metric was
        driven, and which way; the other one was held.

    Raises:
        InputError: If a metric cannot be used.
        NonFiniteError: If a metric becomes NaN or infinite.
    """
    found: dict[str, MADCompetition] = {}
    for name, driven, held in (("first", first, second), ("second", second, first)):
        for minmax in ("min", "max"):
            probe = MADCompetition(
                image, driven, held, minmax, tradeoff, initial=initial, generator=generator
            )
            initial = probe.initial
            probe.synthesize(max_iter, store_every=store_every, progress=progress)
            found[f"{name}_{minmax}"] = probe
    return found


def _check_metric(
    name: str,
    metric: Metric,
    image: Float[Tensor, "B C H W"],
    initial: Float[Tensor, "B C H W"],
) -> None:
    """Check that a metric is a distance, and differentiable where the competition begins."""

    def response(x: Tensor) -> Tensor:
        value = per_group([metric(image, x)], len(x))
        return value.reshape(-1, 1, 1)

    response.__name__ = f"The {name} metric"
    check_model(response, initial).raise_if_failed()
    with torch.no_grad():
        largest = float(response(image).abs().max())
    if largest > _IDENTICAL:
        raise InputError(
            f"The {name} metric expected to be a distance, 0 for identical images, got "
            f"{largest:.3g}. Of a similarity pass the distance: lambda a, b: 1 - ssim(a, b)."
        )
