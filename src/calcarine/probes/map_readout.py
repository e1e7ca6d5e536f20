"""What a map tells about handwritten digits: a linear read-out, learned under supervision.

    p(digit | r) = softmax(W r + b)        minimise  mean cross-entropy + decay / 2 |W|^2

on responses r of a sheet to digits that are drawn onto its retina, scaled to unit mean square. The
decay is the best of three on a part of the learning digits; accuracy is that on digits held out.
The digits' own pixels go through the same read-out, so a number has something to stand beside.

Axes    N digits | F features | H W of the retina | h w of the sheet
Source  alpaydin1998 (digits); ours: split, decays, size of the picture
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from calcarine.errors import InputError
from calcarine.probes._units import place_of
from calcarine.stimuli import Digits, digits

__all__ = ["MapReadout", "map_readout"]

_DECAYS = (1e-4, 1e-3, 1e-2)
_STEPS = 60  # of L-BFGS; the loss has then settled to a few digits
PIXELS = "pixels"


class MapReadout(NamedTuple):
    """How well digits are read.

    Attributes:
        accuracy: Share of held-out digits read correctly, by name of the model; ``"pixels"`` are
            the digits themselves.
        learned: Number of digits learned from.
        tested: Number of digits held out.
    """

    accuracy: dict[str, float]
    learned: int
    tested: int


@torch.no_grad()
def map_readout(
    models: Mapping[str, Callable[[Tensor], Tensor]],
    size: tuple[int, int],
    digit_px: int,
    *,
    seed: int = 0,
    held_out: float = 1 / 3,
    batch_size: int = 64,
    data: Digits | None = None,
) -> MapReadout:
    """Tell how well handwritten digits can be read from the activity of sheets.

    Args:
        models: ``image (batch, 1, H, W) -> activity``, by name: a map, the same before it learned.
        size: Height and width of the retina.
        digit_px: Side of a digit on it, in its middle; what the sheet sees well.
        seed: Of the split into learning and held-out digits, the same for all models.
        held_out: Share of the digits that is held out.
        batch_size: Digits per call of a model; bounds the memory.
        data: The digits; those inside scikit-learn by default.

    Raises:
        InputError: If there is no model, a digit does not fit, or nothing could be held out.
        MissingDependencyError: If scikit-learn is not installed.
    """
    if not models or PIXELS in models:
        raise InputError(
            f"map_readout expected models by name, none called {PIXELS!r}, got {list(models)}."
        )
    if not 8 <= digit_px <= min(size):
        raise InputError(
            f"map_readout expected digit_px from 8 to {min(size)}, the side of the retina, got "
            f"{digit_px}."
        )
    given = digits() if data is None else data
    number = len(given.labels)
    tested = round(held_out * number)
    if not 10 <= tested <= number - 30:
        raise InputError(
            f"map_readout expected to hold out at least 10 digits and to learn from at least 30, "
            f"got held_out={held_out} of {number}."
        )
    order = torch.randperm(number, generator=torch.Generator().manual_seed(seed))
    accuracy = {PIXELS: _accuracy(given.images.flatten(1), given.labels, order, tested)}
    for name, model in models.items():
        shown = _responses(model, given.images, size, digit_px, batch_size)
        accuracy[name] = _accuracy(shown, given.labels, order, tested)
    return MapReadout(accuracy, number - tested, tested)


def _responses(
    model: Callable[[Tensor], Tensor],
    images: Float[Tensor, "N 1 a b"],
    size: tuple[int, int],
    digit_px: int,
    batch_size: int,
) -> Float[Tensor, "N F"]:
    """Return what a model makes of digits in the middle of its retina."""
    dtype, device = place_of(model, None, None)
    top, left = ((side - digit_px) // 2 for side in size)
    found = []
    for some in images.split(batch_size):
        picture = torch.zeros(len(some), 1, *size, dtype=dtype, device=device)
        large = functional.interpolate(
            some.to(picture), (digit_px, digit_px), mode="bilinear", align_corners=False
        )
        picture[..., top : top + digit_px, left : left + digit_px] = large
        found.append(model(picture).detach().flatten(1).cpu())
    return torch.cat(found)


def _accuracy(
    features: Float[Tensor, "N F"], labels: Int[Tensor, " N"], order: Tensor, tested: int
) -> float:
    """Return the share of held-out digits that are read correctly."""
    features = features.to(torch.get_default_dtype())
    held, learned = order[:tested], order[tested:]
    scale = features[learned].square().mean().sqrt().clamp(min=1e-12) * features.shape[1] ** 0.5
    features = features / scale * 10  # rows of length 10, whatever the number of features
    fifth = len(learned) // 5
    checked, rest = learned[:fifth], learned[fifth:]

    def correct(some: Tensor, others: Tensor, decay: float) -> float:
        scores = _scores(features[some], labels[some], features[others], decay)
        return (scores.argmax(1) == labels[others]).double().mean().item()

    best = max(_DECAYS, key=lambda decay: correct(rest, checked, decay))
    return correct(learned, held, best)


@torch.enable_grad()
def _scores(
    features: Float[Tensor, "N F"],
    labels: Int[Tensor, " N"],
    others: Float[Tensor, "M F"],
    decay: float,
) -> Float[Tensor, "M K"]:
    """Learn the read-out from some digits and apply it to others."""
    classes = int(labels.max()) + 1
    weight = features.new_zeros(features.shape[1], classes, requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = functional.cross_entropy(features @ weight + bias, labels)
        error = error + decay / 2 * weight.square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    return (others @ weight + bias).detach()
