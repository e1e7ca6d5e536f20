"""The spike function: a step forward, a smooth slope backward.

    forward     z = 1 where x > 0, else 0 (0 at 0)
    backward    dz/dx by name, a the steepness:
        superspike          1 / (a |x| + 1)^2
        arctan              1 / (1 + (pi a x / 2)^2)
        sigmoid             4 s (1 - s),  s = 1 / (1 + exp(-a x))
        triangular          max(0, 1 - a |x|)
        straight_through    1

The step has slope zero almost everywhere, so learning replaces its slope by one of these. All are
scaled to 1 at the threshold (ours, after SuperSpike), so that exchanging one for another changes
the width of the window and not the size of the gradients.

Axes    x is potential minus threshold, of any shape, in the unit of the potential; a in 1 / unit
Source  zenke2018 (SuperSpike), neftci2019 (review of the others), bellec2018 (triangular),
        bengio2013 (straight-through)
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, UnknownNameError

__all__ = ["Surrogate", "check_surrogate", "spike", "surrogate_slope"]

Surrogate = Literal["superspike", "arctan", "sigmoid", "triangular", "straight_through"]
"""Name of the slope that stands for the derivative of the step."""


def surrogate_slope(
    x: Float[Tensor, "..."], surrogate: Surrogate = "superspike", alpha: float = 100.0
) -> Float[Tensor, "..."]:
    """Return the slope that the backward pass takes for the step.

    Args:
        x: Potential minus threshold, any shape.
        surrogate: Name of the slope.
        alpha: Steepness, 1 / unit of ``x``; without effect on ``"straight_through"``.

    Returns:
        Slope of the shape of ``x``, 1 at the threshold.

    Raises:
        UnknownNameError: If there is no surrogate of this name.
    """
    if surrogate == "superspike":
        reach = alpha * x.abs() + 1
        return 1 / (reach * reach)
    if surrogate == "arctan":
        return 1 / (1 + (0.5 * math.pi * alpha * x) ** 2)
    if surrogate == "sigmoid":
        share = torch.sigmoid(alpha * x)
        return 4 * share * (1 - share)
    if surrogate == "triangular":
        return (1 - alpha * x.abs()).clamp(min=0)
    if surrogate == "straight_through":
        return torch.ones_like(x)
    raise UnknownNameError("surrogate gradient", surrogate, get_args(Surrogate))


class _Spike(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, surrogate: Surrogate, alpha: float) -> Tensor:
        return (x > 0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Surrogate, float], output: Tensor) -> None:
        x, ctx.surrogate, ctx.alpha = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad[0] * surrogate_slope(x, ctx.surrogate, ctx.alpha), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return tangent * surrogate_slope(x, ctx.surrogate, ctx.alpha)


def spike(
    x: Float[Tensor, "..."], surrogate: Surrogate = "superspike", alpha: float = 100.0
) -> Float[Tensor, "..."]:
    """Fire where the potential is above the threshold.

    >>> spike(torch.tensor([-0.1, 0.0, 0.1]))
    tensor([0., 0., 1.])

    Args:
        x: Potential minus threshold, any shape.
        surrogate: Slope in the backward pass, see the equations above.
        alpha: Steepness of that slope, 1 / unit of ``x``. zenke2018: 100.

    Returns:
        Exactly 0 or 1, of the shape and dtype of ``x``.

    Raises:
        UnknownNameError: If there is no surrogate of this name.
        InputError: If ``alpha`` is not positive.
    """
    check_surrogate(surrogate, alpha)
    if torch.compiler.is_compiling():
        return _traceable_spike(x, surrogate, alpha)
    return _Spike.apply(x, surrogate, alpha)


def _traceable_spike(x: Tensor, surrogate: Surrogate, alpha: float) -> Tensor:
    """Return the same numbers and first derivatives in a form that torch.compile can trace."""
    z = (x > 0).to(x.dtype)
    if not x.requires_grad:
        return z
    still = x.detach()
    return z + surrogate_slope(still, surrogate, alpha) * (x - still)


def check_surrogate(surrogate: str, alpha: float) -> None:
    """Refuse an unknown surrogate or a steepness that is not positive.

    Raises:
        UnknownNameError: If there is no surrogate of this name.
        InputError: If ``alpha`` is not a positive, finite number.
    """
    if surrogate not in get_args(Surrogate):
        raise UnknownNameError("surrogate gradient", surrogate, get_args(Surrogate))
    if not 0 < alpha < math.inf:
        raise InputError(f"The surrogate gradient expected 0 < alpha < inf, got alpha={alpha}.")
