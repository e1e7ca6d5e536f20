"""What things are made of: reflectances, measured and derived.

    measured   289 surfaces
    dye        (R_i / max R_i)^a (R_j / max R_j)^b         two measured colours in layers
    thin film  0.9 (1 + cos(4 pi d / lambda)) / 2           two waves that interfere

A layer of dye passes light twice, and one of double density squares its spectrum (the law of Beer
and Lambert), so a and b stand for densities. Films are those of feathers, beetles and soap: d is
the optical thickness, both waves are equally strong, light falls perpendicularly.

Axes    M materials | N wavelengths, 400..700 nm in 1 nm
Units   d and lambda in nm
Source  aces2016, cie2017 (measured), born1999 (dyes and films); ranges of a, b and d are ours
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import default_wavelengths, reflectances
from calcarine.errors import InputError

__all__ = ["material_spectra"]

_MOST_DENSITY = 2.0
_FILM_NM = (100.0, 1500.0)
_FILM_PEAK = 0.9
_LEAST = 1e-4  # a reflectance of zero has no logarithm


def material_spectra(materials: int, *, films: float = 0.0, seed: int = 0) -> Float[Tensor, "M N"]:
    """Make reflectances: measured ones first, then dyes, then thin films.

    Args:
        materials: How many.
        films: Share of them that are thin films, in [0, 1].
        seed: Seed of what is layered over what, and of the thickness of films.

    Returns:
        Reflectances in [0, 1], 400..700 nm in steps of 1 nm, float64.

    Raises:
        InputError: If a number is out of its range.
        MissingDependencyError: If colour-science is not installed.
    """
    if materials < 1 or not 0 <= films <= 1:
        raise InputError(
            "material_spectra expected materials >= 1 and films within [0, 1], got "
            f"{materials!r} and {films!r}."
        )
    generator = torch.Generator().manual_seed(seed)
    count = round(films * materials)
    measured = reflectances()[: materials - count]
    dyes = _dyes(materials - count - len(measured), measured, generator)
    return torch.cat([measured, dyes, _films(count, generator)])


def _dyes(count: int, measured: Tensor, generator: torch.Generator) -> Tensor:
    if count == 0:
        return measured[:0]
    absorbed = measured.clamp_min(_LEAST).log()
    absorbed = absorbed - absorbed.amax(1, keepdim=True)
    pair = torch.randint(len(measured), (2, count), generator=generator)
    density = _MOST_DENSITY * torch.rand(2, count, 1, generator=generator, dtype=torch.float64)
    return (density * absorbed[pair]).sum(0).exp()


def _films(count: int, generator: torch.Generator) -> Tensor:
    thin, thick = _FILM_NM
    chance = torch.rand(count, 1, generator=generator, dtype=torch.float64)
    thickness = thin + (thick - thin) * chance
    phase = 4 * math.pi * thickness / default_wavelengths()
    return _FILM_PEAK * (1 + phase.cos()) / 2
