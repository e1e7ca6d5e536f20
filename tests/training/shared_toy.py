"""What two processes do together in the tests: ``torchrun ... shared_toy.py <folder>``.

Every process writes what it saw into ``<folder>/<rank>.pt``; the tests compare it with one process.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calcarine import distributed
from calcarine.distributed import SyncedBatchNorm2d, World, world
from calcarine.errors import CalcarineError, CheckpointError, UnknownNameError
from calcarine.training import FitResult, GradientTask, Step, TrainingSettings, driver, fit

SETTINGS: dict[str, Any] = {
    "phases": (
        {"name": "first", "updates": 4, "optimiser": "sgd", "weight_decay": 0.01},
        {"name": "second", "updates": 6, "clip_norm": 0.5, "accumulate": 2},
    ),
    "learning_rate": 0.02,
    "warmup_updates": 2,
    "log_every": 1,
    "checkpoint_every": 3,
    "loggers": ("local",),
}


class SharedTask(GradientTask):
    """Batch normalisation, two phases, a weight drawn when the second begins.

    Args:
        poison: Updates whose loss is NaN in the last process.
        signal_at: Update in which Ctrl-C is pressed in the last process.
        perturb: Whether the last process begins with other weights.
    """

    shares = True

    def __init__(self, *, poison=(), signal_at=None, perturb=False) -> None:
        draw = torch.Generator().manual_seed(5)
        self.net = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            SyncedBatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, 3),
        )
        self.head = nn.Linear(3, 1)
        for parameter in [*self.net.parameters(), *self.head.parameters()]:
            nn.init.normal_(parameter, std=0.2, generator=draw)
        place = world()
        self.last = place.size > 1 and place.rank == place.size - 1
        if perturb and self.last:
            nn.init.zeros_(self.net[0].weight)
        self.poison, self.signal_at = set(poison), signal_at
        self.phase, self.done = "", 0

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "head": self.head}

    def enter(self, phase: str, *, resumed: bool) -> None:
        self.phase = phase
        if phase == "second" and not resumed:
            nn.init.normal_(self.head.weight)

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        return {"net": list(self.net.parameters()), "head": [self.head.weight, self.head.bias]}

    def update(self, step: Step) -> dict[str, Tensor | float]:
        self.done = step.done + 1
        if self.last and self.done == self.signal_at:
            signal.raise_signal(signal.SIGINT)
        return {**super().update(step), "rows": float(self.rows)}

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        x = world().part(torch.randn(8, 2, 6, 6, generator=generator))
        self.rows = len(x)
        y = self.net(x)
        error = (y - x.mean((2, 3)).repeat(1, 2)[:, :3]).square().mean()
        if self.last and self.done in self.poison:
            error = error * torch.nan
        # The head's bias gets no gradient, and must stay although its weights decay.
        read = (y.detach() @ self.head.weight.T - x.sum((1, 2, 3))[:, None]).square().mean()
        return {"net": error, "head": read}


def learn(folder: Path, task: GradientTask, *, resume: bool = False, **changes: Any) -> FitResult:
    settings = TrainingSettings(**{**SETTINGS, **changes})
    return fit(task, settings, folder, recipe={}, seed=3, resume=resume, progress=False)


def message(action) -> str:
    """Return class and message of the error that something raises."""
    try:
        action()
    except (CalcarineError, OSError) as error:
        return f"{type(error).__name__} {distributed.echoed(error)}: {error}"
    return "no error"


def sums(place: World) -> dict[str, Any]:
    x = torch.arange(4.0, dtype=torch.float64).reshape(4, 1).requires_grad_()
    mine = place.part(x)
    total = place.sum(mine.sum())
    (total * (place.rank + 1)).backward()
    tensors = [torch.full((2, 2), float(place.rank)), torch.tensor([place.rank * 4.0]).double()]
    place.mean_(tensors)
    return {
        "total": total.detach(),
        "gradient": x.grad,
        "means": tensors,
        "any": [place.any(False), place.any(place.rank == 1), place.any(True)],
        "uneven": message(lambda: place.part(torch.zeros(5, 2))),
    }


def normalise(place: World, dtype: torch.dtype, momentum: float | None) -> dict[str, Any]:
    """Two batches through the normalisation; the first process's rows only are a constant."""
    draw = torch.Generator().manual_seed(9)
    norm = SyncedBatchNorm2d(3, momentum=momentum).to(dtype)
    x = torch.randn(6, 3, 5, 4, generator=draw, dtype=torch.float64)
    x[:3] += 100
    weight = torch.randn(6, 3, 5, 4, generator=draw, dtype=torch.float64)
    x, weight = x.to(dtype).requires_grad_(), weight.to(dtype)
    norm(place.part(x.detach()) * 2)
    y = norm(place.part(x))
    (y * place.part(weight)).sum().backward()
    return {
        "y": y.detach(),
        "x": place.part(x.grad),
        "weight": norm.weight.grad,
        "state": norm.state_dict(),
        "eval": norm.eval()(place.part(x)).detach(),
    }


def errors(place: World, folder: Path) -> dict[str, str]:
    """Failures of the writer, as every process sees them."""

    class Alone(SharedTask):
        shares = False

    def unknown() -> None:
        raise UnknownNameError("recipe", "a", ["b"])

    def foreign() -> None:
        raise OSError("no luck")

    def full(*args: Any, **more: Any) -> None:
        raise CheckpointError("The disk is full.")

    found = {
        "own": message(lambda: place.on_writer(unknown)),
        "foreign": message(lambda: place.on_writer(foreign)),
        "again": message(lambda: learn(folder / "two", SharedTask())),
        "nothing": message(lambda: learn(folder / "none", SharedTask(), resume=True)),
        "alone": message(lambda: learn(folder / "alone", Alone())),
    }
    write, driver.write_checkpoint = driver.write_checkpoint, full
    found["disk"] = message(lambda: learn(folder / "disk", SharedTask()))
    driver.write_checkpoint = write
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    place = world()
    seen: dict[str, Any] = {"world": [place.rank, place.size, str(place.device)]}
    seen["sums"] = sums(place)
    seen["norm"] = {
        f"{dtype} {momentum}": normalise(place, dtype, momentum)
        for dtype in (torch.float32, torch.float64)
        for momentum in (0.1, None)
    }
    task = SharedTask(perturb=True)
    result = learn(folder / "two", task)
    seen["two"] = {n: m.state_dict() for n, m in task.modules().items()}
    seen["result"] = [result.status, result.updates, result.skipped, result.scalars]
    paused = learn(folder / "paused", SharedTask(signal_at=6))
    seen["paused"] = [paused.status, paused.updates]
    continued = learn(folder / "halved", SharedTask(), resume=True)
    seen["continued"] = [continued.status, continued.updates]
    seen["poisoned"] = learn(folder / "poisoned", SharedTask(poison=(3, 7))).skipped
    seen["errors"] = errors(place, folder)
    if place.rank == 1:  # it goes, and the other one notices
        distributed.leave()
    else:
        seen["lost"] = message(lambda: place.any(False))
    torch.save(seen, folder / f"{place.rank}.pt")


if __name__ == "__main__":
    main()
