"""How well a cortex tells its types of cones apart: a linear read-out of cone identities.

    type(cell) = argmax over types of (A [C_cell, 1])       A: least squares on the other cells

The read-out is fitted to one random half of the cells and counted on the other, then the other way
round, so that it cannot tell what the identities do not say. Cells without one main pigment (more
than half of it) have no type; they are left out.

Axes    K latent | T cone types | S cells along a side
Source  kotani2024 (a linear scope on cone identities); the two halves are ours
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError

__all__ = ["ConeReadout", "cone_readout"]

_RIDGE = 1e-6  # per cell; only for identities that are all alike. Ours.


@dataclass(frozen=True)
class ConeReadout:
    """Shares of cells whose type a linear read-out names correctly.

    Args:
        accuracy: Of all cells.
        chance: What calling all cells by the most frequent type would give.
        by_type: Of the cells of each type that there is, by its letter.
    """

    accuracy: float
    chance: float
    by_type: dict[str, float]


@torch.no_grad()
def cone_readout(
    identities: Float[Tensor, "K S S"],
    mosaic: Float[Tensor, "T S S"],
    *,
    border: int = 0,
    seed: int = 0,
) -> ConeReadout:
    """Read the types of cells out of their learned identities.

    Args:
        identities: Vector of every cell.
        mosaic: Share of each pigment in each cell; planes L, M, S (, Q).
        border: Cells left out at every edge.
        seed: Seed of the halves.

    Raises:
        ShapeError: If identities and mosaic do not fit, or the border leaves nothing.
        NonFiniteError: If identities hold NaN or infinity.
        InputError: If fewer than two cells have one main pigment.
    """
    side = mosaic.shape[-1] - 2 * border
    if (
        identities.ndim != 3 or mosaic.ndim != 3 or identities.shape[1:] != mosaic.shape[1:]
        or not 1 <= mosaic.shape[0] <= 4 or border < 0 or side < 1
    ):  # fmt: skip
        raise ShapeError(
            "cone_readout expected identities (latent, size, size), a mosaic (type, size, size) of "
            f"the same cells and a border below half of them, got shapes {tuple(identities.shape)} "
            f"and {tuple(mosaic.shape)}, border {border}."
        )
    vectors, types = (
        x[:, border : x.shape[1] - border, border : x.shape[2] - border].flatten(1).detach().cpu()
        for x in (identities, mosaic)
    )
    if not vectors.isfinite().all():
        raise NonFiniteError("cone_readout expected finite identities, got NaN or infinity.")
    share, kind = types.max(dim=0)
    typed = share > 0.5
    vectors, kind = vectors[:, typed].double().T, kind[typed]
    if len(kind) < 2:
        raise InputError("cone_readout expected cells with one main pigment, all are mixed.")
    order = torch.randperm(len(kind), generator=torch.Generator().manual_seed(seed))
    right = torch.zeros(len(kind), dtype=torch.float64)
    halves = order.tensor_split(2)
    for fitted, counted in (halves, halves[::-1]):
        named = _named(vectors[fitted], kind[fitted], vectors[counted])
        right[counted] = (named == kind[counted]).double()
    counts = torch.bincount(kind, minlength=mosaic.shape[0])
    by_type = {
        "LMSQ"[t]: float(right[kind == t].mean()) for t in range(len(counts)) if counts[t] > 0
    }
    return ConeReadout(float(right.mean()), float(counts.max() / counts.sum()), by_type)


def _named(known: Tensor, kind: Tensor, asked: Tensor) -> Tensor:
    """Fit the read-out to known cells and name others."""
    inputs, others = (torch.cat([x, torch.ones_like(x[:, :1])], dim=1) for x in (known, asked))
    wanted = torch.nn.functional.one_hot(kind, 4).double()
    ridge = _RIDGE * len(inputs) * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    weights = torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ wanted)
    return (others @ weights).argmax(dim=1)
