"""The sections about a spiking network that reads digits on the page of its run.

Units   milliseconds, hertz
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from calcarine import plot
from calcarine.models import SpikingResponse
from calcarine.report.builder import Report
from calcarine.training import read_log
from calcarine.training.run import Run
from calcarine.training.spiking_digits import HeldOut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SpikingResults", "add_spiking_sections", "measure_spiking"]


@dataclass(frozen=True)
class SpikingResults:
    """What was measured on a spiking network.

    Args:
        held_out: How it reads digits that it never learned from.
        digit: The held-out digit that the figures show.
        shown: Its place among the held-out digits.
        response: What the network did with it.
        before_ms: Time constants of the hidden units at the first kept age, by name.
        after_ms: The same now.
    """

    held_out: HeldOut
    digit: int
    shown: int
    response: SpikingResponse
    before_ms: dict[str, Tensor]
    after_ms: dict[str, Tensor]

    def key_numbers(self) -> dict[str, str]:
        """Return the numbers that tell most about the network."""
        rate = self.held_out.rate_hz
        return {
            "held-out digits read right": f"{self.held_out.accuracy:.1%}",
            "mean firing rate of hidden units (Hz)": f"{rate.mean():.1f}",
            "hidden units that never fire": str(int((rate == 0).sum())),
        }


@torch.no_grad()
def measure_spiking(run: Run, progress: Callable[[str], None]) -> SpikingResults:
    """Let the network read the held-out digits, and look closely at the first of them."""
    progress("reading the held-out digits")
    task, shown = run.task, 0
    first = run.at(run.ages[0]).task if run.ages else task
    return SpikingResults(
        held_out=task.held_out(),
        digit=int(task.unseen.labels[shown]),
        shown=shown,
        response=task.model.respond(task.unseen.images[shown][None]),
        before_ms=first.model.time_constants_ms(),
        after_ms=task.model.time_constants_ms(),
    )


def add_spiking_sections(page: Report, run: Run, results: SpikingResults) -> None:
    """Add how well it reads, what one digit does inside, and its time constants."""
    _add_accuracy(page, run, results)
    _add_one_digit(page, run, results)
    _add_time_constants(page, run, results)


def _add_accuracy(page: Report, run: Run, results: SpikingResults) -> None:
    number = len(run.task.unseen.labels)
    page.section(
        "Reading digits",
        f"The last {number} digits of the data set were never learned from. Chance is 10 %.",
    )
    lines = _logged(run)
    if len(lines) > 1:
        page.figure(
            accuracy_figure(lines),
            alt="Share of held-out digits read right, and firing rate, over updates.",
            caption="Held-out digits while the network learned: the share read right, and the "
            "mean firing rate of the hidden units.",
        )
    page.figure(
        plot.confusion(results.held_out.confusion),
        alt=f"Confusions among {number} held-out digits.",
        caption="Rows are what was shown, columns what the network answered.",
    )
    rows = _worst(results.held_out.confusion)
    if rows:
        page.table(["shown", "answered", "how often"], rows, caption="The commonest mistakes.")


def _logged(run: Run) -> list[dict[str, Any]]:
    try:
        lines = read_log(run.folder / "log.jsonl")
    except (OSError, ValueError):
        return []  # the section about learning says so
    every = run.task.evaluate_every  # lines between two looks repeat what was seen last
    return [line for line in lines if line["update"] == 1 or line["update"] % every == 0]


def accuracy_figure(lines: Sequence[Mapping[str, Any]], *, title: str = "") -> Figure:
    """Show held-out accuracy and firing rate over updates."""
    names = {"held_out_accuracy": "share read right", "held_out_rate_hz": "firing rate (Hz)"}
    curves = {
        label: torch.tensor([float(line[name]) for line in lines]) for name, label in names.items()
    }
    updates = [line["update"] for line in lines]
    return plot.map_development(updates, curves, age_label="updates", title=title)


def _worst(confusion: Tensor, most: int = 5) -> list[list[str]]:
    """Return the commonest mistakes as rows of a table."""
    mistakes = confusion.clone().fill_diagonal_(0)
    counts, places = mistakes.flatten().sort(descending=True, stable=True)
    size = len(confusion)
    return [
        [str(place // size), str(place % size), str(count)]
        for count, place in zip(counts[:most].tolist(), places[:most].tolist(), strict=True)
        if count > 0
    ]


def _add_one_digit(page: Report, run: Run, results: SpikingResults) -> None:
    response, dt_ms = results.response, run.task.model.dt_ms
    answer = int(response.logits[0].argmax())
    page.section(
        "One digit inside",
        f"A held-out {results.digit}, from the picture to the answer {answer}.",
    )
    page.figure(
        plot.image_grid([run.task.unseen.images[results.shown]], limits=(0, 1)),
        alt=f"The picture of a {results.digit}.",
        caption="The picture, 8 x 8 pixels.",
    )
    page.figure(
        plot.raster(
            [response.encoded[:, 0], response.hidden[:, 0]], dt_ms=dt_ms,
            names=["input", "hidden unit"],
        ),
        alt="Spikes of the input and of the hidden layer over time.",
        caption="Every mark is a spike. Input units are pixels, row after row.",
    )  # fmt: skip
    page.figure(
        plot.membrane(response.membrane[:, 0], dt_ms=dt_ms, highlight=answer),
        alt=f"Potentials of the ten read-out units; that of {answer} rises highest.",
        caption="Read-out units never fire; the one that rises highest at any time is the answer.",
    )


def _add_time_constants(page: Report, run: Run, results: SpikingResults) -> None:
    model = run.task.model
    if not model.learnable and model.spread == 0:
        return
    learned = "before and after learning" if model.learnable else "drawn, not learned"
    page.section("Time constants", f"Of every hidden unit, {learned}.")
    page.figure(
        time_constant_figure(results.before_ms, results.after_ms),
        alt=f"Histograms of the time constants of the hidden units, {learned}.",
        caption="How many units have which time constant.",
    )
    named = {"tau_mem_ms": "membrane", "tau_syn_ms": "synapse"}
    page.table(
        ["time constant (ms)", "mean before", "mean after", "smallest", "largest"],
        [
            [named[name], *(f"{v:.2f}" for v in _summary(results.before_ms[name], after))]
            for name, after in results.after_ms.items()
        ],
    )


def _summary(before: Tensor, after: Tensor) -> tuple[float, float, float, float]:
    return before.mean().item(), after.mean().item(), after.min().item(), after.max().item()


def time_constant_figure(
    before_ms: Mapping[str, Tensor], after_ms: Mapping[str, Tensor], *, title: str = ""
) -> Figure:
    """Show how time constants are spread over the hidden units, before and after learning."""
    from calcarine.plot.style import GREY, SERIES, heading, legend, new_figure

    figure, [axes] = new_figure(1, len(after_ms), title=title)
    labels = {"tau_mem_ms": "membrane", "tau_syn_ms": "synapse"}
    for ax, (name, after) in zip(axes, after_ms.items(), strict=True):
        both = torch.cat([before_ms[name], after]).cpu().double()
        edges = torch.linspace(0, 1.02 * both.max().item(), 25).tolist()
        ax.hist(before_ms[name].cpu().tolist(), bins=edges, color=GREY, alpha=0.45, label="before")
        ax.hist(
            after.cpu().tolist(), bins=edges, histtype="step", color=SERIES[0], linewidth=1.6,
            label="after",
        )  # fmt: skip
        heading(ax, labels[name])
        ax.set_xlabel("time constant (ms)")
    axes[0].set_ylabel("units")
    legend(axes[-1], loc="upper right")
    return figure
