"""What CordsNet returns besides logits: the state of its areas, and where it settled.

Axes    B batch | C channels | H W rows down, columns right
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from calcarine.cortex.recurrent_area import RecurrentAreaState
from calcarine.models._cordsnet_dynamics import Rates
from calcarine.models._implicit import SolveReport

__all__ = ["CordsNetState", "Equilibrium", "as_state"]


class CordsNetState(NamedTuple):
    """State of every area, first to last."""

    areas: tuple[RecurrentAreaState, ...]


class Equilibrium(NamedTuple):
    """Where a network settled, and how well.

    ``residual`` is the largest change of a rate in the last step relative to the largest rate.
    ``adjoint`` is filled by the backward pass.
    """

    logits: Float[Tensor, "B classes"]
    state: CordsNetState
    steps: int
    residual: float
    converged: bool
    adjoint: SolveReport


def as_state(rates: Rates) -> CordsNetState:
    """Return rates as the state of a model."""
    return CordsNetState(tuple(RecurrentAreaState(r) for r in rates))
