"""Orientation maps: which orientation every unit of a sheet prefers, and how well it is tuned.

    r_k         response to orientation theta_k: peak over phase (mean, or amplitude)
    V           sum_k r_k e^(2 i theta_k)
    preference  arg(V) / 2 in [0, 180)         selectivity  |V| / sum_k |r_k|
    circular variance  1 - selectivity
    half-width  from the best orientation to 1 / sqrt 2 of the peak, mean of both sides

A unit that answers to nothing, or to all orientations alike, has selectivity 0, half-width 90
degrees and no preference: there ``responsive`` is false, ``preference_deg`` is a placeholder of 0,
and pinwheels, stability, smoothness and histogram leave the unit out. Nothing is NaN.

Axes    O orientations | P phases | H W of the map, rows down, columns right
Units   degrees, 0 a horizontal contour, counter-clockwise on screen; responses those of the model
Source  miikkulainen2005 (vector sum, peak over phase); stevens2013 (2.4 cycles per sheet unit);
        ringach2002 (circular variance, half-width)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from calcarine.errors import FileFormatError, InputError, require
from calcarine.probes._curves import distance_to_fall
from calcarine.probes._sweep import Combine, mean_vector, preferred, sweep
from calcarine.probes._units import place_of
from calcarine.probes.hypercolumn import Hypercolumn, hypercolumn
from calcarine.probes.map_measures import preference_histogram, smoothness, stability
from calcarine.probes.pinwheels import Pinwheels, pinwheel_density, pinwheels
from calcarine.probes.saving import read_result, write_result
from calcarine.stimuli._checks import is_count
from calcarine.stimuli.gratings import grating
from calcarine.stimuli.sheet import Sheet

__all__ = ["OrientationMap", "orientation_map"]

_KIND = "orientation_map"
_CYCLES_PER_SIDE = 2.4  # stevens2013
_FREQUENCY_CPP = 0.1  # the same on a retina of 24 px per sheet unit


@dataclass(frozen=True)
class OrientationMap:
    """An orientation map and everything read off it. All tensors are on the CPU, float64.

    Args:
        orientations_deg: Orientations shown, evenly spaced over half a turn.
        curves: Tuning curve of every unit.
        frequency_cpp: Frequency of the gratings [cycles per px].
        phases: How many phases were shown.
        combine: How phases became one response.
        wrap: Whether the sheet is a torus.
        responses: Response to every grating, if kept.
    """

    orientations_deg: Float[Tensor, " O"]
    curves: Float[Tensor, "H W O"]
    frequency_cpp: float
    phases: int
    combine: Combine = "peak"
    wrap: bool = False
    responses: Float[Tensor, "O P H W"] | None = field(default=None, repr=False)

    @property
    def vector(self) -> Complex[Tensor, "H W"]:
        """The vector sum V; zero for a unit without preference."""
        return mean_vector(self.curves, self.orientations_deg, 180.0)

    @property
    def responsive(self) -> Bool[Tensor, "H W"]:
        """Units that have a preference at all."""
        return self.vector.abs() > 0

    @property
    def preference_deg(self) -> Float[Tensor, "H W"]:
        """Preferred orientation in [0, 180); 0 where not ``responsive``."""
        return preferred(self.vector, 180.0)

    @property
    def direction(self) -> Complex[Tensor, "H W"]:
        """e^(2 i preference), and 0 where not ``responsive``."""
        return self.vector.sgn()

    @property
    def selectivity(self) -> Float[Tensor, "H W"]:
        """0 for no preference, 1 for a unit that answers to one orientation only."""
        total = self.curves.abs().sum(-1)
        return self.vector.abs() / torch.where(total > 0, total, 1.0)

    @property
    def circular_variance(self) -> Float[Tensor, "H W"]:
        """1 for no preference, 0 for a unit that answers to one orientation only."""
        return 1 - self.selectivity

    @property
    def peak(self) -> Float[Tensor, "H W"]:
        """Response to the best orientation shown."""
        return self.curves.amax(-1)

    @property
    def half_width_deg(self) -> Float[Tensor, "H W"]:
        """Half-width of every tuning curve; 90 for one that does not fall to 1 / sqrt 2."""
        level, curves = 1 / math.sqrt(2), self.curves.flatten(0, 1)
        up, down = (
            distance_to_fall(curves, self.orientations_deg, level, step, 180.0) for step in (1, -1)
        )
        width = ((up + down) / 2).nan_to_num(90.0).clamp(max=90.0)
        return width.unflatten(0, self.curves.shape[:2])

    def pinwheels(self) -> Pinwheels:
        """Find the pinwheels; see :func:`calcarine.probes.pinwheels`."""
        return pinwheels(self.direction, wrap=self.wrap)

    def hypercolumn(self) -> Hypercolumn:
        """Measure the size of a hypercolumn; see :func:`calcarine.probes.hypercolumn`."""
        return hypercolumn(self.direction)

    def pinwheel_density(self, method: Literal["fit", "center_of_mass"] = "fit") -> float:
        """Return pinwheels per hypercolumn squared; animals have 3.14 within a few percent.

        See :func:`calcarine.probes.pinwheel_density`.
        """
        return pinwheel_density(self.direction, method=method, wrap=self.wrap)

    def histogram(self, bins: int = 12) -> tuple[Tensor, Tensor]:
        """Return centres of bins [degrees] and the share of units in each."""
        return preference_histogram(self.direction, bins)

    def stability(self, final: OrientationMap) -> float:
        """Compare with a later map: 1 if equal, 0 if unrelated."""
        return stability(self.direction, final.direction)

    def smoothness(self) -> float:
        """Compare neighbours: 1 if all prefer the same, 0 if unrelated."""
        return smoothness(self.direction, wrap=self.wrap)

    def to_arrays(self) -> dict[str, tuple[tuple[str, ...], Any]]:
        """Return name -> (axes, NumPy array), as ``xarray.Dataset`` takes them."""
        plane = ("row", "column")
        found = {
            "preference_deg": (plane, self.preference_deg),
            "selectivity": (plane, self.selectivity),
            "half_width_deg": (plane, self.half_width_deg),
            "peak": (plane, self.peak),
            "responsive": (plane, self.responsive),
            "curves": ((*plane, "orientation_deg"), self.curves),
            "orientation_deg": (("orientation_deg",), self.orientations_deg),
        }
        return {name: (axes, values.numpy()) for name, (axes, values) in found.items()}

    def to_dict(self) -> dict[str, list[Any]]:
        """Return one list per quantity with one entry per unit, row after row."""
        height, width = self.curves.shape[:2]
        columns = {
            name: v.ravel() for name, (axes, v) in self.to_arrays().items() if len(axes) == 2
        }
        places = {
            "row": [r for r in range(height) for _ in range(width)],
            "column": list(range(width)) * height,
        }
        return {**places, **{name: values.tolist() for name, values in columns.items()}}

    def to_dataframe(self) -> Any:
        """Return :meth:`to_dict` as a ``pandas.DataFrame``, one row per unit.

        Raises:
            MissingDependencyError: If pandas is not installed.
        """
        pandas = require("pandas", extra="data", purpose="OrientationMap.to_dataframe")
        return pandas.DataFrame(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the map to a .safetensors file; :meth:`load` reads it."""
        tensors = {"orientations_deg": self.orientations_deg, "curves": self.curves}
        if self.responses is not None:
            tensors["responses"] = self.responses
        facts = {name: getattr(self, name) for name in _FACTS}
        return write_result(path, _KIND, tensors, facts)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a map.

        Raises:
            FileFormatError: If the file is missing, damaged or of another kind.
        """
        tensors, facts = read_result(path, _KIND)
        try:
            return cls(
                tensors["orientations_deg"],
                tensors["curves"],
                **{name: facts[name] for name in _FACTS},
                responses=tensors.get("responses"),
            )
        except KeyError as error:
            raise FileFormatError(f"{path} is damaged: it lacks {error}.") from error


_FACTS = ("frequency_cpp", "phases", "combine", "wrap")


def orientation_map(
    model: Callable[[Tensor], Tensor],
    size: int | tuple[int, int] | Sheet,
    *,
    orientations: int = 24,
    phases: int = 12,
    frequency_cpp: float | None = None,
    cycles_per_side: float | None = None,
    contrast: float = 1.0,
    mean: float = 0.5,
    combine: Combine = "peak",
    wrap: bool = False,
    batch_size: int = 64,
    channel: int | None = None,
    channels: int = 1,
    keep_responses: bool = False,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> OrientationMap:
    """Measure an orientation map with sine gratings.

    The model decides what is measured: a readout before or after settling, of any layer.

    Args:
        model: Any ``image -> (batch, H, W)`` or ``(batch, 1, H, W)``; see
            :func:`calcarine.probes.readout`.
        size: Height and width of the image that the model takes, one number for a square, or a
            :class:`calcarine.stimuli.Sheet`.
        orientations: Orientations shown, evenly spaced. stevens2013 and ours: 24.
        phases: Phases shown, evenly spaced. Ours: 12.
        frequency_cpp: Cycles per pixel. By default 0.1, or what ``cycles_per_side`` says.
        cycles_per_side: Cycles per sheet unit, where ``size`` is a sheet. stevens2013: 2.4.
        contrast: Michelson contrast.
        mean: Grey value on average.
        combine: How phases become one response: ``"peak"``, ``"mean"`` or ``"amplitude"``.
        wrap: Whether the map is a torus: its left border continues the right one.
        batch_size: Gratings per call of the model; bounds the memory.
        channel: Which channel of a representation (batch, channel, H, W) is the map.
        channels: Channels of the image; all show the same.
        keep_responses: Keep the response to every grating.
        dtype: Type of the images; that of the model's parameters if left out.
        device: Where to show them; where the model's parameters are if left out.
        progress: Whether to show how far the work is.

    Raises:
        InputError: If a setting is impossible.
        ShapeError: If the model does not return a map.
        NonFiniteError: If a response is NaN or infinite.
    """
    if not is_count(orientations) or orientations < 3 or not is_count(phases):
        raise InputError(
            "orientation_map expected at least 3 orientations, for a vector sum, and 1 phase, got "
            f"{orientations!r} and {phases!r}."
        )
    frequency = _frequency(size, frequency_cpp, cycles_per_side)
    pixels = size.size if isinstance(size, Sheet) else size
    dtype, device = place_of(model, dtype, device)
    angles = 180.0 / orientations * torch.arange(orientations, dtype=torch.double)
    shifts = 360.0 / phases * torch.arange(phases, dtype=torch.double)

    def stimulus(angle: float) -> Tensor:
        shown = grating(
            pixels, angle, frequency, shifts, contrast, mean=mean, dtype=dtype, device=device
        )
        return shown.expand(-1, channels, -1, -1)

    curves, responses = sweep(
        model, stimulus, angles.tolist(), combine, batch_size, channel=channel,
        keep=keep_responses, progress=progress,
    )  # fmt: skip
    return OrientationMap(angles, curves, frequency, phases, combine, wrap, responses)


def _frequency(size: Any, frequency_cpp: float | None, cycles_per_side: float | None) -> float:
    if frequency_cpp is not None and cycles_per_side is not None:
        raise InputError("orientation_map expected frequency_cpp or cycles_per_side, not both.")
    if frequency_cpp is not None:
        return frequency_cpp
    if isinstance(size, Sheet):
        return size.frequency_cpp(_CYCLES_PER_SIDE if cycles_per_side is None else cycles_per_side)
    if cycles_per_side is not None:
        raise InputError(
            "orientation_map expected a calcarine.stimuli.Sheet as size to make sense of "
            f"cycles_per_side, got size={size!r}. Or pass frequency_cpp."
        )
    return _FREQUENCY_CPP
