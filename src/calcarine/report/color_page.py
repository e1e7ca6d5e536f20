"""The sections about a colour cortex on the page of its run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine import plot
from calcarine.errors import CalcarineError
from calcarine.probes import ColorMatching, matching_confidence
from calcarine.report.builder import Report
from calcarine.report.color_vision import likeness, moving_eye, see
from calcarine.report.cortex_readouts import CortexReadouts, readouts_over_time
from calcarine.report.gaze_section import Gaze, add_gaze, follow_gaze
from calcarine.report.other_eyes_section import add_other_eyes, seen_through_other_eyes
from calcarine.report.readout_section import add_readouts
from calcarine.report.results import color_matching_over_time, select_ages
from calcarine.report.unwarped_section import Unwarped, add_unwarped, unwarped
from calcarine.retina import UniformSampling
from calcarine.stimuli import HELD_OUT_SAMPLES, sample_image
from calcarine.training.run import Run

__all__ = ["ColorResults", "add_color_sections", "measure"]

Progress = Callable[[str], None]

_SIDE_PX = 192  # shorter side of the test photographs
_MISSING = "–"


@dataclass(frozen=True)
class ColorResults:
    """What was measured on a colour cortex.

    Args:
        seen: What it sees, by photograph and age.
        matchings: Outcomes of colour matching by age; ``None`` if it failed.
        failure: Why it failed.
        accuracy: How well the types of cells are read out, see ``plot.identity_accuracy``.
        shown_mosaic: What the mosaic scope reads out.
        film: Light, optic nerve and percept of a moving eye.
        readouts: What it knows of its eye, by age.
        others: What it would see of one photograph through other eyes, by name.
        laid_out: The percept of every photograph on the lattice and in the visual field, by name;
            empty where the two are the same.
        gaze: Where the eye looked, and what the cortex told of it.
    """

    seen: dict[str, dict[int, dict[str, Tensor]]]
    matchings: dict[int, ColorMatching] | None
    failure: str
    accuracy: dict[str, float] | None
    shown_mosaic: Tensor
    film: Tensor
    readouts: dict[int, CortexReadouts]
    others: dict[str, dict[str, Tensor]]
    laid_out: dict[str, Unwarped]
    gaze: Gaze

    def key_numbers(self) -> dict[str, str]:
        """Return the numbers that tell most about the cortex."""
        numbers = {}
        if self.matchings is not None:
            outcome = list(self.matchings.values())[-1]
            numbers["dimensions of colour"] = _dimension(outcome)
            numbers["dimensions that the cones allow"] = _observer_dimension(outcome)
        if self.accuracy is not None:
            alike = f"{100 * self.accuracy['chance']:.0f} % if all are called alike"
            numbers[f"cells whose type is read out correctly ({alike})"] = (
                f"{100 * self.accuracy['all']:.1f} %"
            )
        for name, by_age in self.seen.items():
            shown = list(by_age.values())[-1]
            psnr = likeness(shown["percept"], shown["original"])["psnr_db"]
            numbers[f"percept of “{name}” against the photograph"] = f"{psnr:.1f} dB"
        return numbers


def _dimension(outcome: ColorMatching) -> str:
    if outcome.dimension is None:
        return f"> {len(outcome.mean_residual)}"
    return str(outcome.dimension)


def _observer_dimension(outcome: ColorMatching) -> str:
    below = [n for n, r in enumerate(outcome.observer_residual, 1) if r < outcome.threshold]
    return str(below[0]) if below else f"> {len(outcome.observer_residual)}"


def measure(run: Run, progress: Progress) -> ColorResults:
    """Look at the test photographs at successive ages and match colours."""
    window = run.task.retina.window
    size = max(_SIDE_PX, window) if _scans(run) else window
    photographs = {name: sample_image(name, size=size, channels="rgb") for name in HELD_OUT_SAMPLES}
    seen: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in photographs}
    for age in select_ages((*run.ages, run.update)):
        progress(f"looking at {len(photographs)} photographs at age {age}")
        aged = run if age == run.update else run.at(age)
        for name, photograph in photographs.items():
            seen[name][age] = see(aged, photograph)
    failure = ""
    matchings = None
    try:
        matchings = color_matching_over_time(run, progress=progress)
    except CalcarineError as error:
        failure = str(error)
    task = run.task
    with torch.no_grad():
        shown = task.mosaic_scope(task.cortex.identity.unit()[None])[0]
    try:
        accuracy = plot.identity_accuracy(task.retina.mosaic, shown, border=task.cortex.border)
    except CalcarineError:  # every cell holds a mixture
        accuracy = None
    progress("filming the moving eye")
    film = moving_eye(run, list(photographs.values())[-1])
    ages = select_ages((*run.ages, run.update))
    readouts = readouts_over_time(run, ages, batches=2, progress=progress)
    others = seen_through_other_eyes(run, list(photographs.values())[-1])
    laid_out = {}
    if not _scans(run):
        laid_out = {name: unwarped(run, image) for name, image in photographs.items()}
    progress("following the gaze")
    return ColorResults(
        seen, matchings, failure, accuracy, shown, film, readouts, others, laid_out,
        follow_gaze(run),
    )  # fmt: skip


def _scans(run: Run) -> bool:
    """Whether the eye looks at a picture part by part, not once."""
    return isinstance(run.task.retina.sampling, UniformSampling)


def add_color_sections(page: Report, run: Run, results: ColorResults) -> None:
    """Add what the cortex sees, how many dimensions its colour has, and what it knows."""
    _add_percepts(page, run, results)
    add_unwarped(page, results.laid_out)
    _add_dimensions(page, results)
    _add_identities(page, run, results)
    add_readouts(page, run, results.readouts)
    add_gaze(page, run, results.gaze)
    add_other_eyes(page, results.others)
    _add_eye(page, run, results)


def _add_percepts(page: Report, run: Run, results: ColorResults) -> None:
    names = " and ".join(f"“{name}”" for name in results.seen)
    looked = "scanned by its eye" if _scans(run) else "seen in one fixation of its foveated eye"
    page.section(
        "What it sees",
        f"Photographs that it never learned from, {names}, {looked}. The optic nerve "
        "carries one number per cell and no colour. The percept is shown by a linear read-out that "
        "learns beside the cortex and teaches it nothing. A good picture here does not prove "
        "colour vision: a read-out to three channels always has three. The next section does.",
    )
    for name, by_age in results.seen.items():
        first = next(iter(by_age.values()))
        images = [first["original"], first["optic_nerve"]]
        titles = ["photograph\n", "optic nerve\n"]
        for age, shown in by_age.items():
            images.append(shown["percept"])
            psnr = likeness(shown["percept"], shown["original"])["psnr_db"]
            titles.append(f"percept at age {age}\n{psnr:.1f} dB")
        figure = plot.image_grid(
            images, titles=titles, limits=(0, 1), columns=min(5, len(images)), width_in=1.95
        )
        page.figure(
            figure,
            alt=f"The photograph {name}, its optic-nerve signals, and its percept at ages "
            f"{', '.join(map(str, by_age))}.",
            caption=f"“{name}”: ages in updates; below them the peak signal-to-noise ratio of the "
            "percept against the photograph, in sRGB code values. At age 0 the read-out shows "
            "nothing yet.",
        )
    name, by_age = list(results.seen.items())[-1]
    if len(by_age) > 1:
        page.animation(
            _development(by_age),
            fps=1.25,
            alt=f"The photograph {name} beside its percept, which develops from age "
            f"{min(by_age)} to {max(by_age)}.",
            caption="The percept while the cortex learns.",
        )
    page.table(
        ["photograph", "age (updates)", "PSNR (dB)", "luminance", "red–green", "blue–yellow"],
        _likeness_rows(results),
        caption="Correlation of percept and photograph over all points, by opponent channel. 1 is "
        "perfect; “without colour” is the photograph in grey, for comparison. "
        f"{_MISSING}: that channel does not vary.",
    )


def _development(by_age: dict[int, dict[str, Tensor]]) -> Float[Tensor, "F 3 H W"]:
    frames, captions = [], []
    for age, shown in by_age.items():
        factor = math.ceil(_SIDE_PX / min(shown["original"].shape[-2:]))
        pair = [
            shown[name].repeat_interleave(factor, -1).repeat_interleave(factor, -2)
            for name in ("original", "percept")
        ]
        gap = pair[0].new_ones(1, 3, pair[0].shape[-2], 8)
        frames.append(torch.cat([pair[0], gap, pair[1]], dim=-1))
        captions.append(f"photograph\tpercept after {age} updates")
    return plot.caption_frames(torch.cat(frames).cpu(), captions)


def _likeness_rows(results: ColorResults) -> list[list[str]]:
    rows = []
    for name, by_age in results.seen.items():
        for age, shown in by_age.items():
            rows.append([name, str(age), *_cells(likeness(shown["percept"], shown["original"]))])
        grey = _without_color(shown["original"])
        rows.append([name, "without colour", *_cells(likeness(grey, shown["original"]))])
    return rows


def _without_color(image: Tensor) -> Tensor:
    from calcarine.color import linear_to_srgb, srgb_to_linear

    weights = torch.tensor([0.2126, 0.7152, 0.0722]).to(image)  # iec61966: luminance of R, G, B
    light = torch.einsum("bchw,c->bhw", srgb_to_linear(image), weights)[:, None]
    return linear_to_srgb(light).clamp(0, 1).expand(-1, 3, -1, -1)


def _cells(found: dict[str, float]) -> list[str]:
    digits = {"psnr_db": 1}
    return [
        _MISSING if math.isnan(value) else f"{value:.{digits.get(name, 2)}f}".replace("-", "−")
        for name, value in found.items()
    ]


def _add_dimensions(page: Report, results: ColorResults) -> None:
    page.section(
        "How many dimensions its colour has",
        "The colour-matching experiment: a light is matched by a mixture of n primaries, where a "
        "primary with a negative weight is added to the light itself. Colour has n dimensions when "
        "n primaries match every light and n − 1 do not. The perfect observer is the best that any "
        "cortex behind the same cones can do.",
    )
    if results.matchings is None:
        page.note(f"It could not be measured: {results.failure}")
        return
    ages = list(results.matchings)
    last = results.matchings[ages[-1]]
    page.text(
        f"After {ages[-1]} updates {last.verdict()}; the cones allow {_observer_dimension(last)}. "
        f"How sure that is: {matching_confidence([last]).sentence()}"
    )
    page.figure(
        plot.residual_curve(last, labels=[f"age {ages[-1]}"]),
        alt="Residual of the best match by number of primaries: "
        + ", ".join(f"{n}: {r:.4f}" for n, r in enumerate(last.mean_residual, 1)),
        caption=f"What the best match leaves, over {len(last.wavelengths_nm)} narrow-band lights "
        f"of {min(last.wavelengths_nm):g}–{max(last.wavelengths_nm):g} nm. Triangles: too small "
        "for the axis.",
    )
    page.table(
        ["primaries", "mean residual", "largest residual", "perfect observer", "chosen (nm)"],
        _residual_rows(last),
        caption=f"The same in numbers. Lights count as matched below {last.threshold:g}.",
    )
    if len(ages) > 1:
        page.figure(
            plot.dimension_over_time(ages, list(results.matchings.values())),
            alt="Dimensions of colour by age: "
            + ", ".join(f"{age}: {_dimension(o)}" for age, o in results.matchings.items()),
            caption="Dimensions of colour, and the residuals behind them, while the cortex learns.",
        )
    shown = {0, len(ages) // 2, len(ages) - 1}
    some = [age for index, age in enumerate(ages) if index in shown]
    page.figure(
        plot.singular_values(
            [results.matchings[age] for age in some], labels=[f"age {age}" for age in some]
        ),
        alt="Singular values of the percepts of all lights: "
        + ", ".join(f"{v:.3g}" for v in last.singular_values),
        caption="The same without a threshold: how much of what all lights evoke lies along each "
        "dimension of the percept.",
    )


def _residual_rows(outcome: ColorMatching) -> list[list[str]]:
    rows = []
    for n, (mean, most, perfect, chosen) in enumerate(
        zip(
            outcome.mean_residual,
            outcome.max_residual,
            outcome.observer_residual,
            outcome.primaries_nm,
            strict=True,
        ),
        1,
    ):
        numbers = [
            f"{value:.4f}" if value >= 1e-4 else "< 0.0001" for value in (mean, most, perfect)
        ]
        rows.append([str(n), *numbers, ", ".join(f"{w:g}" for w in chosen)])
    return rows


def _add_identities(page: Report, run: Run, results: ColorResults) -> None:
    task = run.task
    page.section(
        "What it knows of its cones",
        "Nobody tells the cortex which pigment sits in which cell. For every cell it learns a "
        "vector, the cell’s identity; a linear read-out shows these vectors as cone types. Without "
        "learning all are alike. Cells near the border, where little is learned, are left out.",
    )
    if results.accuracy is None:
        page.note("Every cell holds a mixture of pigments; there is no type to compare with.")
        return
    figure = plot.cone_identities(
        task.retina.mosaic,
        results.shown_mosaic,
        task.cortex.identity.unit(),
        border=task.cortex.border,
    )
    shares = ", ".join(f"{k}: {100 * v:.1f} %" for k, v in results.accuracy.items())
    page.figure(
        figure,
        alt=f"True and learned cone types, and the learned vectors. Read out correctly: {shares}.",
        caption="Above: the true mosaic, the read-out, and the share of cells it names correctly; "
        "dotted, what calling all cells alike would give. Below: the learned vectors on their "
        "first three principal components, coloured by the true type.",
    )


def _add_eye(page: Report, run: Run, results: ColorResults) -> None:
    retina: Any = run.task.retina
    page.section("What its eye sends")
    page.animation(
        results.film,
        fps=6,
        alt="Light on the retina, the optic nerve and the percept while the eye moves.",
        caption="A moving eye: the light on the retina, the one number per cell that the brain "
        f"gets, and the percept that the cortex makes of it. {retina.size} × {retina.size} cells.",
    )
