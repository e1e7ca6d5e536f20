"""Connections from one sheet to another in which every unit sees only a disc around its place.

    y_u = sum over sources c with |c - place(u)| <= radius:  w_uc x_c

Only these weights are stored, so a sheet of 96 x 96 units takes 60 MB where a matrix takes 700.
Fields at the border are cropped, or wrap around when the sheet is a torus. Initial weights are

    gaussian    G(sigma)                      sigma None: equal weights
    cloud       G(sigma) U(0, 1)
    difference  G(sigma) - G(sigma_surround), each with unit sum

and sum to one over each unit's field (the difference to zero).

Axes    B batch | H W source sheet | h w target sheet | n weights
Units   source pixels
Source  miikkulainen2005
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError
from calcarine.stage import Stage
from calcarine.v1 import _local_ops
from calcarine.v1._local_fields import Border, Shape, Tables, margins, sheet, tables
from calcarine.v1._local_kernels import Connections, uses_library
from calcarine.v1._local_weights import Profile, initial_weights, profile_settings, surviving
from calcarine.v1.plasticity import check_sheet, hebbian_together_, normalize_together_

__all__ = ["LocalConnection"]

_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class LocalConnection(Stage):
    """Weighted sums over circular fields, batched over stimuli.

    ``weight`` holds the weights within the radius, unit after unit; it is fixed until
    ``requires_grad_(True)``. A weight of exactly zero is no connection: learning leaves it zero.

    Args:
        source: Height and width of the sheet that is looked at.
        target: Height and width of the sheet of units.
        radius: Radius of the fields; a source at this distance belongs to the field.
        sigma: Standard deviation of the initial weights; ``None`` makes them flat.
        profile: Shape of the initial weights, see above.
        sigma_surround: Standard deviation of the surround, for ``difference`` only.
        margin: How far inside the source's border the first and the last unit look, where the
            source extends past the target. One number, or (rows, columns).
        border: Whether fields are cropped at the border of the source, or wrap around.
        precision: ``bfloat16`` or ``float16`` keep the weights in half precision: half the memory,
            and faster where reading them takes the time. Learning then loses changes below the
            precision, so learn in full precision and convert afterwards (``.bfloat16()``).

    Attributes:
        current_radius: The radius after :meth:`shrink_`; at first ``radius``.

    Raises:
        InputError: If a size, radius or sigma cannot be used, or a field is empty.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)
    _offsets: Tensor
    _first: Tensor
    _runs: Tensor
    _columns: Tensor

    def __init__(
        self,
        source: Shape,
        target: Shape,
        radius: float,
        sigma: float | None = None,
        *,
        profile: Profile = "cloud",
        sigma_surround: float | None = None,
        margin: float | tuple[float, float] = 0.0,
        border: Border = "crop",
        precision: Literal["full", "bfloat16", "float16"] = "full",
    ) -> None:
        super().__init__()
        self.source = sheet("LocalConnection", "source", source)
        self.target = sheet("LocalConnection", "target", target)
        self.radius, self.sigma, self.profile = radius, sigma, profile
        self.sigma_surround, self.margin = sigma_surround, margin
        self.border, self.precision = border, precision
        profile_settings(profile, sigma, sigma_surround)
        _check_radius(radius, self.source, border)
        self._margins = margins("LocalConnection", margin, self.source, border)
        self.current_radius = float(radius)
        self._lay_out(torch.device("cpu"))
        dtype = _HALF.get(precision, torch.get_default_dtype())
        self.weight = nn.Parameter(torch.empty(self.count, dtype=dtype), requires_grad=False)
        self.reset_().eval()

    @property
    def tables(self) -> Tables:
        """Where every entry of ``weight`` belongs."""
        return Tables(self._offsets, self._first, self._runs)

    @property
    def field_size(self) -> int:
        """Number of sources in a field that the border does not crop."""
        return self._field_size

    def _lay_out(self, device: torch.device) -> None:
        layout = tables(self.source, self.target, self.current_radius, self._margins, self.border)
        self.count = int(layout.offsets[-1])
        self._field_size = int(layout.offsets.diff().max())
        self._longest = int(layout.runs[:, 2].max())
        for name, table in zip(Tables._fields, layout, strict=True):
            self.register_buffer(f"_{name}", table.to(device), persistent=False)
        self.register_buffer(
            "_columns", torch.empty(0, dtype=torch.int32, device=device), persistent=False
        )
        self._layout: Connections | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._columns, self._layout = self._columns[:0], None
        return self

    def layout(self) -> Connections:
        """Return where every weight belongs, as the kernels read it."""
        if self._layout is None:
            device = self.weight.device
            if device.type != "meta" and not uses_library(device):
                self._columns = self.tables.columns(self.source[1])
            self._layout = Connections(
                self.tables, self._columns, self.source, self.count, self._longest
            )
        return self._layout

    def reset_(self, generator: torch.Generator | None = None) -> Self:
        """Draw the initial weights anew, each field with unit sum.

        Args:
            generator: CPU generator of the noise; torch's global one without it.
        """
        layout = Tables(*(table.cpu() for table in self.tables))
        with torch.no_grad():
            for block, values in initial_weights(self, layout, self._margins, generator):
                self.weight[block] = values.to(self.weight)
        return self

    def forward(self, activity: Float[Tensor, "*B H W"]) -> Float[Tensor, "*B h w"]:
        """Return the weighted sum of every unit, in the dtype of the activity.

        Args:
            activity: What the sources do; everything in front of height and width is batch.

        Raises:
            ShapeError: If height and width are not those of the source sheet, or the weights were
                replaced by others that do not fit.
            InputError: If the activity is on another device than the weights.
        """
        check_sheet("LocalConnection", "activity", activity, self.source, self.weight)
        dtype = activity.dtype
        wide = dtype if dtype.itemsize > 2 else torch.float32
        weight: Tensor = self.weight
        if weight.shape != (self.count,):
            raise ShapeError(
                f"LocalConnection expected {self.count} weights for its fields, got shape "
                f"{tuple(weight.shape)}. Fields change by shrink_() or load_state_dict() only."
            )
        if weight.dtype != wide and (weight.dtype.itemsize > 2 or wide != torch.float32):
            weight = weight.to(wide)
        x = activity.reshape(-1, self.source[0] * self.source[1]).to(wide)
        y = _local_ops.forward(self.layout(), weight, x)
        return y.reshape(*activity.shape[:-2], *self.target).to(dtype)

    def hebbian_(
        self, pre: Float[Tensor, "*B H W"], post: Float[Tensor, "*B h w"], rate: float
    ) -> Self:
        """Learn in place: w <- (w + rate pre post) / sum of the same over the unit's field.

        The products of a batch are added up. Units that are silent keep their weights, and so do
        weights of zero.

        Args:
            pre: Activity of the sources.
            post: Activity of the units.
            rate: Learning rate of a single connection.

        Raises:
            ShapeError: If the activities do not fit the sheets or each other.
            InputError: If the rate is not positive and finite.
        """
        hebbian_together_([self], [pre], post, [rate])
        return self

    @torch.no_grad()
    def prune_(self, threshold: float) -> Self:
        """Cut connections weaker than a threshold for good and normalise the rest.

        Args:
            threshold: Smallest weight that stays. A unit whose weights are all weaker keeps its
                field.

        Raises:
            InputError: If the threshold is negative.
        """
        if not 0 <= threshold < math.inf:
            raise InputError(f"prune_ expected a threshold >= 0, got {threshold!r}.")
        units = self.tables.units()
        kept = torch.where(self.weight.abs() < threshold, 0, self.weight)
        alive = torch.zeros(len(self._offsets) - 1, dtype=torch.bool, device=kept.device)
        alive.index_fill_(0, units[kept != 0], True)
        self.weight.copy_(torch.where(alive[units], kept, self.weight))
        return self.normalize_()

    def normalize_(self) -> Self:
        """Divide every unit's weights by their sum."""
        normalize_together_([self])
        return self

    @torch.no_grad()
    def shrink_(self, radius: float) -> Self:
        """Cut every field down to a smaller radius and normalise what is left.

        ``weight`` becomes a new, smaller parameter.

        Raises:
            InputError: If the radius is larger than the current one, or a field would be empty.
        """
        if not 0 < radius <= self.current_radius:
            raise InputError(
                f"shrink_ expected 0 < radius <= {self.current_radius}, the current one, got "
                f"{radius!r}. Fields cannot grow back."
            )
        before, weight = self.tables, self.weight
        self._resize(radius)
        kept = surviving(before, self.tables, self.source[1])
        self.weight.copy_(weight[kept])
        return self.normalize_()

    def _resize(self, radius: float) -> None:
        """Lay the fields out for another radius; the weights are left undefined."""
        before = self.current_radius
        try:
            self.current_radius = float(radius)
            self._lay_out(self.weight.device)
        except InputError:
            self.current_radius = before
            raise
        self.weight = nn.Parameter(
            self.weight.new_empty(self.count), requires_grad=self.weight.requires_grad
        )

    @torch.no_grad()
    def dense(self) -> Float[Tensor, "h*w H*W"]:
        """Return all weights as a matrix with a row for every unit, to look at: it is large."""
        matrix = self.weight.new_zeros(len(self._offsets) - 1, self.source[0] * self.source[1])
        columns = self.tables.columns(self.source[1]).long()
        matrix[self.tables.units(), columns] = self.weight
        return matrix

    @torch.no_grad()
    def field(self, row: int, column: int) -> Float[Tensor, "H W"]:
        """Return the weights of one unit on the source sheet.

        Raises:
            InputError: If there is no such unit.
        """
        if not (0 <= row < self.target[0] and 0 <= column < self.target[1]):
            raise InputError(
                f"field expected a unit of the {self.target[0]} x {self.target[1]} sheet, got row "
                f"{row}, column {column}."
            )
        unit = row * self.target[1] + column
        columns = self.tables.part(unit, unit + 1).columns(self.source[1]).long()
        picture = self.weight.new_zeros(self.source[0] * self.source[1])
        picture[columns] = self.weight[int(self._offsets[unit]) : int(self._offsets[unit + 1])]
        return picture.reshape(self.source)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}current_radius"] = torch.tensor(
            self.current_radius, dtype=torch.float64
        )

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        radius = state_dict.pop(f"{prefix}current_radius", None)
        if radius is not None and float(radius) != self.current_radius:
            self._resize(float(radius))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"source={self.source}, target={self.target}, radius={self.current_radius:g}, "
            f"profile={self.profile}, border={self.border}, weights={self.count}"
        )


def _check_radius(radius: float, source: Shape, border: Border) -> None:
    if not 0 < radius < math.inf:
        raise InputError(
            f"LocalConnection expected radius > 0 in source pixels, got {radius!r}. For example 5."
        )
    if border == "crop" and radius > max(source):
        raise InputError(
            f"LocalConnection expected a radius within the source sheet of {source[0]} x "
            f"{source[1]}, got {radius}. Radii are in source pixels; take at most {max(source)}."
        )
    if border == "wrap" and 2 * math.floor(radius) + 1 > min(source):
        raise InputError(
            f"LocalConnection expected fields that do not meet themselves around the torus of "
            f"{source[0]} x {source[1]}, got radius {radius}. Take a radius below "
            f"{min(source) / 2:g}."
        )
