"""Judging a gradient step where it was computed, without waiting for the numbers.

    refused = not (loss and |g| are finite)          the optimiser then changes nothing
    scale   = min(1, clip_norm / |g|)

The host may ask for the numbers later; then they are usually there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """What became of one step, by objective.

    Args:
        losses: Losses.
        norms: Norms of the gradients before clipping.
        refused: 1 where the step must not be taken, as optimisers of torch want to know it.
        scales: What gradients are to be multiplied by.
        copied: Losses, then norms, on their way to the host.
        arrived: When they are there; ``None`` where nothing has to travel.
    """

    losses: dict[str, Float[Tensor, ""]]
    norms: dict[str, Float[Tensor, ""]]
    refused: dict[str, Float[Tensor, ""]]
    scales: dict[str, Float[Tensor, ""]]
    copied: Float[Tensor, " N"]
    arrived: torch.cuda.Event | None

    def numbers(self) -> dict[str, tuple[float, float]]:
        """Return loss and norm by objective; the host waits here if they are not there yet."""
        if self.arrived is not None:
            self.arrived.synchronize()
        values = self.copied.tolist()
        half = len(values) // 2
        return dict(zip(self.losses, zip(values[:half], values[half:], strict=True), strict=True))


@torch.no_grad()
def judge(
    losses: Mapping[str, Tensor], gradients: Mapping[str, list[Tensor]], clip_norm: float | None
) -> Verdict:
    """Judge the step of every objective.

    Args:
        losses: One scalar per objective.
        gradients: Gradients by objective.
        clip_norm: Largest norm, or ``None`` for no limit.
    """
    values = {name: losses[name].detach() for name in gradients}
    norms = {name: _norm(values[name], group) for name, group in gradients.items()}
    finite = {name: values[name].isfinite() & norms[name].isfinite() for name in gradients}
    refused = {name: 1 - fine.float() for name, fine in finite.items()}
    limit = torch.inf if clip_norm is None else clip_norm
    scales = {name: (limit / norm).clamp(max=1) for name, norm in norms.items()}
    wide = [each.double() for each in (*values.values(), *norms.values())]
    copied, arrived = _to_host(torch.stack(wide))
    return Verdict(values, norms, refused, scales, copied, arrived)


def _norm(like: Tensor, group: list[Tensor]) -> Float[Tensor, ""]:
    if not group:
        return torch.zeros_like(like)
    # Half precision would overflow in the squares, long before the gradient itself is too large.
    wide = torch.float32 if any(g.dtype.itemsize < 4 for g in group) else None
    parts = torch._foreach_norm(group, 2, wide)
    widest = max((part.dtype for part in parts), key=lambda dtype: dtype.itemsize)
    return torch.linalg.vector_norm(torch.stack([part.to(widest) for part in parts]))


def _to_host(numbers: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if not numbers.is_cuda:
        return numbers, None
    copied = torch.empty_like(numbers, device="cpu", pin_memory=True)
    copied.copy_(numbers, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return copied, arrived
