"""Sinusoidal gratings, alone or in a disk, and whole sets of them.

    L(x, y) = mean (1 + contrast a(d) cos(2 pi f u - phase)),   u = -x sin(o) - y cos(o)
    a(d)    = 1 inside the disk, falling over edge_px as a raised cosine, 0 outside

x points right and y down, both from the centre of the image. o is the orientation of the bars: 0
for horizontal ones, counter-clockwise on screen. u points 90 degrees further, so a growing phase
moves the bars that way: up when they are horizontal, left when they are vertical. Phase 0 puts the
middle of a bright bar on the centre.

Axes    B gratings | 1 channel | H W rows down, columns right
Units   orientation and phase in degrees, frequency in cycles per pixel, contrast of Michelson [1]
Source  devalois1982 (gratings as probes of cortical cells); ours: the edge of the disk
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli._checks import checked_dtype, checked_size, is_count
from calcarine.stimuli.light import work_dtype

__all__ = ["GratingSet", "grating"]

Values = float | Sequence[float] | Tensor


def grating(
    size: int | tuple[int, int],
    orientation_deg: Values = 0.0,
    frequency_cpp: Values = 0.1,
    phase_deg: Values = 0.0,
    contrast: Values = 1.0,
    diameter_px: Values = math.inf,
    *,
    mean: float = 0.5,
    edge_px: float = 2.0,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "B 1 H W"]:
    """Draw one grating for every set of parameters.

    Args:
        size: Height and width, or one number for a square, in px.
        orientation_deg: Orientation of the bars; one number, or one per grating.
        frequency_cpp: Cycles per pixel, in [0, 0.5]; one number, or one per grating.
        phase_deg: Phase at the centre; one number, or one per grating.
        contrast: Michelson contrast in [0, 1]; one number, or one per grating.
        diameter_px: Diameter of the disk at half height; infinite for the whole field.
        mean: Grey value around the disk and on average; above 0.5 bright bars exceed 1.
        edge_px: Width of the edge of the disk.
        dtype: Floating-point type, torch's default one if left out.
        device: Where to put the result.

    Raises:
        InputError: If a parameter is out of its range.
        ShapeError: If parameters are not numbers or lists of the same length.
    """
    height, width = checked_size("grating", size)
    dtype = checked_dtype("grating", dtype)
    _check_number("mean", mean, 0, 1)
    _check_number("edge_px", edge_px, 0, math.inf)
    work = work_dtype(dtype)
    given = {
        "orientation_deg": (orientation_deg, -math.inf, math.inf),
        "frequency_cpp": (frequency_cpp, 0.0, 0.5),
        "phase_deg": (phase_deg, -math.inf, math.inf),
        "contrast": (contrast, 0.0, 1.0),
        "diameter_px": (diameter_px, 0.0, math.inf),
    }
    values = [_checked_values(n, v, low, high) for n, (v, low, high) in given.items()]
    o, f, phase, c, diameter = (v.to(device, work)[:, None, None] for v in _same_length(values))
    y = torch.arange(height, dtype=work, device=device)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=work, device=device) - (width - 1) / 2
    o, phase = torch.deg2rad(o), torch.deg2rad(phase)
    wave = torch.cos(2 * math.pi * f * (-x * o.sin() - y * o.cos()) - phase)
    pictures = mean * (1 + c * _disk(torch.hypot(x, y), diameter, edge_px) * wave)
    return pictures[:, None].to(dtype)


@dataclass(frozen=True)
class GratingSet:
    """Every combination of some orientations, frequencies, phases, contrasts and diameters.

    The phases should divide the circle evenly, so that means and harmonics over them are exact.

    Args:
        size: Height and width, or one number for a square, in px.
        orientations_deg: Ours: every 15 degrees.
        frequencies_cpp: Cycles per pixel. Ours: half octaves from 1/32 to 0.35.
        phases_deg: Ours: every 45 degrees.
        contrasts: Michelson contrasts.
        diameters_px: Diameters of the disk; infinite for the whole field.
        mean: Grey value around the disk and on average.
        channels: Channels of the images; all show the same.
    """

    size: int | tuple[int, int]
    orientations_deg: tuple[float, ...] = tuple(15.0 * k for k in range(12))
    frequencies_cpp: tuple[float, ...] = tuple(2.0 ** (k / 2 - 5) for k in range(8))
    phases_deg: tuple[float, ...] = tuple(45.0 * k for k in range(8))
    contrasts: tuple[float, ...] = (1.0,)
    diameters_px: tuple[float, ...] = (math.inf,)
    mean: float = 0.5
    channels: int = 1

    def __post_init__(self) -> None:
        checked_size("GratingSet", self.size)
        if not is_count(self.channels):
            raise InputError(f"GratingSet expected at least one channel, got {self.channels!r}.")
        for field in fields(self)[1:6]:
            values = getattr(self, field.name)
            if len(values) == 0 or len(set(values)) < len(values):
                raise InputError(
                    f"GratingSet expected {field.name} as at least one value, no two alike, got "
                    f"{values!r}."
                )
            object.__setattr__(self, field.name, tuple(float(v) for v in values))

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """How many orientations, frequencies, phases, contrasts and diameters there are."""
        o, f, p, c, d = (len(axis) for axis in self._axes())
        return o, f, p, c, d

    def __len__(self) -> int:
        return math.prod(self.shape)

    def images(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Draw the gratings ``start`` to ``stop``, the last axis of ``shape`` changing fastest.

        Raises:
            InputError: If there are no such gratings, or a parameter is out of its range.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise InputError(
                f"GratingSet.images expected 0 <= start < stop <= {len(self)}, got {start} and "
                f"{stop}."
            )
        places = torch.unravel_index(torch.arange(start, stop), self.shape)
        chosen = [
            torch.tensor(axis, dtype=torch.double)[place]
            for axis, place in zip(self._axes(), places, strict=True)
        ]
        pictures = grating(self.size, *chosen, mean=self.mean, dtype=dtype, device=device)
        return pictures.expand(-1, self.channels, -1, -1)

    def _axes(self) -> tuple[tuple[float, ...], ...]:
        return (
            self.orientations_deg,
            self.frequencies_cpp,
            self.phases_deg,
            self.contrasts,
            self.diameters_px,
        )


def _disk(distance: Tensor, diameter: Tensor, edge_px: float) -> Tensor:
    """Return 1 inside, 0 outside, one half on the circle."""
    beyond = distance - diameter / 2
    if edge_px == 0:
        return (beyond <= 0).to(distance)
    return (1 - torch.sin(math.pi * (beyond / edge_px).clamp(-0.5, 0.5))) / 2


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"grating expected {name} in [{low:g}, {high:g}], got {value!r}.")


def _checked_values(name: str, value: Values, low: float, high: float) -> Tensor:
    values = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.double)
    if values.ndim > 1 or values.numel() == 0:
        raise ShapeError(
            f"grating expected {name} as a number or a list of numbers, got shape "
            f"{tuple(values.shape)}."
        )
    fits = (values >= low) & (values <= high)
    if name != "diameter_px":
        fits &= values.isfinite()
    if not fits.all():
        hint = " Higher frequencies alias." if name == "frequency_cpp" else ""
        raise InputError(
            f"grating expected finite values of {name} in [{low:g}, {high:g}], got "
            f"{values[~fits].flatten()[0].item() if values.ndim else values.item():g}.{hint}"
        )
    return values.reshape(-1)


def _same_length(values: list[Tensor]) -> list[Tensor]:
    longest = max(len(v) for v in values)
    if any(len(v) not in (1, longest) for v in values):
        raise ShapeError(
            "grating expected one value, or one per grating, of every parameter, got "
            f"{', '.join(str(len(v)) for v in values)} values."
        )
    return [v.expand(longest) for v in values]
