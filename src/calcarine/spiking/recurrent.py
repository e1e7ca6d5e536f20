"""A recurrent connection around any neuron: its last spikes come back as input.

    (z_t, state) = neuron(x_t + W z_{t-1}, state)        z_{-1} = 0

Without self-connection the diagonal of W counts as 0, during learning too: its entries get no
gradient and have no effect. W maps units on the last axis: input_j = sum_k W_jk z_k (+ bias_j).

Axes    B batch | N units, last
Source  gerstner2014, chapter 12 (networks of integrate-and-fire neurons)
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from calcarine.errors import InputError, ShapeError
from calcarine.stage import DynamicStage

__all__ = ["Recurrent", "RecurrentState"]


class RecurrentState(NamedTuple):
    """State of the neuron, and its last output."""

    neuron: Any
    z: Float[Tensor, "B ..."]


class Recurrent(DynamicStage):
    """Any neuron with a connection from its output back to its input, one step later.

    >>> ring = Recurrent(LIF(), torch.randn(20, 20) / 20**0.5)

    Args:
        neuron: A stage with memory whose output has the shape of its input.
        weight: Connection: a matrix (units, units), rows are the receivers, which becomes a
            parameter; an ``nn.Linear``; or any module that maps output to input.
        self_connection: Whether a unit reaches itself. A module other than ``nn.Linear`` has no
            diagonal that could be left out, and needs ``True``.

    Raises:
        InputError: If ``neuron`` has no memory, or the self-connection of ``weight`` cannot be
            left out.
        ShapeError: If the matrix is not square.
    """

    sources: ClassVar[tuple[str, ...]] = ("gerstner2014",)

    def __init__(
        self, neuron: DynamicStage, weight: Tensor | nn.Module, *, self_connection: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(neuron, DynamicStage):
            raise InputError(
                "Recurrent expected a stage with memory, as LIF(), got "
                f"{type(neuron).__name__}. A connection back needs a step to come back in."
            )
        self.neuron, self.self_connection = neuron, bool(self_connection)
        self.weight = _connection(weight)
        if not isinstance(self.weight, nn.Linear) and not self.self_connection:
            raise InputError(
                f"Recurrent cannot leave out the self-connection of a {type(weight).__name__}. "
                "Pass self_connection=True, or a matrix or nn.Linear."
            )

    def initial_state(self, like: Float[Tensor, "B ..."]) -> RecurrentState:
        """Return the neuron at rest, and no spikes, for input of the shape of ``like``."""
        return RecurrentState(self.neuron.initial_state(like), torch.zeros_like(like))

    def forward(
        self, x: Float[Tensor, "B ..."], state: RecurrentState
    ) -> tuple[Float[Tensor, "B ..."], RecurrentState]:
        """Advance by one step.

        Args:
            x: Input from outside, axes (batch, ..., units).
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Output of the neuron, of the shape of ``x``, and the new state.

        Raises:
            ShapeError: If the connection does not fit the units of ``x``, or the state does not.
        """
        if state.z.shape != x.shape:
            raise ShapeError(
                f"Recurrent expected a state of shape {tuple(x.shape)} as its input, got "
                f"{tuple(state.z.shape)}. Use initial_state(frame)."
            )
        z, after = self.neuron(x + self._feedback(state.z), state.neuron)
        return z, RecurrentState(after, z)

    def _feedback(self, z: Tensor) -> Tensor:
        if not isinstance(self.weight, nn.Linear):
            back = self.weight(z)
            if back.shape != z.shape:
                raise ShapeError(
                    f"Recurrent expected a connection that keeps the shape {tuple(z.shape)}, got "
                    f"{tuple(back.shape)}."
                )
            return back
        weight = self.weight.weight
        if z.shape[-1] != weight.shape[1]:
            raise ShapeError(
                f"Recurrent connects {weight.shape[1]} units, expected input with axes (batch, "
                f"..., units), got shape {tuple(z.shape)}."
            )
        if not self.self_connection:
            weight = weight.masked_fill(_diagonal(weight), 0)
        return linear(z, weight, self.weight.bias)

    def extra_repr(self) -> str:
        """Show the settings."""
        return f"self_connection={self.self_connection}"


def _connection(weight: Tensor | nn.Module) -> nn.Module:
    """Return the connection as a module; a matrix becomes a linear map without bias."""
    shape = weight.shape if isinstance(weight, Tensor) else None
    if isinstance(weight, nn.Linear):
        shape = weight.weight.shape
    if shape is not None and (len(shape) != 2 or shape[0] != shape[1]):
        raise ShapeError(
            f"Recurrent expected a matrix with axes (units, units), got shape {tuple(shape)}."
        )
    if not isinstance(weight, Tensor):
        return weight
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer


def _diagonal(weight: Tensor) -> Tensor:
    return torch.eye(weight.shape[0], dtype=torch.bool, device=weight.device)
