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
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex.recurrent_area import AreaWeights
from calcarine.errors import InputError
from calcarine.models import CordsNet
from calcarine.probes.eigenvalues import Spectrum, leading_eigenvalues
from calcarine.probes.linear_stability import Stability, modes, step_stability

__all__ = ["area_modes", "recurrence_spectrum", "resting_or_shown", "step_modes", "together"]

_SETTLING_MS = 2000.0
"""How long a network may take to settle, ms; ours."""


def recurrence_spectrum(area: AreaWeights, k: int) -> Spectrum:
    """Return the leading eigenvalues of the recurrent convolution of an area.

    Args:
        area: Its weights, folded.
        k: How many, at most the number of its units.
    """
    kernel = area.recurrent
    return leading_eigenvalues(
        lambda r: F.conv2d(r, kernel, padding=1), (1, *area.bias.shape), k,
        dtype=kernel.dtype, device=kernel.device,
    )  # fmt: skip


def step_modes(
    area: AreaWeights,
    r: Float[Tensor, "1 C H W"],
    fed: Float[Tensor, "1 C H W"] | Float[Tensor, "C H W"],
    dt_ms: float,
    k: int,
    *,
    slope: float = 0.0,
) -> Stability:
    """Return the leading modes of one step of an area, linearised.

    Args:
        area: Its weights, folded.
        r: The rates to linearise at.
        fed: Its input there, b + W_in * u.
        dt_ms: Duration of a step.
        k: How many, at most the number of its units.
        slope: That of the nonlinearity for negative drive: 0 is relu, 1 makes the area linear.
    """
    return step_stability(partial(area.step, fed=fed, slope=slope), r, dt_ms, k=k)


def resting_or_shown(
    model: CordsNet, image: Float[Tensor, "1 c H W"] | None
) -> tuple[tuple[Float[Tensor, "1 C H W"], ...], list[Tensor]]:
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
    what: Literal["recurrent", "jacobian"],
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
    weights = model.folded()
    rates, fed = resting_or_shown(model, image) if what == "jacobian" else ((), [])
    found: dict[int, tuple[Spectrum, Stability]] = {}
    for number in areas:
        area = weights.areas[number - 1]
        count = min(k, area.bias.numel())
        if progress is not None:
            progress(f"area {number}: {area.bias.numel()} units")
        if what == "jacobian":
            step = step_modes(area, rates[number - 1], fed[number - 1], model.dt_ms, count)
            found[number] = step.spectrum, step
            continue
        # Not the same modes: those of largest |w| need not be those that last longest.
        still = torch.zeros_like(area.bias)[None]
        linear = step_modes(area, still, still, model.dt_ms, count, slope=1.0)
        found[number] = recurrence_spectrum(area, count), linear
    return found


def together(found: Sequence[Stability], k: int, dt_ms: float) -> Stability:
    """Return the leading modes of all areas as those of the network.

    Args:
        found: The modes of every area.
        k: How many of them.
        dt_ms: Duration of a step.

    Raises:
        InputError: If there is no area.
    """
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
