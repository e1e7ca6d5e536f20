"""The one loop in which every synthesising probe changes its pixels.

    begin -> step -> (store) -> (look: tolerance, stall, divergence, NaN) -> step -> ...

    converged, stalled, diverged    see :mod:`calcarine.probes.watching`
    max_iter                        none of these yet
    interrupted                     by Ctrl-C or the scheduler's SIGTERM, after finishing a step

One iteration is one evaluation of the objective and its gradient. On a GPU the loop looks at its
numbers every 25 iterations, so that no iteration waits for them; a run may therefore go up to 24
iterations past its tolerance.

Axes    B batch | C channel | H W rows down, columns right | G group | T terms | N iterations
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import NonFiniteError
from calcarine.interrupt import Interrupt
from calcarine.probes.precondition import Preconditioner
from calcarine.probes.steppers import Objective, Optimizer, Stepper, open_stepper
from calcarine.probes.watching import Plan, Status, Watch
from calcarine.progress import Progress, open_progress

__all__ = ["History", "Plan", "Status", "Synthesis", "SynthesisProbe"]

_LOOK_EVERY = {"cpu": 1}  # other devices: every 25 iterations


class History(NamedTuple):
    """Images stored on the way.

    Attributes:
        iterations: When each was stored; 0 is the beginning.
        images: On the CPU, axes (stored, batch, channel, height, width).
    """

    iterations: tuple[int, ...]
    images: Float[Tensor, "S B C H W"]


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
    closing: int | None = None  # stored only because a call ended there
    _asked: Optimizer | None = None

    def run(
        self,
        objective: Objective,
        plan: Plan,
        optimizer: Optimizer,
        change: Preconditioner | None = None,
        *,
        fresh: bool = False,
        bar: Progress | None = None,
    ) -> Status:
        """Go on until the plan is fulfilled; a second call with the same optimiser goes on there.

        Args:
            objective: What is made small.
            plan: How far.
            optimizer: How.
            change: Variables for L-BFGS.
            fresh: Forget what the optimiser remembers: the objective is another one.
            bar: Where to show how far it is; by default a bar of its own.

        Raises:
            NonFiniteError: If the objective becomes NaN or infinite, with the iteration. The
                pixels stay as they were before.
        """
        began = time.perf_counter()
        with ExitStack() as stack:
            bar = stack.enter_context(self.progress(plan)) if bar is None else bar
            interrupt = stack.enter_context(Interrupt())
            try:
                self._open(objective, optimizer, change, fresh)
                self.status = self._loop(plan, objective, bar, interrupt)
            finally:
                self.seconds += time.perf_counter() - began
        return self.status

    def progress(self, plan: Plan) -> AbstractContextManager[Progress]:
        """Return the bar of a call, which may consist of several runs."""
        total = self.iterations + plan.max_iter
        bar = open_progress(total, self.iterations, shown=plan.progress, unit="iteration")
        return closing(bar)

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
            "closing": self.closing,
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
        made.seconds, made.closing = facts["seconds"], facts["closing"]
        made.record = list(tensors["record"].to(device)) if "record" in tensors else []
        if "history" in tensors:
            made.stored = dict(zip(facts["stored"], tensors["history"], strict=True))
        name = facts.get("optimizer")
        if name in ("lbfgs", "adam") and objective is not None:
            made.stepper, made._asked = open_stepper(name, made.pixels, objective), name
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
        if self.goes_on(optimizer) and not fresh:
            return
        self.stepper = open_stepper(optimizer, self.pixels, objective, change)
        self._asked = optimizer
        if not self.record:
            self.record.append(self.stepper.terms)
        if bool(self.stepper.undefined()):
            raise NonFiniteError(
                f"The loss is NaN or infinite at iteration {self.iterations}, before any step. "
                "Check the model's response to the initial image, and its gradient."
            )

    def goes_on(self, optimizer: Optimizer) -> bool:
        """Return whether a call with this optimiser goes on where the one before stopped."""
        return self.stepper is not None and (
            self._asked is optimizer or (isinstance(optimizer, str) and self._asked == optimizer)
        )

    def _loop(
        self, plan: Plan, objective: Objective, bar: Progress, interrupt: Interrupt
    ) -> Status:
        assert self.stepper is not None
        last = self.iterations + plan.max_iter
        watch = Watch(plan, objective, self.stepper, _LOOK_EVERY.get(self.pixels.device.type, 25))
        self._begin_history(plan.store_every)
        status = self._look(watch, bar)
        while status is None and self.iterations < last:
            self.stepper.step()
            self.iterations += 1
            self.record.append(self.stepper.terms)
            watch.note(self.stepper.terms)
            if plan.store_every and self.iterations % plan.store_every == 0:
                self._store()
            bar.advance(self.iterations)
            if watch.is_due() or self.iterations == last or interrupt.requested:
                status = self._look(watch, bar) or ("interrupted" if interrupt.requested else None)
        self._take_pixels()
        if plan.store_every and self.iterations not in self.stored:
            self._store()
            self.closing = self.iterations
        return status or "max_iter"

    def _look(self, watch: Watch, bar: Progress) -> Status | None:
        try:
            status, values = watch.look(self.iterations)
        except NonFiniteError:
            self._retreat()
            raise
        bar.values({f"loss/{name}": value for name, value in values.items()})
        return status

    def _begin_history(self, store_every: int | None) -> None:
        """Store the beginning; leave out the end of the call before, as if it had not ended."""
        if store_every and self.closing is not None:
            if self.closing % store_every:
                del self.stored[self.closing]
            self.closing = None
        if store_every and self.iterations == 0:
            self._store()

    def _store(self) -> None:
        assert self.stepper is not None
        self.stored[self.iterations] = self.stepper.image().detach().to("cpu", copy=True)

    def _take_pixels(self) -> None:
        assert self.stepper is not None
        with torch.no_grad():
            self.pixels.copy_(self.stepper.image())

    def _retreat(self) -> None:
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
