"""``calcarine events``: what is in a recording of an event camera."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from calcarine.commands.recordings import (
    film_frames,
    first_frame_ms,
    open_events,
    output_path,
)
from calcarine.commands.shared import print_table
from calcarine.errors import InputError

if TYPE_CHECKING:
    from calcarine.commands.recordings import Opened
    from calcarine.stimuli import EventStream

__all__ = ["events"]

_FPS = 25.0


def events(
    file: str = "sample:moving-disks",
    /,
    *,
    picture: Path | None = None,
    video: Path | None = None,
    save: Path | None = None,
    dt: float = 1.0,
    size: tuple[int, int] | None = None,
    start: float | None = None,
    stop: float | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    force: bool = False,
) -> None:
    """Tell what is in a recording of an event camera.

    A table says how many events there are, when and where. Nothing is written unless it is asked
    for. Read are text (t,x,y or t,x,y,polarity in microseconds), .npz, HDF5, the formats of cameras
    (AEDAT4, Prophesee EVT2, EVT3 and DAT, .es) and tensors of (time, x, y) saved by torch.

    ```
    calcarine events
    calcarine events sample:moving-disks --picture disks.png
    calcarine events recording.aedat4 --start 500 --stop 1500
    calcarine events 2404_circle.dat --dt 1 --video circle.webp
    calcarine events log.csv --size 260 346 --save log.npz --json log.json
    ```

    Args:
        file: A recording, or sample:moving-disks.
        picture: Draw events per pixel, per column over time, and their rate: a .png, .pdf or .svg.
            A folder will do, for --video too.
        video: Film them: .webp, .gif, .mp4, .png or .html.
        save: Write them to another file: .npz, .csv or .h5.
        dt: Duration of a frame, ms: of the film, and of the frames in a tensor file. A film of more
            than 500 frames takes several at a time.
        size: Height and width of the sensor, where the file does not say.
        start: Leave out events before this time, ms.
        stop: Leave out events from this time on, ms.
        json_file: Write the numbers to this file.
        force: Write over files that are there.
    """
    _refuse((picture, video, save, json_file), force)
    opened = open_events(file, dt_ms=dt, size=size, start_ms=start, stop_ms=stop)
    picture = None if picture is None else output_path(picture, opened.name, ".png")
    video = None if video is None else output_path(video, opened.name, ".webp")
    _refuse((picture, video), force)
    found = opened.events
    numbers = _numbers(found, dt)
    print_table(("", ""), _rows(numbers), title=str(file))
    written = []
    if picture is not None:
        from calcarine.plot import event_figure, save_figure

        written.append(save_figure(event_figure(found, title=opened.name), picture))
    if video is not None:
        written.append(_film(found, dt, start, video))
    if save is not None:
        written.append(found.save(save))
    if json_file is not None:
        from calcarine.files import write_text

        written.append(write_text(json_file, json.dumps(numbers, indent=2) + "\n"))
    if written:
        print(f"\nWrote {', '.join(map(str, written))}")
    _suggest(file, opened, picture is not None)


def _refuse(paths: Iterable[Path | None], force: bool) -> None:
    """Refuse to write over a file.

    Raises:
        InputError: If one is there.
    """
    for path in paths:
        if path is not None and path.is_file() and not force:
            raise InputError(f"{path} is there already. Choose another name, or add --force.")


def _numbers(found: EventStream, dt_ms: float) -> dict[str, float | int | list[int]]:
    import torch

    height, width = found.size
    places = found.y.long() * width + found.x.long()
    counts = torch.bincount(places, minlength=height * width)
    busiest = int(counts.argmax())
    # A recording of a single moment has no duration of its own; a frame is the least there is.
    lasted_ms = max(found.duration_ms, dt_ms)
    return {
        "events": len(found),
        "first_ms": found.start_ms,
        "last_ms": found.start_ms + found.duration_ms,
        "duration_ms": found.duration_ms,
        "width_px": width,
        "height_px": height,
        "events_per_s": 1000 * len(found) / lasted_ms,
        "events_per_frame": len(found) * dt_ms / lasted_ms,
        "share_on": float(found.polarity.double().mean()),
        "share_active_pixels": float((counts > 0).double().mean()),
        "busiest_pixel_xy": [busiest % width, busiest // width],
        "busiest_pixel_events": int(counts[busiest]),
    }


def _rows(numbers: dict[str, float | int | list[int]]) -> list[tuple[str, str]]:
    share_on = numbers["share_on"]
    x, y = numbers["busiest_pixel_xy"]  # type: ignore[misc]
    return [
        ("events", f"{numbers['events']:,}"),
        ("time", f"{numbers['first_ms']:,.3f} to {numbers['last_ms']:,.3f} ms"),
        ("sensor", f"{numbers['width_px']} x {numbers['height_px']} px (width x height)"),
        ("rate", f"{numbers['events_per_s']:,.0f} events per second"),
        ("per frame", f"{numbers['events_per_frame']:,.1f} events"),
        ("polarity", "all ON, or without" if share_on == 1 else f"{share_on:.1%} ON"),
        ("active pixels", f"{numbers['share_active_pixels']:.1%}"),
        ("busiest pixel", f"({x}, {y}) with {numbers['busiest_pixel_events']:,} events"),
    ]


def _film(found: EventStream, dt_ms: float, start: float | None, path: Path) -> Path:
    from calcarine.plot import event_animation, save_animation
    from calcarine.progress import open_progress

    begin = first_frame_ms(found, dt_ms, start)
    frames, long_ms = film_frames(found, dt_ms, begin)
    progress = open_progress(len(frames), 0, unit="frame")
    try:
        film = event_animation(frames, dt_ms=long_ms, start_ms=begin, progress=progress.advance)
    finally:
        progress.close()
    return save_animation(film, path, fps=_FPS, title=path.stem)


def _suggest(file: str, opened: Opened, drawn: bool) -> None:
    named = shlex.quote(file)
    more = "--video ." if drawn else "--picture . --video ."
    print(f"\nNow try:\n  calcarine events {named} {more}")
    print(f"  calcarine detect {named}{' --truth' if opened.truth is not None else ''}")
