"""Initial weights of a local connection, computed block by block so that memory stays small.

Axes    U units | n weights
Units   source pixels
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.v1._local_fields import Tables, positions

__all__ = ["Profile", "initial_weights", "profile_settings", "surviving"]

Profile = Literal["gaussian", "cloud", "difference"]


def profile_settings(profile: str, sigma: float | None, surround: float | None) -> None:
    """Refuse sigmas that do not belong to the profile.

    Raises:
        InputError: With what the profile needs.
    """
    if profile not in ("gaussian", "cloud", "difference"):
        raise InputError(
            "LocalConnection expected profile 'gaussian', 'cloud' or 'difference', got "
            f"{profile!r}."
        )
    for name, value in (("sigma", sigma), ("sigma_surround", surround)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(
                f"LocalConnection expected {name} > 0 in source pixels, got {value!r}."
            )
    if (profile == "difference") != (surround is not None) or (
        profile == "difference" and sigma is None
    ):
        raise InputError(
            "LocalConnection expected sigma and sigma_surround for the profile 'difference', and "
            f"no sigma_surround for others; got profile {profile!r}, sigma {sigma!r}, "
            f"sigma_surround {surround!r}."
        )


def initial_weights(
    connection: Any, layout: Tables, margin: tuple[float, float], generator: torch.Generator | None
) -> Iterator[tuple[slice, Float[Tensor, " block"]]]:
    """Yield the initial weights of a connection, float64, block by block.

    Args:
        connection: The :class:`LocalConnection`, for its settings.
        layout: Its tables, on the CPU.
        margin: Its margins along rows and columns.
        generator: Source of the noise.
    """
    (height, width), (rows, columns) = connection.source, connection.target
    places = (
        positions(height, rows, margin[0], connection.border),
        positions(width, columns, margin[1], connection.border),
    )
    for units, weights in layout.blocks():
        part = layout.part(units.start, units.stop)
        squared = _squared(part, units.start, columns, places, connection)
        yield weights, _profile(connection, squared, part.offsets, generator)


def _squared(
    part: Tables, first: int, columns: int, places: tuple[Tensor, Tensor], connection: Any
) -> Tensor:
    """Return the squared distance of every weight's source from where the unit looks."""
    height, width = connection.source
    units, sources = part.units() + first, part.columns(width)
    y = (sources // width - places[0][units // columns]).abs()
    x = (sources % width - places[1][units % columns]).abs()
    if connection.border == "wrap":
        y, x = torch.minimum(y, height - y), torch.minimum(x, width - x)
    return y * y + x * x


def _profile(
    connection: Any, squared: Tensor, offsets: Tensor, generator: torch.Generator | None
) -> Tensor:
    sigma = math.inf if connection.sigma is None else connection.sigma
    center = torch.exp(squared / (-2 * sigma**2))
    if connection.profile == "cloud":
        center = center * torch.rand(center.shape, generator=generator, dtype=center.dtype)
    center = _unit_sum(center, offsets)
    if connection.profile == "difference":
        surround = torch.exp(squared / (-2 * connection.sigma_surround**2))
        return center - _unit_sum(surround, offsets)
    return center


def _unit_sum(values: Tensor, offsets: Tensor) -> Tensor:
    total = torch.segment_reduce(values, "sum", offsets=offsets)
    return values / torch.repeat_interleave(total, offsets.diff())


def surviving(before: Tables, after: Tables, width: int) -> Bool[Tensor, " n"]:
    """Return which weights of a layout are still there in one with a smaller radius."""
    sources = int(before.runs[:, 0].max() + 1) * width
    old = before.units() * sources + before.columns(width)
    new = after.units() * sources + after.columns(width)
    return torch.isin(old, new)
