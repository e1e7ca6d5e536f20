"""``calcarine mad``: set two metrics against each other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from calcarine.commands.probe_metrics import MetricChoice, find_metric
from calcarine.commands.probe_models import Found
from calcarine.commands.probing import (
    as_command,
    check_numbers,
    check_subject,
    folder_name,
    made_ready,
    open_folder,
    picture_for,
    write_numbers,
)
from calcarine.commands.shared import print_table
from calcarine.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from calcarine.probes import MADCompetition

__all__ = ["mad"]


def mad(
    image: str = "sample:astronaut",
    /,
    *,
    metric: Annotated[str, Parameter(name=("--metric", "--model"))] = "mse",
    against: str = "ssim",
    overrides: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    noise: float = 0.1,
    size: int = 256,
    color: bool = False,
    max_iter: int = 400,
    optimizer: Literal["lbfgs", "adam"] = "lbfgs",
    seed: int = 0,
    out: Path | None = None,
    force: bool = False,
    quiet: bool = False,
) -> int:
    """Set two metrics against each other.

    Four pictures are synthesised from the image and noise: as near and as far as possible by the
    one metric while the other stays as it is, and the other way round. The metric whose two
    pictures look alike to you is the better model of your eye. Written into one folder are
    pictures, a figure, numbers.json, the results, and report.html.

    ```
    calcarine mad
    calcarine mad photo.jpg --metric nlpd --against ms_ssim
    calcarine mad sample:coffee --model on_off --against mse --noise 0.05
    calcarine mad --model luminance_gain_control --against center_surround
    ```

    Args:
        image: Path of a picture, or sample:NAME.
        metric: A metric: mse, l2_norm, nlpd, or ssim and ms_ssim, counted as 1 - similarity; or a
            model as in `calcarine metamer`, counted as the difference of its responses.
        against: The other metric or model.
        overrides: A change KEY=VALUE to the model after --model; may be repeated.
        noise: Standard deviation of the noise that the synthesis begins with.
        size: Length of the shorter side of the picture, px.
        color: Take the picture in colour; by default in grey, unless a model needs colour.
        max_iter: Most iterations for each picture.
        optimizer: L-BFGS, or Adam at rate 0.01.
        seed: Seed of the noise.
        out: Folder to write to; by default mad- and the names of picture and metrics.
        force: Write over a result that is there.
        quiet: Print nothing but warnings and errors.
    """
    asked = dict(locals())
    check_numbers(max_iter=(max_iter, 1), seed=(seed, 0))
    if not 0 < noise <= 1:
        raise InputError(f"--noise expected a standard deviation in (0, 1], got {noise:g}.")
    choices = (find_metric(metric, overrides), find_metric(against))
    if choices[0].name == choices[1].name:
        raise InputError(f"Expected two different metrics, got {choices[0].name} twice.")
    picture = _picture(image, choices, size=size, color=color)
    models = [_model(choice, picture, quiet) for choice in choices]
    name = f"{choices[0].name}-{choices[1].name}"
    folder = open_folder(out, folder_name("mad", image, name), force=force)
    distances = [c.distance(m) for c, m in zip(choices, models, strict=True)]
    results = _compete(picture, distances, asked)
    if len(results) < 4:
        print("Interrupted before all four pictures were made; nothing was written.")
        return 130
    names = (choices[0].name, choices[1].name)
    written = _write(results, names, [m for m in models if m is not None], folder, asked)
    if not quiet:
        _tell(results, names, folder, written, image)
    return 1 if any(each.status == "diverged" for each in results) else 0


def _picture(
    image: str, choices: tuple[MetricChoice, MetricChoice], *, size: int, color: bool
) -> Float[Tensor, "1 C H W"]:
    """Load the picture as the models behind the metrics need it."""
    wanted = [choice.found for choice in choices if choice.found is not None]
    any_picture = Found("", lambda shape: None, "")
    needs = next((found for found in wanted if found.channels), any_picture)
    return picture_for(image, needs, size=size, color=color)


def _model(choice: MetricChoice, picture: Tensor, quiet: bool) -> Any:
    """Return the model behind a metric, ready; ``None`` where there is none."""
    if choice.found is None:
        return None
    model, changed = made_ready(choice.found.build((picture.shape[-2], picture.shape[-1])))
    if changed and choice.found.foreign and not quiet:
        print(f"{choice.name}: {changed}.")
    check_subject(model, picture, choice.name)
    return model


def _compete(picture: Tensor, distances: list[Any], asked: dict[str, Any]) -> list[MADCompetition]:
    """Synthesise four pictures: both directions of the first metric, then of the other.

    There are fewer if it was interrupted.
    """
    import torch

    from calcarine.probes import MADCompetition

    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(asked["seed"]))
    start = (picture + asked["noise"] * noise.to(picture)).clamp(0, 1)
    results: list[MADCompetition] = []
    for optimized, reference in (distances, distances[::-1]):
        for minmax in ("min", "max"):
            found = MADCompetition(picture, optimized, reference, minmax, initial=start)
            found.synthesize(
                asked["max_iter"], optimizer=asked["optimizer"], progress=not asked["quiet"]
            )
            if found.status == "interrupted":
                return results
            results.append(found)
    return results


def _label(index: int, names: tuple[str, str]) -> str:
    return f"{'highest' if index % 2 else 'lowest'}-{names[index // 2]}"


def _write(
    results: list[MADCompetition],
    names: tuple[str, str],
    models: list[Any],
    folder: Path,
    asked: dict[str, Any],
) -> list[Path]:
    """Write everything into the folder, the page last."""
    from calcarine import plot
    from calcarine.report import probe_page
    from calcarine.stimuli import save_image

    command = as_command(mad, "mad", asked)
    pictures = {"image": results[0].image, "start": results[0].initial}
    pictures |= {_label(i, names): each.mad_image for i, each in enumerate(results)}
    written = [save_image(p, folder / f"{n}.png", clip=True) for n, p in pictures.items()]
    written.append(plot.save_figure(plot.mad_figure(results, names=names), folder / "mad.png"))
    for index, each in enumerate(results):
        written.append(folder / f"{_label(index, names)}.safetensors")
        each.save(written[-1])
    numbers = {
        "probe": "mad", "image": asked["image"], "metrics": names, "settings": asked,
        "command": command,
        "results": {_label(i, names): _numbers(each) for i, each in enumerate(results)},
    }  # fmt: skip
    written.append(write_numbers(folder, numbers))
    page = probe_page(
        results,
        title=f"{names[0]} against {names[1]}",
        subtitle=asked["image"],
        settings={k: v for k, v in asked.items() if k not in ("force", "quiet")},
        command=command,
        names=names,
        models=models,
    )
    return [*written, page.save(folder / "report.html")]


def _numbers(result: MADCompetition) -> dict[str, Any]:
    return {
        "status": result.status,
        "iterations": result.iterations,
        "seconds": result.seconds,
        "losses": result.losses._asdict(),
    }


def _tell(
    results: list[MADCompetition],
    names: tuple[str, str],
    folder: Path,
    written: list[Path],
    image: str,
) -> None:
    from calcarine.plot.synthesis import status_text

    rows = []
    for index, each in enumerate(results):
        pair = names if index < 2 else names[::-1]
        ends = [f"{float(values[i]):.4g}" for values in each.losses[:2] for i in (0, -1)]
        goal = "highest" if index % 2 else "lowest"
        rows.append((goal, pair[0], *ends[:2], pair[1], *ends[2:], status_text(each.status)))
    columns = ("goal", "of", ">start", ">end", "held", ">start", ">end", "how it ended")
    print_table(columns, rows)
    print(f"Wrote {folder}: {', '.join(path.name for path in written)}")
    print(f"\nNow try: look at {folder / 'mad.png'}, and decide which metric you agree with; then")
    print(f"  calcarine metamer {shlex.quote(image)} --model luminance_gain_control")
