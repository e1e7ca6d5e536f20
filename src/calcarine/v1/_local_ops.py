"""The three products of local connections, differentiable any number of times.

    forward     y_u = sum over n of u:  w_n x_c(n)
    transpose   x_c = sum over n of c:  w_n y_u(n)
    outer       w_n = sum over the batch:  x_c(n) y_u(n)

with n a weight, u(n) its unit and c(n) its source. Each is linear in both of its arguments, and
the derivatives of each are the other two.

Axes    B batch | U units | N sources | n weights
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from calcarine.v1 import _local_kernels as kernels
from calcarine.v1._local_kernels import Connections

__all__ = ["forward"]


def forward(
    connections: Connections, weight: Float[Tensor, " n"], x: Float[Tensor, "B N"]
) -> Float[Tensor, "B U"]:
    """Return the weighted sum of every unit, differentiable, also inside ``torch.compile``."""
    if torch.compiler.is_compiling():
        return _compiled_forward(
            weight,
            x,
            *connections.tables,
            connections.columns,
            *connections.source,
            connections.count,
            connections.longest,
        )
    if _is_plain(weight, x):
        return kernels.forward(connections, weight, x)
    return _Forward.apply(connections, weight, x)


def _is_plain(weight: Tensor, x: Tensor) -> bool:
    """Return whether no derivative is taken: then the cost of recording one is saved."""
    return not (
        (torch.is_grad_enabled() and (weight.requires_grad or x.requires_grad))
        or torch._C._are_functorch_transforms_active()
        or forward_ad.unpack_dual(x).tangent is not None
        or forward_ad.unpack_dual(weight).tangent is not None
    )


def _push(ctx: Any, product: Any, left_tangent: Any, right_tangent: Any) -> Any:
    """Return the tangent of a product that is linear in both arguments."""
    left, right = ctx.saved_for_forward
    parts = []
    if left_tangent is not None:
        parts.append(product.apply(ctx.connections, left_tangent, right))
    if right_tangent is not None:
        parts.append(product.apply(ctx.connections, left, right_tangent))
    return sum(parts[1:], parts[0]) if parts else None


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.connections, left, right = inputs
    ctx.save_for_backward(left, right)
    ctx.save_for_forward(left, right)
    ctx.saved_for_forward = (left, right)


def _map(product: Any, in_dims: Any, connections: Connections, left: Tensor, right: Tensor) -> Any:
    """Apply a product to a whole stack of arguments, one after another."""
    _, left_dim, right_dim = in_dims
    size = left.shape[left_dim] if left_dim is not None else right.shape[right_dim]
    results = [
        product.apply(
            connections,
            left if left_dim is None else left.select(left_dim, i),
            right if right_dim is None else right.select(right_dim, i),
        )
        for i in range(size)
    ]
    return torch.stack(results), 0


def _fold(product: Any, in_dims: Any, connections: Connections, left: Tensor, right: Tensor) -> Any:
    """Apply a product whose right argument alone is stacked: the stack joins the batch."""
    if in_dims[1] is not None:
        return _map(product, in_dims, connections, left, right)
    right = right.movedim(in_dims[2], 0)
    y = product.apply(connections, left, right.flatten(0, 1))
    return y.unflatten(0, right.shape[:2]), 0


class _Forward(torch.autograd.Function):
    setup_context = staticmethod(_save)

    @staticmethod
    def forward(connections: Any, weight: Any, x: Any) -> Any:
        return kernels.forward(connections, weight, x)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        weight, x = ctx.saved_tensors
        needs_weight, needs_x = ctx.needs_input_grad[1:]
        return (
            None,
            _Outer.apply(ctx.connections, x, grad).to(weight.dtype) if needs_weight else None,
            _Transpose.apply(ctx.connections, weight, grad) if needs_x else None,
        )

    @staticmethod
    def jvp(ctx: Any, _: Any, weight: Any, x: Any) -> Any:
        return _push(ctx, _Forward, weight, x)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _fold(_Forward, in_dims, *args)


class _Transpose(torch.autograd.Function):
    setup_context = staticmethod(_save)

    @staticmethod
    def forward(connections: Any, weight: Any, y: Any) -> Any:
        return kernels.transpose(connections, weight, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        weight, y = ctx.saved_tensors
        needs_weight, needs_y = ctx.needs_input_grad[1:]
        return (
            None,
            _Outer.apply(ctx.connections, grad, y).to(weight.dtype) if needs_weight else None,
            _Forward.apply(ctx.connections, weight, grad) if needs_y else None,
        )

    @staticmethod
    def jvp(ctx: Any, _: Any, weight: Any, y: Any) -> Any:
        return _push(ctx, _Transpose, weight, y)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _fold(_Transpose, in_dims, *args)


class _Outer(torch.autograd.Function):
    setup_context = staticmethod(_save)

    @staticmethod
    def forward(connections: Any, x: Any, y: Any) -> Any:
        return kernels.outer(connections, x, y)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        x, y = ctx.saved_tensors
        needs_x, needs_y = ctx.needs_input_grad[1:]
        return (
            None,
            _Transpose.apply(ctx.connections, grad, y) if needs_x else None,
            _Forward.apply(ctx.connections, grad, x) if needs_y else None,
        )

    @staticmethod
    def jvp(ctx: Any, _: Any, x: Any, y: Any) -> Any:
        return _push(ctx, _Outer, x, y)

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        return _map(_Outer, in_dims, *args)


# The same products as operators that torch.compile sees as one node each.


@torch.library.custom_op("calcarine::local_forward", mutates_args=())
def _compiled_forward(
    weight: Tensor, x: Tensor, offsets: Tensor, first: Tensor, runs: Tensor, columns: Tensor,
    height: int, width: int, count: int, longest: int,
) -> Tensor:  # fmt: skip
    connections = Connections.of(offsets, first, runs, columns, height, width, count, longest)
    return kernels.forward(connections, weight, x)


@torch.library.custom_op("calcarine::local_transpose", mutates_args=())
def _compiled_transpose(
    weight: Tensor, y: Tensor, offsets: Tensor, first: Tensor, runs: Tensor, columns: Tensor,
    height: int, width: int, count: int, longest: int,
) -> Tensor:  # fmt: skip
    connections = Connections.of(offsets, first, runs, columns, height, width, count, longest)
    return kernels.transpose(connections, weight, y)


@torch.library.custom_op("calcarine::local_outer", mutates_args=())
def _compiled_outer(
    x: Tensor, y: Tensor, offsets: Tensor, first: Tensor, runs: Tensor, columns: Tensor,
    height: int, width: int, count: int, longest: int,
) -> Tensor:  # fmt: skip
    connections = Connections.of(offsets, first, runs, columns, height, width, count, longest)
    return kernels.outer(connections, x, y)


@_compiled_forward.register_fake
def _(weight: Any, x: Any, offsets: Any, *rest: Any) -> Any:
    return x.new_empty((x.shape[0], offsets.shape[0] - 1))


@_compiled_transpose.register_fake
def _(weight: Any, y: Any, offsets: Any, *rest: Any) -> Any:
    height, width = rest[-4:-2]
    return y.new_empty((y.shape[0], height * width))


@_compiled_outer.register_fake
def _(x: Any, y: Any, offsets: Any, *rest: Any) -> Any:
    return x.new_empty((rest[-2],))


def _remember(ctx: Any, inputs: Any, output: Any) -> None:
    weight, x, *ctx.rest = inputs
    ctx.save_for_backward(weight, x)


def _back(ctx: Any, grad: Any) -> Any:
    weight, x = ctx.saved_tensors
    needs_weight, needs_x = ctx.needs_input_grad[:2]
    grad_weight = _compiled_outer(x, grad, *ctx.rest).to(weight.dtype) if needs_weight else None
    grad_x = _compiled_transpose(weight, grad, *ctx.rest) if needs_x else None
    return grad_weight, grad_x, *[None] * len(ctx.rest)


_compiled_forward.register_autograd(_back, setup_context=_remember)
