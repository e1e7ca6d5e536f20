"""What is learned. The driver does the rest: schedule, guard, logging, checkpoints, resuming.

A task by a local rule implements ``update`` and changes its modules itself. A task by gradient
implements ``objectives`` and ``losses``. A task that is both (a Hebbian map with a read-out learned
by gradient) declares ``objectives`` and calls ``step.descend(losses)`` inside its own ``update``.

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
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
            losses and gradient norms as numbers.
    """

    done: int
    generator: torch.Generator
    device: torch.device
    rate: float
    descend: Callable[[Mapping[str, Tensor]], dict[str, float]]


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
    """

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
        """Return the parameters that ``step.descend`` learns, by objective; each has its own Adam.

        No parameter belongs to two objectives, and no loss reaches another's parameters.
        """
        return {}

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
        """Make one gradient step on every objective."""
        return {**step.descend(self.losses(step.generator))}
