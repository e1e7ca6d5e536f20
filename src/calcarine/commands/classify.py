"""``calcarine classify``: what a network in time takes pictures for, millisecond by millisecond."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from calcarine.commands.classifiers import (
    Classifier,
    Which,
    class_names_of,
    network_of_run,
    published_network,
)
from calcarine.commands.probing import as_command, check_numbers, open_folder, write_numbers
from calcarine.commands.shared import note, print_table
from calcarine.commands.shown_pictures import HELD_OUT, Shown, what_is_shown
from calcarine.commands.trials import Course, Protocol, watch
from calcarine.errors import InputError

__all__ = ["classify"]

_MOST_PICTURES, _MOST_FIGURES = 1000, 16
_ALL_CLASSES = 20  # up to so many, every class has its column


def classify(
    *images: str,
    run: Path | None = None,
    checkpoint: Path | None = None,
    age: int | None = None,
    network: Which = "staged",
    names: Path | None = None,
    warmup: float = 200.0,
    stimulus: float = 200.0,
    off: float = 200.0,
    noise: float = 0.0,
    frozen: bool = False,
    seed: int = 0,
    invert: bool = False,
    top: int = 5,
    out: Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Show pictures to a recurrent network and watch its answer form, and go.

    Written are a figure for every picture (what was shown, the probabilities of the leading classes
    over milliseconds, the answer), all probabilities as CSV, and the numbers.

    ```
    calcarine classify --run runs/cordsnet-digits
    calcarine classify photo.jpg folder --run runs/cordsnet-cifar10
    calcarine classify sample:held-out-7 --run runs/cordsnet-digits --noise 1
    calcarine classify clip.gif --run runs/cordsnet-digits --off 400
    calcarine classify sample:coffee --checkpoint cordsnetr8.pth
    ```

    Args:
        images: Pictures, folders of pictures, movies (animated GIF, WebP or PNG), sample:NAME, or
            sample:held-out and sample:held-out-NUMBER of the run's data, the default.
        run: Folder of a run of a CordsNet.
        checkpoint: Published weights instead of a run; only tensors are unpacked.
        age: Updates that the run had learned for; by default all of them.
        network: The network that went through all steps, or the one that was trained directly.
        names: Text file with one name of a class to a line, for a checkpoint.
        warmup: Time without a picture before, ms.
        stimulus: How long a picture is shown, ms; movies last as long as they have frames.
        off: Time without a picture after, ms.
        noise: Standard deviation of Gaussian noise, in units of the prepared picture.
        frozen: Draw the noise once per picture, not anew in every step.
        seed: Seed of the noise.
        invert: Turn light into dark first: digits are learned white on black, unlike ink on paper.
        top: How many classes are drawn and listed.
        out: Folder to write to; by default classify- and the name of the run.
        force: Write over a result that is there.
        quiet: Print the table only.
    """
    asked = dict(locals())
    if (run is None) == (checkpoint is None):
        raise InputError("classify expected either --run FOLDER or --checkpoint FILE.")
    check_numbers(warmup=(warmup, 0), stimulus=(stimulus, 0), off=(off, 0), noise=(noise, 0))
    check_numbers(top=(top, 1))
    opened = _open(run, checkpoint, age, network, names)
    default = f"classify-{(run or checkpoint or Path()).stem}"
    folder = open_folder(out, default, force=force)
    words = images or ((HELD_OUT,) if opened.data is not None else ("sample:coffee",))
    shown = _shown(words, opened, invert)
    if not quiet:
        note(f"showing {len(shown)} picture{'s' if len(shown) > 1 else ''} to {opened.name}")
    protocol = Protocol(warmup, stimulus, off, noise, frozen, seed)
    courses = watch(opened, shown, protocol, quiet)

    _print(courses, opened.class_names)
    written = [_write_csv(folder, courses, opened.class_names, top)]
    written += _draw(folder, courses, opened.class_names, top, quiet)
    numbers = {
        "command": as_command(classify, "classify", asked),
        "network": opened.name,
        "pictures": [_summary(course, opened.class_names, top) for course in courses],
        **_score(courses),
    }
    written.append(write_numbers(folder, numbers))
    if not quiet:
        print(f"\nWrote {_listed(written)}")
        if run is not None:
            print(f"\nNow try: calcarine spectrum {shlex.quote(str(run))}")


