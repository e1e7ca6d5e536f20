"""The gradient guard: a step with NaN or infinity is skipped and counted, not taken.

One bad batch then costs one update instead of the run. When the steps of an objective stay
non-finite, training stops and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from calcarine.errors import NonFiniteError

__all__ = ["Guard"]


class Guard:
    """Judges the step of every objective and counts those skipped.

    Args:
        objectives: Names of the objectives.
        limit: How many skipped steps in a row of one objective end the training.
    """

    def __init__(self, objectives: Iterable[str], *, limit: int = 20) -> None:
        self.limit = limit
        self.skipped = dict.fromkeys(objectives, 0)
        self.in_a_row = dict.fromkeys(self.skipped, 0)

    def begin(self, objectives: Iterable[str], *, limit: int) -> None:
        """Go on with the objectives of another phase; what was counted stays counted."""
        self.limit = limit
        self.in_a_row = dict.fromkeys(objectives, 0)
        self.skipped = {**dict.fromkeys(self.in_a_row, 0), **self.skipped}

    def admits(self, objective: str, *, loss: float, norm: float) -> bool:
        """Say whether this step may be taken, and count it when not.

        Args:
            objective: Whose step it is.
            loss: Its loss.
            norm: Norm of its gradient.

        Raises:
            NonFiniteError: If this was the last step of ``limit`` skipped ones in a row.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            self.in_a_row[objective] = 0
            return True
        self.skipped[objective] += 1
        self.in_a_row[objective] += 1
        if self.in_a_row[objective] >= self.limit:
            raise NonFiniteError(
                f"Training expected finite losses and gradients, but objective {objective!r} had "
                f"{self.in_a_row[objective]} non-finite steps in a row (last loss {loss:g}, last "
                f"gradient norm {norm:g}). None of them was taken. Lower training.learning_rate, "
                "set training.clip_norm, or look for NaN in the data."
            )
        return False

    @property
    def total(self) -> int:
        """Number of steps skipped since the run began, over all objectives."""
        return sum(self.skipped.values())

    def state(self) -> dict[str, dict[str, int]]:
        """Return the counts, for a checkpoint."""
        return {"skipped": dict(self.skipped), "in_a_row": dict(self.in_a_row)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over counts that :meth:`state` returned."""
        self.skipped.update(state["skipped"])
        self.in_a_row.update(state["in_a_row"])
