"""Improving colour matches through the model itself.

    mismatch(w)   p(test + sum of w_k < 0) - p(sum of w_k > 0)         both sides are real lights
    w <- w - (J^T J + damping)^-1 J^T mismatch                         for every light by itself

The percept is not additive, so the linear fit alone is not the best match. The Jacobian J comes
from finite differences; a step is kept if it makes the mismatch smaller, and the damping follows.

Axes    L lights | T cone types | K latent | N primaries
Source  marquardt1963 (damped steps)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["See", "mismatch", "refine_weights"]

See = Callable[[Tensor], Tensor]


def mismatch(
    see: See, lights: Tensor, primaries: Tensor, weights: Float[Tensor, "... L N"]
) -> Float[Tensor, "... L K"]:
    """Difference between both sides of every match, negative weights on the side of the test."""
    right = weights.clamp(min=0) @ primaries
    left = lights + (-weights).clamp(min=0) @ primaries
    sides = see(torch.stack([left, right]).flatten(0, -2)).unflatten(0, (2, *weights.shape[:-1]))
    return sides[0] - sides[1]


def refine_weights(
    see: See, lights: Tensor, primaries: Tensor, starts: Sequence[Tensor], scale: Tensor
) -> Tensor:
    """Levenberg-Marquardt on the weights of every light; returns relative residuals (L,)."""

    def residuals(weights: Tensor) -> Tensor:
        return mismatch(see, lights, primaries, weights) / scale[:, None]

    tried = residuals(torch.stack(list(starts)))
    choice = torch.linalg.vector_norm(tried, dim=2).argmin(dim=0)
    each = torch.arange(len(lights))
    weights, error = torch.stack(list(starts))[choice, each], tried[choice, each]
    damping = torch.full((len(lights), 1, 1), 1e-4, dtype=lights.dtype)
    identity = torch.eye(weights.shape[1], dtype=lights.dtype)
    for _ in range(12):
        norm = torch.linalg.vector_norm(error, dim=1)
        if norm.max() < 1e-4:
            break
        step = 1e-3
        ahead = weights + step * identity[:, None, :]
        jacobian = ((residuals(ahead) - error) / step).permute(1, 2, 0)
        normal = jacobian.mT @ jacobian
        ridge = damping * (normal.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None] + 1e-12)
        update = torch.linalg.solve(normal + ridge * identity, jacobian.mT @ error[..., None])
        candidate = weights - update[..., 0]
        candidate_error = residuals(candidate)
        better = torch.linalg.vector_norm(candidate_error, dim=1) < norm
        weights = torch.where(better[:, None], candidate, weights)
        moved = torch.where(better[:, None], candidate_error, error)
        gain = (norm - torch.linalg.vector_norm(moved, dim=1)).max()
        error = moved
        damping = torch.where(better[:, None, None], damping / 5, damping * 20)
        if gain < 1e-5 and bool((damping > 1).all()):
            break
    return torch.linalg.vector_norm(error, dim=1)
