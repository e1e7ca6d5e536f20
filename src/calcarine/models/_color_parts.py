"""The parts of the colour cortex by name: learned, given from outside, or left out."""

from __future__ import annotations

from typing import Any

from torch import nn

from calcarine.cortex.cell_positions import CellPositions
from calcarine.cortex.given_positions import GivenPositions, LatticePositions
from calcarine.cortex.lateral_inhibition import GivenInhibition, LearnedInhibition
from calcarine.errors import InputError, UnknownNameError

__all__ = ["INHIBITIONS", "MOVEMENTS", "POSITIONS", "build_inhibition", "build_positions", "facts"]

INHIBITIONS = ("learned", "none", "true")
POSITIONS = ("lattice", "learned", "published", "true")
MOVEMENTS = ("estimated", "published", "true")


def build_inhibition(
    name: str, kernel_size: int, plasticity: float, border_rounds: int
) -> LearnedInhibition | GivenInhibition | None:
    """Return what the cortex knows of lateral inhibition, or ``None`` for nothing."""
    if name not in INHIBITIONS:
        raise UnknownNameError("way to know lateral inhibition", name, INHIBITIONS)
    if name == "none":
        return None
    if name == "true":
        return GivenInhibition(kernel_size, border_rounds=border_rounds)
    return LearnedInhibition(kernel_size, plasticity, border_rounds=border_rounds)


def build_positions(
    name: str, size: int, plasticity: float, *, normalized: bool
) -> LatticePositions | CellPositions | GivenPositions:
    """Return what the cortex knows of the places of its cells."""
    if name not in POSITIONS:
        raise UnknownNameError("way to know the positions of cells", name, POSITIONS)
    if name == "lattice":
        return LatticePositions(size)
    if name == "true":
        return GivenPositions(size)
    published = name == "published"
    return CellPositions(size, plasticity=plasticity, normalized=normalized, published=published)


def facts(inhibition: nn.Module | None, positions: nn.Module, retina: Any) -> None:
    """Hand over the retina's facts to the parts that are told them.

    Raises:
        InputError: If a part is told what the retina does not have.
    """
    if isinstance(inhibition, GivenInhibition):
        if retina.inhibition is None:
            raise InputError(
                "The cortex is to be told the retina's lateral inhibition, but this retina has "
                "none. Set cortex.inhibition='none', or retina.inhibition=true."
            )
        inhibition.give(retina.inhibition.kernel)
    if isinstance(positions, GivenPositions):
        positions.give(retina.sampling.positions)
