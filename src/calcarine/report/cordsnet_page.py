"""The sections about a CordsNet on the page of its run.

Units   milliseconds, hertz
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from calcarine import plot
from calcarine.plot.eigenvalues import eigenvalue_cloud, mode_figure
from calcarine.probes.linear_stability import Stability
from calcarine.report.builder import Report
from calcarine.report.cordsnet_measures import CordsNetResults, measure_cordsnet, reservation
from calcarine.training import read_log
from calcarine.training.run import Run

__all__ = ["CordsNetResults", "add_cordsnet_sections", "measure_cordsnet"]

_NAMES = {
    "twin_accuracy": "feed-forward twin",
    "model_accuracy": "staged network",
    "direct_accuracy": "trained directly",
}
_CURVES = {"staged": "staged", "direct": "trained directly", "twin": "twin"}


def add_cordsnet_sections(page: Report, run: Run, results: CordsNetResults) -> None:
    """Add how it learned, how fast it sees, whether it rests, what noise does, and its modes."""
    _add_phases(page, run)
    _add_recognition(page, run, results)
    _add_return(page, results)
    _add_noise(page, results)
    _add_paths(page, run, results)
    _add_spectra(page, run, results)


def _add_phases(page: Report, run: Run) -> None:
    phases = [(phase.name, phase.updates) for phase in run.recipe.training.phases]
    try:
        lines = read_log(run.folder / "log.jsonl")
    except (OSError, ValueError):
        return  # the section about learning says so
    if not lines or not any(updates for _, updates in phases):
        return
    page.section(
        "Phases",
        "A feed-forward twin learns first. It is folded, every area learns a recurrence that "
        "settles where the twin is, and the network in time learns with areas that are linear at "
        "first and rectified at last. The control learns the same trials from random weights.",
    )
    page.figure(
        plot.phases_figure(lines, phases, accuracies=_NAMES),
        alt="Held-out accuracy and losses in every phase.",
        caption="Accuracy on all held-out images, and the loss of what learns in a phase.",
    )


def _add_recognition(page: Report, run: Run, results: CordsNetResults) -> None:
    staged, classes = results.staged, run.task.model.classes
    everything = "All" if results.images == results.held_out else f"{results.images} of"
    page.section(
        "Recognition over time",
        f"{everything} {results.held_out} held-out images, each for {staged.stimulus_ms:g} ms, "
        f"then {float(staged.time_ms[-1]) - staged.stimulus_ms:g} ms of nothing. "
        f"Chance is {1 / classes:.1%}.",
    )
    if reservation(run):
        page.note(reservation(run))
    courses = {_CURVES["staged"]: staged}
    if results.direct is not None:
        courses[_CURVES["direct"]] = results.direct
    page.figure(
        plot.accuracy_figure(courses),
        alt="Accuracy over milliseconds after onset.",
        caption="Share told right at every moment, with its 95 % interval; the time of the image "
        "is shaded.",
    )
    error = math.sqrt(max(results.twin * (1 - results.twin), 0.0) / results.images)
    rows = [["feed-forward twin", f"{results.twin:.1%} ± {error:.1%}", "–", "–"]]
    for name, course in courses.items():
        last = int((course.time_ms <= course.stimulus_ms + 1e-6).sum()) - 1
        rows.append([
            name,
            f"{course.final:.1%} ± {float(course.standard_error[last]):.1%}",
            f"{course.time_to(0.5):g}",
            f"{course.time_to(0.9):g}",
        ])  # fmt: skip
    page.table(
        ["network", "held-out accuracy", "half of it (ms)", "90 % of it (ms)"],
        rows,
        caption="Accuracy as the image goes, with its standard error, and when it is reached.",
    )


def _add_return(page: Report, results: CordsNetResults) -> None:
    back = results.back
    verdict = (
        f"Every area came back from every start within {back.worst_return_ms:g} ms: one stable "
        "state was found."
        if back.mono_stable
        else "Not every area came back in the time it was followed: there may be other stable "
        "states, or modes that are slower than that."
    )
    page.section(
        "Return to baseline",
        f"{verdict} Starts are {sum(s == 'image' for s in back.starts)} images as they go, and "
        f"{sum(s != 'image' for s in back.starts)} states drawn at random.",
    )
    page.figure(
        plot.return_figure(back),
        alt="Distance from the baseline over milliseconds after offset.",
        caption="Distance of every area from its baseline, relative to that at offset. Back is "
        f"below {back.tolerance:.0%}.",
    )
    page.table(
        ["area", "back from images (ms)", "back from random states (ms)"],
        [_return_row(name, times, back.starts) for name, times in zip(
            back.areas, back.return_ms, strict=True
        )],
        caption="When the last of them is back.",
    )  # fmt: skip


def _return_row(name: str, times: Tensor, starts: tuple[str, ...]) -> list[str]:
    images = torch.tensor([start == "image" for start in starts])
    cells = []
    for chosen in (images, ~images):
        last = float(times[chosen].max()) if chosen.any() else math.nan
        cells.append("–" if math.isnan(last) else "never" if math.isinf(last) else f"{last:g}")
    return [name, *cells]


def _add_noise(page: Report, results: CordsNetResults) -> None:
    count = results.noise["staged"].count
    page.section(
        "Noise",
        f"{count} held-out images under Gaussian noise, drawn once per image (frozen), or anew in "
        "every step. A network in time averages what changes; the feed-forward twin cannot.",
    )
    page.figure(
        plot.robustness_figure({_CURVES[name]: found for name, found in results.noise.items()}),
        alt="Accuracy over the standard deviation of the noise.",
        caption="Accuracy as the image goes. Noise is in units of the prepared image, whose "
        "standard deviation is about 1.",
    )


def _add_paths(page: Report, run: Run, results: CordsNetResults) -> None:
    share = results.paths.explained
    page.section(
        "Trajectories",
        f"The last area, averaged over positions, in its first components; they explain "
        f"{', '.join(f'{float(part):.0%}' for part in share)} of the variance. Every trial is a "
        "loop that begins and ends at rest.",
    )
    many = run.task.model.classes > 10
    page.figure(
        plot.trajectory_figure(
            results.paths,
            None if many else results.path_classes,
            class_names=None if many else run.task.data.class_names,
            offset_ms=results.staged.stimulus_ms,
        ),
        alt="Loops of the mean activity of classes in two principal components.",
        caption="From onset to the end" + (", one loop per image." if many else ", by class."),
    )


def _add_spectra(page: Report, run: Run, results: CordsNetResults) -> None:
    page.section(
        "Eigenvalues",
        "No area feeds an earlier one, so the modes of the network are those of its areas. Of the "
        "recurrent convolutions alone, and of a step of every area, linearised at rest and while "
        "an image is there: a multiplier lambda of one step decays with the time constant "
        f"-dt / log |lambda|, dt = {run.task.model.dt_ms:g} ms.",
    )
    names = [f"area {k}" for k in range(1, len(results.recurrent) + 1)]
    weights_of = {n: s.values for n, s in zip(names, results.recurrent, strict=True)}
    page.figure(
        eigenvalue_cloud(weights_of),
        alt="Leading eigenvalues of the recurrent convolutions in the complex plane.",
        caption="Of the recurrent convolutions, the largest in modulus; the dashed circle has "
        "radius 1.",
    )
    modes = dict(zip([f"{n}, at rest" for n in names], results.at_rest, strict=True))
    modes |= dict(zip([f"{n}, image" for n in names], results.looking, strict=True))
    page.figure(
        mode_figure(modes),
        alt="Time constants and frequencies of the modes of every area.",
        caption="Modes of a step of every area, linearised: the slowest to decay.",
    )
    rows = []
    parts = (results.recurrent, results.at_rest, results.looking)
    for k, (weights, rest, looking) in enumerate(zip(*parts, strict=True), start=1):
        residual = max(float(s.residuals.max()) for s in (weights, rest.spectrum, looking.spectrum))
        rows.append([
            f"area {k}",
            f"{float(weights.values.abs().max()):.3f}",
            _slowest(rest),
            _slowest(looking),
            _fastest_turn(looking),
            f"{residual:.0e}",
        ])  # fmt: skip
    page.table(
        [
            "", "spectral radius of the weights", "slowest at rest (ms)",
            "slowest with an image (ms)", "highest frequency (Hz)", "largest residual",
        ],
        rows,
        caption=f"Leading eigenvalues, {len(results.recurrent[0].values)} per area.",
    )  # fmt: skip
    if not all(s.stable for s in (*results.at_rest, *results.looking)):
        page.note("A multiplier lies outside the unit circle: activity grows in steps of this dt.")


def _slowest(found: Stability) -> str:
    times = found.step_time_constants_ms
    return "grows" if bool((times < 0).any()) else f"{float(times.max()):.1f}"


def _fastest_turn(found: Stability) -> str:
    return f"{float(found.step_frequencies_hz.max()):.1f}"
