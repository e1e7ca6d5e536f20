"""Limited-memory BFGS for pixels, without ever asking the device for a number.

    d  = -H g,    x <- x + t d   if   f(x + t d) <= f(x) + c t g'd,   else t shrinks

H is the inverse Hessian of the last ``memory`` pairs s = x' - x, y = g' - g in compact form:

    H g = c g + S v - c Y u,   u = R^-1 S'g,   v = R^-T ((D + c Y'Y) u - c Y'g),   c = s'y / y'y

R is the upper triangle of S'Y in order of age, D its diagonal. Each group of pixels (each image of
a batch) has its own memory, step and history, so a batch takes the steps that its images would take
alone. Accepting, shrinking and restarting are selections between tensors: one iteration is one
evaluation of the objective and its gradient, and costs no host synchronisation on any device.

Axes    G group | P its pixels | M pairs remembered | T terms of the objective
Source  nocedal1980 (the method), byrd1994, theorem 2.2 (the compact form)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Evaluate", "LbfgsState", "lbfgs_begin", "lbfgs_step"]

Evaluate = Callable[
    [Float[Tensor, "G P"]], tuple[Float[Tensor, " G"], Float[Tensor, "T G"], Float[Tensor, "G P"]]
]
"""Pixels -> the objective, the terms it is made of, and its gradient."""

_SUFFICIENT = 1e-4  # share of the predicted decrease that is demanded; nocedal2006, section 3.1
_FIRST_CHANGE = 0.02  # root mean square change of a pixel in the first trial; ours
_RESTART, _GIVE_UP = 10, 20  # steps refused in a row; ours


class LbfgsState(NamedTuple):
    """Everything the next iteration needs; a value, so resuming equals running through."""

    pixels: Float[Tensor, "G P"]
    value: Float[Tensor, " G"]
    terms: Float[Tensor, "T G"]
    gradient: Float[Tensor, "G P"]
    direction: Float[Tensor, "G P"]
    slope: Float[Tensor, " G"]
    step: Float[Tensor, " G"]
    pairs: Float[Tensor, "G 2M P"]
    cross: Float[Tensor, "G M M"]
    square: Float[Tensor, "G M M"]
    filled: Bool[Tensor, "G M"]
    next_slot: Int[Tensor, " G"]
    refused: Int[Tensor, " G"]
    undefined: Int[Tensor, " G"]

    @property
    def stuck(self) -> Bool[Tensor, " G"]:
        """Groups for which not even a tiny step downhill lowers the objective."""
        return self.refused >= _GIVE_UP


def lbfgs_begin(
    pixels: Float[Tensor, "G P"], evaluate: Evaluate, *, memory: int = 12
) -> LbfgsState:
    """Evaluate the objective at the first pixels and choose the first step.

    Args:
        pixels: Where to begin.
        evaluate: The objective.
        memory: Number of pairs remembered.
    """
    groups, size = pixels.shape
    value, terms, gradient = evaluate(pixels)
    empty = pixels.new_zeros(groups, memory, memory, dtype=torch.float64)
    square = gradient.square().sum(1)
    return LbfgsState(
        pixels=pixels.clone(),
        value=value,
        terms=terms,
        gradient=gradient,
        direction=-gradient,
        slope=-square,
        step=_first_step(square, size),
        pairs=pixels.new_zeros(groups, 2 * memory, size),
        cross=empty,
        square=empty,
        filled=torch.zeros(groups, memory, dtype=torch.bool, device=pixels.device),
        next_slot=torch.zeros(groups, dtype=torch.long, device=pixels.device),
        refused=torch.zeros(groups, dtype=torch.long, device=pixels.device),
        undefined=torch.zeros(groups, dtype=torch.long, device=pixels.device),
    )


def lbfgs_step(state: LbfgsState, evaluate: Evaluate) -> LbfgsState:
    """Make one iteration: one evaluation, and a step for every group that it suits."""
    trial = torch.addcmul(state.pixels, state.step[:, None], state.direction)
    value, terms, gradient = evaluate(trial)
    rounding = 4 * torch.finfo(value.dtype).eps * state.value.abs()
    enough = state.value + _SUFFICIENT * state.step * state.slope + rounding
    finite = value.isfinite() & gradient.sum(1).isfinite()
    # A step too short to change any pixel is none: the trend alone would take it for progress.
    accept = (value <= enough) & finite & (trial != state.pixels).any(1)
    moved = _remember(state, accept, gradient)
    after = moved._replace(
        pixels=torch.where(accept[:, None], trial, state.pixels),
        value=torch.where(accept, value, state.value),
        terms=torch.where(accept, terms, state.terms),
        gradient=torch.where(accept[:, None], gradient, state.gradient),
        refused=torch.where(accept, 0, state.refused + 1),
        undefined=torch.where(finite, 0, state.undefined + 1),
    )
    return _aim(after, accept, _shorter(state, value))


def _first_step(square: Float[Tensor, " G"], size: int) -> Float[Tensor, " G"]:
    # Without any slope the step has to stay finite: infinity times nothing is no number.
    least = size * torch.finfo(square.dtype).tiny
    return _FIRST_CHANGE * (size / square.clamp_min(least)).sqrt()


def _shorter(state: LbfgsState, value: Float[Tensor, " G"]) -> Float[Tensor, " G"]:
    """Return the minimum of the parabola through both values and the slope, within bounds."""
    curvature = value - state.value - state.step * state.slope
    share = -0.5 * state.step * state.slope / curvature
    share = torch.where(share.isfinite(), share, 0.1)
    return state.step * share.clamp(0.1, 0.5)


def _remember(
    state: LbfgsState, accept: Bool[Tensor, " G"], gradient: Float[Tensor, "G P"]
) -> LbfgsState:
    """Write the newest pair over the oldest one where a step was taken along positive curvature."""
    s = state.step[:, None] * state.direction
    y = gradient - state.gradient
    product, norms = (s * y).sum(1), s.norm(dim=1) * y.norm(dim=1)
    write = accept & (product > torch.finfo(s.dtype).eps * norms)
    group = torch.arange(len(s), device=s.device)
    slot, memory = state.next_slot, state.filled.shape[1]
    pairs = state.pairs
    # In place: the memory is by far the largest part of the state, and only one row changes.
    for row, new in ((slot, s), (slot + memory, y)):
        pairs[group, row] = torch.where(write[:, None], new, pairs[group, row])
    columns = torch.bmm(pairs, y[:, :, None])[:, :, 0].double()
    cross, square = state.cross.clone(), state.square.clone()
    chosen = write[:, None]
    cross[group, :, slot] = torch.where(chosen, columns[:, :memory], cross[group, :, slot])
    square[group, :, slot] = torch.where(chosen, columns[:, memory:], square[group, :, slot])
    square[group, slot, :] = square[group, :, slot]
    filled = state.filled.clone()
    filled[group, slot] |= write
    return state._replace(
        pairs=pairs,
        cross=cross,
        square=square,
        filled=filled,
        next_slot=torch.where(write, (slot + 1) % memory, slot),
    )


def _aim(state: LbfgsState, accept: Bool[Tensor, " G"], shorter: Float[Tensor, " G"]) -> LbfgsState:
    """Choose the next direction and step: quasi-Newton, shrunk, or downhill after a restart."""
    restart = state.refused == _RESTART
    state = state._replace(filled=state.filled & ~restart[:, None])
    newton = -_inverse_hessian(state)
    slope = (newton * state.gradient).sum(1)
    square = state.gradient.square().sum(1)
    downhill = restart | (accept & ~((slope < 0) & state.filled.any(1)))
    use_newton = accept & ~downhill
    direction = torch.where(use_newton[:, None], newton, state.direction)
    direction = torch.where(downhill[:, None], -state.gradient, direction)
    kept = torch.where(use_newton, slope, state.slope)
    step = torch.where(accept, 1.0, shorter)
    first = _first_step(square, state.pixels.shape[1])
    return state._replace(
        direction=direction,
        slope=torch.where(downhill, -square, kept),
        step=torch.where(downhill, torch.where(restart, first * 1e-3, first), step),
    )


def _inverse_hessian(state: LbfgsState) -> Float[Tensor, "G P"]:
    """Return H g by the compact form; unwritten slots act as if they were not there."""
    memory = state.filled.shape[1]
    age = torch.arange(memory, device=state.filled.device)
    order = (state.next_slot[:, None] + age) % memory  # oldest first
    there = state.filled.gather(1, order)
    both = there[:, :, None] & there[:, None, :]
    cross = _sorted(state.cross, order) * both
    square = _sorted(state.square, order) * both
    diagonal = cross.diagonal(dim1=1, dim2=2)
    # The newest pair is last; the scale of H without memory is its s'y / y'y.
    newest = square[:, -1, -1]
    scale = torch.where(newest > 0, diagonal[:, -1] / newest.clamp_min(1e-300), 1.0)
    products = torch.bmm(state.pairs, state.gradient[:, :, None])[:, :, 0].double()
    on_s = products[:, :memory].gather(1, order) * there
    on_y = products[:, memory:].gather(1, order) * there
    triangle = cross.triu() + torch.diag_embed((~there).double())
    u = torch.linalg.solve_triangular(triangle, on_s[:, :, None], upper=True)[:, :, 0]
    inner = diagonal * u + scale[:, None] * ((square @ u[:, :, None])[:, :, 0] - on_y)
    v = torch.linalg.solve_triangular(triangle.mT, inner[:, :, None], upper=False)[:, :, 0]
    weights = torch.zeros_like(products)
    weights.scatter_(1, order, v * there)
    weights.scatter_(1, order + memory, -scale[:, None] * u * there)
    change = torch.bmm(weights[:, None].to(state.pairs), state.pairs)[:, 0]
    return scale[:, None].to(state.gradient) * state.gradient + change


def _sorted(matrix: Float[Tensor, "G M M"], order: Int[Tensor, "G M"]) -> Float[Tensor, "G M M"]:
    size = matrix.shape[-1]
    rows = matrix.gather(1, order[:, :, None].expand(-1, -1, size))
    return rows.gather(2, order[:, None, :].expand(-1, size, -1))
