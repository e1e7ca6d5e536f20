"""The receptive field of one unit: which light, added where, moves its response.

    gradient    field = d response / d image                               at one image
    average     field = sum over k of (r_k - r) n_k / ((n - 1) std)        responses to
                s_k = image + std n_k, n_k white noise, r their mean (response-weighted average,
                the spike-triggered average when responses count spikes)

Both have the unit of response per unit of light. For a linear unit they agree. For r = g(w . s) the
average is w times the mean slope of g (Bussgang's theorem), also where the gradient is zero or g
has steps. Its standard error, from the scatter of the products (r_k - r) n_k, falls as 1 / sqrt n;
for a linear unit with weights w it is sqrt((|w|^2 + w_i^2) / n).

Axes    C channel | H W rows down, columns right, of the image
Source  chichilnisky2001 (average over white noise)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError, UnknownNameError
from calcarine.probes._units import Units, chosen_units, place_of, real_response
from calcarine.progress import open_progress
from calcarine.stimuli.light import work_dtype
from calcarine.stimuli.noise import white_noise

__all__ = ["ReceptiveField", "receptive_field"]

Method = Literal["gradient", "spike_triggered_average"]


@dataclass(frozen=True)
class ReceptiveField:
    """A receptive field and how well it is known.

    Args:
        field: Change of the response per change of light.
        standard_error: Of every entry; zero for a gradient.
        response: Response to the image itself (gradient) or mean response (average).
        method: How it was measured.
    """

    field: Float[Tensor, "C H W"]
    standard_error: Float[Tensor, "C H W"]
    response: Float[Tensor, ""]
    method: Method


def receptive_field(
    model: Callable[[Tensor], Tensor],
    image: Float[Tensor, "1 C H W"] | tuple[int, int, int],
    unit: int | tuple[int, ...],
    method: Method = "gradient",
    *,
    n: int = 10_000,
    std: float = 0.1,
    batch_size: int = 128,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> ReceptiveField:
    """Measure the receptive field of one unit.

    Args:
        model: Any ``image -> representation``; see :func:`calcarine.probes.readout`.
        image: Where to measure: an image, or the shape (channel, height, width) of a grey one of
            0.5 in the type of the model's parameters.
        unit: The unit: (channel, row, column), (channel, entry), or the number of a channel for
            the unit in the middle of its map.
        method: ``"gradient"``, exact at this image; ``"spike_triggered_average"``, over noise
            around it, for units without a useful gradient.
        n: Images of noise for the average. Ours: 10,000, an error of a hundredth of |w|.
        std: Standard deviation of the noise; nothing is clipped to [0, 1]. Ours: as
            :func:`calcarine.stimuli.white_noise`.
        batch_size: Images per call of the model.
        generator: Source of the noise.
        progress: Whether to show how far the average is.

    Raises:
        UnknownNameError: If there is no such method.
        InputError: If there is no such unit, its response is complex, or a setting is impossible.
        ShapeError: If ``image`` is not one image, or the representation neither 3-D nor 4-D.
        NonFiniteError: If the response to noise is NaN or infinite.
    """
    if method not in ("gradient", "spike_triggered_average"):
        raise UnknownNameError("method", method, ["gradient", "spike_triggered_average"])
    if isinstance(unit, str):
        raise InputError(f"receptive_field expected one unit, by numbers, got {unit!r}.")
    place = _one_image(image, model)
    if method == "gradient":
        return _gradient(model, place, unit)
    if n < 2 or batch_size < 1 or not 0 < std < math.inf:
        raise InputError(
            "receptive_field expected n >= 2, batch_size >= 1 and a finite std > 0, got "
            f"n={n!r}, batch_size={batch_size!r} and std={std!r}."
        )
    return _average(model, place, unit, _Noise(n, std, batch_size, generator), progress)


@dataclass(frozen=True)
class _Noise:
    n: int
    std: float
    batch_size: int
    generator: torch.Generator | None

    def draw(self, count: int, like: Tensor) -> Tensor:
        _, channels, height, width = like.shape
        return white_noise(
            (count, channels, height, width),
            mean=0.0,
            std=1.0,
            generator=self.generator,
            dtype=work_dtype(like.dtype),
            device=like.device,
        )


def _one_image(image: Tensor | tuple[int, int, int], model: Any) -> Tensor:
    if isinstance(image, tuple):
        if len(image) == 3 and all(isinstance(size, int) and size >= 1 for size in image):
            dtype, device = place_of(model, None, None)
            return torch.full((1, *image), 0.5, dtype=dtype, device=device)
    elif image.ndim == 4 and len(image) == 1 and image.is_floating_point():
        return image.detach()
    came = image if isinstance(image, tuple) else f"{image.dtype} of shape {tuple(image.shape)}"
    raise ShapeError(
        "receptive_field expected one floating-point image (1, channel, height, width), or a "
        f"shape (channel, height, width), got {came}."
    )


def _answer(model: Callable[[Tensor], Tensor], images: Tensor, unit: Units) -> Tensor:
    response = real_response("receptive_field", model(images), len(images))
    return chosen_units("receptive_field", response, unit)


def _gradient(model: Callable[[Tensor], Tensor], image: Tensor, unit: Units) -> ReceptiveField:
    with torch.enable_grad():
        image = image.clone().requires_grad_()
        response = _answer(model, image, unit).sum()
        if not response.requires_grad:
            raise InputError(
                "receptive_field found no gradient from the unit to the image. Make the model "
                "differentiable, or use method='spike_triggered_average'."
            )
        (field,) = torch.autograd.grad(response, image)
    return ReceptiveField(field[0], torch.zeros_like(field[0]), response.detach(), "gradient")


@torch.no_grad()
def _average(
    model: Callable[[Tensor], Tensor], image: Tensor, unit: Units, noise: _Noise, progress: bool
) -> ReceptiveField:
    """Sum over batches; responses count from that to the image, so that the sums keep digits."""
    rest = _answer(model, image, unit).double()
    sums = [torch.zeros_like(image[0], dtype=torch.double) for _ in range(5)]
    total = torch.zeros_like(rest)
    shown = open_progress(noise.n, 0, shown=progress, unit="image")
    try:
        for start in range(0, noise.n, noise.batch_size):
            n = noise.draw(min(noise.batch_size, noise.n - start), image)
            r = _answer(model, image + (noise.std * n).to(image), unit).double() - rest
            n = n.double()
            square, ones = n * n, torch.ones_like(r)
            weighted = [(ones, n), (r, n), (ones, square), (r, square), (r * r, square)]
            for k, (weights, values) in enumerate(weighted):
                sums[k] += torch.tensordot(weights, values, 1)
            total = total + r.sum()
            shown.advance(start + len(r))
    finally:
        shown.close()
    if not torch.isfinite(total).all():
        raise NonFiniteError(
            "receptive_field met NaN or infinity among the responses to noise. Take a smaller std "
            "or look at the model."
        )
    mean = total / noise.n
    field, error = _field_and_error(sums, mean, noise)
    response = (rest + mean).squeeze(0).to(image)
    return ReceptiveField(field.to(image), error.to(image), response, "spike_triggered_average")


def _field_and_error(sums: list[Tensor], mean: Tensor, noise: _Noise) -> tuple[Tensor, Tensor]:
    """Turn the sums of n, r n, n^2, r n^2 and r^2 n^2 into a mean product and its error."""
    n, rn, nn, rnn, rrnn = sums
    field = (rn - mean * n) / ((noise.n - 1) * noise.std)
    squares = (rrnn - 2 * mean * rnn + mean**2 * nn) / (noise.n * noise.std**2)
    return field, ((squares - field**2).clamp(min=0) / noise.n).sqrt()
