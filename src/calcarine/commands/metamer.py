"""``calcarine metamer``: find a picture that a model cannot tell from another."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from calcarine.commands.probing import (
    Subject,
    as_command,
    check_numbers,
    folder_name,
    initial_picture,
    open_folder,
    open_subject,
    rms,
    write_numbers,
)
from calcarine.errors import InputError

if TYPE_CHECKING:
    from calcarine.probes import Metamer

__all__ = ["metamer"]

_RESULT = "metamer.safetensors"
_FRAMES = 100


def metamer(
    image: str = "sample:astronaut",
    /,
    *,
    model: str = "gaussian",
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    layer: str | None = None,
    time_ms: float | None = None,
    initial: str = "white",
    size: int = 256,
    color: bool = False,
    max_iter: int = 500,
    tolerance: float = 1e-10,
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    penalty_weight: float = 0.1,
    scales: Literal["together", "separate"] | None = None,
    seed: int = 0,
    animation: Literal["mp4", "gif", "webp", "html"] | None = None,
    out: Path | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> int:
    """Find a picture that a model cannot tell from another.

    Beginning with noise, or with another picture, pixels are changed until the model's response is
    that to the image. What then still differs, the model does not see. Written into one folder are
    pictures, figures, numbers.json, the result, and report.html. Ctrl-C stops and writes;
    `--resume` goes on.

    ```
    calcarine metamer
    calcarine metamer sample:coffee --model luminance_gain_control
    calcarine metamer photo.jpg --model on_off --initial sample:camera
    calcarine metamer --model portilla_simoncelli --size 128 --scales together
    calcarine metamer --model runs/color-sandbox --animation mp4
    calcarine metamer --model mymodels:make_model --layer conv2 --size 64
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        model: A stage of calcarine such as gaussian or on_off, the folder of a run, or code of your
            own as package.module:factory (run without arguments).
        overrides: A change KEY=VALUE to a stage of calcarine, such as kernel_size=15; may be
            repeated.
        layer: Take the activity of this inner layer instead of the answer.
        time_ms: When to take it, for a model with memory: it sees the picture that long.
        initial: Where to begin: white, pink, a path, or sample:NAME.
        size: Length of the shorter side of the picture, px.
        color: Take the picture in colour; by default in grey, unless the model needs colour.
        max_iter: Most iterations.
        tolerance: Loss at which to stop.
        optimizer: L-BFGS, or Adam at rate 0.01.
        penalty_weight: Weight of the penalty for values outside [0, 1].
        scales: Coarse to fine, for models with scales: one more at a time, or one by one.
        seed: Seed of the noise.
        animation: Film the synthesis too, as this kind of file.
        out: Folder to write to; by default metamer- and the names of picture and model.
        force: Write over a result that is there.
        resume: Go on with the result that is there.
        quiet: Print nothing but warnings and errors.
    """
    asked = dict(locals())
    check_numbers(max_iter=(max_iter, 1), tolerance=(tolerance, 0), seed=(seed, 0))
    check_numbers(penalty_weight=(penalty_weight, 0))
    if force and resume:
        raise InputError("Give --force or --resume, not both.")
    subject = open_subject(
        image, model, overrides=overrides, size=size, color=color, layer=layer, time_ms=time_ms
    )
    default = folder_name("metamer", image, subject.name)
    folder = open_folder(out, default, force=force, resume=resume)
    if subject.changed and not quiet:
        print(f"{subject.name}: {subject.changed}.")
    found = _open(subject, initial, penalty_weight, seed, folder if resume else None)
    found.synthesize(
        max_iter,
        tolerance,
        optimizer,
        None if animation is None else max(1, max_iter // _FRAMES),
        scales=scales,
        progress=not quiet,
    )
    command = as_command(metamer, "metamer", asked)
    written = _write(found, subject, folder, asked, command, animation)
    if not quiet:
        _tell(found, subject, folder, written, image, model)
    return {"interrupted": 130, "diverged": 1}.get(found.status, 0)


def _open(
    subject: Subject, initial: str, penalty_weight: float, seed: int, before: Path | None
) -> Metamer:
    """Begin, or read what was begun before."""
    import torch

    from calcarine.probes import Metamer

    if before is not None:
        found = Metamer.load(before / _RESULT, subject.model)
        if found.image.shape != subject.picture.shape or not torch.equal(
            found.image, subject.picture
        ):
            raise InputError(
                f"{before} holds the metamer of another picture, or of another size. Resume it "
                "with the picture and the --size that it was made with."
            )
        return found
    start = initial_picture(initial, subject.picture, seed)
    return Metamer(subject.picture, subject.model, start, penalty_weight=penalty_weight)


def _write(
    found: Metamer,
    subject: Subject,
    folder: Path,
    asked: dict[str, Any],
    command: str,
    animation: str | None,
) -> list[Path]:
    """Write everything into the folder, the page last."""
    from calcarine import plot
    from calcarine.report import probe_page
    from calcarine.stimuli import save_image

    pictures = {"image": found.image, "initial": found.initial, "metamer": found.metamer}
    written = [save_image(p, folder / f"{n}.png", clip=True) for n, p in pictures.items()]
    figures = {
        "responses": plot.metamer_figure(found),
        "losses": plot.synthesis_loss(found),
        "error": plot.representation_error(found),
        "spectra": plot.power_spectrum(list(pictures.values()), list(pictures)),
    }
    written += [plot.save_figure(f, folder / f"{n}.png") for n, f in figures.items()]
    if animation is not None:
        written.append(folder / f"synthesis.{animation}")
        plot.synthesis_animation(found, written[-1])
    numbers = {
        "probe": "metamer", "image": asked["image"], "model": subject.name,
        "origin": subject.origin, "settings": asked, "command": command, "status": found.status,
        "iterations": found.iterations, "seconds": found.seconds,
        "difference_rms": rms(found.metamer, found.image), "losses": found.losses._asdict(),
    }  # fmt: skip
    written += [found.save(folder / _RESULT), write_numbers(folder, numbers)]
    page = probe_page(
        found,
        title=f"A metamer of {asked['image']} for {subject.name}",
        subtitle=f"{subject.name} ({subject.origin})",
        settings={k: v for k, v in asked.items() if k not in ("force", "resume", "quiet")},
        command=command,
    )
    return [*written, page.save(folder / "report.html")]


def _tell(
    found: Metamer, subject: Subject, folder: Path, written: list[Path], image: str, model: str
) -> None:
    from calcarine.plot.synthesis import status_text

    first, last = (float(found.losses.representation[i]) for i in (0, -1))
    print(
        f"{status_text(found.status).capitalize()} after {found.iterations} iterations "
        f"({found.seconds:.1f} s): the loss fell from {first:.3g} to {last:.3g}."
    )
    print(f"Metamer and image differ by {rms(found.metamer, found.image):.3g} rms.")
    print(f"Wrote {folder}: {', '.join(path.name for path in written)}")
    where = f"{shlex.quote(image)} --model {shlex.quote(model)}"
    if found.status in ("max_iter", "interrupted"):
        print(f"\nTo go on: repeat the command with --resume --out {shlex.quote(str(folder))}")
    print(f"\nNow try: calcarine eigendistortion {where}")
