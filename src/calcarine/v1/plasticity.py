"""Learning on cortical sheets: Hebbian growth with divisive normalisation, adaptive thresholds.

    Hebb         w <- (w + rate pre post) / sum of the same over all fields normalised together
    homeostasis  y <- beta y + (1 - beta) a        theta <- theta + rate (y - target)

Axes    B batch | H W source sheet | h w sheet of units
Source  miikkulainen2005 (Hebb), stevens2013 (homeostasis, joint normalisation)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError
from calcarine.v1 import _local_kernels as kernels
from calcarine.v1._local_fields import Shape, sheet

if TYPE_CHECKING:
    from calcarine.v1.local_connection import LocalConnection

__all__ = ["HomeostaticThreshold", "hebbian_together_", "normalize_together_"]


def check_sheet(owner: str, name: str, x: Tensor, shape: Shape, weight: Tensor) -> None:
    """Refuse activity that does not live on a sheet, or not where its weights are.

    Raises:
        ShapeError: If the last two axes are not the sheet, or the numbers are not floating point.
        InputError: If the devices differ.
    """
    if x.ndim < 2 or tuple(x.shape[-2:]) != shape or not x.is_floating_point():
        raise ShapeError(
            f"{owner} expected floating-point {name} with axes (..., height, width) on a sheet of "
            f"{shape[0]} x {shape[1]}, got {x.dtype} of shape {tuple(x.shape)}."
        )
    if x.device != weight.device:
        raise InputError(
            f"{owner} expected {name} on {weight.device}, where its weights are, got "
            f"{x.device}. Move one of them with .to({str(weight.device)!r})."
        )


@torch.no_grad()
def hebbian_together_(
    connections: Sequence[LocalConnection],
    pre: Sequence[Float[Tensor, "*B H W"]],
    post: Float[Tensor, "*B h w"],
    rates: Sequence[float],
) -> None:
    """Make one Hebbian step on connections whose weights share one sum per unit.

    The products of a batch are added up. Silent units keep their weights, and weights of exactly
    zero stay zero. Negative activity is allowed; a unit whose weights would sum to zero or less
    is left without division.

    Args:
        connections: Connections onto one sheet.
        pre: Activity of the sources of each.
        post: Activity of the units.
        rates: Learning rate of a single connection, for each.

    Raises:
        ShapeError: If activities do not fit the sheets or each other.
        InputError: If there is not one rate and one activity each, a rate is not positive and
            finite, devices differ, or weights are centre-surround ones, which sum to zero.
    """
    _check_learning(connections, pre, post, rates)
    target = connections[0].target
    # Half-precision weights learn in full precision, then are rounded.
    dtype = torch.float64 if connections[0].weight.dtype == torch.float64 else torch.float32
    kernels.hebbian(
        [each.layout() for each in connections],
        [each.weight for each in connections],
        [x.reshape(-1, c.source[0] * c.source[1]).to(dtype)
         for c, x in zip(connections, pre, strict=True)],
        post.reshape(-1, target[0] * target[1]).to(dtype),
        [float(rate) for rate in rates],
    )  # fmt: skip


def _check_learning(
    connections: Sequence[LocalConnection],
    pre: Sequence[Tensor],
    post: Tensor,
    rates: Sequence[float],
) -> None:
    _check_together("hebbian_together_", connections)
    if not len(connections) == len(pre) == len(rates):
        raise InputError(
            f"hebbian_together_ expected one activity and one rate for each of {len(connections)} "
            f"connections, got {len(pre)} and {len(rates)}."
        )
    check_sheet("The Hebbian step", "post", post, connections[0].target, connections[0].weight)
    for connection, before, rate in zip(connections, pre, rates, strict=True):
        check_sheet("The Hebbian step", "pre", before, connection.source, connection.weight)
        if before.shape[:-2] != post.shape[:-2]:
            raise ShapeError(
                "The Hebbian step expected pre and post of the same batch, got shapes "
                f"{tuple(before.shape)} and {tuple(post.shape)}."
            )
        if not 0 < rate < math.inf:
            raise InputError(
                f"The Hebbian step expected a learning rate > 0, got {rate!r}. To leave a "
                "connection as it is, do not let it learn."
            )


def _check_together(owner: str, connections: Sequence[LocalConnection]) -> None:
    if not connections:
        raise InputError(f"{owner} expected at least one connection.")
    for each in connections:
        if each.target != connections[0].target or each.weight.dtype != connections[0].weight.dtype:
            raise InputError(
                f"{owner} expected connections onto one sheet, in one dtype, got sheets "
                f"{[c.target for c in connections]} and {[c.weight.dtype for c in connections]}."
            )
        if each.profile == "difference":
            raise InputError(
                f"{owner} expected weights that can be divided by their sum, but those of a "
                "centre-surround connection sum to zero. Take profile 'gaussian' or 'cloud'."
            )


@torch.no_grad()
def normalize_together_(connections: Sequence[LocalConnection]) -> None:
    """Divide every unit's weights by their sum over all connections.

    Args:
        connections: Connections onto one sheet.

    Raises:
        InputError: If there are none, or they do not belong together.
    """
    _check_together("normalize_together_", connections)
    sums = []
    for each in connections:
        weight = each.weight
        dtype = weight.dtype if weight.dtype.itemsize > 2 else torch.float32
        ones = weight.new_ones((1, each.source[0] * each.source[1]), dtype=dtype)
        sums.append(kernels.forward(each.layout(), weight, ones)[0])
    total = torch.stack(sums).sum(dim=0)
    scale = torch.where(total > 0, 1 / total, 1)
    for each in connections:
        counts = each.tables.offsets.diff()
        for units, weights in each.tables.blocks():
            block = torch.repeat_interleave(scale[units], counts[units])
            each.weight[weights] *= block.to(each.weight.dtype)


class HomeostaticThreshold(nn.Module):
    """A threshold per unit that rises while the unit is more active than its target.

    ``threshold`` and ``average`` are buffers that :meth:`adapt_` changes; nothing else does.

    Args:
        shape: Height and width of the sheet.
        start: Threshold before learning. stevens2013: 0.15.
        jitter: Width of the uniform noise around it. Ours: 0.01.
        target: Activity that the average is led to. stevens2013: 0.024.
        rate: Change of the threshold per stimulus and unit of activity. stevens2013: 0.01.
        smoothing: Share of the average that stays from stimulus to stimulus. stevens2013: 0.991.

    Raises:
        InputError: If a number is out of range.
    """

    threshold: Tensor
    average: Tensor

    def __init__(
        self,
        shape: Shape,
        *,
        start: float = 0.15,
        jitter: float = 0.01,
        target: float = 0.024,
        rate: float = 0.01,
        smoothing: float = 0.991,
    ) -> None:
        super().__init__()
        self.shape = sheet("HomeostaticThreshold", "shape", shape)
        if not (0 <= jitter < math.inf and 0 < target < math.inf and 0 < rate < math.inf):
            raise InputError(
                "HomeostaticThreshold expected jitter >= 0, target > 0 and rate > 0, got "
                f"{jitter}, {target} and {rate}."
            )
        if not 0 <= smoothing < 1 or not math.isfinite(start):
            raise InputError(
                "HomeostaticThreshold expected 0 <= smoothing < 1 and a finite start, got "
                f"{smoothing} and {start}."
            )
        self.start, self.jitter, self.target = start, jitter, target
        self.rate, self.smoothing = rate, smoothing
        self.register_buffer("threshold", torch.empty(self.shape))
        self.register_buffer("average", torch.empty(self.shape))
        self.reset_()

    def reset_(self, generator: torch.Generator | None = None) -> Self:
        """Go back to the start: thresholds with fresh jitter, averages at their target."""
        noise = torch.rand(self.shape, generator=generator) - 0.5
        self.threshold.copy_(self.start + self.jitter * noise)
        self.average.fill_(self.target)
        return self

    @torch.no_grad()
    def adapt_(self, activity: Float[Tensor, "*B h w"]) -> Self:
        """Take the settled response to one stimulus after another into account.

        Args:
            activity: Responses; everything in front of height and width is a sequence of stimuli.

        Raises:
            ShapeError: If the activity does not live on the sheet.
        InputError: If it is on another device.
        """
        check_sheet("HomeostaticThreshold", "activity", activity, self.shape, self.average)
        for response in activity.reshape(-1, *self.shape).to(self.average.dtype):
            self.average.mul_(self.smoothing).add_(response, alpha=1 - self.smoothing)
            self.threshold.add_(self.average - self.target, alpha=self.rate)
        return self

    def forward(self, x: Float[Tensor, "*B h w"]) -> Float[Tensor, "*B h w"]:
        """Return what exceeds the threshold: max(0, x - theta)."""
        return (x - self.threshold.to(x.dtype)).clamp(min=0)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"shape={self.shape}, target={self.target}, rate={self.rate}"
