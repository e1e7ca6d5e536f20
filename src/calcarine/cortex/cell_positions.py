"""P, what the cortex believes about where its cells lie in the visual field.

    block k     moved <- moved exp(a_k(kept)) + b_k(kept)        (a_k, b_k) a network 1-16-16-2
    blocks      8, acting on x and y in turn; the networks start at zero, the map at the identity
    Jacobian    exp(sum_k a_k) > 0: the map never folds, and its inverse is as cheap as itself

    centred     the mean of all cells is the origin, since movements say nothing about it

A RealNVP from lattice (u, v) to field (x, y). In two dimensions a coupling depends on one number
only. So every network is evaluated at 1024 knots, and read between them linearly: the same numbers
to a few 1e-6, at a fraction of the time, whatever the number of points.

Axes    N items | points (N, 2, H, W), x right and y down, [-1, 1] from border to border
Source  kotani2024, section 3.2; dinh2017 (RealNVP). Definition and parameters: zuko. Networks are
        smooth (SiLU), so that a density of cells can be read off; the tables are ours.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex.given_positions import cell_centres
from calcarine.errors import InputError, require

__all__ = ["CellPositions"]

KNOTS = 1024
FRAME_POINTS = 32  # per side, at which centre and spread of the cells are measured
SLOPE = 0.87  # of positions against the lattice: denser in the middle, as in any fovea. Ours.
LEAST_SCALE = 1e-3  # bound of exp(a) in one block, and of its inverse; zuko's default


class CellPositions(nn.Module):
    """Learned positions of the cells in the visual field.

    Args:
        size: Cells per side.
        blocks: Couplings. kotani2024: 8.
        hidden: Widths of the hidden layers of the networks. kotani2024: 16, 16.
        plasticity: How fast positions move, relative to the other weights: the factor on the
            networks' outputs.
        normalized: Make 0.87 times the identity the linear map that fits positions best, seen from
            the lattice. A cortex that tells movements from its own map can know positions up to a
            linear map only, and must not drift along what it cannot know.

    Raises:
        MissingDependencyError: If zuko is not installed.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024", "dinh2017")

    def __init__(
        self,
        size: int,
        blocks: int = 8,
        hidden: tuple[int, ...] = (16, 16),
        plasticity: float = 1.0,
        *,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        if size < 2 or blocks < 1 or not hidden or min(hidden) < 1:
            raise InputError(
                "CellPositions expected at least 2 cells per side, one block and positive widths, "
                f"got size {size}, blocks {blocks}, hidden {hidden}."
            )
        if not 0 < plasticity <= 100:
            raise InputError(f"CellPositions expected 0 < plasticity <= 100, got {plasticity}.")
        self.size, self.blocks = size, blocks
        self.hidden, self.plasticity, self.normalized = tuple(hidden), plasticity, normalized
        self.couplings = nn.ModuleList(self._coupling(index) for index in range(blocks))

    def _coupling(self, index: int) -> nn.Module:
        purpose = "Learning the positions of cells (positions='learned')"
        flows = require("zuko.flows", extra="spectral", purpose=purpose)
        affine = require("zuko.transforms", extra="spectral", purpose=purpose)
        block = flows.GeneralCouplingTransform(
            2,
            mask=[index % 2 == 1, index % 2 == 0],  # even blocks move x, odd ones y
            univariate=partial(_scaled, affine.MonotonicAffineTransform, self.plasticity),
            hidden_features=self.hidden,
            activation=nn.SiLU,
        )
        for parameter in block.hyper[-1].parameters():
            nn.init.zeros_(parameter)
        assert isinstance(block, nn.Module)
        return block

    def positions(self, like: Tensor) -> Float[Tensor, "1 2 S S"]:
        """Return where every cell is believed to lie in the visual field."""
        return self.to_field(cell_centres(self.size, like))

    def to_field(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Map points of the lattice to the visual field."""
        centre, root = self._frame(points)
        return torch.einsum("ij,njhw->nihw", root.inverse(), self._flow(points) - centre)

    def to_lattice(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Map points of the visual field back to the lattice."""
        centre, root = self._frame(points)
        points = torch.einsum("ij,njhw->nihw", root, points) + centre
        moved = list(points.unbind(1))
        for index in reversed(range(self.blocks)):
            axis, kept = index % 2, moved[1 - index % 2]
            table = _Table(self.couplings[index], kept, self.plasticity)
            shrink = (-table.log_scale).exp()
            moved[axis] = table.apply(moved[axis], kept, shrink, -table.shift * shrink)
        return torch.stack(moved, dim=1)

    def log_jacobian(self, like: Tensor) -> Float[Tensor, "1 S S"]:
        """Return the logarithm of the area in the field per area on the lattice, at every cell."""
        points = cell_centres(self.size, like)
        moved, total = list(points.unbind(1)), torch.zeros_like(points[:, 0])
        for index, block in enumerate(self.couplings):
            axis, kept = index % 2, moved[1 - index % 2]
            table = _Table(block, kept, self.plasticity)
            nothing = torch.zeros_like(kept)
            total = total + table.apply(nothing, kept, table.shift, table.log_scale)
            moved[axis] = table.apply(moved[axis], kept, table.log_scale.exp(), table.shift)
        return total - self._frame(points)[1].det().log()

    def _flow(self, points: Tensor) -> Tensor:
        moved = list(points.unbind(1))
        for index, block in enumerate(self.couplings):
            axis, kept = index % 2, moved[1 - index % 2]
            table = _Table(block, kept, self.plasticity)
            moved[axis] = table.apply(moved[axis], kept, table.log_scale.exp(), table.shift)
        return torch.stack(moved, dim=1)

    def _frame(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre of the flowed lattice, and the linear map to be undone."""
        lattice = cell_centres(FRAME_POINTS, like)
        flowed = self._flow(lattice)[0].flatten(1)
        centre = flowed.mean(dim=1, keepdim=True)
        if not self.normalized:
            one = torch.eye(2, dtype=like.dtype, device=like.device)
            return centre[None, :, :, None], one
        sites = lattice[0].flatten(1)
        slope = (flowed - centre) @ sites.T / sites[0].square().sum()
        return centre[None, :, :, None], slope / SLOPE


class _Table:
    """One coupling's network at knots that span the kept coordinates."""

    def __init__(self, block: Any, kept: Tensor, plasticity: float) -> None:
        low, high = torch.aminmax(kept.detach())
        self.low = low
        self.step = ((high - low) / (KNOTS - 1)).clamp(min=torch.finfo(kept.dtype).tiny)
        at = torch.arange(KNOTS, dtype=kept.dtype, device=kept.device)
        shift, raw = (plasticity * block.hyper((low + at * self.step)[:, None])).unbind(1)
        self.shift = shift
        self.log_scale = raw / (1 + (raw / math.log(LEAST_SCALE)).abs())

    def apply(self, moved: Tensor, kept: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return ``moved * scale + shift``, both read from tables at the kept coordinates."""
        place = (kept - self.low) / self.step
        table = torch.stack([scale, shift])
        if torch.compiler.is_compiling():  # the compiler joins plain operations by itself
            scale, shift = _read(table, *_split(place, table))
            return torch.addcmul(shift, moved, scale)
        return _Couple.apply(moved, place, table)


class _Couple(torch.autograd.Function):
    """moved scale(place) + shift(place), both linear between knots; place counts knots."""

    @staticmethod
    def forward(moved: Tensor, place: Tensor, table: Tensor) -> Tensor:
        scale, shift = _read(table, *_split(place, table))
        return torch.addcmul(shift, moved, scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        moved, place, table = ctx.saved_tensors
        knot, share = _split(place, table)
        scale, _ = _read(table, knot, share)
        steeper, higher = table.diff(dim=1)[:, knot.flatten()].view(2, *place.shape)
        to_place = torch.addcmul(higher, moved, steeper).mul_(gradient)
        to_table = None
        if ctx.needs_input_grad[2]:
            weights = torch.stack([gradient * moved, gradient]).flatten(1)
            upper = weights * share.flatten()
            to_table = torch.zeros_like(table)
            to_table.index_add_(1, knot.flatten(), weights - upper)
            to_table.index_add_(1, knot.flatten() + 1, upper)
        return gradient * scale, to_place, to_table


def _split(place: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the knot below and how far it is to the next one."""
    # NaN must reach the output, not become an index.
    knot = place.detach().nan_to_num(0.0).clamp(0, table.shape[1] - 2).long()
    return knot, place - knot


def _read(table: Tensor, knot: Tensor, share: Tensor) -> Tensor:
    below = table[:, knot.flatten()].view(2, *knot.shape)
    step = table.diff(dim=1)[:, knot.flatten()].view(2, *knot.shape)
    return torch.addcmul(below, step, share)


def _scaled(transform: Any, plasticity: float, shift: Tensor, scale: Tensor) -> Any:
    return transform(plasticity * shift, plasticity * scale, slope=LEAST_SCALE)
