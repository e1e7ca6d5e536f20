"""What is measured of a CordsNet for the page of its run: accuracy, stability, noise, spectra.

    twin, staged, direct   accuracy on held-out images; both networks in time at every moment
    back                   distance to the baseline after offset, from images and random states
    noise                  accuracy over the strength of frozen and of fresh noise
    paths                  the last area in principal components
    at_rest, looking       the step of every area linearised, without an image and with one

A page takes about a minute for 32 x 32 pixels and two areas; of larger networks fewer images are
looked at.

Axes    B batch | C channels | H W rows down, columns right
Units   time in ms
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.models import CordsNet
from calcarine.probes.eigenvalues import Spectrum, leading_eigenvalues
from calcarine.probes.linear_stability import Stability, step_stability
from calcarine.probes.noise_robustness import NoiseRobustness, noise_robustness
from calcarine.probes.return_to_baseline import BaselineReturn, return_to_baseline
from calcarine.probes.time_course import AccuracyOverTime, accuracy_over_time
from calcarine.probes.trajectories import Trajectories, principal_trajectories
from calcarine.training.run import Run

__all__ = ["CordsNetResults", "measure_cordsnet", "reservation"]

WARMUP_MS, ON_MS, OFF_MS = 200.0, 200.0, 100.0
NOISE = (0.0, 0.5, 1.0, 2.0, 4.0)
MOST_IMAGES, NOISE_IMAGES, PATH_IMAGES, START_IMAGES = 600, 120, 60, 12
MODES, FEW_MODES, LARGE_AREA = 40, 4, 20_000
_REFERENCE = 2 * 4096 * 2 * 64 * 9  # multiplications in a step of two areas at 32 x 32 px
_BATCH = 64


@dataclass(frozen=True)
class CordsNetResults:
    """What was measured on the networks of a run.

    Args:
        images: Number of held-out images looked at, of ``held_out`` that there are.
        held_out: Number of held-out images.
        twin: Share that the feed-forward twin told right.
        staged: The network that went through all steps, over time.
        direct: The one trained directly, over time, if there is one.
        back: Return of the staged network to its baseline.
        noise: Accuracy under noise, by network.
        paths: Activity of the last area of the staged network.
        path_classes: Classes of the images behind ``paths``.
        recurrent: Leading eigenvalues of every area's recurrent convolution.
        at_rest: Modes of every area's step at the baseline.
        looking: The same after an image has been there for a trial.
    """

    images: int
    held_out: int
    twin: float
    staged: AccuracyOverTime
    direct: AccuracyOverTime | None
    back: BaselineReturn
    noise: dict[str, NoiseRobustness]
    paths: Trajectories
    path_classes: Tensor
    recurrent: list[Spectrum]
    at_rest: list[Stability]
    looking: list[Stability]

    def key_numbers(self) -> dict[str, str]:
        """Return the numbers that tell most about the networks."""
        found = {"held-out, staged network": f"{self.staged.final:.1%}"}
        if self.direct is not None:
            found["held-out, trained directly"] = f"{self.direct.final:.1%}"
        found["held-out, feed-forward twin"] = f"{self.twin:.1%}"
        found["points below the twin"] = f"{100 * (self.twin - self.staged.final):.1f}"
        found["to 90 % of the accuracy (ms)"] = f"{self.staged.time_to(0.9):g}"
        back = self.back.worst_return_ms
        found["back at the baseline (ms)"] = f"{back:g}" if self.back.mono_stable else "never"
        return found


@torch.no_grad()
def measure_cordsnet(run: Run, progress: Callable[[str], None]) -> CordsNetResults:
    """Measure the networks of a run on images that they never learned from."""
    task = run.task
    model, device = task.model, task.model.readout.bias.device
    control = None if reservation(run, "direct") else task.direct
    share = min(1.0, _REFERENCE / _cost(model))

    def some(most: int, least: int = 8) -> list[tuple[Tensor, Tensor]]:
        return list(_held_out(task.data, max(least, round(share * most)), device))

    shown = some(MOST_IMAGES, 16)
    progress(f"recognising {sum(len(b) for _, b in shown)} held-out images over time")
    times = {"warmup_ms": WARMUP_MS, "stimulus_ms": ON_MS}
    staged = accuracy_over_time(model, shown, off_ms=OFF_MS, **times)
    direct = None
    if control is not None:
        direct = accuracy_over_time(control, shown, off_ms=OFF_MS, **times)
    right = sum(int((task.twin(images).argmax(1) == labels).sum()) for images, labels in shown)
    progress("following the network back to its baseline")
    images = torch.cat([images for images, _ in some(START_IMAGES, 4)])
    draw = torch.Generator(device).manual_seed(0)
    back = return_to_baseline(model, images, random_starts=4, generator=draw)
    progress("adding noise")
    noise = _noise(task, control, some(NOISE_IMAGES), draw)
    progress("following activity in principal components")
    paths, classes = _paths(model, some(PATH_IMAGES, 4))
    progress("looking for eigenvalues")
    recurrent, at_rest, looking = _spectra(model, images[:1])
    return CordsNetResults(
        staged.count, task.data.held_out_count, right / staged.count, staged, direct, back, noise,
        paths, classes, recurrent, at_rest, looking,
    )  # fmt: skip


def reservation(run: Run, network: str = "staged") -> str:
    """Return why the ``"staged"`` or ``"direct"`` network is not what it will be, or nothing."""
    settings = run.recipe.training
    phases = [p.name for p in settings.phases if p.updates] or ["finetune"]
    own = [p for p in phases if {"twin": "twin", "direct": "direct"}.get(p, "staged") == network]
    phase = settings.span(run.update - 1).phase if settings.phases else "finetune"
    if run.update == 0 or not own or phases.index(phase) < phases.index(own[0]):
        return f"After {run.update} updates the {network} network has learned nothing yet."
    if phase in ("inverse", "linear", "annealing") and phase != own[-1]:
        return (
            f"After {run.update} updates the run is in its phase {phase}. The network is shown "
            "with relu, which it has still to learn."
        )
    return ""


def _cost(model: CordsNet) -> float:
    """Return about how many multiplications a step of all areas takes."""
    return sum(2 * 9 * area.bias.numel() * area.channels for area in model.areas)


def _held_out(data: Any, most: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield up to about ``most`` held-out images, evenly taken from all."""
    parts = max(1, data.held_out_count // most)
    for images, labels in data.held_out(min(_BATCH, most), (0, parts)):
        yield images.to(device), labels.to(device)


def _noise(
    task: Any, control: Any, shown: list[tuple[Tensor, Tensor]], draw: torch.Generator
) -> dict[str, NoiseRobustness]:
    found = {
        "staged": noise_robustness(
            task.model, shown, NOISE, generator=draw, warmup_ms=WARMUP_MS, stimulus_ms=ON_MS
        )
    }
    if control is not None:
        found["direct"] = noise_robustness(
            control, shown, NOISE, kinds=("frozen",), generator=draw, warmup_ms=WARMUP_MS,
            stimulus_ms=ON_MS,
        )  # fmt: skip
    found["twin"] = noise_robustness(task.twin, shown, NOISE, generator=draw)
    return found


def _paths(model: CordsNet, shown: list[tuple[Tensor, Tensor]]) -> tuple[Trajectories, Tensor]:
    images, labels = (torch.cat(parts) for parts in zip(*shown, strict=True))
    rest = model.baseline(images, WARMUP_MS)
    rates = [rest.areas[-1].r]
    for after in model.trial(images, 0.0, ON_MS, OFF_MS, state=rest):
        rates.append(after[-1])
    # The average over positions: what the readout is given of the area.
    course = torch.stack([r.mean((2, 3)) for r in rates])
    components = min(3, *course.shape[2:], course[..., 0].numel() - 1)
    return principal_trajectories(course, components, dt_ms=model.dt_ms), labels.cpu()


def _spectra(
    model: CordsNet, image: Tensor
) -> tuple[list[Spectrum], list[Stability], list[Stability]]:
    """Linearise the areas; none feeds an earlier one, so their modes are those of the network."""
    weights = model.folded().detached()
    rest = tuple(area.r for area in model.baseline(image, WARMUP_MS).areas)
    excited = rest
    for rates in model.trial(image, 0.0, ON_MS, state=model.baseline(image, WARMUP_MS)):
        excited = rates
    recurrent = [_recurrent(a.recurrent, r.shape) for a, r in zip(weights.areas, rest, strict=True)]
    found = []
    for rates, shown in ((rest, None), (excited, image)):
        fed = weights.fed(rates, weights.drive(shown))
        steps = []
        for area, r, f in zip(weights.areas, rates, fed, strict=True):
            k = _modes(r.numel())
            steps.append(
                step_stability(lambda x, a=area, f=f: a.step(x, f), r, model.dt_ms, k=k)  # type: ignore[misc]
            )
        found.append(steps)
    return recurrent, found[0], found[1]


def _recurrent(kernel: Tensor, shape: torch.Size) -> Spectrum:
    k = _modes(shape.numel())
    return leading_eigenvalues(
        lambda v: F.conv2d(v, kernel, padding=1), shape, k, dtype=kernel.dtype,
        device=kernel.device,
    )  # fmt: skip


def _modes(units: int) -> int:
    """Return how many eigenvalues to look for: fewer where each takes long."""
    return min(MODES if units <= LARGE_AREA else FEW_MODES, units - 1)
