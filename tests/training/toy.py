"""Small learning tasks for the tests; run as a script it trains one in a process of its own."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.training import GradientTask, Step, Task, TrainingSettings, fit

RECIPE = {"task": {"name": "toy", "size": [4, 3]}, "note": "größer"}


class Killed(Exception):  # noqa: N818 (it is no error)
    """Stands for a crash in the middle of an update."""


def toy_settings(**changes: Any) -> TrainingSettings:
    plain = {
        "updates": 60,
        "learning_rate": 0.08,
        "warmup_updates": 10,
        "log_every": 7,
        "checkpoint_every": 10,
        "snapshots": (0, 5, 25, 60),
        "loggers": ("local",),
    }
    return TrainingSettings(**{**plain, **changes})


class ToyTask(GradientTask):
    """Fit a linear map with noise; a scope reads its output without teaching it.

    Args:
        poison: Updates whose loss is NaN.
        crash_at: Update in which the process dies.
        signal_at: Update in which Ctrl-C is pressed.
        pause_s: Duration of an update.
    """

    def __init__(self, *, poison=(), crash_at=None, signal_at=None, pause_s=0.0) -> None:
        draw = torch.Generator().manual_seed(7)
        self.target = torch.randn(4, 3, generator=draw)
        self.net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.1))
        self.scope = nn.Linear(3, 1)
        for module in (self.net[0], self.scope):
            nn.init.normal_(module.weight, std=0.1, generator=draw)
            nn.init.zeros_(module.bias)
        self.poison, self.crash_at, self.signal_at = set(poison), crash_at, signal_at
        self.pause_s = pause_s
        self.seen = torch.zeros(4)
        self.count = 0

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "scope": self.scope}

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        return {"net": list(self.net.parameters()), "scope": list(self.scope.parameters())}

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        self.count += 1
        if self.count == self.crash_at:
            raise Killed
        if self.count == self.signal_at:
            signal.raise_signal(signal.SIGINT)
        time.sleep(self.pause_s)
        x = torch.randn(16, 4, generator=generator)
        self.seen += x.sum(0)
        y = self.net(x)
        error = (y - x @ self.target).square().mean()
        if self.count in self.poison:
            error = error * torch.nan
        return {"net": error, "scope": (self.scope(y.detach()) - x.sum(1, True)).square().mean()}

    def extra_state(self) -> dict[str, Any]:
        return {"seen": self.seen, "count": self.count}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.seen, self.count = state["seen"], state["count"]

    def images(self) -> dict[str, Tensor]:
        return {"weights": self.net[0].weight.detach()[None].sigmoid()}


class OjaTask(Task):
    """Oja's rule finds the first principal axis, by no gradient at all."""

    def __init__(self, *, gain: float = 1.0) -> None:
        self.unit = nn.Module()
        self.unit.register_buffer("weight", torch.tensor([1.0, 0.0]))
        self.gain = gain

    def modules(self) -> dict[str, nn.Module]:
        return {"unit": self.unit}

    def update(self, step: Step) -> dict[str, Tensor | float]:
        x = torch.randn(64, 2, generator=step.generator) * torch.tensor([0.2, 1.0])
        x = torch.stack([x[:, 0] + x[:, 1], x[:, 1] - x[:, 0]], 1)
        y = x @ self.unit.weight
        change = (y[:, None] * (x - y[:, None] * self.unit.weight)).mean(0)
        self.unit.weight += self.gain * step.rate * change
        return {"activity": y.square().mean(), "done": step.done}


class PhasedTask(GradientTask):
    """Three phases: one layer, then another on the doubled first, then a module made for the last.

    Args:
        crash_at: Batch in which the process dies.
        signal_at_update: Update in which Ctrl-C is pressed.
    """

    LEARNS = {"grow": "first", "bend": "second", "polish": "third"}  # noqa: RUF012

    def __init__(self, *, crash_at=None, signal_at_update=None) -> None:
        draw = torch.Generator().manual_seed(11)
        self.target = torch.randn(4, 3, generator=draw)
        self.net = nn.ModuleDict({"first": nn.Linear(4, 3), "second": nn.Linear(3, 3)})
        self.late: nn.Linear | None = None
        for parameter in self.net.parameters():
            nn.init.normal_(parameter, std=0.3, generator=draw)
        self.crash_at, self.signal_at_update = crash_at, signal_at_update
        self.phase = ""
        self.entered: list[tuple[str, bool]] = []
        self.steps: list[tuple[str, int, int]] = []
        self.batches = 0

    def modules(self) -> dict[str, nn.Module]:
        late = {} if self.late is None else {"late": self.late}
        return {"net": self.net, **late}

    def enter(self, phase: str, *, resumed: bool) -> None:
        self.phase = phase
        self.entered.append((phase, resumed))
        if phase == "bend" and not resumed:
            with torch.no_grad():
                self.net["first"].weight *= 2
        if phase == "polish":
            self.late = nn.Linear(3, 3)
            if not resumed:  # drawn from the global generator, which the run owns
                nn.init.normal_(self.late.weight)

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        learns = {"grow": self.net["first"], "bend": self.net["second"], "polish": self.late}
        return {self.LEARNS[self.phase]: list(learns[self.phase].parameters())}

    def update(self, step: Step) -> dict[str, Tensor | float]:
        self.steps.append((step.phase, step.phase_done, step.phase_updates))
        if step.done + 1 == self.signal_at_update:
            signal.raise_signal(signal.SIGINT)
        return super().update(step)

    def losses(self, generator: torch.Generator) -> dict[str, Tensor]:
        self.batches += 1
        if self.batches == self.crash_at:
            raise Killed
        x = torch.randn(16, 4, generator=generator)
        y = self.net["first"](x)
        if self.phase != "grow":
            y = self.net["second"](y.detach())
        if self.phase == "polish":
            y = self.late(y.detach())
        return {self.LEARNS[self.phase]: (y - x @ self.target).square().mean()}


def main() -> None:
    """Train in a process of its own: ``toy.py <folder> <pause_s> [resume]``."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    result = fit(
        ToyTask(pause_s=float(sys.argv[2])),
        toy_settings(),
        Path(sys.argv[1]),
        recipe=RECIPE,
        seed=3,
        resume="resume" in sys.argv[3:],
    )
    print(json.dumps([result.status, result.updates]))


if __name__ == "__main__":
    main()
