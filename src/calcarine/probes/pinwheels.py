"""Pinwheels: points around which all orientations are preferred, in order.

    z = e^(2 i preference)      a pinwheel is a crossing of the contours Re z = 0 and Im z = 0

Between four neighbouring units z is interpolated bilinearly,

    z(x, y) = a + b x + c y + d x y,   0 <= x, y <= 1

and both contours cross where Im(a c*) + x (Im(a d*) + Im(b c*)) + x^2 Im(b d*) = 0 and
y = -Re((a + b x)(c + d x)*) / |c + d x|^2. Such a cell holds a pinwheel if the preference winds by
half a turn on the way around it. Winding is conserved: the sum over an area is the winding along
its border, so pinwheels are neither lost between cells nor counted twice. Cells with a unit without
preference hold none.

Axes    H W of the map, rows down, columns right | n pinwheels
Units   positions in units of the map, sign +1 where preference grows counter-clockwise on screen
Source  stevens2013 (crossings of contours); kaschube2010 (density, near pi in three species)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.probes.hypercolumn import hypercolumn
from calcarine.probes.map_measures import as_direction

__all__ = ["Pinwheels", "pinwheel_density", "pinwheels"]


@dataclass(frozen=True)
class Pinwheels:
    """Where the pinwheels of a map are.

    Args:
        row: Positions down, between units; the first row of units is at 0.
        column: Positions to the right.
        sign: +1 where the preference grows counter-clockwise around the pinwheel, else -1.
        area: Area in which pinwheels were looked for, in cells between four units.
    """

    row: Float[Tensor, " n"]
    column: Float[Tensor, " n"]
    sign: Int[Tensor, " n"]
    area: int

    def __len__(self) -> int:
        return len(self.row)


def pinwheels(preference: Tensor, *, wrap: bool = False) -> Pinwheels:
    """Find the pinwheels of an orientation map.

    Args:
        preference: Preferences in degrees, axes (height, width), or complex numbers along
            e^(2 i preference), 0 where there is none. Directions alone place a pinwheel to a fifth
            of a unit; lengths that fall towards it, as those of a vector sum do, place it better.
        wrap: Whether the sheet is a torus; then cells reach across the border.

    Raises:
        ShapeError: If it is no map, or less than two units wide.
        NonFiniteError: If a preference is NaN or infinite.
    """
    z = as_direction("pinwheels", preference)
    if preference.is_complex():
        z = preference.detach().to(z)
    if min(z.shape) < 2:
        raise ShapeError(f"pinwheels expected at least 2 x 2 units, got {tuple(z.shape)}.")
    size = z.shape
    if wrap:
        z = torch.cat([z, z[:1]])
        z = torch.cat([z, z[:, :1]], 1)
    winding = _winding(z)
    known = (z.abs() > 0).double()
    complete = known[:-1, :-1] * known[1:, :-1] * known[:-1, 1:] * known[1:, 1:] > 0
    rows, columns = torch.nonzero((winding != 0) & complete, as_tuple=True)
    x, y = _crossing(z, rows, columns)
    row, column = rows + y, columns + x
    if wrap:
        row, column = row.remainder(size[0]), column.remainder(size[1])
    return Pinwheels(row, column, winding[rows, columns], int(complete.sum()))


def pinwheel_density(
    preference: Tensor,
    *,
    method: Literal["fit", "center_of_mass"] = "fit",
    wrap: bool = False,
) -> float:
    """Return the number of pinwheels per hypercolumn squared.

    Args:
        preference: Preferences in degrees, or e^(2 i preference) with 0 where there is none.
        method: The hypercolumn is the wavelength of the fitted peak of the spectrum, or the
            inverse of its centre of mass, which any map has: it also scores maps that are still
            forming, and is about 6 % shorter, so that densities are 12 % lower.
        wrap: Whether the sheet is a torus.

    Returns:
        The density; NaN if the map has no measurable hypercolumn.

    Raises:
        InputError: If there is no such method.
        ShapeError: If it is no map, or too small to have a spectrum.
        NonFiniteError: If a preference is NaN or infinite.
    """
    if method not in ("fit", "center_of_mass"):
        raise InputError(
            f"pinwheel_density expected method 'fit' or 'center_of_mass', got {method!r}."
        )
    found, measured = pinwheels(preference, wrap=wrap), hypercolumn(preference)
    size = measured.wavelength if method == "fit" else 1 / measured.center_of_mass
    return len(found) / found.area * size**2 if found.area else math.nan


def _winding(z: Complex[Tensor, "h w"]) -> Int[Tensor, "H W"]:
    """Return +1, 0 or -1 for every cell, by the way around it counter-clockwise on screen."""
    right = (z[:, 1:] * z[:, :-1].conj()).angle()
    down = (z[1:] * z[:-1].conj()).angle()
    # A step of exactly half a turn of z may go either way; both cells beside it see the same one.
    around = down[:, :-1] + right[1:] - down[:, 1:] - right[:-1]
    return (around / (2 * math.pi)).round().long()


def _crossing(z: Complex[Tensor, "h w"], rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return where both contours cross inside cells, as (x, y) in [0, 1]."""
    a = z[rows, columns]
    b, c = z[rows, columns + 1] - a, z[rows + 1, columns] - a
    d = z[rows + 1, columns + 1] - a - b - c
    p, q, r = (b * d.conj()).imag, (a * d.conj() + b * c.conj()).imag, (a * c.conj()).imag
    root = (q * q - 4 * p * r).clamp(min=0).sqrt()
    # The stable form: the larger root of the two by q, the other through their product r / p.
    s = -(q + torch.where(q < 0, -root, root)) / 2
    places = []
    for x in (_ratio(s, p), _ratio(r, s)):
        across = c + d * x
        y = _ratio(-((a + b * x) * across.conj()).real, across.abs() ** 2)
        places.append(torch.stack([x, y]))
    outside = [(place - 0.5).abs().amax(0) for place in places]
    x, y = torch.where(outside[0] <= outside[1], places[0], places[1]).clamp(0, 1)
    return x, y


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Divide; far outside any cell where the divisor is zero."""
    zero = below == 0
    return torch.where(zero, 1e9, above / torch.where(zero, 1.0, below))
