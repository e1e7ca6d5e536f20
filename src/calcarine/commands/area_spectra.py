"""Spectra of the areas of a CordsNet: of their recurrences, and of their steps at a state.

    recurrent    W_k, the recurrent convolution, and the modes of the area were it linear, phi' = 1
    jacobian     J_k = (1 - a) + a diag(phi') W_k,  a = dt / tau, at the rates of area k
    network      the Jacobian of a step of all areas at once

Areas are read by later areas only, and each by itself, so the Jacobian of the whole network is
block-triangular: its eigenvalues are those of the areas' Jacobians taken together.

Axes    B batch, 1 here | C channels | H W rows down, columns right | k modes
Units   time in ms
Source  soo2024
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from calcarine.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from calcarine.cortex.recurrent_area import AreaWeights
    from calcarine.models import CordsNet
    from calcarine.probes.spectrum import Spectrum, Stability

__all__ = ["What", "area_modes", "resting_or_shown", "together"]

What = Literal["recurrent", "jacobian", "network"]
Rates = tuple["Tensor", ...]

_SETTLING_MS = 2000.0
"""How long a network may take to settle, ms; ours."""


def resting_or_shown(
    model: CordsNet, image: Float[Tensor, "1 c H W"] | None
) -> tuple[Rates, list[Tensor]]:
    """Return the rates a network settles at, and what reaches each area then.

    Args:
        model: The network, its parameters frozen.
        image: What it looks at; ``None`` for nothing.
    """
    weights = model.folded()
    long_ms = round(_SETTLING_MS / model.dt_ms) * model.dt_ms
    if image is None:
        like = weights.stem.new_zeros(1, model.channels, *model.size)
        state = model.baseline(like, long_ms)
    else:
        state = model.settle(image, longest_ms=long_ms).state
    rates = tuple(area.r.contiguous() for area in state.areas)
    return rates, weights.fed(rates, weights.drive(image))


def area_modes(
    model: CordsNet,
    areas: Sequence[int],
    what: What,
    image: Float[Tensor, "1 c H W"] | None,
    k: int,
    *,
    progress: Callable[[str], None] | None = None,
) -> dict[int, tuple[Spectrum, Stability]]:
    """Return the leading eigenvalues of every area, and the modes they stand for.

    Args:
        model: The network, its parameters frozen.
        areas: Numbers of areas from 1.
        what: Of the recurrence, or of a step at the state.
        image: What the network looks at; ``None`` for nothing.
        k: Eigenvalues per area, cut to the number of its units.
        progress: Called with a line before each area.

    Returns:
        Area to spectrum and modes; the spectrum is that of the recurrence, or of the step.
    """
    from calcarine.probes.spectrum import step_stability

    weights = model.folded()
    rates, fed = resting_or_shown(model, image) if what != "recurrent" else ((), [])
    found: dict[int, tuple[Spectrum, Stability]] = {}
    for number in areas:
        area = weights.areas[number - 1]
        count = min(k, area.bias.numel())
        if progress is not None:
            progress(f"area {number}: {area.bias.numel()} units")
        if what == "recurrent":
            found[number] = _recurrence(area, model.dt_ms, count)
            continue
        step = partial(area.step, fed=fed[number - 1])
        modes = step_stability(step, rates[number - 1], model.dt_ms, k=count)
        found[number] = modes.spectrum, modes
    return found


def _recurrence(area: AreaWeights, dt_ms: float, k: int) -> tuple[Spectrum, Stability]:
    """Return the spectrum of a recurrent convolution, and the modes of the area were it linear."""
    from torch.nn import functional

    from calcarine.probes.spectrum import leading_eigenvalues, step_stability

    def recurrence(r: Tensor) -> Tensor:
        return functional.conv2d(r, area.recurrent, padding=1)

    like = area.bias.new_zeros(1, *area.bias.shape)
    spectrum = leading_eigenvalues(recurrence, like.shape, k, dtype=like.dtype, device=like.device)
    # Not the same modes: those of largest |w| need not be those that last longest.
    linear = partial(area.step, fed=like, slope=1.0)
    return spectrum, step_stability(linear, like, dt_ms, k=k)


def together(found: Sequence[Stability], k: int, dt_ms: float) -> Stability:
    """Return the leading modes of all areas as those of the network.

    Raises:
        InputError: If there is no area.
    """
    import torch

    from calcarine.probes.spectrum import Spectrum, modes

    if not found:
        raise InputError("The modes of a network expected at least one area, got none.")
    spectra = [each.spectrum for each in found]
    values, residuals = (
        torch.cat([getattr(each, name) for each in spectra]) for name in ("values", "residuals")
    )
    order = values.abs().argsort(descending=True, stable=True)[:k]
    good = all(each.status == "converged" for each in spectra)
    spectrum = Spectrum(
        values[order],
        residuals[order],
        None,
        sum(each.products for each in spectra),
        "converged" if good else "max_products",
    )
    return modes(spectrum, dt_ms)
