"""When a synthesis is over: what its terms have to reach, and how it is told from their course.

    converged   every term that is to vanish is within the tolerance; or, for an objective with no
                known minimum, it has stopped falling
    stalled     it has stopped falling above the tolerance
    diverged    it has risen a hundredfold

Each group is judged by its own course: a batch has stopped falling when no image of it that is
still above the tolerance gets any further.

Axes    G group | T terms of the objective | N iterations
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError
from calcarine.probes.steppers import Objective, Stepper

__all__ = ["Plan", "Status", "Watch"]

Status = Literal["not started", "converged", "max_iter", "stalled", "diverged", "interrupted"]

_PROGRESS = 0.02  # share by which the loss must fall within a window; ours
_DIVERGED = 100.0  # times its first value; ours


@dataclass(frozen=True)
class Plan:
    """How far one call goes, and what it looks like.

    Args:
        max_iter: Iterations of this call.
        tolerance: What counts as vanished, or for ``goal="stationary"`` the relative fall within a
            window that counts as none.
        goal: ``"zero"`` where the objective can reach zero, ``"stationary"`` where its minimum is
            not known.
        store_every: Keep the image every so many iterations.
        progress: Whether to show a bar, or lines where there is no terminal.
        names: Names of the terms, for the bar.
        window: Iterations within which the objective must fall. Ours.
    """

    max_iter: int
    tolerance: float
    goal: Literal["zero", "stationary"] = "zero"
    store_every: int | None = None
    progress: bool = True
    names: tuple[str, ...] = ("loss",)
    window: int = 60

    def __post_init__(self) -> None:
        if not isinstance(self.max_iter, int) or self.max_iter < 1:
            raise InputError(f"synthesize expected max_iter >= 1, got {self.max_iter!r}.")
        if not self.tolerance >= 0:
            raise InputError(f"synthesize expected tolerance >= 0, got {self.tolerance!r}.")
        if self.store_every is not None and (
            not isinstance(self.store_every, int) or self.store_every < 1
        ):
            raise InputError(
                f"synthesize expected store_every >= 1 or None, got {self.store_every!r}."
            )

    def cut(self, max_iter: int) -> Plan:
        """Return the same plan for fewer iterations."""
        return replace(self, max_iter=max_iter)


class Watch:
    """Reads the terms of several iterations in one transfer, and judges them.

    Args:
        plan: What is to be reached.
        objective: What is made small.
        stepper: What makes it small; its present terms are the first.
        every: Iterations between two looks.
    """

    def __init__(self, plan: Plan, objective: Objective, stepper: Stepper, every: int) -> None:
        self._plan, self._objective, self._stepper, self._every = plan, objective, stepper, every
        self._unread = [stepper.terms]
        self._first: list[float] = []
        self._best: list[list[float]] = []  # smallest totals so far, after every iteration

    def note(self, terms: Float[Tensor, "T G"]) -> None:
        """Take down the terms after an iteration."""
        self._unread.append(terms)

    def is_due(self) -> bool:
        """Return whether it is time to look."""
        return len(self._unread) >= self._every

    def look(self, iteration: int) -> tuple[Status | None, Mapping[str, float]]:
        """Judge what has been noted since the last look.

        Args:
            iteration: Iterations done.

        Returns:
            How it ends, ``None`` while it does not, and the latest terms by name.

        Raises:
            NonFiniteError: If the objective is no number any more.
        """
        undefined = int(self._stepper.undefined())
        if undefined:
            raise NonFiniteError(
                f"The loss became NaN or infinite at iteration {iteration - undefined + 1}. The "
                "image from before is kept. Take smaller steps, or see what the model does to "
                "such images."
            )
        terms = torch.stack(self._unread)
        self._unread = []
        weighted = self._objective.weighted(terms)
        groups = weighted.shape[2]
        columns = [weighted.abs().amax(1), weighted.sum(1), terms.mean(2)]
        rows = torch.cat(columns, 1).tolist()
        totals = [row[groups : 2 * groups] for row in rows]
        self._first = self._first or totals[0]
        for each in totals:
            lowest = self._best[-1] if self._best else each
            self._best.append([min(pair) for pair in zip(lowest, each, strict=True)])
        values = dict(zip(self._plan.names, rows[-1][2 * groups :], strict=False))
        return self._judge(rows[-1][:groups], totals[-1]), values

    def _judge(self, largest: list[float], totals: list[float]) -> Status | None:
        zero, tolerance = self._plan.goal == "zero", self._plan.tolerance
        above = [not (zero and each <= tolerance) for each in largest]
        if not any(above):
            return "converged"
        first, last = sum(self._first) / len(totals), sum(totals) / len(totals)
        least = max(abs(first), tolerance * zero, 1e-12)
        if abs(last) > _DIVERGED * least and last > first:
            return "diverged"
        resting = zip(above, self._resting(), strict=True)
        if all(rests for is_above, rests in resting if is_above):
            return "stalled" if zero else "converged"
        return None

    def _resting(self) -> list[bool]:
        """Return which groups have stopped falling."""
        stuck: list[bool] = self._stepper.stuck().tolist()
        if len(self._best) <= self._plan.window:
            return stuck
        least = _PROGRESS if self._plan.goal == "zero" else self._plan.tolerance
        pairs = zip(self._best[-1 - self._plan.window], self._best[-1], strict=True)
        still = [before - now <= least * abs(before) for before, now in pairs]
        return [one or other for one, other in zip(stuck, still, strict=True)]
