"""What is measured of a CordsNet for the page of its run: accuracy, stability, noise, spectra.

    twin, staged, direct   accuracy on held-out images; both networks in time at every moment
    back                   distance to the baseline after offset, from images and random states
    noise                  accuracy over the strength of frozen and of fresh noise
    paths                  the last area in principal components
    at_rest, looking       the step of every area linearised, without an image and with one

Images are shown for as long as in a trial of the task. A page takes about a minute for 32 x 32
pixels and two areas; of larger networks fewer images are looked at.

Axes    B batch | C channels | H W rows down, columns right
Units   time in ms
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from calcarine.models import CordsNet
from calcarine.probes.area_spectra import recurrence_spectrum, step_modes
from calcarine.probes.eigenvalues import Spectrum
from calcarine.probes.linear_stability import Stability
from calcarine.probes.noise_robustness import NoiseRobustness, noise_robustness
from calcarine.probes.return_to_baseline import BaselineReturn, return_to_baseline
from calcarine.probes.time_course import AccuracyOverTime, accuracy_over_time
from calcarine.probes.trajectories import Trajectories, principal_trajectories
from calcarine.training.run import Run

__all__ = ["CordsNetResults", "measure_cordsnet", "reservation"]

OFF_MS, REST_MS, RETURN_MS = 100.0, 200.0, 400.0
"""How long answers are followed after an image; the least time after which a network counts as at
rest; the same, and how long it is followed, for its return to the baseline. Ours."""
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
    times = _times(task) | {"off_ms": _in_steps(OFF_MS, model)}
    staged = accuracy_over_time(model, shown, **times)
    direct = None if control is None else accuracy_over_time(control, shown, **times)
    right = sum(int((task.twin(images).argmax(1) == labels).sum()) for images, labels in shown)
    progress("following the network back to its baseline")
    images = torch.cat([images for images, _ in some(START_IMAGES, 4)])
    draw = torch.Generator(device).manual_seed(0)
    long_ms = _in_steps(RETURN_MS, model)
    back = return_to_baseline(
        model, images, warmup_ms=long_ms, stimulus_ms=task.stimulus_ms, off_ms=long_ms,
        random_starts=4, generator=draw,
    )  # fmt: skip
    progress("adding noise")
    noise = _noise(task, control, some(NOISE_IMAGES), draw)
    progress("following activity in principal components")
    paths, classes = _paths(task, some(PATH_IMAGES, 4))
    progress("looking for eigenvalues")
    recurrent, at_rest, looking = _spectra(task, images[:1])
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


def _times(task: Any) -> dict[str, Any]:
    """Return the times of a trial as while learning."""
    return {"warmup_ms": task.warmup_ms, "stimulus_ms": task.stimulus_ms}


def _in_steps(time_ms: float, model: CordsNet) -> float:
    """Return a time of ours as a multiple of the model's step."""
    return max(1, round(time_ms / model.dt_ms)) * model.dt_ms


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
    times = _times(task)
    found = {"staged": noise_robustness(task.model, shown, NOISE, generator=draw, **times)}
    if control is not None:
        found["direct"] = noise_robustness(
            control, shown, NOISE, kinds=("frozen",), generator=draw, **times
        )
    found["twin"] = noise_robustness(task.twin, shown, NOISE, generator=draw)
    return found


def _paths(task: Any, shown: list[tuple[Tensor, Tensor]]) -> tuple[Trajectories, Tensor]:
    model: CordsNet = task.model
    images, labels = (torch.cat(parts) for parts in zip(*shown, strict=True))
    rest = model.baseline(images, task.warmup_ms)
    rates = [rest.areas[-1].r]
    off_ms = _in_steps(OFF_MS, model)
    for after in model.trial(images, 0.0, task.stimulus_ms, off_ms, state=rest):
        rates.append(after[-1])
    # The average over positions: what the readout is given of the area.
    course = torch.stack([r.mean((2, 3)) for r in rates])
    components = min(3, *course.shape[2:], course[..., 0].numel() - 1)
    return principal_trajectories(course, components, dt_ms=model.dt_ms), labels.cpu()


def _spectra(task: Any, image: Tensor) -> tuple[list[Spectrum], list[Stability], list[Stability]]:
    """Linearise the areas; none feeds an earlier one, so their modes are those of the network."""
    model: CordsNet = task.model
    weights = model.folded().detached()
    start = model.baseline(image, max(task.warmup_ms, _in_steps(REST_MS, model)))
    rest = excited = tuple(area.r for area in start.areas)
    for rates in model.trial(image, 0.0, task.stimulus_ms, state=start):
        excited = rates

    def modes_at(rates: tuple[Tensor, ...], shown: Tensor | None) -> list[Stability]:
        fed = weights.fed(rates, weights.drive(shown))
        return [
            step_modes(area, r, f, model.dt_ms, _modes(r.numel()))
            for area, r, f in zip(weights.areas, rates, fed, strict=True)
        ]

    recurrent = [recurrence_spectrum(a, _modes(a.bias.numel())) for a in weights.areas]
    return recurrent, modes_at(rest, None), modes_at(excited, image)


def _modes(units: int) -> int:
    """Return how many eigenvalues to look for: fewer where each takes long."""
    return min(MODES if units <= LARGE_AREA else FEW_MODES, units - 1)
