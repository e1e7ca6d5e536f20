"""Showing every value of a parameter, in batches, and reducing its variants to one response.

Axes    K values | P variants of one value | B batch | H W of the map, rows down, columns right
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.progress import open_progress

__all__ = ["NOTHING", "Combine", "Sweep", "mean_vector", "preferred", "sweep"]

Combine = Literal["peak", "mean", "amplitude"]
"""How variants of a value become one response: the largest, the mean, or 2 / P |sum of r_p
e^(-2 pi i p / P)|, exact for linear units whose variants are evenly spaced phases."""

NOTHING = 1e-6
"""Below this share of the largest response of the map, or ten times that share of the unit's own, a
preference is rounding. Ours: single precision keeps seven digits."""


class Sweep(NamedTuple):
    """Responses to all values of a parameter, on the CPU in float64.

    Attributes:
        curves: One response per value.
        responses: Responses to every variant of every value, if they were kept.
    """

    curves: Float[Tensor, "H W K"]
    responses: Float[Tensor, "K P H W"] | None


@torch.no_grad()
def sweep(
    model: Callable[[Tensor], Tensor],
    stimulus: Callable[[float], Float[Tensor, "P C H W"]],
    values: Sequence[float],
    combine: Combine,
    batch_size: int,
    *,
    channel: int | None = None,
    keep: bool = False,
    progress: bool = False,
) -> Sweep:
    """Show all images of all values, batch after batch; the batches ignore where values end.

    Raises:
        InputError: If a setting is impossible.
        ShapeError: If the model does not return a map, or values have different numbers of images.
        NonFiniteError: If a response is NaN or infinite.
    """
    if combine not in ("peak", "mean", "amplitude"):
        raise InputError(f"Expected combine 'peak', 'mean' or 'amplitude', got {combine!r}.")
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"Expected batch_size >= 1, got {batch_size!r}.")
    variants = len(stimulus(values[0]))
    shown = open_progress(len(values) * variants, 0, shown=progress, unit="image")
    curves, kept, waiting, done = [], [], [], 0
    try:
        for images in _batches(stimulus, values, variants, batch_size):
            waiting.append(_checked_map(model(images), len(images), channel))
            done += len(images)
            shown.advance(done)
            if sum(map(len, waiting)) >= variants:
                found = torch.cat(waiting)
                whole = len(found) // variants * variants
                groups = found[:whole].unflatten(0, (-1, variants))
                curves.append(_reduced(groups, combine))
                kept.extend([groups] if keep else [])
                waiting = [found[whole:]]
    finally:
        shown.close()
    return Sweep(torch.cat(curves).movedim(0, -1).contiguous(), torch.cat(kept) if keep else None)


def _batches(
    stimulus: Callable[[float], Tensor], values: Sequence[float], variants: int, batch_size: int
) -> Iterator[Tensor]:
    """Yield the images of all values in order, ``batch_size`` at a time."""
    waiting: list[Tensor] = []
    for value in values:
        images = stimulus(value)
        if images.ndim != 4 or len(images) != variants:
            raise ShapeError(
                f"A sweep expected {variants} images (variant, channel, height, width) of every "
                f"value, got shape {tuple(images.shape)} for {value:g}."
            )
        waiting.append(images)
        while sum(map(len, waiting)) >= batch_size:
            ready = torch.cat(waiting)
            yield ready[:batch_size]
            waiting = [ready[batch_size:]]
    rest = torch.cat(waiting)
    if len(rest):
        yield rest


def _checked_map(response: Any, batch: int, channel: int | None) -> Float[Tensor, "B H W"]:
    """Return the map in float64 on the CPU."""
    advice = "calcarine.probes.readout reads any layer; channel=k picks one channel of several."
    if not isinstance(response, Tensor) or response.is_complex():
        kind = response.dtype if isinstance(response, Tensor) else type(response).__name__
        raise ShapeError(f"A map expected real responses as one tensor, got {kind}. {advice}")
    shape = tuple(response.shape)
    if response.ndim == 4 and channel is not None and 0 <= channel < shape[1]:
        response = response[:, channel]
    elif response.ndim == 4 and channel is None and shape[1] == 1:
        response = response[:, 0]
    if response.ndim != 3 or len(response) != batch or 0 in shape:
        wanted = "" if channel is None else f", with a channel {channel}"
        raise ShapeError(
            f"A map expected responses with axes (batch, height, width) or (batch, 1, height, "
            f"width), {batch} in this batch{wanted}, got shape {shape}. {advice}"
        )
    response = response.detach().to("cpu", torch.double)
    if not response.isfinite().all():
        raise NonFiniteError(
            f"A map expected finite responses, {int((~response.isfinite()).sum())} of "
            f"{response.numel()} are NaN or infinite. Look at the model's response to a grating."
        )
    return response


def _reduced(groups: Float[Tensor, "K P H W"], combine: Combine) -> Float[Tensor, "K H W"]:
    if combine == "peak":
        return groups.amax(1)
    if combine == "mean":
        found = groups.mean(1)
    else:
        variants = groups.shape[1]
        turn = -2 * math.pi / variants * torch.arange(variants, dtype=groups.dtype)
        waves = (turn.cos(), turn.sin())
        parts = [torch.tensordot(wave, groups, dims=([0], [1])) for wave in waves]
        found = 2 / variants * torch.hypot(*parts)
    # What cancels over the variants leaves rounding, which must not look like a small response.
    cancelled = found.abs() <= NOTHING * groups.abs().amax(1)
    return torch.where(cancelled, 0.0, found)


def mean_vector(
    curves: Float[Tensor, "H W K"], values: Float[Tensor, " K"], period: float
) -> Complex[Tensor, "H W"]:
    """Return the vector sum of every unit, zero where it is only rounding."""
    angles = 2 * math.pi / period * values
    vector = (curves * torch.polar(torch.ones_like(angles), angles)).sum(-1)
    own = curves.abs().amax(-1)
    nothing = vector.abs() <= torch.maximum(10 * own, own.max()) * NOTHING
    return torch.where(nothing, torch.zeros_like(vector), vector)


def preferred(vector: Complex[Tensor, "H W"], period: float) -> Float[Tensor, "H W"]:
    """Return the direction of a vector sum as a value in [0, period)."""
    values = (vector.angle() / (2 * math.pi) * period).remainder(period)
    # The remainder of a tiny negative number rounds up to the period itself.
    return torch.where(values >= period, 0.0, values)
