"""Muon: steps of equal size along all singular directions of a convolution.

    b <- momentum b + (1 - momentum) g            g: gradient of a kernel, a matrix out x (in taps)
    u  = momentum b + (1 - momentum) g            Nesterov's look ahead
    w <- (1 - rate decay) w - rate 0.2 sqrt(max(out, in taps)) orthogonal(u)
    orthogonal(u) ~ U V^T, where u = U S V^T      by five Newton-Schulz steps, to within a third

    all other parameters                          AdamW, at the same rate

Where one direction of the signals is much louder than another, as brightness is than the difference
between two pigments, gradients of the faint one drown: every rule that scales weights one by one
follows the loud direction first. Here both are learned at the same pace. The factor gives steps the
size that Adam's have, so that rates mean the same.

Source  jordan2024 (the rule, the coefficients), liu2025 (the factor, the decay)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Muon", "is_kernel", "orthogonal"]

STEPS = 5  # of Newton and Schulz; jordan2024
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # jordan2024
SIZE_OF_ADAM = 0.2  # root mean square of a step of Adam over its rate; liu2025
SMALL = 1e-7


def is_kernel(parameter: Tensor) -> bool:
    """Return whether a parameter is the weight of a convolution with more than one tap."""
    return parameter.ndim >= 4 and parameter[0, 0].numel() > 1


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return nearly the closest matrix with orthonormal rows or columns; 0 for 0."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (torch.linalg.matrix_norm(x) + SMALL)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.AdamW):
    """Muon for kernels of convolutions, AdamW for everything else.

    Args:
        parameters: What it changes.
        lr: Rate of both.
        momentum: Share of the running mean of a kernel's gradient that is kept.
        settings: Further arguments of :class:`torch.optim.AdamW`.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, **settings: Any
    ) -> None:
        given = list(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in given if not is_kernel(p)]},
            {"params": [p for p in given if is_kernel(p)], "momentum": momentum},
        ]
        super().__init__(groups, lr=lr, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; ``found_inf``, set by the learner on a GPU, leaves it out."""
        groups = self.param_groups
        try:
            self.param_groups = groups[:1]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        self._step_kernels(groups[1])
        return loss

    def _step_kernels(self, group: dict[str, Any]) -> None:
        refused: Tensor | None = getattr(self, "found_inf", None)
        rate, momentum = group["lr"], group["momentum"]
        for kernel in group["params"]:
            if kernel.grad is None:
                continue
            if not (state := self.state[kernel]):  # AdamW looks for "step" when it is loaded
                state.update(step=torch.zeros(()), momentum=torch.zeros_like(kernel))
            mean = state["momentum"]
            new = mean.lerp(kernel.grad, 1 - momentum)
            ahead = kernel.grad.lerp(new, momentum).flatten(1)
            step = SIZE_OF_ADAM * max(ahead.shape) ** 0.5 * orthogonal(ahead).view(kernel.shape)
            step = step + group["weight_decay"] * kernel
            if refused is not None:  # NaN times nought would be NaN
                new = torch.where(refused.bool(), mean, new)
                step = step.masked_fill(refused.bool(), 0)
            mean.copy_(new)
            kernel.sub_(step, alpha=rate)
