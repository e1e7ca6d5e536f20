"""The page of a probe: what was found, the figures, how it went, and how to do it again.

    probe_page(metamer)            image, start, metamer and the response to each; losses; spectra
    probe_page(eigendistortion)    the distortions a model notices most and least
    probe_page(four results)       the pictures that set two metrics apart

Any result with the attributes of the probe's own will do, also one loaded from a file.

Axes    B batch | C channel, 1 grey or 3 sRGB | H W rows down, columns right
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from calcarine import plot
from calcarine.errors import InputError
from calcarine.plot.probe_figures import metric_name
from calcarine.plot.synthesis import status_text
from calcarine.probes import Eigendistortion, MADCompetition, Metamer
from calcarine.report.builder import Report
from calcarine.sources import bibliography, source_keys

__all__ = ["probe_page"]

_SOURCES = {
    "metamer": ("freeman2011", "feather2019"),
    "eigendistortion": ("berardino2017",),
    "mad": ("wang2008",),
}
_FPS = 10.0


def probe_page(
    result: Metamer | Eigendistortion | Sequence[MADCompetition] | Mapping[str, MADCompetition],
    *,
    title: str = "",
    subtitle: str = "",
    settings: Mapping[str, Any] | None = None,
    command: str = "",
    names: tuple[str, str] | None = None,
    scale: float = 3.0,
    models: Sequence[Any] = (),
) -> Report:
    """Return the page of a probe; ``.save("report.html")`` writes it.

    Args:
        result: A metamer, eigendistortions, or the four results of a MAD competition.
        title: Title of the page.
        subtitle: One line below it.
        settings: What the probe was asked for, by name.
        command: The command that does it again.
        names: What to call the two metrics of a competition.
        scale: Norm of the eigendistortions that are added to the image.
        models: What to cite besides the model of the result: the models behind metrics.

    Raises:
        InputError: If the result is of another kind, or empty.
    """
    if isinstance(result, Metamer):
        page = _metamer_page(result, title, subtitle)
        kind, parts = "metamer", [result.model, *models]
    elif isinstance(result, Eigendistortion):
        page = _eigendistortion_page(result, title, subtitle, scale)
        kind, parts = "eigendistortion", [result.model, *models]
    else:
        found = _four(result)
        page = _mad_page(found, title, subtitle, names)
        kind, parts = "mad", list(models)
    _add_settings(page, settings or {}, command)
    _add_sources(page, kind, parts)
    return page


def _four(result: Any) -> list[Any]:
    values = result.values() if isinstance(result, Mapping) else result
    found = list(values) if isinstance(result, Mapping | Sequence) else [None]
    if not found or not all(isinstance(each, MADCompetition) for each in found):
        raise InputError(
            "probe_page expected a Metamer, an Eigendistortion or the four results of a MAD "
            f"competition, got {type(result).__name__}."
        )
    return found


def _metamer_page(metamer: Metamer, title: str, subtitle: str) -> Report:
    page = Report(title or "A metamer", subtitle=subtitle)
    page.section(
        "At a glance",
        "A metamer is a picture that differs from the image and evokes the same response. What "
        "they do not share, the model does not see.",
    )
    losses = metamer.losses
    page.numbers(
        {
            "how it ended": status_text(metamer.status),
            "iterations": str(metamer.iterations),
            "seconds": f"{metamer.seconds:.3g}",
            "representation loss": f"{float(losses.representation[-1]):.3g}",
            "at the start": f"{float(losses.representation[0]):.3g}",
            "difference of the pictures": f"{_rms(metamer.metamer, metamer.image):.3g} rms",
        }
    )
    _note_status(page, metamer.status)
    page.figure(
        plot.metamer_figure(metamer),
        alt="Image, start and metamer, above the response of the model to each.",
        caption="Above: the image, where the synthesis started, and the metamer. Below: the "
        "response of the model to each, on one scale.",
    )
    page.section("How it went")
    page.figure(
        plot.synthesis_loss(metamer),
        alt=f"Losses over {metamer.iterations} iterations.",
        caption="The distance of the responses, and the penalty for values outside [0, 1].",
    )
    _add_film(page, metamer)
    page.section("What differs")
    page.figure(
        plot.representation_error(metamer),
        alt="Response to the metamer minus response to the image.",
        caption="Response to the metamer minus that to the image.",
    )
    pictures = [metamer.image[:1], metamer.initial[:1], metamer.metamer[:1]]
    page.figure(
        plot.power_spectrum(pictures, ["image", "start", "metamer"]),
        alt="Power spectra of image, start and metamer, averaged over orientations.",
        caption="Where the spectrum of the metamer follows that of the start, the model leaves it "
        "free; where it follows that of the image, the model sees.",
    )
    return page


def _eigendistortion_page(
    result: Eigendistortion, title: str, subtitle: str, scale: float
) -> Report:
    page = Report(title or "Eigendistortions", subtitle=subtitle)
    page.section(
        "At a glance",
        "The small changes of the image, all of one size, that the model responds to most and "
        "least. An eigenvalue is the squared change of the response per squared change of the "
        "image.",
    )
    values = result.eigenvalues.flatten().tolist()
    page.numbers(
        {
            "how it ended": status_text(result.status),
            "largest eigenvalue": f"{max(values):.4g}",
            "smallest eigenvalue": f"{min(values):.3g}",
            "largest residual": f"{float(result.residuals.max()):.2g}",
            "method": str(result.method),
            "seconds": f"{result.seconds:.3g}",
        }
    )
    _note_status(page, result.status)
    page.figure(
        plot.eigendistortion_figure(result, scale=scale),
        alt="The image with each distortion added, above the distortion alone.",
        caption=f"Above: the image and {scale:g} times each distortion of norm 1. Below: the "
        "distortion alone, on a range of its own about zero, which is middle grey.",
    )
    rows = [
        [str(i + 1), f"{value:.6g}", f"{residual:.2g}"]
        for i, (value, residual) in enumerate(zip(values, result.residuals.tolist(), strict=True))
    ]
    page.table(
        ["distortion", "eigenvalue", "residual"],
        rows,
        caption="Residuals |F v - lambda v| relative to the largest eigenvalue: 0 for an exact "
        "eigenvector. The most noticeable distortions come first.",
    )
    page.section("Spectra")
    names = [f"distortion {i + 1}" for i in range(len(values))]
    page.figure(
        plot.power_spectrum(list(result.eigendistortions), names),
        alt="Power spectra of the distortions, averaged over orientations.",
        caption="Which spatial frequencies the distortions are made of.",
    )
    return page


def _mad_page(
    results: list[MADCompetition], title: str, subtitle: str, names: tuple[str, str] | None
) -> Report:
    first = results[0]
    names = names or (metric_name(first.optimized_metric), metric_name(first.reference_metric))
    page = Report(title or f"{names[0]} against {names[1]}", subtitle=subtitle)
    page.section(
        "At a glance",
        "Four pictures that are equally far from the image by one metric and as near or as far as "
        "they can be by the other. The metric whose two pictures look alike to you is the better "
        "model of your eye.",
    )
    statuses = {status_text(each.status) for each in results}
    page.numbers(
        {
            "how it ended": ", ".join(sorted(statuses)),
            "iterations": str(sum(each.iterations for each in results)),
            "seconds": f"{sum(each.seconds for each in results):.3g}",
        }
    )
    for status in sorted({each.status for each in results}):
        _note_status(page, status)
    page.figure(
        plot.mad_figure(results, names=names),
        alt=f"Image, start, and four pictures that set {names[0]} and {names[1]} apart.",
        caption="Pictures in a row have the same distance from the image by one metric, which the "
        "titles name second.",
    )
    rows = [_mad_row(each, first, names) for each in results]
    page.table(
        ["optimised", "goal", "at the start", "at the end", "held", "at the start", "at the end"],
        rows,
        caption="The metric that was held should not have moved.",
    )
    page.section("How it went")
    for each, row in zip(results, rows, strict=True):
        page.figure(
            plot.synthesis_loss(each, title=f"{row[1]} {row[0]}, {status_text(each.status)}"),
            alt=f"{row[0]} and {row[4]} over {each.iterations} iterations.",
        )
    film = next((each for each in results if _stored(each)), None)
    if film is not None:
        _add_film(page, film)
    return page


def _mad_row(each: MADCompetition, first: MADCompetition, names: tuple[str, str]) -> list[str]:
    pair = names if each.optimized_metric is first.optimized_metric else names[::-1]
    goal = "lowest" if each.minmax == "min" else "highest"
    ends = [f"{float(v[i]):.4g}" for v in each.losses[:2] for i in (0, -1)]
    return [pair[0], goal, *ends[:2], pair[1], *ends[2:]]


def _stored(result: Any) -> bool:
    return result.history is not None and len(result.history.iterations) > 1


def _add_film(page: Report, result: Any) -> None:
    if not _stored(result):
        return
    page.animation(
        plot.synthesis_animation(result, most_frames=60),
        fps=_FPS,
        alt="The picture as it is synthesised, beside its loss.",
        caption="The picture on its way, beside its loss so far.",
    )


def _note_status(page: Report, status: str) -> None:
    notes = {
        "max_iter": "Not converged: more iterations would bring it closer. Allow more, or go on "
        "where it stopped.",
        "stalled": "The loss stopped falling above the tolerance: the optimiser is stuck, or the "
        "tolerance is below what the precision of the numbers allows.",
        "diverged": "The loss rose: what is shown is no result. Try another optimiser.",
        "interrupted": "Interrupted: what is shown is how far it came.",
    }
    if status in notes:
        page.note(notes[status])


def _rms(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).square().mean().sqrt())


def _add_settings(page: Report, settings: Mapping[str, Any], command: str) -> None:
    if not settings and not command:
        return
    page.section("Settings", "Everything that the result depends on.")
    if settings:
        given = {k: v for k, v in settings.items() if v is not None and v != ()}
        page.table(["setting", "value"], [[k, _setting(v)] for k, v in given.items()])
    if command:
        page.text("To do it again:")
        page.code(command)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _add_sources(page: Report, kind: str, parts: Sequence[Any]) -> None:
    known = bibliography()
    keys = {*_SOURCES[kind], *(key for part in parts for key in source_keys(part))}
    entries = [known[key] for key in sorted(keys) if key in known]
    if entries:
        page.section("Sources", "The papers that the probe and the parts of the model follow.")
        page.code("\n\n".join(entries))
