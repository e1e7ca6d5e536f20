"""How well a cortex knows the lateral inhibition of its retina: learned kernel against true one.

    least over a     error = |a learned - true| / |true|          a = <learned, true> / |learned|^2

The scale is free: a kernel twice as strong and percepts half as strong predict the same signals.

Axes    k side of a kernel, odd; both are centred
Source  kotani2024 (the comparison); the measure is ours
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError, ShapeError

__all__ = ["KernelReadout", "kernel_readout"]


@dataclass(frozen=True)
class KernelReadout:
    """A learned kernel after the best scaling, and how far it is from the truth.

    Args:
        scaled: The learned kernel, scaled.
        true: The true kernel, both of the larger size of the two.
        error: Relative error; 0 is perfect, 1 as bad as no kernel at all.
        correlation: Cosine of the angle between the kernels.
    """

    scaled: Float[Tensor, "k k"]
    true: Float[Tensor, "k k"]
    error: float
    correlation: float


@torch.no_grad()
def kernel_readout(learned: Float[Tensor, "k k"], true: Float[Tensor, "l l"]) -> KernelReadout:
    """Compare a learned kernel with the true one; a smaller one counts as zero beyond its border.

    Raises:
        ShapeError: If they are not square with an odd side.
        NonFiniteError: If they hold NaN or infinity.
        InputError: If one is zero everywhere.
    """
    for kernel in (learned, true):
        if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
            raise ShapeError(
                "kernel_readout expected square kernels with an odd side, got shapes "
                f"{tuple(learned.shape)} and {tuple(true.shape)}."
            )
        if not kernel.isfinite().all():
            raise NonFiniteError("kernel_readout expected finite kernels, got NaN or infinity.")
    most = max(learned.shape[0], true.shape[0])
    own, truth = (_padded(kernel.detach().cpu().double(), most) for kernel in (learned, true))
    if not own.any() or not truth.any():
        raise InputError("kernel_readout expected kernels that are not zero everywhere.")
    scale = (own * truth).sum() / own.square().sum()
    size = torch.linalg.vector_norm(truth)
    return KernelReadout(
        scale * own,
        truth,
        float(torch.linalg.vector_norm(scale * own - truth) / size),
        float((own * truth).sum() / torch.linalg.vector_norm(own) / size),
    )


def _padded(kernel: Tensor, side: int) -> Tensor:
    return F.pad(kernel, [(side - kernel.shape[0]) // 2] * 4)
