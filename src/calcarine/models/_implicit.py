"""Gradients at a fixed point without the steps that led there.

    z = G(z, theta)      dL/dtheta = lambda' dG/dtheta      lambda = dL/dz + (dG/dz)' lambda

lambda solves a linear system in the transposed Jacobian, which only vector-Jacobian products touch:
restarted GMRES, one Krylov space per batch item. Memory is that of one step and RESTART vectors,
however long the network took to settle. First derivatives only.

Axes    B batch | N entries of the state | K vectors of a Krylov space
Source  bai2019 (implicit differentiation of a network at rest); saad1986 (GMRES)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import CalcarineWarning

__all__ = ["RESTART", "SolveReport", "gmres", "implicit_fixed_point"]

RESTART = 12
"""Krylov vectors between restarts. Ours: more than the hops through eight areas."""


@dataclass
class SolveReport:
    """How the linear system of the backward pass went; empty until ``backward`` has run.

    Args:
        iterations: Vector-Jacobian products taken.
        residual: Norm of what is left relative to the right side, worst batch item.
        converged: Whether that is within the tolerance; ``None`` before the backward pass.
    """

    iterations: int = 0
    residual: float = float("nan")
    converged: bool | None = None


def gmres(
    operator: Callable[[Tensor], Tensor],
    right: Float[Tensor, "B N"],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Tensor, "B N"], SolveReport]:
    """Solve ``operator(x) = right`` for every batch item.

    Args:
        operator: Linear function of (B, N) that leaves batch items independent.
        right: Right side.
        tolerance: Residual norm to reach, relative to that of ``right``.
        max_iterations: Most applications of the operator; rounded up to whole cycles.

    Returns:
        The solution, and how it was reached.
    """
    scale = _norm(right).clamp_min(torch.finfo(right.dtype).tiny)
    x, rest, report = torch.zeros_like(right), right, SolveReport()
    while True:
        report.residual = (_norm(rest) / scale).max().item()
        report.converged = report.residual <= tolerance
        if report.converged or report.iterations >= max_iterations:
            return x, report
        x = x + _cycle(operator, rest)
        rest = right - operator(x)
        report.iterations += RESTART + 1


def _cycle(operator: Callable[[Tensor], Tensor], rest: Tensor) -> Tensor:
    """Return the correction of least residual within one Krylov space."""
    tiny = torch.finfo(rest.dtype).tiny
    length = _norm(rest)
    basis = [rest / length.clamp_min(tiny)]
    columns = rest.new_zeros(rest.shape[0], RESTART + 1, RESTART, dtype=torch.float64)
    for k in range(RESTART):
        vector = operator(basis[k])
        before = _norm(vector)
        for j, known in enumerate(basis):
            share = (vector * known).sum(1, keepdim=True)
            vector = vector - share * known
            columns[:, j, k] = share[:, 0].double()
        after = _norm(vector)
        # What rounding leaves of a vector inside the space is no new direction.
        after = after.masked_fill(after <= 8 * torch.finfo(rest.dtype).eps * before, 0)
        columns[:, k + 1, k] = after[:, 0].double()
        basis.append(torch.where(after > 0, vector / after.clamp_min(tiny), 0))
    weights = torch.linalg.pinv(columns)[:, :, 0] * length.double()
    return sum(
        (weights[:, k, None].to(rest) * vector for k, vector in enumerate(basis[:-1])),
        torch.zeros_like(rest),
    )


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=1, keepdim=True)


def implicit_fixed_point(
    step: Callable[[Tensor], Tensor],
    z: Float[Tensor, "B N"],
    *,
    tolerance: float,
    max_iterations: int,
    report: SolveReport,
) -> Float[Tensor, "B N"]:
    """Return ``step(z)`` with the gradient of the fixed point that ``z`` is.

    Args:
        step: One undamped step G; it may use parameters and inputs that require gradients.
        z: The fixed point.
        tolerance: Of the linear system, relative.
        max_iterations: Of the linear system.
        report: Filled when the backward pass has solved it.

    Returns:
        ``step(z)``, equal to ``z`` up to how well ``z`` has settled.
    """
    probe = z.detach().clone().requires_grad_()
    seen = step(probe)
    out = step(z.detach())

    def operator(vector: Tensor) -> Tensor:
        (back,) = torch.autograd.grad(seen, probe, vector, retain_graph=True)
        return vector - back

    def solve(gradient: Tensor) -> Tensor:
        with torch.no_grad():
            found, done = gmres(
                operator, gradient, tolerance=tolerance, max_iterations=max_iterations
            )
        report.iterations, report.residual = done.iterations, done.residual
        report.converged = done.converged
        if not done.converged:
            warnings.warn(
                f"The gradient at the fixed point stopped at a relative residual of "
                f"{done.residual:.2g} after {done.iterations} iterations, expected {tolerance:g}. "
                "Let the network settle longer, or use gradient='steps'.",
                CalcarineWarning,
                stacklevel=2,
            )
        return found.detach()

    if out.requires_grad:
        out.register_hook(solve)
    return out
