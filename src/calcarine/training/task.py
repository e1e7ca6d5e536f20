"""What is learned. The driver does the rest: schedule, guard, logging, checkpoints, resuming.

A task by a local rule implements ``update`` and changes its modules itself. A task by gradient
implements ``objectives`` and ``losses``. A task that is both (a Hebbian map with a read-out learned
by gradient) declares ``objectives`` and calls ``step.descend(losses)`` inside its own ``update``. A
task that learns in phases converts what it has when the next one begins (``enter``).

    class Fit(GradientTask):
        def modules(self):
            return {"net": self.net}
        def objectives(self):
            return {"net": list(self.net.parameters())}
        def losses(self, generator):
            return {"net": self.error(self.draw(generator))}

    class Map(Task):
        def modules(self):
            return {"sheet": self.sheet}
        def update(self, step):
            return {"activity": self.sheet.learn(self.draw(step.generator))}

Axes    C channel | H W image grid, rows down, columns right
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["GradientTask", "Probed", "Step", "Task"]


class Step(NamedTuple):
    """What the driver hands to one update.

    Attributes:
        done: Number of updates already done; 0 in the first one.
        generator: The run's CPU generator. Everything random draws from it, so that a resumed run
            sees the same draws.
        device: Where the modules are.
        rate: Learning rate of this update; local rules may scale their own by it.
        descend: ``descend(losses)`` makes one gradient step on every objective and returns the
            losses and gradient norms as scalars. Of several batches' losses, given one after the
            other by an iterator, it takes the mean; each is let go before the next is computed.
        phase: Name of the phase; empty in a run without phases.
        phase_done: Number of updates of this phase already done.
        phase_updates: Number of updates of the whole phase, or run.
        accumulate: How many batches make this update.
    """

    done: int
    generator: torch.Generator
    device: torch.device
    rate: float
    descend: Callable[
        [Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]]], dict[str, float | Tensor]
    ]
    phase: str = ""
    phase_done: int = 0
    phase_updates: int = 0
    accumulate: int = 1


class Probed(NamedTuple):
    """What probes get of a run.

    Attributes:
        model: Picture in sRGB code values (B, C, H, W) -> representation, its parts named.
        channels: Channels of the picture; ``None`` where grey and colour will do.
        size: Height and width of the picture in pixels; ``None`` where any will do.
    """

    model: nn.Module
    channels: int | None = None
    size: tuple[int, int] | None = None


class Task(ABC):
    """What is learned, and how one update changes it.

    Whether a module is in ``train()`` or ``eval()`` is up to the task.

    Attributes:
        shares: Whether an update computes only its process's part of a batch
            (``distributed.world().part``), so that several processes do the work of one. The driver
            then averages gradients, losses and scalars over them. Random numbers are the same in
            all processes. A task that does not share refuses to run in several.
    """

    shares: ClassVar[bool] = False

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """Return everything that learns, by name; this is what checkpoints and snapshots hold."""

    @abstractmethod
    def update(self, step: Step) -> dict[str, Tensor | float]:
        """Make one update.

        Returns:
            Scalars to log. Tensors may stay on their device: they are only read when a log line is
            due, so an update never waits for them.
        """

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        """Return what ``step.descend`` learns, by objective; each has its own optimiser.

        No parameter belongs to two objectives, and no loss reaches another's parameters. In a run
        of several phases, those of the current one.
        """
        return {}

    def enter(self, phase: str, *, resumed: bool) -> None:  # noqa: B027 (most have no phases)
        """Begin a phase; called before its first update, after which ``objectives`` is asked.

        Here a task converts what the phase before has learned, unless ``resumed``: then the
        modules are only brought into the shape they have in this phase, and their weights are
        loaded afterwards.

        Args:
            phase: Its name.
            resumed: Whether a run goes on in the middle of it, or is opened to be looked at.

        Raises:
            InputError: If the task knows no such phase.
        """

    def extra_state(self) -> dict[str, Any]:
        """Return what a resumed run needs beyond modules, optimisers and random state.

        Tensors, numbers, strings, booleans, ``None``, and lists and dicts of them.
        """
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:  # noqa: B027 (nothing to take over)
        """Take over what ``extra_state`` returned when the checkpoint was written."""

    def probed(self) -> Probed | None:
        """Return the model for the probes, or ``None`` if there is nothing to probe."""
        return None

    def images(self) -> dict[str, Float[Tensor, "C H W"]]:
        """Return pictures for the loggers, values in [0, 1], asked for at every snapshot.

        It must neither draw from the run's random state nor change anything.
        """
        return {}


class GradientTask(Task):
    """A task whose modules learn by gradient: one loss per objective, one step per update."""

    @abstractmethod
    def objectives(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of every objective, by name; no parameter belongs to two."""

    @abstractmethod
    def losses(self, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Draw a batch and return the loss of every objective, under the objectives' names.

        Args:
            generator: The run's CPU generator, for everything random.
        """

    def update(self, step: Step) -> dict[str, Tensor | float]:
        """Make one gradient step on every objective, from as many batches as the settings say."""
        batches = (self.losses(step.generator) for _ in range(step.accumulate))
        return {**step.descend(batches)}
