"""Robustness to noise: how often a model is right about images under Gaussian noise.

    frozen      image + std n       the same n in every step of a trial
    per_step    image + std n_t     n_t drawn anew in every step

Both have the same energy at every moment. A network that integrates with the time constant tau
sees less of the second: a linear leaky unit stepped with a = dt / tau keeps a / (2 - a) of its
variance. Frozen noise of all strengths is one draw times the strength, so that a curve shows the
strength and not the draw; two models given generators of the same seed see the same frozen noise.

Axes    N kinds of noise | S strengths | B batch
Units   strengths in those of the images that the model takes
Source  soo2024 (both kinds); wilson1927 (intervals)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError, ShapeError, UnknownNameError
from calcarine.probes._memory import has_memory
from calcarine.probes._proportions import standard_error, wilson
from calcarine.probes._trials import Player, drawn_like, player
from calcarine.probes.time_course import check_classes, check_labels
from calcarine.stage import steps_of

__all__ = ["NoiseRobustness", "noise_robustness"]

Kind = Literal["frozen", "per_step"]


@dataclass(frozen=True)
class NoiseRobustness:
    """How often a model is right under noise.

    Attributes:
        noise_std: Standard deviations of the noise.
        kinds: Kinds of noise, ``"frozen"`` or ``"per_step"``.
        correct: Answers that are right, by kind and strength.
        count: Answers asked for at each: images times repeats.
    """

    noise_std: Float[Tensor, " S"]
    kinds: tuple[Kind, ...]
    correct: Int[Tensor, "N S"]
    count: int

    @property
    def accuracy(self) -> Float[Tensor, "N S"]:
        """Share of answers that are right."""
        return self.correct.double() / self.count

    @property
    def standard_error(self) -> Float[Tensor, "N S"]:
        """Binomial standard error of the accuracy."""
        return standard_error(self.correct, self.count)

    def interval(self, level: float = 0.95) -> tuple[Float[Tensor, "N S"], Float[Tensor, "N S"]]:
        """Return both ends of Wilson's interval of the accuracy.

        Repeats count as images of their own, which makes it too narrow for several of them.

        Raises:
            InputError: If the level is not within 0 and 1.
        """
        return wilson(self.correct, self.count, level)


@torch.no_grad()
def noise_robustness(
    model: Callable[[Tensor], Tensor] | nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    noise_std: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0),
    *,
    kinds: Sequence[Kind] | None = None,
    repeats: int = 1,
    generator: torch.Generator | None = None,
    warmup_ms: float = 200.0,
    stimulus_ms: float = 200.0,
    dt_ms: float | None = None,
) -> NoiseRobustness:
    """Measure how often a model is right about noisy images.

    Args:
        model: A ``DynamicStage`` that answers with logits in every step, read as the image goes; or
            anything that makes logits (batch, class) of images, such as a feed-forward network.
            Put it into ``eval()`` first.
        batches: Pairs of images (batch, ...) and class numbers (batch,). For one batch pass
            ``[(images, labels)]``.
        noise_std: Standard deviations of the noise, in units of the images as the model takes them.
        kinds: ``"frozen"``, ``"per_step"`` or both, which is what ``None`` means; only the first
            where the model has no memory.
        repeats: Draws of noise for every image.
        generator: Draws the noise, on the device of the images.
        warmup_ms: Time without input before onset; no effect without memory.
        stimulus_ms: How long every image is shown; no effect without memory.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.

    Raises:
        InputError: If there are no images or strengths, a strength is below 0, noise per step is
            asked of a model without memory, or times do not fit the step.
        UnknownNameError: If there is no such kind of noise.
        ShapeError: If labels do not fit their images, or the model does not answer with logits.
        NonFiniteError: If an answer is NaN or infinite.
    """
    dynamic = has_memory(model)
    chosen = _checked(noise_std, kinds, repeats, dynamic)
    taken = player(model, dt_ms) if dynamic else None  # type: ignore[arg-type]
    if taken is not None:
        steps_of("noise_robustness", "stimulus_ms", stimulus_ms, taken.dt_ms, least=1)
    correct, broken, count = None, None, 0
    for images, labels in batches:
        check_labels(images, labels)
        labels = labels.to(images.device)
        times_ms = warmup_ms, stimulus_ms
        for _ in range(repeats):
            answers = _answers(model, taken, images, times_ms, chosen, noise_std, generator)
            right, bad = _judge(answers, labels)
            correct = right if correct is None else correct + right
            broken = bad if broken is None else broken | bad
            count += len(labels)
    if correct is None or broken is None:
        raise InputError("noise_robustness expected at least one batch of images, got none.")
    if broken:
        raise NonFiniteError("The model answered a noisy image with NaN or infinity.")
    strengths = torch.tensor([float(s) for s in noise_std], dtype=torch.double)
    shape = (len(chosen), len(strengths))
    return NoiseRobustness(strengths, chosen, correct.cpu().reshape(shape), count)


def _judge(answers: Iterable[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of each answers are right, and whether any is no number."""
    right, broken = [], []
    for logits in answers:
        check_classes(labels, logits)
        right.append((logits.argmax(1) == labels).sum())
        broken.append(~logits.isfinite().all())
    return torch.stack(right), torch.stack(broken).any()


def _answers(
    model: Callable[[Tensor], Tensor],
    taken: Player | None,
    images: Tensor,
    times_ms: tuple[float, float],
    kinds: Sequence[Kind],
    noise_std: Sequence[float],
    generator: torch.Generator | None,
) -> Iterable[Tensor]:
    """Yield the logits of a batch for one kind and strength of noise after the other."""
    rest = None if taken is None else taken.baseline(images, times_ms[0])
    for kind in kinds:
        drawn = drawn_like(images, generator) if kind == "frozen" else None
        for std in noise_std:
            shown = images if drawn is None else images + std * drawn
            if taken is None:
                yield _logits(model(shown))
                continue
            changing = std if kind == "per_step" else 0.0
            moments = taken.play(shown, rest, times_ms[1], 0.0, changing, generator)
            yield taken.logits(deque(moments, maxlen=1).pop())


def _checked(
    noise_std: Sequence[float], kinds: Sequence[Kind] | None, repeats: int, dynamic: bool
) -> tuple[Kind, ...]:
    """Return the kinds of noise to show."""
    if not len(noise_std) or not all(0 <= std < math.inf for std in noise_std):
        raise InputError(
            f"noise_robustness expected standard deviations of at least 0, got {list(noise_std)}."
        )
    if not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"noise_robustness expected repeats >= 1, got {repeats!r}.")
    if kinds is None:
        return ("frozen", "per_step") if dynamic else ("frozen",)
    for kind in kinds:
        if kind not in ("frozen", "per_step"):
            raise UnknownNameError("kind of noise", str(kind), ("frozen", "per_step"))
    if not kinds or ("per_step" in kinds and not dynamic):
        raise InputError(
            "noise_robustness expected 'frozen', and 'per_step' only for a model with memory, got "
            f"kinds={list(kinds)}. A model without memory sees a single moment."
        )
    return tuple(kinds)


def _logits(answer: Tensor) -> Tensor:
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ShapeError(f"Expected a model that answers with logits (batch, class), got {got}.")
    return answer
