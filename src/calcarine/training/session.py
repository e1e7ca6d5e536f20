"""Everything that changes while a task learns, taken and given back as one value.

    captured: modules, optimisers, guard counts, the run's generator, torch's own random state, the
    task's extra state, the number of updates done

A phase is entered just before its first update: what is captured at the border of two phases still
belongs to the first, and the conversion between them is made again when the run goes on.

The run's random numbers are its own: torch's global generators are seeded and used inside the run
only, and the caller finds them as they were. In several processes they are the same in each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.distributed import World
from calcarine.errors import CheckpointError, InputError
from calcarine.training.checkpoint import Checkpoint
from calcarine.training.gradient import GradientLearner
from calcarine.training.schedule import learning_rate
from calcarine.training.settings import TrainingSettings
from calcarine.training.task import Step, Task
from calcarine.training.weights import check_names, take_over

__all__ = ["Session", "find_device", "own_random_state"]


class Session:
    """A task in the course of learning.

    Args:
        task: What is learned.
        settings: Schedule, optimisers and guard.
        seed: Seed of the run's generator.
        device: Where the modules are.
        place: The processes that learn together; alone by default.

    Attributes:
        done: Number of updates done.
        rate: Learning rate of the last update.
        phase: Name of the phase of the last update; empty before the first, or without phases.
    """

    def __init__(
        self,
        task: Task,
        settings: TrainingSettings,
        *,
        seed: int,
        device: torch.device,
        place: World | None = None,
    ) -> None:
        self.task = task
        self.settings = settings
        self.device = device
        self.place = World() if place is None else place
        self.modules = task.modules()
        self.generator = torch.Generator().manual_seed(seed)
        self.place.equalise(self.modules)
        # With phases, nothing can be learned before the first is entered.
        objectives = {} if settings.phases else task.objectives()
        self._current = settings
        self.learner = GradientLearner(objectives, self.modules, settings, place=self.place)
        self.done = 0
        self.rate = 0.0
        self.phase = ""
        self._scalars: Mapping[str, Tensor | float] = {}

    def advance(self) -> None:
        """Make one update, the first of a phase after entering it."""
        span = self.settings.span(self.done)
        if span.phase != self.phase:
            self._enter(span.phase, resumed=False)
        self.rate = self.learner.rate = learning_rate(self._current, span.done)
        step = Step(
            self.done,
            self.generator,
            self.device,
            self.rate,
            self.learner.descend,
            phase=span.phase,
            phase_done=span.done,
            phase_updates=span.updates,
            accumulate=self._current.accumulate,
        )
        scalars = self.task.update(step)
        # Detached, or the graph of this update would be kept through the next one.
        self._scalars = {n: v.detach() if isinstance(v, Tensor) else v for n, v in scalars.items()}
        self.done += 1

    def _enter(self, phase: str, *, resumed: bool) -> None:
        """Let the task begin a phase, with new optimisers for what it learns there."""
        self.task.enter(phase, resumed=resumed)
        self.modules = self.task.modules()
        check_names(self.modules)
        for module in self.modules.values():
            module.to(self.device)  # what the task has just made may be elsewhere
        self.place.equalise(self.modules)
        self.phase = phase
        self._current = self.settings.of(phase)
        self.learner = GradientLearner(
            self.task.objectives(),
            self.modules,
            self._current,
            guard=self.learner.guard,
            place=self.place,
        )

    def scalars(self) -> dict[str, float]:
        """Return the scalars of the last update as numbers; the host waits for them here.

        Of several processes all have to ask, and get the means.
        """
        tensors = {n: v for n, v in self._scalars.items() if isinstance(v, Tensor)}
        for name, value in tensors.items():
            if value.numel() != 1:
                raise InputError(
                    f"update() is expected to return scalars to log, but {name!r} has shape "
                    f"{tuple(value.shape)}. Reduce it, for example with .mean()."
                )
        if "update" in self._scalars:
            raise InputError("update() returned a scalar named 'update'; use another name.")
        parts = [v.detach().reshape(()).to(self.device) for v in tensors.values()]
        read_out = torch.stack(parts).tolist() if parts else []
        read = dict(zip(tensors, map(float, read_out), strict=True))
        numbers = {n: read[n] if n in read else float(v) for n, v in self._scalars.items()}
        if self.place.size > 1:
            names = sorted(numbers)
            means = torch.tensor([numbers[n] for n in names], dtype=torch.float64)
            self.place.mean_([means])
            shared = dict(zip(names, means.tolist(), strict=True))
            numbers = {n: shared[n] for n in numbers}
        self._scalars = numbers
        return dict(numbers)

    def capture(self) -> dict[str, Any]:
        """Return everything but the weights, as plain data for a checkpoint."""
        extra = self.task.extra_state()
        _check_plain(extra, "extra_state()")
        random = {"run": self.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "learner": self.learner.state(),
            "random": random,
            "task": extra,
            "rate": self.rate,
            "scalars": self.scalars(),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: If it does not fit the task.
        """
        held = checkpoint.training
        if checkpoint.phase:
            self._enter(checkpoint.phase, resumed=True)
        strangers = {n.partition(".")[0] for n in checkpoint.weights} - set(self.modules)
        if strangers:
            raise CheckpointError(
                f"The checkpoint {checkpoint.path} holds modules that the task does not have: "
                f"{', '.join(sorted(strangers))}. Resume with the task that wrote it."
            )
        take_over(self.modules, checkpoint.weights, path=checkpoint.path, exact=True)
        self.place.equalise(self.modules)
        self.learner.load_state(held["learner"])
        self.generator.set_state(held["random"]["run"])
        torch.set_rng_state(held["random"]["torch"])
        if self.device.type == "cuda" and "cuda" in held["random"]:
            torch.cuda.set_rng_state(held["random"]["cuda"], self.device)
        self.task.load_extra_state(held["task"])
        self.done = checkpoint.update
        self.rate = held["rate"]
        self._scalars = held["scalars"]


