"""Separable filtering as products with blocks of banded matrices.

    y_o = sum_t A_t x_i B_t^T        A, B: border and 1-D profile in one matrix each

Row r of a banded matrix has values near column r only. The rows are therefore cut into blocks, and
each block is multiplied with the window of the image that it reaches; the windows are one strided
view of the image with a margin, and no value is copied for them:

    image and margin    - - | 0 ...................... n | - -
    rows of a block         [-------)[-------)[-------)
    windows             [----------------)
                                 [----------------)
                                          [----------------)

The cost grows with the number of pixels. Sums of positive terms stay positive, which a Fourier
transform does not promise, so that a root may follow. A product with the transposed matrices is the
derivative; it is cut in the same way.

Axes    B batch | C channel | H W image | K samples of a profile | T filters
        P everything but the filtered axis | N block | R rows of a block | S samples of a window
Source  ours
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.lgn.borders import PadMode, folded, reaches

__all__ = ["Bands", "Cut", "FixedBands", "Term", "band_matrices", "banded"]

_WHOLE = 96
"""Up to this size one dense matrix is as fast. Ours, measured."""

_ROWS = 16
"""Rows of a block, about. Ours, measured: more make the windows do more than is needed."""


class Cut(NamedTuple):
    """How an axis is cut: equal blocks of rows, each with a window.

    Args:
        size: Samples along the axis.
        rows: Rows of a block.
        blocks: Number of blocks; with one there is no margin.
        before: Margin in front.
        behind: Margin behind.
        circular: Whether the margin shows the other side; else it is zero.
    """

    size: int
    rows: int
    blocks: int
    before: int
    behind: int
    circular: bool

    @property
    def window(self) -> int:
        """Samples of a window."""
        return self.size + self.before + self.behind - (self.blocks - 1) * self.rows


class Bands(NamedTuple):
    """The matrices of one axis and how it is cut: ``blocks`` has axes (T, N, R, S)."""

    blocks: Tensor
    cut: Cut


class Term(NamedTuple):
    """Filter ``number`` reads channel ``source`` and adds to channel ``target``."""

    source: int
    target: int
    number: int


def _cut(size: int, samples: int, pad_mode: PadMode, transposed: bool) -> Cut:
    if size <= _WHOLE or samples > size:
        return Cut(size, size, 1, 0, 0, False)
    blocks = -(-size // _ROWS)
    rows = -(-size // blocks)
    before, behind = reaches(samples)
    if pad_mode != "circular":
        before = behind = max(before, behind)
    elif transposed:
        before, behind = behind, before
    return Cut(size, rows, blocks, before, behind + rows * blocks - size, pad_mode == "circular")


def band_matrices(
    profile: Float[Tensor, "T K"], size: int, pad_mode: PadMode, *, transposed: bool = False
) -> Bands:
    """Return the matrices that add a border and filter along an axis.

    Args:
        profile: Symmetric profiles.
        size: Samples along the axis.
        pad_mode: What lies beyond the border.
        transposed: Return the transposed matrices, which the derivative needs.
    """
    filters, samples = profile.shape
    cut = _cut(size, samples, pad_mode, transposed)
    row = torch.arange(size, device=profile.device)[:, None].expand(-1, samples)
    weight = profile[:, None, :]
    if cut.circular:
        column = row + torch.arange(samples, device=profile.device)
    else:
        column, counts = folded(size, samples, pad_mode, profile.device)
        weight = weight * counts.to(profile.dtype)
        if transposed:
            row, column = column, row
        column = column + cut.before
    block = row // cut.rows
    place = row * cut.window + column - block * cut.rows
    weight = weight.expand(-1, size, -1).reshape(filters, -1)
    empty = profile.new_zeros(filters, cut.blocks * cut.rows * cut.window)
    filled = empty.scatter_add(1, place.reshape(1, -1).expand(filters, -1), weight)
    return Bands(filled.reshape(filters, cut.blocks, cut.rows, cut.window), cut)


def banded(
    x: Float[Tensor, "B C H W"], rows: Bands, columns: Bands, terms: tuple[Term, ...]
) -> Float[Tensor, "B K H W"]:
    """Return sum_t A_t x B_t^T for the terms of every output.

    Args:
        x: Images.
        rows: Matrices A along the height.
        columns: Matrices B along the width.
        terms: Which filter goes from where to where; every target has one.
    """
    batch, _, height, width = x.shape
    sums: dict[int, Tensor] = {}
    windows = {
        i: _windows(x[:, i].reshape(batch * height, width), columns.cut)
        for i in dict.fromkeys(term.source for term in terms)
    }
    for term in terms:
        half = torch.bmm(columns.blocks[term.number], windows[term.source])
        half = _joined(half, columns.cut).reshape(width, batch, height).transpose(0, 1)
        window = _windows(half.reshape(batch * width, height), rows.cut)
        block, before = rows.blocks[term.number], sums.get(term.target)
        sums[term.target] = (
            torch.bmm(block, window) if before is None else torch.baddbmm(before, block, window)
        )
    outputs = [
        _joined(sums[o], rows.cut).reshape(height, batch, width).transpose(0, 1)
        for o in range(len(sums))
    ]
    return outputs[0].unsqueeze(1) if len(outputs) == 1 else torch.stack(outputs, dim=1)


def _windows(x: Float[Tensor, "P L"], cut: Cut) -> Float[Tensor, "N S P"]:
    if cut.blocks == 1:
        return x.mT.unsqueeze(0)
    if cut.circular:
        x = torch.cat([x[:, cut.size - cut.before :], x, x[:, : cut.behind]], dim=1)
    else:
        x = torch.nn.functional.pad(x, (cut.before, cut.behind))
    if x.requires_grad and torch.is_grad_enabled():
        return _copied_windows(x, cut).permute(1, 2, 0)
    return x.unfold(1, cut.window, cut.rows).permute(1, 2, 0)


def _copied_windows(x: Float[Tensor, "P L"], cut: Cut) -> Float[Tensor, "P N S"]:
    """Return what ``unfold`` returns, with a derivative that is fast and can be vectorised."""
    pieces = -(-cut.window // cut.rows)
    missing = (cut.blocks + pieces - 1) * cut.rows - x.shape[1]
    parts = torch.nn.functional.pad(x, (0, missing)).unflatten(1, (-1, cut.rows))
    joined = torch.cat([parts[:, i : i + cut.blocks] for i in range(pieces)], dim=2)
    return joined[:, :, : cut.window]


def _joined(y: Float[Tensor, "N R P"], cut: Cut) -> Float[Tensor, "L P"]:
    return y.reshape(cut.blocks * cut.rows, -1)[: cut.size]


class FixedBands(torch.autograd.Function):
    """:func:`banded` with fixed matrices; the derivative multiplies with the transposed ones."""

    @staticmethod
    def forward(
        x: Tensor,
        a: Tensor,
        b: Tensor,
        a_t: Tensor,
        b_t: Tensor,
        cuts: tuple[Cut, ...],
        terms: tuple[Term, ...],
    ) -> Tensor:
        """Filter ``x``; ``cuts`` belong to the four matrices, in order."""
        return banded(x, Bands(a, cuts[0]), Bands(b, cuts[1]), terms)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the matrices; the image is not needed."""
        _, *matrices, ctx.cuts, ctx.terms = inputs
        ctx.save_for_backward(*matrices)
        ctx.save_for_forward(*matrices)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Filter with the transposed matrices, from the outputs back to the channels."""
        a, b, a_t, b_t = ctx.saved_tensors
        cuts = (*ctx.cuts[2:], *ctx.cuts[:2])
        terms = tuple(Term(term.target, term.source, term.number) for term in ctx.terms)
        back = FixedBands.apply(gradient, a_t, b_t, a, b, cuts, terms)
        return back, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        """Filter the tangent: the filter is linear."""
        return FixedBands.apply(tangent, *ctx.saved_tensors, ctx.cuts, ctx.terms)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Treat the mapped axis as one more batch axis."""
        x = x.movedim(in_dims[0], 0)
        y = FixedBands.apply(x.flatten(0, 1), *rest)
        return y.unflatten(0, (x.shape[0], x.shape[1])), 0


# Without it the signature is worked out again on every call, which costs more than a small image.
FixedBands.forward.__signature__ = inspect.signature(FixedBands.forward)  # type: ignore[attr-defined]
