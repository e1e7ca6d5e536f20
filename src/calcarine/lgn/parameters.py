"""Numbers that become parameters: given as one value or several, read back as plain numbers."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor

from calcarine.errors import InputError, ShapeError

__all__ = ["Numbers", "check_channels", "pair", "same_length", "vector"]


def _plain(value: Any) -> Any:
    """Return the values of a parameter, so that a recipe can be written from a stage."""
    if not isinstance(value, Tensor):
        return value
    values = tuple(value.detach().reshape(-1).tolist())
    return values[0] if len(values) == 1 else values


Numbers = Annotated[float | tuple[float, ...], BeforeValidator(_plain)]
"""One number, or one for every output."""


def vector(owner: str, name: str, value: Any, *, zero: bool = False) -> Tensor:
    """Return one number or several as a tensor with one axis, in the default dtype.

    Args:
        owner: Name of the stage, for messages.
        name: Name of the argument.
        value: A number, several, or a tensor, whose dtype is then kept.
        zero: Whether zero is allowed.

    Raises:
        InputError: If there are none, or one is not positive and finite.
    """
    if isinstance(value, Tensor):
        flat = value.detach().reshape(-1).clone()
        flat = flat if flat.is_floating_point() else flat.to(torch.get_default_dtype())
    else:
        values = value if isinstance(value, (tuple, list)) else (value,)
        if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
            raise InputError(f"{owner} expected numbers for {name}, got {value!r}.")
        flat = torch.tensor([float(v) for v in values], dtype=torch.get_default_dtype())
    fit = [0 < v < math.inf or (zero and v == 0) for v in flat.tolist()]
    if not fit or not all(fit):
        raise InputError(
            f"{owner} expected {name} {'>= 0' if zero else '> 0'}, got {value!r}. For example "
            f"{name}=1.0, or one value for each output."
        )
    return flat


def pair(value: Any) -> Any:
    """Return one number twice, for the two pathways; leave several as they are."""
    return (value, value) if isinstance(value, (int, float)) else value


def same_length(owner: str, **vectors: Tensor) -> list[Tensor]:
    """Return vectors of one length; one value is repeated.

    Raises:
        InputError: If two vectors with several values differ in length.
    """
    longest = max(len(v) for v in vectors.values())
    if any(len(v) not in (1, longest) for v in vectors.values()):
        lengths = ", ".join(f"{len(v)} for {name}" for name, v in vectors.items())
        raise InputError(f"{owner} expected one value or equally many everywhere, got {lengths}.")
    return [v.repeat(longest) if len(v) == 1 else v for v in vectors.values()]


def check_channels(owner: str, x: Tensor, filters: int) -> None:
    """Refuse images whose channels fit neither one filter nor as many filters.

    Raises:
        ShapeError: If they do not fit.
    """
    channels = x.shape[1]
    if channels != 1 and filters not in (1, channels):
        raise ShapeError(
            f"{owner} has {filters} filters, which expect one channel or {filters}; got "
            f"{channels} channels (batch, channel, height, width = {tuple(x.shape)}). Convert to "
            "grey, or pass the channels as batch."
        )
