"""Figures of a map that grew: the map, its preferences, its fields, and its development.

Axes    H W of the map, rows down, columns right | h w of a field
Units   ages in updates; fields in pixels of the LGN
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine import plot
from calcarine.models import Gcal, Lissom
from calcarine.probes import OrientationMap
from calcarine.v1 import LocalConnection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["afferent_fields", "development_figure", "fields_figure", "map_figure", "map_film"]

_FIELDS = 14  # along the longer side of the sheet, in the figure


def map_figure(found: OrientationMap, *, title: str = "") -> Figure:
    """Show preferences with pinwheels, and selectivity."""
    return plot.orientation_map_figure(
        found.direction, selectivity=found.selectivity, pinwheels=found.pinwheels(), title=title
    )


def development_figure(measured: Mapping[int, Mapping[str, float]], *, title: str = "") -> Figure:
    """Show pinwheel density, selectivity and stability over time."""
    names = ("pinwheel_density", "selectivity", "stability")
    curves = {
        name.replace("_", " "): torch.tensor([numbers[name] for numbers in measured.values()])
        for name in names
    }
    return plot.map_development(list(measured), curves, age_label="updates", title=title)


def map_film(maps: Mapping[int, OrientationMap]) -> Float[Tensor, "T 3 h w"]:
    """Film the development, unselective units dark."""
    return plot.map_animation(
        [found.direction for found in maps.values()],
        selectivities=[found.selectivity for found in maps.values()],
        captions=[f"after {age} updates" for age in maps],
    )


def fields_figure(model: Gcal | Lissom, *, title: str = "") -> Figure:
    """Show what some units look at: ON minus OFF, or the one afferent field."""
    every = math.ceil(max(model.cortex_shape) / _FIELDS)
    fields = afferent_fields(model, every)
    label = "ON - OFF weight" if len(model.v1.afferents) > 1 else "afferent weight"
    return plot.weight_grid(fields, limits="each", label=label, title=title)


@torch.no_grad()
def afferent_fields(model: Gcal | Lissom, every: int = 1) -> Float[Tensor, "H W h w"]:
    """Return the afferent fields of every so-manieth unit, each cut out around its place.

    With an ON and an OFF field their difference, so an edge shows as a bright and a dark stripe.

    Args:
        model: The sheet model.
        every: Distance between the units shown.
    """
    connections = [c for c in model.v1.afferents if isinstance(c, LocalConnection)]
    side = 2 * math.ceil(connections[0].current_radius) + 1
    height, width = model.cortex_shape
    start = every // 2
    rows = range(min(start, height - 1), height, every)
    columns = range(min(start, width - 1), width, every)
    fields = [[_cut(connections, row, column, side) for column in columns] for row in rows]
    return torch.stack([torch.stack(line) for line in fields])


def _cut(connections: list[LocalConnection], row: int, column: int, side: int) -> Tensor:
    """Return one unit's field, from its first row and column on."""
    planes = [each.field(row, column) for each in connections]
    used = torch.stack(planes).ne(0).any(0)
    top, left = (int(used.any(axis).nonzero()[0]) for axis in (1, 0))
    field = planes[0] - planes[1] if len(planes) > 1 else planes[0]
    part = field[top : top + side, left : left + side]
    whole = field.new_zeros(side, side)
    whole[: part.shape[0], : part.shape[1]] = part
    return whole
