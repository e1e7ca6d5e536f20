"""Tuning curves: how units answer to gratings of every kind.

    R(o, f, p, c, d)       response to orientation, frequency, phase, contrast, diameter
    F0 = mean over p of R - response to the blank field
    F1 = 2 / n |sum over p of R exp(-i p)|
    S  = F1 where F1 > |F0| at the best stimulus (simple cells), else |F0|      strength of response
    circular variance = 1 - |sum over o of S exp(2 i o)| / sum over o of S

S is the response to one stimulus whatever its phase. A curve along one parameter is S with all
other parameters at the unit's best stimulus, the one of largest S.

Axes    U units | O orientation | F frequency | P phase | K contrast | D diameter
Units   degrees, cycles per pixel, Michelson contrast, px; responses those of the model
Source  skottun1991 (F1 / F0, simple and complex); ringach2002 (circular variance, half-width at
        1 / sqrt 2 of the peak); devalois1982 (bandwidth in octaves at half height)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, UnknownNameError, require
from calcarine.probes._curves import distance_to_fall, value_across
from calcarine.probes._units import Units, chosen_units, place_of, real_response
from calcarine.progress import open_progress
from calcarine.stimuli.gratings import GratingSet

__all__ = ["TuningCurves", "tuning_curves"]

_AXES = {
    "orientation": "orientations_deg",
    "frequency": "frequencies_cpp",
    "contrast": "contrasts",
    "diameter": "diameters_px",
}


@dataclass(frozen=True)
class TuningCurves:
    """Responses of units to gratings, and what follows from them.

    All tensors are on the CPU. What a curve does not reach, such as a half-width of a unit that
    answers to every orientation, is NaN.

    Args:
        stimuli: What was shown.
        responses: Response to every grating.
        blank: Response to the mean grey field.
        unit_shape: Shape of the units in the representation, (channel,) or (channel, row, column).
    """

    stimuli: GratingSet
    responses: Float[Tensor, "U O F P K D"]
    blank: Float[Tensor, " U"]
    unit_shape: tuple[int, ...]

    @property
    def f0(self) -> Float[Tensor, "U O F K D"]:
        """Mean over the phases, relative to the blank field."""
        return self.responses.mean(3) - self.blank[:, None, None, None, None]

    @property
    def f1(self) -> Float[Tensor, "U O F K D"]:
        """Amplitude of the response that follows the phase."""
        phases = torch.deg2rad(torch.tensor(self.stimuli.phases_deg, dtype=torch.double))
        waves = [torch.cos(phases), torch.sin(phases)]
        parts = [(self.responses * w.to(self.responses)[:, None, None]).mean(3) for w in waves]
        return 2 * torch.hypot(*parts)

    @property
    def modulation(self) -> Float[Tensor, " U"]:
        """F1 / |F0| at the best stimulus: above 1 for simple cells, below for complex ones."""
        f0, f1 = self.f0.abs().flatten(1), self.f1.flatten(1)
        best = torch.maximum(f0, f1).argmax(1, keepdim=True)
        return (f1.gather(1, best) / f0.gather(1, best)).squeeze(1)

    @property
    def strength(self) -> Float[Tensor, "U O F K D"]:
        """Response whatever the phase: F1 of simple cells, |F0| of complex ones."""
        simple = (self.modulation > 1)[:, None, None, None, None]
        return torch.where(simple, self.f1, self.f0.abs())

    def curve(self, axis: str) -> Float[Tensor, "U n"]:
        """Return the strength along one parameter, through the best stimulus of every unit.

        Args:
            axis: ``"orientation"``, ``"frequency"``, ``"contrast"`` or ``"diameter"``.

        Raises:
            UnknownNameError: If there is no such axis.
        """
        where = 1 + self._axis(axis)
        strength = self.strength
        best = torch.unravel_index(strength.flatten(1).argmax(1), strength.shape[1:])
        index: list[Any] = [torch.arange(len(strength)), *best]
        index[where] = torch.arange(strength.shape[where])
        for other in range(len(index)):
            index[other] = index[other][None, :] if other == where else index[other][:, None]
        return strength[tuple(index)]

    def preferred(self, axis: str) -> Float[Tensor, " U"]:
        """Return the value of the best stimulus, one of those shown.

        Raises:
            UnknownNameError: If there is no such axis.
        """
        return self._values(axis)[self.curve(axis).argmax(1)]

    @property
    def preferred_orientation_deg(self) -> Float[Tensor, " U"]:
        """Direction of the mean vector of the orientation curve, in [0, 180), between samples."""
        vector, _ = self._mean_vector()
        return torch.rad2deg(vector.angle()).div(2).remainder(180)

    @property
    def circular_variance(self) -> Float[Tensor, " U"]:
        """0 for a unit that answers to one orientation only, 1 for one that does not care."""
        vector, total = self._mean_vector()
        return 1 - vector.abs() / total

    @property
    def orientation_half_width_deg(self) -> Float[Tensor, " U"]:
        """Distance from the best orientation to 1 / sqrt 2 of the peak, mean of both sides."""
        up, down = self._reach("orientation", 1 / math.sqrt(2))
        return (up + down) / 2

    @property
    def bandwidth_octaves(self) -> Float[Tensor, " U"]:
        """Width of the frequency curve at half its peak."""
        up, down = self._reach("frequency", 0.5)
        return up + down

    @property
    def orientation_selectivity(self) -> Float[Tensor, " U"]:
        """(best - orthogonal) / (best + orthogonal), the orthogonal response interpolated."""
        curve, angles = self.curve("orientation"), self._values("orientation")
        best = curve.amax(1)
        orthogonal = value_across(curve, angles)
        return (best - orthogonal) / (best + orthogonal)

    def to_dict(self) -> dict[str, list[Any]]:
        """Return one list per quantity with one entry per unit, ready for a table.

        ``unit`` is the place of the unit among those chosen.
        """
        units = [
            [int(i) for i in place]
            for place in torch.stack(
                torch.unravel_index(torch.arange(len(self.blank)), self.unit_shape), 1
            )
        ]
        columns = {
            "preferred_orientation_deg": self.preferred_orientation_deg,
            "orientation_half_width_deg": self.orientation_half_width_deg,
            "circular_variance": self.circular_variance,
            "orientation_selectivity": self.orientation_selectivity,
            "preferred_frequency_cpp": self.preferred("frequency"),
            "bandwidth_octaves": self.bandwidth_octaves,
            "preferred_contrast": self.preferred("contrast"),
            "preferred_diameter_px": self.preferred("diameter"),
            "modulation": self.modulation,
            "peak": self.strength.flatten(1).amax(1),
            "blank": self.blank,
        }
        return {"unit": units, **{name: column.tolist() for name, column in columns.items()}}

    def to_frame(self) -> Any:
        """Return :meth:`to_dict` as a ``pandas.DataFrame``, one row per unit.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        pandas = require("pandas", extra="data", purpose="TuningCurves.to_frame")
        return pandas.DataFrame(self.to_dict())

    def _axis(self, axis: str) -> int:
        if axis not in _AXES:
            raise UnknownNameError("axis of tuning curves", axis, _AXES)
        return list(_AXES).index(axis)

    def _values(self, axis: str) -> Tensor:
        self._axis(axis)
        return self.responses.new_tensor(getattr(self.stimuli, _AXES[axis]))

    def _mean_vector(self) -> tuple[Tensor, Tensor]:
        curve = self.curve("orientation")
        angles = torch.deg2rad(2 * self._values("orientation"))
        return (curve * torch.polar(torch.ones_like(angles), angles)).sum(1), curve.sum(1)

    def _reach(self, axis: str, level: float) -> tuple[Tensor, Tensor]:
        """Return how far the curve stays above ``level`` of its peak, up and down the axis."""
        values = self._values(axis)
        circular = axis == "orientation"
        places = values if circular else torch.log2(values)
        order = places.argsort()
        curve, places = self.curve(axis)[:, order], places[order]
        period = 180.0 if circular else None
        up, down = (distance_to_fall(curve, places, level, step, period) for step in (1, -1))
        return up, down


