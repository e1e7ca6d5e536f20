"""The one loop in which every synthesising probe changes its pixels.

    begin -> step -> (store) -> (look: tolerance, stall, divergence, NaN) -> step -> ...

    converged   every term that is to vanish is within the tolerance; or, for an objective with no
                known minimum, it has stopped falling
    stalled     it has stopped falling above the tolerance
    diverged    it has risen a hundredfold
    max_iter    none of these yet

One iteration is one evaluation of the objective and its gradient. On a GPU the loop looks at its
numbers every 25 iterations, so that no iteration waits for them; a run may therefore go up to 24
iterations past its tolerance.

Axes    B batch | C channel | H W rows down, columns right | G group | T terms | N iterations
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, NonFiniteError
from calcarine.interrupt import Interrupt
from calcarine.probes.precondition import Preconditioner
from calcarine.probes.steppers import Objective, Optimizer, Stepper, open_stepper
from calcarine.progress import Progress, open_progress

__all__ = ["History", "Plan", "Status", "Synthesis", "SynthesisProbe"]

Status = Literal["not started", "converged", "max_iter", "stalled", "diverged", "interrupted"]

_LOOK_EVERY = {"cpu": 1}  # other devices: every 25 iterations
_WINDOW, _PROGRESS = 60, 0.02  # iterations in which the loss must fall by this share; ours
_DIVERGED = 100.0  # times its first value; ours


class History(NamedTuple):
    """Images stored on the way.

    Attributes:
        iterations: When each was stored; 0 is the beginning.
        images: On the CPU, axes (stored, batch, channel, height, width).
    """

    iterations: tuple[int, ...]
    images: Float[Tensor, "S B C H W"]


@dataclass(frozen=True)
class Plan:
    """How far one call goes, and what it looks like.

    Args:
        max_iter: Iterations of this call.
        tolerance: What counts as vanished, or for ``goal="stationary"`` the relative fall over 60
            iterations that counts as none.
        goal: ``"zero"`` where the objective can reach zero, ``"stationary"`` where its minimum is
            not known.
        store_every: Keep the image every so many iterations.
        progress: Whether to show a bar, or lines where there is no terminal.
        names: Names of the terms, for the bar.
    """

    max_iter: int
    tolerance: float
    goal: Literal["zero", "stationary"] = "zero"
    store_every: int | None = None
    progress: bool = True
    names: tuple[str, ...] = ("loss",)

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


@dataclass
class Synthesis:
    """Pixels under synthesis, with everything that has happened to them.

    Args:
        pixels: What is synthesised, changed in place.
    """

    pixels: Float[Tensor, "B C H W"]
    status: Status = "not started"
    iterations: int = 0
    seconds: float = 0.0
    record: list[Float[Tensor, "T G"]] = field(default_factory=list)
    stored: dict[int, Float[Tensor, "B C H W"]] = field(default_factory=dict)
    stepper: Stepper | None = None

    def run(
        self,
        objective: Objective,
        plan: Plan,
        optimizer: Optimizer,
        change: Preconditioner | None = None,
        *,
        fresh: bool = False,
    ) -> Status:
        """Go on until the plan is fulfilled; a second call with the same optimiser goes on there.

        Args:
            objective: What is made small.
            plan: How far.
            optimizer: How.
            change: Variables for L-BFGS.
            fresh: Forget what the optimiser remembers: the objective is another one.

        Raises:
            NonFiniteError: If the objective becomes NaN or infinite, with the iteration. The
                pixels stay as they were before.
        """
        began = time.perf_counter()
        with (
            closing(
                open_progress(
                    self.iterations + plan.max_iter,
                    self.iterations,
                    shown=plan.progress,
                    unit="iteration",
                )
            ) as bar,
            Interrupt() as interrupt,
        ):
            try:
                self._open(objective, optimizer, change, fresh)
                self.status = self._loop(_Watch(plan, objective, self), bar, interrupt)
            finally:
                self.seconds += time.perf_counter() - began
        return self.status

    def losses(self) -> Float[Tensor, "T N"]:
        """Return the terms after every iteration, the first before any, means over groups."""
        return self.item_losses().mean(2)

    def item_losses(self) -> Float[Tensor, "T N G"]:
        """Return the terms after every iteration for every group."""
        return torch.stack(self.record, dim=1).cpu() if self.record else torch.zeros(0, 0, 0)

    def history(self) -> History:
        """Return the stored images."""
        images = list(self.stored.values())
        empty = self.pixels.new_zeros((0, *self.pixels.shape)).cpu()
        return History(tuple(self.stored), torch.stack(images) if images else empty)

    def save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and facts from which :meth:`load` goes on."""
        tensors = {"pixels": self.pixels}
        if self.record:
            tensors["record"] = torch.stack(self.record)
        if self.stored:
            tensors["history"] = self.history().images
        facts: dict[str, Any] = {
            "status": self.status,
            "iterations": self.iterations,
            "seconds": self.seconds,
            "stored": list(self.stored),
        }
        if self.stepper is not None:
            facts["optimizer"] = self.stepper.name
            tensors |= self.stepper.state()
        return tensors, facts

    @classmethod
    def load(
        cls,
        tensors: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        objective: Objective | None,
        device: torch.device,
    ) -> Synthesis:
        """Return what :meth:`save` saved.

        Args:
            tensors: Its tensors.
            facts: Its facts.
            objective: What was made small, to go on with; ``None`` where nothing had begun.
            device: Where to.
        """
        made = cls(tensors["pixels"].to(device))
        made.status, made.iterations = facts["status"], facts["iterations"]
        made.seconds = facts["seconds"]
        made.record = list(tensors["record"].to(device)) if "record" in tensors else []
        if "history" in tensors:
            made.stored = dict(zip(facts["stored"], tensors["history"], strict=True))
        name = facts.get("optimizer")
        if name in ("lbfgs", "adam") and objective is not None:
            made.stepper = open_stepper(name, made.pixels, objective)
            own = {k: v for k, v in tensors.items() if k.startswith(f"{name}.")}
            made.stepper.load_state(own)
        return made

    def _open(
        self,
        objective: Objective,
        optimizer: Optimizer,
        change: Preconditioner | None,
        fresh: bool,
    ) -> None:
        if self.stepper is not None and not fresh and self.stepper.name == optimizer:
            return
        self.stepper = open_stepper(optimizer, self.pixels, objective, change)
        if not self.record:
            self.record.append(self.stepper.terms)
        if bool(self.stepper.undefined()):
            raise NonFiniteError(
                f"The loss is NaN or infinite at iteration {self.iterations}, before any step. "
                "Check the model's response to the initial image, and its gradient."
            )

    def _loop(self, watch: _Watch, bar: Progress, interrupt: Interrupt) -> Status:
        assert self.stepper is not None
        plan, last = watch.plan, self.iterations + watch.plan.max_iter
        if plan.store_every and self.iterations == 0:
            self._store()
        status = watch.look(bar)
        while status is None and self.iterations < last:
            self.stepper.step()
            self.iterations += 1
            self.record.append(self.stepper.terms)
            if plan.store_every and self.iterations % plan.store_every == 0:
                self._store()
            bar.advance(self.iterations)
            if watch.is_due() or self.iterations == last or interrupt.requested:
                status = watch.look(bar) or ("interrupted" if interrupt.requested else None)
        self._take_pixels()
        if plan.store_every and self.iterations not in self.stored:
            self._store()
        return status or "max_iter"

    def _store(self) -> None:
        assert self.stepper is not None
        self.stored[self.iterations] = self.stepper.image().detach().to("cpu", copy=True)

    def _take_pixels(self) -> None:
        assert self.stepper is not None
        with torch.no_grad():
            self.pixels.copy_(self.stepper.image())

    def retreat(self) -> None:
        """Go back to the last pixels whose objective is a number."""
        assert self.stepper is not None
        self.stepper.retreat()
        self._take_pixels()
        self.stepper = None