def _open(
    run: Path | None, checkpoint: Path | None, age: int | None, network: Which, names: Path | None
) -> Classifier:
    if run is not None:
        opened = network_of_run(run, age, network)
    else:
        assert checkpoint is not None
        if age is not None or network != "staged":
            raise InputError("--age and --network are those of a run, not of a checkpoint.")
        opened = published_network(checkpoint)
    if names is None:
        return opened
    from dataclasses import replace

    return replace(opened, class_names=class_names_of(names, opened.model.classes))


def _shown(words: Sequence[str], network: Classifier, invert: bool) -> list[Shown]:
    found = []
    for each in what_is_shown(words, network, invert):
        found.append(each)
        if len(found) > _MOST_PICTURES:
            raise InputError(f"classify takes up to {_MOST_PICTURES} pictures at a time.")
    return found


def _print(courses: Sequence[Course], names: Sequence[str]) -> None:
    known = any(course.shown.truth is not None for course in courses)
    rows = []
    for course in courses:
        truth = course.shown.truth
        rows.append((
            course.shown.name,
            *(("" if truth is None else names[truth],) if known else ()),
            names[course.answer],
            f"{float(course.shares[course.at_offset, course.answer]):.1%}",
            f"{course.decided_ms:g}",
            names[int(course.shares[-1].argmax())],
        ))  # fmt: skip
    columns = ("picture", *(("shown",) if known else ()), "answer", ">probability")
    print_table((*columns, ">stays from (ms)", "answer at the end"), rows)
    score = _score(courses)
    if score:
        print(f"{score['right']} of {score['known']} right.")


def _score(courses: Sequence[Course]) -> dict[str, int]:
    known = [course for course in courses if course.shown.truth is not None]
    right = sum(course.answer == course.shown.truth for course in known)
    return {"known": len(known), "right": right} if known else {}


def _summary(course: Course, names: Sequence[str], top: int) -> dict[str, Any]:
    shares, truth = course.shares[course.at_offset], course.shown.truth
    leading = shares.argsort(descending=True, stable=True)[:top].tolist()
    found: dict[str, Any] = {
        "name": course.shown.name,
        "answer": names[course.answer],
        "stays_from_ms": course.decided_ms,
        "offset_ms": course.offset_ms,
        "probabilities": {names[k]: float(shares[k]) for k in leading},
    }
    if truth is not None:
        found |= {"shown": names[truth], "right": course.answer == truth}
    return found


def _write_csv(folder: Path, courses: Sequence[Course], names: Sequence[str], top: int) -> Path:
    """Write one line per picture and moment, one column per class (the leading ones of many)."""
    from calcarine.files import write_text

    chosen = list(range(len(names)))
    if len(chosen) > _ALL_CLASSES:
        leading = [c.shares[c.at_offset].argsort(descending=True)[:top].tolist() for c in courses]
        chosen = sorted({k for some in leading for k in some})
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("picture", "time_ms", "answer", *(names[k] for k in chosen)))
    for course in courses:
        answers = course.shares.argmax(1).tolist()
        values = course.shares[:, chosen].tolist()
        for time_ms, answer, row in zip(course.time_ms.tolist(), answers, values, strict=True):
            cells = (f"{share:.5g}" for share in row)
            lines.writerow((course.shown.name, f"{time_ms:g}", names[answer], *cells))
    return write_text(folder / "probabilities.csv", text.getvalue())


def _draw(
    folder: Path, courses: Sequence[Course], names: Sequence[str], top: int, quiet: bool
) -> list[Path]:
    from calcarine.plot import classification_figure, save_figure

    if len(courses) > _MOST_FIGURES and not quiet:
        note(f"Figures show the first {_MOST_FIGURES} of {len(courses)} pictures.")
    written: list[Path] = []
    for course in courses[:_MOST_FIGURES]:
        figure = classification_figure(
            course.picture, course.time_ms, course.shares, names, offset_ms=course.offset_ms,
            decided_ms=course.decided_ms, truth=course.shown.truth, most=top,
            title=course.shown.name,
        )  # fmt: skip
        safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in course.shown.name)
        same = sum(path.stem == safe or path.stem.startswith(f"{safe}~") for path in written)
        written.append(save_figure(figure, folder / f"{safe}{f'~{same + 1}' if same else ''}.png"))
    return written


def _listed(paths: Sequence[Path]) -> str:
    if len(paths) <= 4:
        return ", ".join(map(str, paths))
    return f"{paths[0]}, {paths[1]} and {len(paths) - 2} more files in {paths[0].parent}"
