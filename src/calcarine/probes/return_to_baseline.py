"""Return to baseline: how far from rest a network is after its image has gone, and for how long.

    relative_j(t)     = ||r_j(t) - r_j*|| / ||r_j(0) - r_j*||     of the way it was pushed
    to_baseline_j(t)  = ||r_j(t) - r_j*|| / ||r_j*||              of the size of its baseline

r_j is area j, r* the state after ``warmup_ms`` without input, t = 0 the moment when the image goes,
|| || the root of the sum of squares over units. Starts are the states that images drove the network
to, and states drawn at random with no regard to what the network can reach: every unit uniform
between 0 and s times the largest rate of its area in the first kind of starts, or half-normal of
that scale. A network with a single stable state comes back from all of them; a start counts as
back once it stays below the tolerance.

Axes    A areas | T time, from the moment of offset | S starts
Units   time in ms
Source  soo2024 (mono-stability); ours: starts at random, the tolerance
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, NonFiniteError
from calcarine.probes._trials import Player, chosen_areas, map_state, player, rows
from calcarine.stage import steps_of

__all__ = ["BaselineReturn", "return_to_baseline"]

_KINDS = ("uniform", "half-normal")


@dataclass(frozen=True)
class BaselineReturn:
    """How far every area is from rest after offset.

    Attributes:
        areas: Names of the areas.
        starts: What every start is: ``"image"``, or ``"uniform x1"`` and the like.
        time_ms: Time since offset, from 0.
        relative: Distance relative to that at offset; 0 where an area never left its baseline.
        to_baseline: Distance relative to the size of the baseline; infinite where that is 0.
        drift: Of every area, how far it goes from its baseline by itself in the same time, relative
            to the size of the baseline: whether the warm-up was long enough.
        tolerance: Relative distance that counts as back.
    """

    areas: tuple[str, ...]
    starts: tuple[str, ...]
    time_ms: Float[Tensor, " T"]
    relative: Float[Tensor, "A T S"]
    to_baseline: Float[Tensor, "A T S"]
    drift: Float[Tensor, " A"]
    tolerance: float

    @property
    def return_ms(self) -> Float[Tensor, "A S"]:
        """When every area is back to stay; infinite where it is not within the time recorded."""
        away = ~(self.relative < self.tolerance)
        steps = torch.arange(1, len(self.time_ms) + 1)
        first = (away * steps[:, None]).amax(1)
        times = torch.cat([self.time_ms, torch.full((1,), torch.inf, dtype=torch.double)])
        return times[first]

    @property
    def worst_return_ms(self) -> float:
        """When the last area is back from the worst start."""
        return float(self.return_ms.max())

    @property
    def worst(self) -> Float[Tensor, " T"]:
        """Largest relative distance of any area from any start, over time."""
        return self.relative.amax((0, 2))

    @property
    def mono_stable(self) -> bool:
        """Whether every area came back from every start, so that one stable state was found."""
        return bool(self.return_ms.isfinite().all())


@torch.no_grad()
def return_to_baseline(
    model: nn.Module,
    images: Float[Tensor, "B ..."],
    *,
    warmup_ms: float = 400.0,
    stimulus_ms: float = 200.0,
    off_ms: float = 400.0,
    random_starts: int = 8,
    scales: Sequence[float] = (0.5, 1.0, 2.0),
    areas: Sequence[str] | None = None,
    tolerance: float = 0.01,
    generator: torch.Generator | None = None,
    dt_ms: float | None = None,
) -> BaselineReturn:
    """Follow a network after its image has gone, and from states drawn at random.

    >>> back = return_to_baseline(model, images, generator=torch.Generator().manual_seed(0))
    >>> back.mono_stable, back.worst_return_ms

    Args:
        model: A ``DynamicStage``; put it into ``eval()`` first.
        images: Images, axes (batch, ...): one start each.
        warmup_ms: Time without input after which a network counts as at rest. Ours: twice that of
            soo2024, so that what is left of the warm-up stays below any tolerance of use.
        stimulus_ms: How long the images are shown.
        off_ms: How long the network is followed.
        random_starts: Starts at random of each distribution and scale.
        scales: Scales of these, in units of the largest rate of an area.
        areas: Names of activities to measure; ``None`` for all.
        tolerance: Relative distance that counts as back.
        generator: Draws the starts, on the device of the images.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.

    Raises:
        InputError: If there is no image, a time is not a multiple of the step, the tolerance or a
            scale is not positive, or the model has no memory.
        UnknownNameError: If there is no such area; the message lists what there is.
        NonFiniteError: If a rate becomes NaN or infinite.
    """
    _check(len(images), random_starts, scales, tolerance)
    taken = player(model, dt_ms)
    steps_of("return_to_baseline", "stimulus_ms", stimulus_ms, taken.dt_ms, least=1)
    steps = steps_of("return_to_baseline", "off_ms", off_ms, taken.dt_ms, least=1)
    rest = taken.baseline(images[:1], warmup_ms)
    at_rest = taken.activities(rest)
    names = chosen_areas(at_rest, areas)
    pushed = _stimulated(taken, images, warmup_ms, stimulus_ms)
    starts = ["image"] * len(images)
    courses = [_course(taken, images, pushed, off_ms, names, at_rest)]
    largest = {n: a.abs().amax() for n, a in taken.activities(pushed).items()}
    like = images[:1].expand(max(random_starts, 1), *images.shape[1:])
    whole = taken.baseline(like, warmup_ms)
    for scale, kind in product(scales if random_starts else (), _KINDS):
        starts += [f"{kind} x{scale:g}"] * random_starts
        state = _random(taken, whole, largest, scale, kind, generator)
        courses.append(_course(taken, like, state, off_ms, names, at_rest))
    alone = _course(taken, images[:1], rest, off_ms, names, at_rest)[:, -1, 0]
    distance = torch.cat(courses, 2)
    if not distance.isfinite().all():
        raise NonFiniteError(
            "Rates became NaN or infinite after offset: the network is not stable. See "
            "spectral_radius of its recurrent weights."
        )
    size = torch.stack([rows(at_rest[n]).norm() for n in names])
    time_ms = taken.dt_ms * torch.arange(steps + 1, dtype=torch.double)
    return BaselineReturn(
        names,
        tuple(starts),
        time_ms,
        _share(distance, distance[:, :1]),
        _share(distance, size[:, None, None]),
        _share(alone, size),
        float(tolerance),
    )


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Return one over the other on the CPU, 0 where there is nothing to divide."""
    part, whole = part.cpu().double(), whole.cpu().double()
    return torch.where(part > 0, part / whole, torch.zeros_like(part))