class SynthesisProbe:
    """What every synthesising probe tells of its synthesis."""

    _synthesis: Synthesis

    @property
    def history(self) -> History:
        """Images stored on the way."""
        return self._synthesis.history()

    @property
    def status(self) -> Status:
        """How the last call ended, see :mod:`calcarine.probes.synthesis`."""
        return self._synthesis.status

    @property
    def iterations(self) -> int:
        """Iterations done."""
        return self._synthesis.iterations

    @property
    def seconds(self) -> float:
        """Time spent in ``synthesize``."""
        return self._synthesis.seconds


class _Watch:
    """Reads the record, several iterations in one transfer, and judges it."""

    def __init__(self, plan: Plan, objective: Objective, synthesis: Synthesis) -> None:
        self.plan, self._synthesis = plan, synthesis
        self._weights = objective.weights
        self._every = _LOOK_EVERY.get(synthesis.pixels.device.type, 25)
        self._seen = len(synthesis.record) - 1
        self._totals: list[float] = []

    def is_due(self) -> bool:
        """Return whether it is time to look."""
        return len(self._synthesis.record) - self._seen >= self._every

    def look(self, bar: Progress) -> Status | None:
        """Judge what has been recorded since the last look.

        Raises:
            NonFiniteError: If the objective is no number any more.
        """
        stepper, record = self._synthesis.stepper, self._synthesis.record
        assert stepper is not None
        if bool(stepper.undefined()):
            self._synthesis.retreat()
            raise NonFiniteError(
                f"The loss became NaN or infinite at iteration {self._synthesis.iterations}. The "
                "image from before is kept. Take smaller steps, or see what the model does to "
                "such images."
            )
        new = torch.stack(record[self._seen :])
        self._seen = len(record)
        weighted = new * self._weights
        largest = weighted.abs().amax((1, 2))
        means = new.mean(2)
        numbers = torch.cat([largest[:, None], weighted.sum(1).mean(1)[:, None], means], 1).tolist()
        self._totals += [row[1] for row in numbers]
        names = zip(self.plan.names, numbers[-1][2:], strict=False)
        bar.values({f"loss/{name}": value for name, value in names})
        within = self.plan.goal == "zero" and numbers[-1][0] <= self.plan.tolerance
        return "converged" if within else self._trend(stuck=bool(stepper.stuck()))

    def _trend(self, *, stuck: bool) -> Status | None:
        """Judge how the total goes."""
        totals, zero = self._totals, self.plan.goal == "zero"
        at_rest: Status = "stalled" if zero else "converged"
        if stuck:
            return at_rest
        if abs(totals[-1]) > _DIVERGED * max(abs(totals[0]), 1e-12) and totals[-1] > totals[0]:
            return "diverged"
        if len(totals) <= _WINDOW:
            return None
        before, lately = min(totals[:-_WINDOW]), min(totals[-_WINDOW:])
        least = _PROGRESS if zero else self.plan.tolerance
        return at_rest if before - lately < least * abs(before) else None
