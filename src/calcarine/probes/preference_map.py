"""What every unit of a map prefers along any parameter, by one sweep over stimuli.

    r_k          response to value v_k: the peak, mean or amplitude over its variants (phases, say)
    circular     V = sum_k r_k e^(2 pi i v_k / period)
                 preference = period arg(V) / 2 pi in [0, period), selectivity = |V| / sum_k |r_k|
    other axes   preference = sum_k |r_k| v_k / sum_k |r_k|    (of log v_k where values are ratios)
                 selectivity = (max r - min r) / (max |r| + min |r|)

A unit that answers to nothing, or to everything alike, has selectivity 0 and no preference: there
``responsive`` is false and the preference a placeholder, 0 on a circular axis. Nothing is NaN.

With the values 0 (left) and 1 (right) the second form is ocular dominance: R / (L + R), and
|L - R| / (L + R).

Axes    K values | P variants of one value | B batch | H W of the map, rows down, columns right
Units   those of the parameter; responses those of the model
Source  miikkulainen2005 (vector sums, peak over phase); ours: the amplitude over phases
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes._sweep import NOTHING, Combine, mean_vector, preferred, sweep
from calcarine.probes._units import place_of
from calcarine.stimuli.gratings import grating

__all__ = ["PreferenceMap", "frequency_map", "ocular_dominance", "preference_map"]


@dataclass(frozen=True)
class PreferenceMap:
    """Preferences of every unit along one parameter. All tensors are on the CPU, float64.

    Args:
        parameter: Name of the parameter, with its unit.
        values: Values shown.
        curves: Response of every unit to every value.
        period: Length of a circular axis; ``None`` for one with two ends.
        logarithmic: Whether values are ratios, averaged on a logarithmic axis.
    """

    parameter: str
    values: Float[Tensor, " K"]
    curves: Float[Tensor, "H W K"]
    period: float | None = None
    logarithmic: bool = False

    @property
    def vector(self) -> Complex[Tensor, "H W"]:
        """The vector sum V on a circular axis; zero for a unit without preference.

        Raises:
            InputError: If the axis is not circular.
        """
        if self.period is None:
            raise InputError(f"{self.parameter} has two ends, so there is no vector sum.")
        return mean_vector(self.curves, self.values, self.period)

    @property
    def responsive(self) -> Bool[Tensor, "H W"]:
        """Units that have a preference at all."""
        if self.period is not None:
            return self.vector.abs() > 0
        spread = self.curves.amax(-1) - self.curves.amin(-1)
        return spread > NOTHING * self.curves.abs().max()

    @property
    def preference(self) -> Float[Tensor, "H W"]:
        """What every unit prefers, between the values shown."""
        if self.period is not None:
            return preferred(self.vector, self.period)
        values = self.values.log() if self.logarithmic else self.values
        weights = self.curves.abs()
        silent = weights.sum(-1, keepdim=True) == 0
        weights = torch.where(silent, 1.0, weights)
        mean = (weights * values).sum(-1) / weights.sum(-1)
        return mean.exp() if self.logarithmic else mean

    @property
    def best(self) -> Float[Tensor, "H W"]:
        """The value of the largest response, one of those shown."""
        return self.values[self.curves.argmax(-1)]

    @property
    def peak(self) -> Float[Tensor, "H W"]:
        """Response to the best value."""
        return self.curves.amax(-1)

    @property
    def selectivity(self) -> Float[Tensor, "H W"]:
        """0 for a unit without preference, 1 for one that answers to a single value."""
        size = self.curves.abs()
        if self.period is not None:
            part, whole = self.vector.abs(), size.sum(-1)
        else:
            part = self.curves.amax(-1) - self.curves.amin(-1)
            whole = size.amax(-1) + size.amin(-1)
        share = part / torch.where(whole > 0, whole, 1.0)
        return torch.where(self.responsive, share, 0.0)


def preference_map(
    model: Callable[[Tensor], Tensor],
    stimulus: Callable[[float], Float[Tensor, "P C H W"]],
    values: Sequence[float],
    *,
    parameter: str = "value",
    period: float | None = None,
    logarithmic: bool = False,
    combine: Combine = "peak",
    batch_size: int = 64,
    channel: int | None = None,
    progress: bool = False,
) -> PreferenceMap:
    """Measure what every unit prefers along any parameter.

    Args:
        model: Any ``image -> (batch, H, W)`` or ``(batch, 1, H, W)``.
        stimulus: Returns the images of one value: all its phases, places or orientations.
        values: The values to show.
        parameter: Name of the parameter, with its unit.
        period: Length of a circular parameter, such as 180 for orientations in degrees.
        logarithmic: Whether values are ratios, such as frequencies.
        combine: How the responses to the images of one value become one number.
        batch_size: Images per call of the model.
        channel: Which channel of a representation (batch, channel, H, W) is the map.
        progress: Whether to show how far the work is.

    Raises:
        InputError: If there are no values, two are alike, or a setting is impossible.
        ShapeError: If the model does not return a map, or values have different numbers of images.
        NonFiniteError: If a response is NaN or infinite.
    """
    axis = torch.as_tensor(values, dtype=torch.double).flatten()
    if len(axis) < 2 or len(axis.unique()) < len(axis) or not axis.isfinite().all():
        raise InputError(
            "preference_map expected at least two finite values, no two alike, got "
            f"{axis.tolist()}."
        )
    if period is not None and not 0 < period < math.inf:
        raise InputError(f"preference_map expected a period above 0, got {period!r}.")
    if logarithmic and (period is not None or (axis <= 0).any()):
        raise InputError(
            "preference_map expected values above 0 and no period for a logarithmic axis, got "
            f"{axis.tolist()} and period={period!r}."
        )
    done = sweep(
        model, stimulus, axis.tolist(), combine, batch_size, channel=channel, progress=progress
    )
    return PreferenceMap(parameter, axis, done.curves, period, logarithmic)


def frequency_map(
    model: Callable[[Tensor], Tensor],
    size: int | tuple[int, int],
    frequencies_cpp: Sequence[float],
    *,
    orientations: int = 12,
    phases: int = 12,
    contrast: float = 1.0,
    channels: int = 1,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **sweeping: Any,
) -> PreferenceMap:
    """Measure which spatial frequency every unit prefers, at its best orientation and phase.

    Args:
        model: Any ``image -> (batch, H, W)`` or ``(batch, 1, H, W)``.
        size: Height and width of the image that the model takes, or one number for a square.
        frequencies_cpp: Cycles per pixel.
        orientations: Orientations shown, evenly spaced.
        phases: Phases shown, evenly spaced.
        contrast: Michelson contrast.
        channels: Channels of the image; all show the same.
        dtype: Type of the images; that of the model's parameters if left out.
        device: Where to show them; where the model's parameters are if left out.
        **sweeping: ``combine``, ``batch_size``, ``channel`` and ``progress`` as for
            :func:`preference_map`.
    """
    dtype, device = place_of(model, dtype, device)
    turns = torch.arange(orientations * phases)
    angles = 180.0 / orientations * (turns // phases)
    shifts = 360.0 / phases * (turns % phases)

    def stimulus(frequency: float) -> Tensor:
        shown = grating(size, angles, frequency, shifts, contrast, dtype=dtype, device=device)
        return shown.expand(-1, channels, -1, -1)

    return preference_map(
        model, stimulus, frequencies_cpp, parameter="frequency_cpp", logarithmic=True, **sweeping
    )


def ocular_dominance(
    model: Callable[[Tensor], Tensor],
    size: int | tuple[int, int],
    *,
    frequency_cpp: float = 0.1,
    orientations: int = 12,
    phases: int = 12,
    contrast: float = 1.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    **sweeping: Any,
) -> PreferenceMap:
    """Measure which eye drives every unit: 0 the left one alone, 1 the right one alone.

    Args:
        model: Takes images (batch, 2, H, W), the left eye's and the right eye's, and returns
            ``(batch, H, W)`` or ``(batch, 1, H, W)``. The other eye sees uniform grey.
        size: Height and width of an eye's image, or one number for a square.
        frequency_cpp: Cycles per pixel. stevens2013, 2.4 cycles per side of 24 px.
        orientations: Orientations shown, evenly spaced.
        phases: Phases shown, evenly spaced.
        contrast: Michelson contrast.
        dtype: Type of the images; that of the model's parameters if left out.
        device: Where to show them; where the model's parameters are if left out.
        **sweeping: ``combine``, ``batch_size``, ``channel`` and ``progress`` as for
            :func:`preference_map`.
    """
    dtype, device = place_of(model, dtype, device)
    turns = torch.arange(orientations * phases)
    angles = 180.0 / orientations * (turns // phases)
    shifts = 360.0 / phases * (turns % phases)

    def stimulus(eye: float) -> Tensor:
        seen = grating(size, angles, frequency_cpp, shifts, contrast, dtype=dtype, device=device)
        closed = torch.full_like(seen, 0.5)
        return torch.cat([closed, seen] if eye else [seen, closed], dim=1)

    return preference_map(model, stimulus, (0.0, 1.0), parameter="ocular_dominance", **sweeping)
