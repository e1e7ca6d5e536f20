"""Which units of a representation a measurement looks at.

Axes    B batch | C channel | H W rows down, columns right | N entries of a vector
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError

__all__ = ["Units", "chosen_units", "place_of", "real_response"]

Units = Literal["center", "map"] | int | Sequence[int]


def real_response(owner: str, response: object, batch: int) -> Tensor:
    """Return what a model put out, if units can be picked from it.

    Raises:
        ShapeError: If it is no tensor with the axes (batch, channel, ...).
        InputError: If it is complex.
    """
    if not isinstance(response, Tensor) or response.ndim not in (3, 4) or len(response) != batch:
        came = tuple(response.shape) if isinstance(response, Tensor) else type(response).__name__
        raise ShapeError(
            f"{owner} expected a representation with axes (batch, channel, height, width) or "
            f"(batch, channel, entry), got {came}. calcarine.probes.readout makes one out of any "
            "layer."
        )
    if response.is_complex():
        raise InputError(
            f"{owner} expected real responses, got {response.dtype}. Wrap the model so that it "
            "returns the modulus or the real part."
        )
    return response


def chosen_units(owner: str, response: Tensor, units: Units) -> Tensor:
    """Return the responses of some units, batch first.

    Args:
        owner: Who asks, for error messages.
        response: Representation with axes (B, C, H, W) or (B, C, N).
        units: ``"center"``, the middle of every map (every entry of a vector); ``"map"``, all; a
            channel's number, its middle; or all numbers after the batch, one unit.

    Raises:
        InputError: If there is no such unit.
    """
    if units == "map" or (units == "center" and response.ndim == 3):
        return response
    middle = tuple(size // 2 for size in response.shape[2:])
    if units == "center":
        return response[:, :, middle[0], middle[1]]
    place = (units, *middle) if isinstance(units, int) else tuple(units)
    fits = len(place) == response.ndim - 1 and all(
        isinstance(i, int) and -n <= i < n for i, n in zip(place, response.shape[1:], strict=True)
    )
    if not fits:
        axes = "(channel, row, column)" if response.ndim == 4 else "(channel, entry)"
        raise InputError(
            f"{owner} expected a channel or a unit {axes} of a representation of shape "
            f"{tuple(response.shape[1:])}, got {units!r}."
        )
    index: tuple[Any, ...] = (slice(None), *place)
    return response[index]


def place_of(
    model: Any, dtype: torch.dtype | None, device: torch.device | str | None
) -> tuple[torch.dtype, torch.device | str | None]:
    """Fill in the type and the device of a model's parameters where none are given."""
    held = list(model.parameters()) if isinstance(model, nn.Module) else []
    held = [t for t in held if t.is_floating_point()]
    if held:
        return dtype or held[0].dtype, device or held[0].device
    return dtype or torch.get_default_dtype(), device
