"""``calcarine detect``: find moving disks in a recording of events, and how fast they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calcarine.commands.probing import as_command, open_folder, write_numbers
from calcarine.commands.recordings import first_frame_ms, open_events
from calcarine.commands.shared import check_age, check_run, note, print_table
from calcarine.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from calcarine.models import DiskVelocityNet

__all__ = ["detect"]

_SPEEDS = (0.3, 0.6, 1.2)
_FPS = 25.0
_MOST_FRAMES = 500  # of the film
_CHUNK = 50  # frames between two signs of progress
_MOST_VALUES = 400_000_000  # of the frames, four channels and the film; about 2 GB


def detect(
    file: str = "sample:moving-disks",
    /,
    *,
    run: Path | None = None,
    age: int | None = None,
    out: Path | None = None,
    truth: bool = False,
    speeds: tuple[float, float, float] = _SPEEDS,
    radius: float = 5.0,
    dt: float = 1.0,
    size: tuple[int, int] | None = None,
    start: float | None = None,
    stop: float | None = None,
    seed: int = 0,
    video: Literal["webp", "mp4", "gif", "none"] = "webp",
    force: bool = False,
    quiet: bool = False,
) -> None:
    """Find moving disks in a recording of events, and tell slow, medium and fast ones apart.

    Three channels of spiking neurons answer to outlines of disks, each in its own band of speeds.
    Written are every position as CSV (frame, x, y, speed_class, confidence), where they were over
    time, and a film of the events with the three channels superimposed.

    ```
    calcarine detect
    calcarine detect sample:moving-disks --truth --seed 3
    calcarine detect 2404_circle.dat --out circle --video mp4
    calcarine detect sample:moving-disks --truth --run runs/disk-velocity
    calcarine detect recording.aedat4 --dt 5 --radius 8 --speeds 0.5 1 2
    ```

    Args:
        file: A recording (see calcarine events --help), or sample:moving-disks.
        run: Folder of a run of disk-velocity, whose learned parameters are taken; by default those
            set by hand.
        age: Updates that the run had learned for; by default all of them.
        out: Folder to write to; by default detect- and the name of the recording.
        truth: Compare with where the disks of the sample were: precision, recall and the share of
            right speeds.
        speeds: Slow, medium and fast speed, px per frame; those of a run are its own.
        radius: Radius of the disks, px; that of a run is its own.
        dt: Duration of a frame, ms. Speeds are in pixels per frame.
        size: Height and width of the sensor, where the file does not say.
        start: Leave out events before this time, ms; frame 0 begins there.
        stop: Leave out events from this time on, ms.
        seed: Seed of the sample.
        video: Kind of film.
        force: Write over a result that is there.
        quiet: Print the tables only.
    """
    asked = dict(locals())
    if age is not None and run is None:
        raise InputError("--age is that of a run: give its folder with --run.")
    opened = open_events(file, dt_ms=dt, size=size, start_ms=start, stop_ms=stop, seed=seed)
    if truth and (opened.truth is None or start is not None or stop is not None):
        raise InputError("--truth needs a whole sample; of recordings nobody knows the truth.")
    folder = open_folder(out, f"detect-{opened.name}", force=force)
    if run is not None and (speeds, radius) != (_SPEEDS, 5.0):
        raise InputError("--speeds and --radius are those of the run; leave them out.")
    model = _model(run, age, speeds, radius)
    events = opened.events
    begin = first_frame_ms(events, dt, start)
    steps = len(opened.truth.visible) if truth else None
    frames = _frames(events, dt, begin, steps)
    if not quiet:
        note(f"detecting in {len(frames)} frames of {dt:g} ms")
    detections, activity = _run(model, frames, quiet)

    rows = _counts(detections, len(frames))
    print_table(("speed", ">detections", ">frames with one"), rows, title=str(file))
    score: dict[str, float] = _score(detections, opened.truth) if truth else {}
    numbers = {
        "command": as_command(detect, "detect", asked),
        "recording": repr(events),
        "frames": len(frames),
        "first_frame_ms": begin,
        "detections": {name: count for name, count, _ in rows},
        **({"score": score} if truth else {}),
    }
    written = [_write_csv(folder, detections)]
    written += _draw(folder, detections, opened.truth if truth else None, dt, opened.name)
    if video != "none":
        film = _film(frames, activity, detections, model.radius_px, dt, begin, quiet)
        from calcarine.plot import save_animation

        written.append(save_animation(film, folder / f"detections.{video}", fps=_FPS))
    written.append(write_numbers(folder, numbers))
    if not quiet:
        print(f"\nWrote {', '.join(map(str, written))}")
        if run is None:
            print("\nNow try, to learn the parameters instead:\n  calcarine train disk-velocity")


def _model(
    run: Path | None, age: int | None, speeds: tuple[float, float, float], radius_px: float
) -> DiskVelocityNet:
    """Return the network, its parameters by hand or those of a run."""
    if run is None:
        from calcarine.models import DiskVelocityNet

        return DiskVelocityNet(speeds=speeds, radius_px=radius_px).eval()
    check_run(run)
    if age is not None:
        check_age(run, age)
    from calcarine.training import open_run
    from calcarine.training.disk_velocity import DiskVelocityTask

    opened = open_run(run, age)
    if not isinstance(opened.task, DiskVelocityTask):
        raise InputError(
            f"{run} was expected to be a run that learned to find disks, such as one of the recipe "
            f"disk-velocity; it is one of {opened.recipe.name}."
        )
    return opened.task.net


def _frames(events: Any, dt_ms: float, begin_ms: float, steps: int | None) -> Float[Tensor, ...]:
    """Return the frames (T, 1, H, W).

    Raises:
        InputError: If they would take too much memory.
    """
    height, width = events.size
    count = steps or math.ceil((events.start_ms + events.duration_ms - begin_ms) / dt_ms + 1e-9)
    if 4 * count * height * width > _MOST_VALUES:
        most = _MOST_VALUES // (4 * height * width) * dt_ms
        raise InputError(
            f"{count} frames of {height} x {width} px are more than this computer's memory is "
            f"trusted with. Take {most:g} ms at a time with --start and --stop, or a longer --dt."
        )
    frames: Tensor = events.frames(dt_ms, "merge", start_ms=begin_ms, steps=steps)
    return frames


def _run(
    model: DiskVelocityNet, frames: Float[Tensor, "T 1 H W"], quiet: bool
) -> tuple[Any, Float[Tensor, "T 3 H W"]]:
    """Return detections and the spikes of the second layer."""
    import torch

    from calcarine import simulate
    from calcarine.models import DiskReadout
    from calcarine.progress import open_progress

    parts, state = [], None
    progress = open_progress(len(frames), 0, unit="frame", shown=not quiet)
    try:
        with torch.no_grad():
            for part in frames[:, None].split(_CHUNK):
                # Compiling takes longer than the few hundred frames of most recordings.
                spikes, state = simulate.run(model, part, state, engine="plain")
                parts.append(spikes[:, 0])
                progress.advance(sum(map(len, parts)))
    finally:
        progress.close()
    activity = torch.cat(parts)
    return DiskReadout(lag_steps=model.lag_steps)(activity), activity


def _counts(detections: Any, frames: int) -> list[tuple[str, int, str]]:
    from calcarine.plot.events import CLASS_NAMES

    rows = []
    for kind, name in enumerate(CLASS_NAMES):
        chosen = detections.frame[detections.speed_class == kind]
        rows.append((name, len(chosen), f"{len(chosen.unique()) / frames:.0%}"))
    return rows


def _score(detections: Any, truth: Any) -> dict[str, float]:
    """Compare with the truth and print how well it went."""
    from calcarine.probes import score_detections

    found = score_detections(detections, truth)
    score = {
        name: float(getattr(found, name)) for name in ("precision", "recall", "speed_accuracy")
    }
    meaning = {
        "precision": "detections within 3 px of a disk",
        "recall": "visible disks that were found",
        "speed_accuracy": "disks found whose speed is right",
    }
    table = [(name.replace("_", " "), f"{v:.1%}", meaning[name]) for name, v in score.items()]
    print_table(("measure", ">share", "of what"), table, title="\nAgainst the truth")
    return score


def _write_csv(folder: Path, detections: Any) -> Path:
    from calcarine.files import write_text
    from calcarine.plot.events import CLASS_NAMES

    columns = ("frame", "x", "y", "speed_class", "confidence")
    lines = [",".join(columns)]
    for frame, x, y, kind, sure in zip(
        *(getattr(detections, name).tolist() for name in columns), strict=True
    ):
        lines.append(f"{frame},{x:.3f},{y:.3f},{CLASS_NAMES[kind]},{sure:.4f}")
    return write_text(folder / "detections.csv", "\n".join(lines) + "\n")


def _draw(folder: Path, detections: Any, truth: Any, dt_ms: float, name: str) -> list[Path]:
    if not len(detections.frame) and truth is None:
        note("Nothing was found, so there is no figure of it.")
        return []
    from calcarine.plot import detection_figure, save_figure

    figure = detection_figure(detections, truth, dt_ms=dt_ms, title=name)
    return [save_figure(figure, folder / "detections.png")]


def _film(
    frames: Tensor,
    activity: Tensor,
    detections: Any,
    radius_px: float,
    dt_ms: float,
    begin_ms: float,
    quiet: bool,
) -> Float[Tensor, "T 3 h w"]:
    """Film the recording, or the first part of a long one."""
    from calcarine.plot import event_animation
    from calcarine.progress import open_progress

    if len(frames) > _MOST_FRAMES:
        note(f"The film shows the first {_MOST_FRAMES} of {len(frames)} frames.")
        early = detections.frame < _MOST_FRAMES
        detections = type(detections)(*(column[early] for column in detections))
    frames, activity = frames[:_MOST_FRAMES], activity[:_MOST_FRAMES]
    progress = open_progress(len(frames), 0, unit="frame", shown=not quiet)
    try:
        return event_animation(
            frames, activity=activity, detections=detections, radius_px=radius_px,
            dt_ms=dt_ms, start_ms=begin_ms, progress=progress.advance,
        )  # fmt: skip
    finally:
        progress.close()
