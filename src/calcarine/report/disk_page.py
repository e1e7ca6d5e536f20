"""The sections about a network that learned to find disks on the page of its run.

Units   speeds px per frame, time constants ms
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine import plot, simulate
from calcarine.models import Detections, DiskReadout, DiskVelocityNet
from calcarine.plot.events import CLASS_NAMES
from calcarine.probes import (
    DetectionScore,
    VelocityTuning,
    score_detections,
    velocity_tuning,
)
from calcarine.report.builder import Report
from calcarine.stimuli import MovingDisks, moving_disks
from calcarine.training.run import Run

__all__ = ["DiskResults", "add_disk_sections", "measure_disks"]

_SEEDS = range(1000, 1005)  # recordings to judge by; learning draws its own from another seed
_TUNING_SEEDS = range(4)
_FRAMES = 300
_FILM_FRAMES = 150


@dataclass(frozen=True)
class DiskResults:
    """What was measured on a network that finds disks.

    Args:
        tuning: What its channels answer to each speed.
        scores: How well it finds disks, one per recording, with what it learned.
        by_hand: The same with the constants set by hand.
        shown: The recording that the figures show.
        detections: What it found there.
        spikes: Spikes of its second layer there.
    """

    tuning: VelocityTuning
    scores: list[DetectionScore]
    by_hand: list[DetectionScore]
    shown: MovingDisks
    detections: Detections
    spikes: Float[Tensor, "T 3 H W"]

    def key_numbers(self) -> dict[str, str]:
        """Return the numbers that tell most about the network."""
        return {
            "precision": _percent([s.precision for s in self.scores]),
            "recall": _percent([s.recall for s in self.scores]),
            "speeds told right": _percent([s.speed_accuracy for s in self.scores]),
        }


@torch.no_grad()
def measure_disks(run: Run, progress: Callable[[str], None]) -> DiskResults:
    """Let the network find disks in recordings that it never learned from."""
    net = run.task.net
    progress("measuring velocity tuning")
    tuning = velocity_tuning(net, seeds=_TUNING_SEEDS)
    progress("finding disks in new recordings")
    hand = DiskVelocityNet(radius_px=net.radius_px, speeds=net.speeds, dt_ms=net.dt_ms).to(
        next(net.buffers()).device
    )
    recordings = [_recording(run, seed) for seed in _SEEDS]
    found = [_look(net, each) for each in recordings]
    return DiskResults(
        tuning,
        [score_detections(d, r.truth) for (d, _), r in zip(found, recordings, strict=True)],
        [score_detections(_look(hand, r)[0], r.truth) for r in recordings],
        recordings[0],
        *found[0],
    )


def _recording(run: Run, seed: int) -> MovingDisks:
    net = run.task.net
    return moving_disks(
        size=run.task.size, radius_px=net.radius_px, speeds=net.speeds, frames=_FRAMES,
        dt_ms=net.dt_ms, noise=run.task.noise, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip


def _look(net: DiskVelocityNet, recording: MovingDisks) -> tuple[Detections, Tensor]:
    frames = recording.events.frames(net.dt_ms, steps=_FRAMES).to(next(net.buffers()).device)
    spikes, _ = simulate.run(net, frames[:, None], engine="plain")
    return DiskReadout(lag_steps=net.lag_steps)(spikes[:, 0]), spikes[:, 0].cpu()


def add_disk_sections(page: Report, run: Run, results: DiskResults) -> None:
    """Add how well disks are found, what the channels answer to, and what was learned."""
    _add_scores(page, run, results)
    _add_tuning(page, run, results)
    _add_constants(page, run)


def _add_scores(page: Report, run: Run, results: DiskResults) -> None:
    page.section(
        "Finding disks",
        f"{len(results.scores)} recordings of {_FRAMES} frames that were not learned from, three "
        "disks each, in any direction. A disk counts as found within 3 px of its centre.",
    )
    names = ("precision", "recall", "speed_accuracy")
    page.table(
        ["", "learned", "set by hand"],
        [
            [name.replace("_", " "), *(
                _percent([getattr(s, name) for s in scores])
                for scores in (results.scores, results.by_hand)
            )]
            for name in names
        ],
        caption="Mean and standard error over recordings, in per cent.",
    )  # fmt: skip
    confusion = torch.stack([s.confusion for s in results.scores]).sum(0).tolist()
    page.table(
        ["disk", *(f"told {name}" for name in CLASS_NAMES)],
        [[name, *row] for name, row in zip(CLASS_NAMES, confusion, strict=True)],
        caption="Disks found, by their speed and by what was told.",
    )
    early = results.detections.frame < _FILM_FRAMES
    film = plot.event_animation(
        results.shown.events.frames(run.task.net.dt_ms, steps=_FILM_FRAMES),
        activity=results.spikes[:_FILM_FRAMES],
        detections=Detections(*(column[early] for column in results.detections)),
    )
    page.animation(
        film,
        fps=25,
        alt="Events of three disks, spikes of three channels, and circles around what was found.",
        caption="Events in grey; spikes of the second layer in the colour of their channel; "
        "circles: what the read-out lists.",
    )
    page.figure(
        plot.detection_figure(results.detections, results.shown.truth),
        alt="Columns and rows of detections over time, beside those of the disks.",
        caption="The same recording to its end.",
    )


def _add_tuning(page: Report, run: Run, results: DiskResults) -> None:
    low, high = run.task.net.band_borders_px
    speeds = run.task.net.speeds
    bands = ((speeds[0] ** 2 / low, low), (low, high), (high, speeds[2] ** 2 / high))
    page.section("Velocity tuning", "A single disk is shown at several speeds and directions.")
    page.figure(
        plot.velocity_tuning_figure(results.tuning, bands=bands),
        alt="Response of the slow, medium and fast channel by speed.",
        caption="Spikes near the disk, relative to each channel's largest response; bands shaded.",
    )


def _add_constants(page: Report, run: Run) -> None:
    page.section("Constants", "Where learning began, and where it led.")
    first = run.at(run.ages[0]).task.net if run.ages else run.task.net
    before, after = _constants(first), _constants(run.task.net)
    page.table(
        ["constant", *(f"{name}, {when}" for when in ("before", "after") for name in CLASS_NAMES)],
        [[name, *_cells(before[name]), *_cells(after[name])] for name in after],
    )


def _constants(net: DiskVelocityNet) -> dict[str, Tensor]:
    like = next(net.buffers()).new_zeros(1, 3, 1, 1)
    constants = {
        "time constant of integrators (ms)": net.integrators.tau_mem,
        "gain": net.gains,
        "time constant of channels (ms)": net.channels.tau_mem,
        "threshold of channels": net.channels.v_threshold,
        "inhibition": net.beta,
    }
    return {name: torch.as_tensor(value(like)).flatten() for name, value in constants.items()}


def _cells(values: Tensor) -> list[str]:
    return [f"{v:.3g}" for v in values.expand(3).tolist()]


def _percent(values: list[float]) -> str:
    known = torch.tensor(values, dtype=torch.double)
    error = float(known.std() / math.sqrt(len(known))) if len(known) > 1 else 0.0
    return f"{100 * float(known.mean()):.1f} ± {100 * error:.1f} %"
