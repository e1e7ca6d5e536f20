"""Accuracy over time: how often a network is right at every moment after an image appears.

    accuracy(t)     share of images whose largest logit at time t is that of their class
    confidence(t)   mean over images of softmax(logits(t)) at their class

Time runs from onset: the first value is that after one step, and those after ``stimulus_ms`` tell
how long an answer outlives its image. Batches pass one by one; only counts are kept.

Axes    T time | K classes
Units   time in ms
Source  soo2024 (accuracy over time); wilson1927 (intervals)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes._proportions import standard_error, wilson
from calcarine.probes._trials import Player, player
from calcarine.stage import steps_of

__all__ = ["AccuracyOverTime", "accuracy_over_time"]


@dataclass(frozen=True)
class AccuracyOverTime:
    """How often, and how surely, a network is right at every moment.

    Attributes:
        time_ms: Time since onset.
        correct: Images of every class that are told right at that time.
        images: Images of every class.
        confidence: Mean probability given to the right class.
        stimulus_ms: When the image goes.
    """

    time_ms: Float[Tensor, " T"]
    correct: Int[Tensor, "T K"]
    images: Int[Tensor, " K"]
    confidence: Float[Tensor, " T"]
    stimulus_ms: float

    @property
    def count(self) -> int:
        """Number of images."""
        return int(self.images.sum())

    @property
    def accuracy(self) -> Float[Tensor, " T"]:
        """Share of images told right at every moment."""
        return self.correct.sum(1).double() / self.count

    @property
    def class_accuracy(self) -> Float[Tensor, "T K"]:
        """Share told right of every class; NaN for a class without images."""
        return self.correct.double() / self.images

    @property
    def standard_error(self) -> Float[Tensor, " T"]:
        """Binomial standard error of the accuracy."""
        return standard_error(self.correct.sum(1), self.count)

    def interval(self, level: float = 0.95) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
        """Return both ends of Wilson's interval of the accuracy.

        Raises:
            InputError: If the level is not within 0 and 1.
        """
        return wilson(self.correct.sum(1), self.count, level)

    @property
    def final(self) -> float:
        """Accuracy at the last moment of the image."""
        return float(self.accuracy[self.time_ms <= self.stimulus_ms * (1 + 1e-9)][-1])

    def time_to(self, share: float = 0.9) -> float:
        """Return when the accuracy first reaches a share of what it is as the image goes, ms.

        Args:
            share: Of the final accuracy, 0 < share <= 1.

        Raises:
            InputError: If the share is not within 0 and 1.
        """
        if not 0 < share <= 1:
            raise InputError(f"time_to expected 0 < share <= 1, got {share!r}.")
        reached = (self.accuracy >= share * self.final - 1e-12).nonzero()
        return float(self.time_ms[reached[0, 0]]) if len(reached) else math.inf


@torch.no_grad()
def accuracy_over_time(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    warmup_ms: float = 200.0,
    stimulus_ms: float = 200.0,
    off_ms: float = 0.0,
    dt_ms: float | None = None,
) -> AccuracyOverTime:
    """Measure how often a model is right at every moment of a trial.

    >>> course = accuracy_over_time(model, data.held_out(64), off_ms=100)
    >>> course.accuracy[-1], course.time_to(0.9)

    Args:
        model: A ``DynamicStage`` that answers with logits (batch, class) in every step; put it into
            ``eval()`` first.
        batches: Pairs of images (batch, ...) and class numbers (batch,). For one batch pass
            ``[(images, labels)]``.
        warmup_ms: Time without input before onset, a multiple of the model's step.
        stimulus_ms: How long every image is shown.
        off_ms: Time without input after that.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.

    Raises:
        InputError: If there are no images, the model has no memory, a time is not a multiple of
            its step, or a label is not one of its classes.
        ShapeError: If labels do not fit their images, or the model does not answer with logits.
        NonFiniteError: If an answer is NaN or infinite.
    """
    taken = player(model, dt_ms)
    steps = steps_of("accuracy_over_time", "stimulus_ms", stimulus_ms, taken.dt_ms, least=1)
    steps += steps_of("accuracy_over_time", "off_ms", off_ms, taken.dt_ms)
    correct, confidence, images = None, None, None
    for shown, labels in batches:
        check_labels(shown, labels)
        labels = labels.to(shown.device)
        state = taken.baseline(shown, warmup_ms)
        right, sure = _judge(taken, taken.play(shown, state, stimulus_ms, off_ms), labels)
        number = torch.bincount(labels, minlength=right.shape[1])
        correct = right if correct is None else correct + right
        confidence = sure if confidence is None else confidence + sure
        images = number if images is None else images + number
    if correct is None or confidence is None or images is None:
        raise InputError("accuracy_over_time expected at least one batch of images, got none.")
    if not confidence.isfinite().all():
        raise NonFiniteError("The answers of the model became NaN or infinite during a trial.")
    time_ms = taken.dt_ms * torch.arange(1, steps + 1, dtype=torch.double)
    mean = confidence / images.sum()
    return AccuracyOverTime(time_ms, correct.cpu(), images.cpu(), mean.cpu(), float(stimulus_ms))


def _judge(taken: Player, moments: Any, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many of every class are told right, and the summed confidence, by moment."""
    right: list[Tensor] = []
    sure: list[Tensor] = []
    for moment in moments:
        logits = taken.logits(moment)
        if not right:
            check_classes(labels, logits)
        hit = (logits.argmax(1) == labels).long()
        # Not bincount, which would wait for the device in every step.
        right.append(hit.new_zeros(logits.shape[1]).index_add_(0, labels, hit))
        logits = logits if logits.dtype == torch.double else logits.float()
        sure.append(logits.softmax(1).gather(1, labels[:, None]).sum())
    return torch.stack(right), torch.stack(sure)


def check_labels(images: Tensor, labels: Tensor) -> None:
    """Refuse labels that are not one class number per image.

    Raises:
        InputError: If the batch is empty or a label is below 0.
        ShapeError: If there is not one number per image.
    """
    whole = isinstance(labels, Tensor) and not (
        labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool
    )
    if not whole or labels.shape != images.shape[:1]:
        got = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else (type(labels).__name__)
        )
        raise ShapeError(
            f"Expected class numbers (batch,) for {images.shape[0]} images, whole numbers, got "
            f"{got}. Take held-out images, which are not mixed."
        )
    if not len(labels) or int(labels.min()) < 0:
        raise InputError("Expected at least one image per batch and class numbers from 0.")


def check_classes(labels: Tensor, logits: Tensor) -> None:
    """Refuse labels that are no class of the logits.

    Raises:
        InputError: If one is not below the number of classes, or the batch is another one.
    """
    if len(logits) != len(labels) or int(labels.max()) >= logits.shape[1]:
        raise InputError(
            f"Expected labels below the number of classes, got label {int(labels.max())} for "
            f"logits of shape {tuple(logits.shape)}."
        )
