"""``calcarine eigendistortion``: find what a model notices most and least."""

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
    open_folder,
    open_subject,
    write_numbers,
)
from calcarine.commands.shared import print_table
from calcarine.errors import InputError

if TYPE_CHECKING:
    from calcarine.probes import Eigendistortion

__all__ = ["eigendistortion"]

_RESULT = "eigendistortion.safetensors"


def eigendistortion(
    image: str = "sample:astronaut",
    /,
    *,
    model: str = "gaussian",
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    layer: str | None = None,
    time_ms: float | None = None,
    size: int = 256,
    color: bool = False,
    k: int = 1,
    method: Literal["auto", "exact", "lanczos", "power"] = "auto",
    tolerance: float = 1e-3,
    max_iter: int = 1000,
    scale: float = 3.0,
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> int:
    """Find what a model notices most and least.

    Of all small changes of a picture that have the same size, these change the model's response
    most and least: the eigenvectors of its Fisher information with the largest and the smallest
    eigenvalues. Written into one folder are pictures, a figure, numbers.json, the result, and
    report.html.

    ```
    calcarine eigendistortion
    calcarine eigendistortion sample:coffee --model on_off
    calcarine eigendistortion photo.jpg --model center_surround --k 3 --scale 5
    calcarine eigendistortion --model runs/color-sandbox
    calcarine eigendistortion --model mymodels:make_model --layer conv2
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        model: A stage of calcarine such as gaussian or on_off, the folder of a run, or code of your
            own as package.module:factory (run without arguments).
        overrides: A change KEY=VALUE to a stage of calcarine, such as kernel_size=15; may be
            repeated.
        layer: Take the activity of this inner layer instead of the answer.
        time_ms: When to take it, for a model with memory: it sees the picture that long.
        size: Length of the shorter side of the picture, px.
        color: Take the picture in colour; by default in grey, unless the model needs colour.
        k: How many of each kind.
        method: Exact for small pictures, Lanczos for large ones, or power iteration.
        tolerance: Residual at which to stop, relative to the largest eigenvalue.
        max_iter: Most iterations.
        scale: Norm of the distortions in the pictures.
        seed: Seed of the first guess.
        out: Folder to write to; by default eigendistortion- and the names of picture and model.
        force: Write over a result that is there.
        quiet: Print nothing but warnings and errors.
    """
    asked = dict(locals())
    check_numbers(k=(k, 1), max_iter=(max_iter, 1), tolerance=(tolerance, 0), seed=(seed, 0))
    if not scale > 0:
        raise InputError(f"--scale expected a norm above 0, got {scale:g}.")
    subject = open_subject(
        image, model, overrides=overrides, size=size, color=color, layer=layer, time_ms=time_ms
    )
    default = folder_name("eigendistortion", image, subject.name)
    folder = open_folder(out, default, force=force)
    if subject.changed and not quiet:
        print(f"{subject.name}: {subject.changed}.")
    found = _find(subject, asked)
    command = as_command(eigendistortion, "eigendistortion", asked)
    written = _write(found, subject, folder, asked, command)
    if not quiet:
        _tell(found, folder, written, image, model)
    return 130 if found.status == "interrupted" else 0


def _find(subject: Subject, asked: dict[str, Any]) -> Eigendistortion:
    import torch

    from calcarine.probes import Eigendistortion

    return Eigendistortion(subject.picture, subject.model).synthesize(
        asked["k"],
        asked["method"],
        tolerance=asked["tolerance"],
        max_iter=asked["max_iter"],
        generator=torch.Generator().manual_seed(asked["seed"]),
        progress=not asked["quiet"],
    )


def _write(
    found: Eigendistortion, subject: Subject, folder: Path, asked: dict[str, Any], command: str
) -> list[Path]:
    """Write everything into the folder, the page last."""
    from calcarine import plot
    from calcarine.report import probe_page
    from calcarine.stimuli import save_image

    written = [save_image(found.image, folder / "image.png", clip=True)]
    for index, distortion in enumerate(found.eigendistortions):
        shown = found.image[0] + asked["scale"] * distortion
        written.append(save_image(shown, folder / f"distorted-{index + 1}.png", clip=True))
        alone = 0.5 + distortion / (2 * distortion.abs().max().clamp(min=1e-12))
        written.append(save_image(alone, folder / f"distortion-{index + 1}.png", clip=True))
    figure = plot.eigendistortion_figure(found, scale=asked["scale"])
    written.append(plot.save_figure(figure, folder / "eigendistortions.png"))
    numbers = {
        "probe": "eigendistortion", "image": asked["image"], "model": subject.name,
        "origin": subject.origin, "settings": asked, "command": command, "status": found.status,
        "method": found.method, "seconds": found.seconds, "eigenvalues": found.eigenvalues,
        "residuals": found.residuals,
    }  # fmt: skip
    found.save(folder / _RESULT)
    written += [folder / _RESULT, write_numbers(folder, numbers)]
    page = probe_page(
        found,
        title=f"Eigendistortions of {subject.name} at {asked['image']}",
        subtitle=f"{subject.name} ({subject.origin})",
        settings={key: v for key, v in asked.items() if key not in ("force", "quiet")},
        command=command,
        scale=asked["scale"],
    )
    return [*written, page.save(folder / "report.html")]


def _tell(
    found: Eigendistortion, folder: Path, written: list[Path], image: str, model: str
) -> None:
    from calcarine.plot.synthesis import status_text

    count = len(found.eigenvalues)
    rows = [
        (i + 1, "most" if i < count // 2 else "least", f"{value:.6g}", f"{residual:.2g}")
        for i, (value, residual) in enumerate(
            zip(found.eigenvalues.tolist(), found.residuals.tolist(), strict=True)
        )
    ]
    print_table((">distortion", "noticed", ">eigenvalue", ">relative residual"), rows)
    print(f"{status_text(found.status).capitalize()} ({found.method}, {found.seconds:.1f} s).")
    print(f"Wrote {folder}: {', '.join(path.name for path in written)}")
    where = f"{shlex.quote(image)} --model {shlex.quote(model)}"
    print(f"\nNow try: calcarine metamer {where}")