@torch.no_grad()
def tuning_curves(
    model: Callable[[Tensor], Tensor],
    stimuli: GratingSet,
    *,
    units: Units = "center",
    batch_size: int = 64,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> TuningCurves:
    """Show gratings to a model and keep the responses of some units.

    Args:
        model: Any ``image -> representation``; see :func:`calcarine.probes.readout`.
        stimuli: The gratings. Their size is that of the image the model takes.
        units: ``"center"``: the unit in the middle of every channel's map, or every entry of a
            representation with axes (batch, channel, entry). ``"map"``: all units. A channel's
            number, or (channel, row, column): one unit.
        batch_size: Gratings per call of the model.
        dtype: Type of the images; that of the model's parameters if left out.
        device: Where to show them; where the model's parameters are if left out.
        progress: Whether to show how far the work is.

    Raises:
        InputError: If there is no such unit, the responses are complex, or the batch is empty.
        ShapeError: If the representation is neither 3-D nor 4-D.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InputError(f"tuning_curves expected batch_size >= 1, got {batch_size!r}.")
    dtype, device = place_of(model, dtype, device)

    def answer(images: Tensor) -> Tensor:
        response = real_response("tuning_curves", model(images), len(images))
        return chosen_units("tuning_curves", response, units).cpu()

    total, found = len(stimuli), []
    first = stimuli.images(0, 1, dtype=dtype, device=device)
    blank = answer(torch.full_like(first, stimuli.mean))
    shown = open_progress(total, 0, shown=progress, unit="grating")
    try:
        for start in range(0, total, batch_size):
            stop = min(start + batch_size, total)
            found.append(answer(stimuli.images(start, stop, dtype=dtype, device=device)))
            shown.advance(stop)
    finally:
        shown.close()
    by_unit = torch.cat(found).reshape(total, -1).T.reshape(-1, *stimuli.shape)
    return TuningCurves(stimuli, by_unit, blank.flatten(), tuple(blank.shape[1:]) or (1,))