def find_device(task: Task, device: torch.device | str | None) -> torch.device:
    """Move a task's modules to a device, or find out where they are.

    Raises:
        InputError: If there is no such device, or the modules are in several places.
    """
    modules = task.modules()
    check_names(modules)
    if device is not None:
        try:
            for module in modules.values():
                module.to(device)
        except (RuntimeError, AssertionError) as error:  # torch raises either without CUDA
            raise InputError(
                f"The modules could not be moved to device {str(device)!r} ({error}). Choose "
                "'cpu', or check the installation."
            ) from error
    places = {t.device for m in modules.values() for t in _tensors(m)}
    if len(places) > 1:
        raise InputError(
            f"Training expected all modules on one device, got {sorted(map(str, places))}. Pass "
            "device= to move them."
        )
    return places.pop() if places else torch.device("cpu")


@contextlib.contextmanager
def own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """Give the block its own global random state and restore the caller's afterwards.

    The global generators serve what takes no generator, such as dropout. Their seed is drawn from
    the run's, so that their numbers are not those of the run's generator over again.
    """
    drawn = torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(int(drawn))
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(drawn))
        yield


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _check_plain(value: Any, where: str) -> None:
    """Refuse what could not be read back without running code."""
    if value is None or type(value) in (bool, int, float, str, Tensor, nn.Parameter):
        return
    if type(value) in (list, tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{where}[{index}]")
    elif type(value) is dict:
        for key, inner in value.items():
            _check_plain(key, f"a key of {where}")
            _check_plain(inner, f"{where}[{key!r}]")
    else:
        raise InputError(
            f"A checkpoint is expected to hold tensors, numbers, strings, booleans, None, and "
            f"lists and dicts of them, but {where} is a {type(value).__name__}. Convert it."
        )
