"""P, what the cortex believes about where its cells lie in the visual field.

    block k     moved <- moved exp(a_k(kept)) + b_k(kept)        (a_k, b_k) a network 1-16-16-2
    blocks      8, acting on x, y, and both diagonals in turn; the map starts as the identity
    Jacobian    exp(sum_k a_k) > 0: the map never folds, and its inverse is as cheap as itself

    centred     the mean of all cells is the origin, since movements say nothing about it

A RealNVP from lattice (u, v) to field (x, y). Blocks that move x and y only, as published, leave
the identity in no direction that magnifies the middle: x exp(a(y)) + b(y) has no term in x^3, which
takes two blocks that are not there yet. With the diagonals it has. Features are spread over the
field, where torch's draw leaves them straight lines. Told a fovea's positions, the map comes within
0.8 cells of 64 in 20 updates instead of 100; told nothing, it gets there at all.

In two dimensions a coupling depends on one number only. So every network is evaluated at 1024
knots, and read between them linearly: the same numbers to a few 1e-6, at a fraction of the time,
whatever the number of points. How far the knots have to reach is told by a few of the points, the
outermost ones among them.

Axes    N items | points (N, 2, H, W), x right and y down, [-1, 1] from border to border
Source  kotani2024, section 3.2; dinh2017 (RealNVP). Definition and parameters: zuko. Networks are
        smooth (SiLU), so that a density of cells can be read off; diagonals, the spread of features
        and the tables are ours.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex._coupling_kernel import Tables, couple, mirrored
from calcarine.cortex.given_positions import cell_centres
from calcarine.errors import InputError, require

__all__ = ["CellPositions"]

KNOTS = 1024
SCOUTS = 32  # per side, points that show in advance how far the others go
MARGIN = 0.01  # of the knots' width at both ends, for what scouts do not show
FRAME_POINTS = 32  # per side, at which centre and spread of the cells are measured
SLOPE = 0.87  # of positions against the lattice: denser in the middle, as in any fovea. Ours.
STEEPEST = 5.0  # slope of a feature, per half of the field. Ours.
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
        published: Move x and y only, with networks as torch draws them.

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
        published: bool = False,
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
        self.published = published
        ways = (0, 1) if published else (0, 1, 2, 3)
        self._along = tuple(ways[index % len(ways)] for index in range(blocks))
        self.couplings = nn.ModuleList(self._coupling(index) for index in range(blocks))

    def _coupling(self, index: int) -> nn.Module:
        purpose = "Learning the positions of cells (positions='learned')"
        flows = require("zuko.flows", extra="spectral", purpose=purpose)
        affine = require("zuko.transforms", extra="spectral", purpose=purpose)
        block = flows.GeneralCouplingTransform(
            2,
            mask=[index % 2 == 1, index % 2 == 0],  # even blocks move the first coordinate
            univariate=partial(_scaled, affine.MonotonicAffineTransform, self.plasticity),
            hidden_features=self.hidden,
            activation=nn.SiLU,
        )
        if not self.published:
            _spread(block.hyper)
        for parameter in block.hyper[-1].parameters():
            nn.init.zeros_(parameter)
        assert isinstance(block, nn.Module)
        return block

    def positions(self, like: Tensor) -> Float[Tensor, "1 2 S S"]:
        """Return where every cell is believed to lie in the visual field."""
        return self.to_field(cell_centres(self.size, like))

    def to_field(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Map points of the lattice to the visual field."""
        networks, lattice = self._networks(), cell_centres(SCOUTS, points)
        scouts = torch.cat([_scouts(lattice), _scouts(points)], dim=1)  # the frame is read, too
        tables = networks.ahead(scouts)
        centre, root = self._frame(tables, points)
        return _linear(torch.linalg.inv_ex(root).inverse, couple(points, tables) - centre)

    def to_lattice(self, points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "N 2 H W"]:
        """Map points of the visual field back to the lattice."""
        networks = self._networks()
        ahead = networks.ahead(_scouts(cell_centres(SCOUTS, points)))
        centre, root = self._frame(ahead, points)
        points = _linear(root, points) + centre
        return couple(points, networks.back(_scouts(points)))

    def after_movement(self, shift: Float[Tensor, "B 2"], like: Tensor) -> Float[Tensor, "B 2 S S"]:
        """Return ``to_lattice(positions(like) + shift)``: where it was seen what cells see now.

        The centre of the field drops out, so that less has to be computed.
        """
        networks, lattice = self._networks(), cell_centres(self.size, like)
        ahead = networks.ahead(_scouts(lattice))
        offset = shift @ self._frame(ahead, like)[1].T if self.normalized else shift
        flowed = couple(lattice, ahead)
        ends = torch.stack(offset.detach().aminmax(dim=0))
        corners = torch.cartesian_prod(ends[:, 0], ends[:, 1]).T
        scouts = (_scouts(flowed)[:, :, None] + corners[:, None]).flatten(1)
        return couple(flowed, networks.back(scouts), offset)

    def log_jacobian(self, like: Tensor) -> Float[Tensor, "1 S S"]:
        """Return the logarithm of the area in the field per area on the lattice, at every cell."""
        points = cell_centres(self.size, like)
        tables = self._networks().ahead(_scouts(points))
        total = torch.zeros_like(points[:, 0])
        for index in range(self.blocks):
            at, along = slice(index, index + 1), self._along[index]
            block = Tables(tables.values[at], tables.low[at], tables.rate[at], (along,))
            log_scale = block.values[..., 0].log()
            sums = block._replace(values=torch.stack([torch.ones_like(log_scale), log_scale], -1))
            added = list((couple(points, sums) - points).unbind(1))
            total = total + mirrored(added, along)[along % 2]
            points = couple(points, block)
        return total - self._frame(tables, points)[1].det().log()

    def _frame(self, ahead: Tables, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the centre of the flowed lattice, and the linear map to be undone."""
        lattice = cell_centres(FRAME_POINTS, like)
        flowed = couple(lattice, ahead)[0].flatten(1)
        centre = flowed.mean(dim=1, keepdim=True)
        if not self.normalized:
            one = torch.eye(2, dtype=like.dtype, device=like.device)
            return centre[None, :, :, None], one
        sites = lattice[0].flatten(1)
        slope = (flowed - centre) @ sites.T / sites[0].square().sum()
        return centre[None, :, :, None], slope / SLOPE

    def _networks(self) -> _Networks:
        layers = [list(block.hyper)[::2] for block in self.couplings]  # type: ignore[arg-type]
        together = list(zip(*layers, strict=True))
        return _Networks(
            [torch.stack([x.weight for x in layer]) for layer in together],
            [torch.stack([x.bias for x in layer])[:, None] for layer in together],
            self.plasticity,
            self._along,
        )


class _Networks(NamedTuple):
    """The networks of all blocks as one, with a leading axis of blocks."""

    weights: list[Float[Tensor, "K O I"]]
    biases: list[Float[Tensor, "K 1 O"]]
    plasticity: float
    along: tuple[int, ...]

    def __call__(self, kept: Float[Tensor, "K J"]) -> tuple[Tensor, Tensor]:
        """Return shift and logarithm of the scale, (K, J) each."""
        x = kept[..., None]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, F.silu(x) if index else x, weight.mT)
        shift, raw = (self.plasticity * x).unbind(-1)
        return shift, raw / (1 + (raw / math.log(LEAST_SCALE)).abs())

    def ahead(self, scouts: Float[Tensor, "2 E"]) -> Tables:
        """Return the couplings towards the field, at knots that reach as far as scouts go."""
        low, rate = self._reach(scouts, back=False)
        shift, log_scale = self._at_knots(low, rate)
        return Tables(torch.stack([log_scale.exp(), shift], dim=-1), low, rate, self.along)

    def back(self, scouts: Float[Tensor, "2 E"]) -> Tables:
        """Return the couplings back to the lattice, at knots that reach as far as scouts go."""
        low, rate = self._reach(scouts, back=True)
        shift, log_scale = self._at_knots(low, rate)
        shrink = (-log_scale).exp()
        values = torch.stack([shrink, -shift * shrink], dim=-1)
        return Tables(values.flip(0), low.flip(0), rate.flip(0), self.along[::-1])

    def _at_knots(self, low: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        at = torch.arange(KNOTS, dtype=low.dtype, device=low.device)
        return self(low[:, None] + at / rate[:, None])

    def _reach(self, scouts: Tensor, *, back: bool) -> tuple[Tensor, Tensor]:
        """Return where the knots of every block begin, and how many there are per unit."""
        blocks = len(self.weights[0])
        moved = list(scouts)
        kept = [moved[0]] * blocks
        with torch.no_grad():
            for index in reversed(range(blocks)) if back else range(blocks):
                along = self.along[index]
                moved = mirrored(moved, along)
                axis, kept[index] = along % 2, moved[1 - along % 2]
                shift, log_scale = (x[0] for x in self._one(index)(kept[index][None]))
                if back:
                    moved[axis] = (moved[axis] - shift) * (-log_scale).exp()
                else:
                    moved[axis] = moved[axis] * log_scale.exp() + shift
                moved = mirrored(moved, along)
            low, high = torch.stack(kept).aminmax(dim=1)
            low, width = low - MARGIN * (high - low), (1 + 2 * MARGIN) * (high - low)
            return low, (KNOTS - 1) / width.clamp(min=KNOTS * torch.finfo(width.dtype).tiny)

    def _one(self, index: int) -> _Networks:
        weights, biases = ([x[index, None] for x in every] for every in self[:2])
        return _Networks(weights, biases, self.plasticity, self.along[index : index + 1])


def _scouts(points: Float[Tensor, "N 2 H W"]) -> Float[Tensor, "2 E"]:
    """Return all points if they are few, else some of a sheet that has the outermost at its edge.

    No block can turn the edge of a sheet to its inside.
    """
    points = points.detach()
    for axis in (2, 3):
        count = points.shape[axis]
        if count > SCOUTS:
            steps = torch.arange(SCOUTS, device=points.device) * (count - 1)
            points = points.index_select(axis, steps // (SCOUTS - 1))
    return points.transpose(0, 1).flatten(1)


def _linear(matrix: Float[Tensor, "2 2"], points: Float[Tensor, "N 2 H W"]) -> Tensor:
    return (matrix @ points.flatten(2)).view_as(points)


def _spread(layers: Any) -> None:
    """Let the features of the first layer bend all over the field, and the next keep their size."""
    first, *others = [layer for layer in layers if hasattr(layer, "weight")]
    bends = torch.linspace(-1.2, 1.2, first.out_features)  # diagonals reach further than the field
    nn.init.uniform_(first.weight, -STEEPEST, STEEPEST)
    first.bias.data = -first.weight.data[:, 0] * bends
    for layer in others:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)


def _scaled(transform: Any, plasticity: float, shift: Tensor, scale: Tensor) -> Any:
    return transform(plasticity * shift, plasticity * scale, slope=LEAST_SCALE)
