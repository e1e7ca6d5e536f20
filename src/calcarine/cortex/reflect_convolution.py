"""relu(convolution(reflect_pad(x))) as one operation.

    y = max(0, W * pad(x))            3 x 3 kernel, no bias, the size is kept

Padding, rectification and their gradients are a third of the time of a narrow network when they are
operations of their own: each reads and writes all activations once more. On the CPU in float32 a
compiled kernel does all in one pass, see _reflect_kernel.py. Elsewhere the inputs are copied once,
into a padded buffer that the convolution reads; the backward pass folds the border in place and
needs no mask but the output itself.

Axes    B batch | I inputs, over all sources | O outputs | H W grid, at least 2 x 2
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.cortex import _reflect_kernel as kernel
from calcarine.errors import ShapeError

__all__ = ["reflect_convolution"]


def _padded(sources: tuple[Tensor, ...]) -> Tensor:
    """Join the sources along channels, with a reflected border of one."""
    first = sources[0]
    batch, _, height, width = first.shape
    channels = sum(source.shape[1] for source in sources)
    # Channels innermost: the layout in which the convolution runs without reordering.
    buffer = first.new_empty((batch, height + 2, width + 2, channels)).permute(0, 3, 1, 2)
    start = 0
    for source in sources:
        stop = start + source.shape[1]
        buffer[:, start:stop, 1:-1, 1:-1] = source
        start = stop
    buffer[:, :, 1:-1, 0] = buffer[:, :, 1:-1, 2]
    buffer[:, :, 1:-1, -1] = buffer[:, :, 1:-1, -3]
    buffer[:, :, 0] = buffer[:, :, 2]
    buffer[:, :, -1] = buffer[:, :, -3]
    return buffer


def _fold(gradient: Tensor) -> Tensor:
    """Transpose of the reflected border, in place; returns the inside."""
    gradient[:, :, 2] += gradient[:, :, 0]
    gradient[:, :, -3] += gradient[:, :, -1]
    gradient[:, :, 1:-1, 2] += gradient[:, :, 1:-1, 0]
    gradient[:, :, 1:-1, -3] += gradient[:, :, 1:-1, -1]
    return gradient[:, :, 1:-1, 1:-1]


class _ReflectConvolution(torch.autograd.Function):
    """Outputs the rectified convolution, and the padded input for the backward pass."""

    @staticmethod
    def forward(weight: Tensor, *sources: Tensor) -> tuple[Tensor, Tensor]:
        padded = _padded(sources)
        return F.relu_(F.conv2d(padded, weight)), padded

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        weight, *sources = inputs
        y, padded = output
        ctx.channels = [source.shape[1] for source in sources]
        ctx.mark_non_differentiable(padded)
        ctx.save_for_backward(weight, y, padded)
        ctx.save_for_forward(weight, y, padded)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        weight, y, padded = ctx.saved_tensors
        needs_weight, needs_input = ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:])
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        to_input, to_weight, _ = torch.ops.aten.convolution_backward(
            gradient, padded, weight, None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
            (needs_input, needs_weight, False),
        )  # fmt: skip
        if not needs_input:
            return to_weight, *[None] * len(ctx.channels)
        return to_weight, *_fold(to_input).split(ctx.channels, dim=1)

    @staticmethod
    def jvp(ctx: Any, weight_tangent: Tensor | None, *tangents: Tensor | None) -> Any:
        weight, y, padded = ctx.saved_tensors
        change = torch.zeros_like(y)
        if any(tangent is not None for tangent in tangents):
            shape = (y.shape[0], 1, *y.shape[2:])
            filled = [
                y.new_zeros(shape).expand(-1, c, -1, -1) if t is None else t
                for t, c in zip(tangents, ctx.channels, strict=True)
            ]
            change = change + F.conv2d(_padded(tuple(filled)), weight)
        if weight_tangent is not None:
            change = change + F.conv2d(padded, weight_tangent)
        return change * (y > 0), None


class _Compiled(torch.autograd.Function):
    """The same by the compiled kernel, which needs only inputs and output for the gradients."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, *sources: Tensor) -> Tensor:
        y = kernel.forward(weight, sources)
        ctx.save_for_backward(weight, y, *sources)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, y, *sources = ctx.saved_tensors
        return kernel.backward(gradient, y, weight, sources, ctx.needs_input_grad)


def reflect_convolution(
    weight: Float[Tensor, "O I 3 3"], *sources: Float[Tensor, "B _ H W"]
) -> Float[Tensor, "B O H W"]:
    """Convolve reflect-padded inputs with a 3 x 3 kernel and rectify.

    Under ``torch.autocast`` it multiplies in the lower precision. Forward-mode and reverse-mode
    derivatives of first order are defined.

    Args:
        weight: The kernel.
        *sources: The input, in one or several parts along the channel axis.

    Raises:
        ShapeError: If the parts do not fit the kernel or each other, or a side is below 2.
    """
    channels = sum(source.shape[1] for source in sources)
    sizes = {(source.shape[0], *source.shape[2:]) for source in sources}
    if weight.shape[1:] != (channels, 3, 3) or len(sizes) != 1 or min(sources[0].shape[2:]) < 2:
        raise ShapeError(
            "reflect_convolution expected sources of one size, at least 2 x 2, with "
            f"{weight.shape[1]} channels together, got shapes {[tuple(s.shape) for s in sources]}."
        )
    device = weight.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        weight, sources = weight.to(dtype), tuple(source.to(dtype) for source in sources)
    if torch.compiler.is_compiling():  # the compiler joins plain operations by itself
        padded = F.pad(torch.cat(sources, dim=1), (1, 1, 1, 1), mode="reflect")
        return F.relu(F.conv2d(padded, weight))
    if kernel.covered(weight, sources):
        return _Compiled.apply(weight, *sources)
    return _ReflectConvolution.apply(weight, *sources)[0]
