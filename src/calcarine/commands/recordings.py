"""What the verbs about events share: opening a recording, and cutting it to what can be shown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from calcarine.commands.shared import note
from calcarine.errors import FileFormatError, InputError, UnknownNameError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from calcarine.stimuli import EventStream

__all__ = ["Opened", "film_frames", "first_frame_ms", "open_events", "output_path"]

_SAMPLE = "sample:"
_SAMPLES = ("moving-disks",)
_MOST_FRAMES = 500  # of a film, some 20 seconds
_MOST_SIDE = 400  # of a film, px


class Opened(NamedTuple):
    """A recording, a short name for files made from it, and where its disks were if that is known.

    Attributes:
        events: The events.
        name: The name.
        truth: A :class:`calcarine.stimuli.DiskTruth`, or ``None``.
    """

    events: EventStream
    name: str
    truth: Any


def open_events(
    file: str,
    *,
    dt_ms: float,
    size: tuple[int, int] | None = None,
    start_ms: float | None = None,
    stop_ms: float | None = None,
    seed: int = 0,
) -> Opened:
    """Open what a person typed: a recording, or ``sample:moving-disks``.

    Args:
        file: A path, or the name of a sample.
        dt_ms: Duration of the frames of a tensor file.
        size: Height and width of the sensor; ``None`` takes what the file says.
        start_ms: Leave out events before.
        stop_ms: Leave out events from then on.
        seed: Of the sample.

    Raises:
        FileFormatError: If there is no such file, or it is no recording.
        UnknownNameError: If there is no such sample.
        InputError: If a number cannot be used, or nothing is left.
    """
    if not (math.isfinite(dt_ms) and dt_ms > 0):
        raise InputError(f"--dt expected a duration above 0 ms, got {dt_ms:g}.")
    events, name, truth = _read(file, dt_ms, size, seed)
    if start_ms is not None or stop_ms is not None:
        whole, events = events, events.between(start_ms, stop_ms)
        if len(whole) and not len(events):
            raise InputError(
                f"There are no events between --start and --stop: {file} has them from "
                f"{whole.start_ms:g} to {whole.start_ms + whole.duration_ms:g} ms."
            )
    if not len(events):
        raise FileFormatError(f"{file} holds no events.")
    return Opened(events, name, truth)


def _read(
    file: str, dt_ms: float, size: tuple[int, int] | None, seed: int
) -> tuple[EventStream, str, Any]:
    if file.startswith(_SAMPLE) or (file in _SAMPLES and not Path(file).exists()):
        name = file.removeprefix(_SAMPLE)
        if name not in _SAMPLES:
            raise UnknownNameError("sample recording", name, _SAMPLES)
        if size is not None:
            raise InputError("--size is for recordings; the sample knows its own.")
        import torch

        from calcarine.stimuli import moving_disks

        made = moving_disks(dt_ms=dt_ms, generator=torch.Generator().manual_seed(seed))
        return made.events, name, made.truth
    if not Path(file).is_file():
        raise FileFormatError(
            f"There is no recording {file!r}. Without one try the sample: "
            f"{', '.join(_SAMPLE + name for name in _SAMPLES)}."
        )
    from calcarine.stimuli import read_events

    return read_events(file, size=size, dt_ms=dt_ms), Path(file).stem, None


def first_frame_ms(events: EventStream, dt_ms: float, start_ms: float | None) -> float:
    """Return when frame 0 begins: ``--start``, or else 0.

    Clocks of some cameras start long before the recording; time without events that is longer than
    the recording is left out, by whole frames.
    """
    if start_ms is not None:
        return start_ms
    if 0 <= events.start_ms <= max(events.duration_ms, dt_ms):
        return 0.0
    first = math.floor(events.start_ms / dt_ms) * dt_ms
    note(f"Frame 0 begins at {first:g} ms, shortly before the first event.")
    return first


def film_frames(
    events: EventStream, dt_ms: float, start_ms: float
) -> tuple[Float[Tensor, "T P h w"], float]:
    """Return frames that make a film of bearable length and size, and their duration, ms.

    Frames become longer and pixels larger by whole factors where there are too many of them.
    """
    from calcarine.stimuli import EventStream as Stream

    steps = max(1, math.ceil((events.start_ms + events.duration_ms - start_ms) / dt_ms))
    longer = math.ceil(steps / _MOST_FRAMES)
    larger = math.ceil(max(events.size) / _MOST_SIDE)
    if longer > 1:
        note(f"The film shows {longer} frames of {dt_ms:g} ms at a time.")
    if larger > 1:
        note(f"The film shows {larger} x {larger} pixels as one.")
        height, width = (math.ceil(side / larger) for side in events.size)
        events = Stream(
            events.t_us, events.x // larger, events.y // larger, events.polarity,
            size=(height, width),
        )  # fmt: skip
    both = bool(events.polarity.any()) and not bool(events.polarity.all())
    frames = events.frames(longer * dt_ms, "split" if both else "merge", start_ms=start_ms)
    return frames, longer * dt_ms


def output_path(path: Path, name: str, default: str) -> Path:
    """Return the file to write: the path, or inside it if it is a folder.

    Args:
        path: What was typed.
        name: Short name of the recording.
        default: Suffix of the file inside a folder.
    """
    return path / f"events-{name}{default}" if path.is_dir() else path