def _stimulated(taken: Player, images: Tensor, warmup_ms: float, stimulus_ms: float) -> Any:
    """Return the state as the image goes."""
    state = taken.baseline(images, warmup_ms)
    for moment in taken.play(images, state, stimulus_ms):
        state = moment.state
    return state


def _course(
    taken: Player,
    images: Tensor,
    state: Any,
    off_ms: float,
    names: Sequence[str],
    at_rest: dict[str, Tensor],
) -> Float[Tensor, "A T S"]:
    """Return the distance of every area from its baseline, from a state on."""
    course = []
    for now in _states(taken, images, state, off_ms):
        found = taken.activities(now)
        apart = [(rows(found[n]) - rows(at_rest[n])).norm(dim=1) for n in names]
        course.append(torch.stack(apart))
    return torch.stack(course, 1)


def _states(taken: Player, images: Tensor, state: Any, off_ms: float) -> Iterator[Any]:
    yield state
    for moment in taken.play(images, state, 0.0, off_ms):
        yield moment.state


def _random(
    taken: Player,
    whole: Any,
    largest: dict[str, Tensor],
    scale: float,
    kind: str,
    generator: torch.Generator | None,
) -> Any:
    """Return a state with every unit drawn at random; what is not floating point stays."""

    def drawn(name: str, old: Tensor) -> Tensor:
        if not old.is_floating_point():
            return old
        made = torch.empty_like(old, memory_format=torch.contiguous_format)
        if kind == "uniform":
            made.uniform_(generator=generator)
        else:
            made.normal_(generator=generator).abs_()
        return made * (scale * largest[name])

    return map_state(whole, drawn, iter(taken.activities(whole)))


def _check(images: int, random_starts: int, scales: Sequence[float], tolerance: float) -> None:
    if images < 1 or random_starts < 0 or not all(scale > 0 for scale in scales):
        raise InputError(
            "return_to_baseline expected at least one image, random_starts >= 0 and scales above "
            f"0, got {images} images, random_starts={random_starts} and scales={list(scales)}."
        )
    if not 0 < tolerance < 1:
        raise InputError(f"return_to_baseline expected 0 < tolerance < 1, got {tolerance!r}.")
