"""Trials for the classifying verb: what a network takes every picture for, step by step.

Axes    T steps from onset | K classes | C channels | H W rows down, columns right
Units   time in ms from onset
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from calcarine.commands.classifiers import Classifier
from calcarine.commands.shown_pictures import Shown
from calcarine.errors import InputError, NonFiniteError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = ["Course", "Protocol", "watch"]

_BATCH = 16
_MOST_VALUES = 400_000_000  # of a movie with its frames repeated, about 1.6 GB


class Protocol(NamedTuple):
    """How pictures are shown.

    Attributes:
        warmup_ms: Time without a picture before.
        stimulus_ms: How long a picture is shown; movies last as long as they have frames.
        off_ms: Time without a picture after.
        noise: Standard deviation of Gaussian noise, in units of the prepared picture.
        frozen: Whether it is drawn once per picture, not anew in every step.
        seed: Seed of the noise.
    """

    warmup_ms: float
    stimulus_ms: float
    off_ms: float
    noise: float
    frozen: bool
    seed: int


class Course(NamedTuple):
    """What the network took one picture for."""

    shown: Shown
    picture: Float[Tensor, "C H W"]
    time_ms: Float[Tensor, " T"]
    shares: Float[Tensor, "T K"]
    offset_ms: float

    @property
    def at_offset(self) -> int:
        """Index of the last moment at which the picture was there."""
        return int((self.time_ms <= self.offset_ms + 1e-6).sum()) - 1

    @property
    def answer(self) -> int:
        """The answer when the picture goes."""
        return int(self.shares[self.at_offset].argmax())

    @property
    def decided_ms(self) -> float:
        """From when on that answer stayed."""
        same = self.shares[: self.at_offset + 1].argmax(1) == self.answer
        return float(self.time_ms[int((~same).nonzero().max()) + 1 if (~same).any() else 0])


def watch(
    network: Classifier, shown: Sequence[Shown], protocol: Protocol, quiet: bool
) -> list[Course]:
    """Show everything and keep the probabilities at onset and after every step."""
    import torch

    from calcarine.progress import open_progress

    courses: list[Course] = []
    draw = torch.Generator().manual_seed(protocol.seed)
    progress = open_progress(len(shown), 0, unit="picture", shown=not quiet)
    try:
        with torch.inference_mode():
            for batch in _batches(shown):
                courses += _trial(network, batch, protocol, draw)
                progress.advance(len(courses))
    finally:
        progress.close()
    return courses


def _batches(shown: Sequence[Shown]) -> Iterator[list[Shown]]:
    """Gather pictures that stand still; movies come one by one."""
    batch: list[Shown] = []
    for each in shown:
        if batch and (each.frame_ms or batch[0].frame_ms or len(batch) == _BATCH):
            yield batch
            batch = []
        batch.append(each)
    yield batch


def _trial(
    network: Classifier, batch: Sequence[Shown], protocol: Protocol, draw: Any
) -> list[Course]:
    import torch

    model, on_ms = network.model, protocol.stimulus_ms
    frozen, fresh = (protocol.noise, 0.0) if protocol.frozen else (0.0, protocol.noise)
    images = _in_steps(batch[0], model.dt_ms) if batch[0].frame_ms else None
    if images is None:
        images = torch.cat([each.images for each in batch])
    else:
        on_ms = len(images) * model.dt_ms
    middle = images[len(images) // 2] if images.ndim == 5 else images
    pictures = network.display(middle).clamp(0, 1)
    if frozen:
        images = images + frozen * torch.randn(images.shape[-4:], generator=draw).to(images)
    rest, weights = model.baseline(middle, protocol.warmup_ms), model.folded()
    logits = [weights.logits(tuple(area.r for area in rest.areas))]
    steps = model.trial(
        images, 0.0, on_ms, protocol.off_ms, state=rest, noise=fresh, generator=draw
    )
    logits += [weights.logits(rates) for rates in steps]
    shares = torch.stack(logits).softmax(-1)
    if not shares.isfinite().all():
        raise NonFiniteError(
            f"{network.name} answers with NaN or infinity: its weights are broken."
        )
    time_ms = torch.arange(len(shares), dtype=torch.float64) * model.dt_ms
    return [Course(each, pictures[i], time_ms, shares[:, i], on_ms) for i, each in enumerate(batch)]


def _in_steps(movie: Shown, dt_ms: float) -> Tensor:
    """Repeat every frame for as many steps as it lasts, one at least."""
    import torch

    counts = [max(1, round(duration / dt_ms)) for duration in movie.frame_ms]
    if sum(counts) * movie.images[0].numel() > _MOST_VALUES:
        raise InputError(f"The movie {movie.name} lasts too long to be held in memory.")
    return movie.images.repeat_interleave(torch.tensor(counts), 0)
