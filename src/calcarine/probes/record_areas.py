"""Recording the areas of a network to disk, over whole trials and many batches.

    model, images -> folder of arrays on disk, one per area and batch, written step by step

Files are whole or absent. A recording that was interrupted goes on with the first batch that is not
there when it is asked for again with the same model, images and settings.

Axes    T recorded frames | B batch | ... whatever the area has
Units   time in ms since onset
Source  soo2024 (trial); ours: the files
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence, Sized
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, RunError
from calcarine.probes._trials import Player, chosen_areas, player
from calcarine.probes.area_recording import (
    FORMAT,
    AreaRecording,
    announce,
    area_file,
    begun,
    digest,
    open_recording,
    write_settings,
)
from calcarine.progress import Progress, open_progress
from calcarine.simulate import Recording
from calcarine.stage import steps_of

__all__ = ["record_areas"]


@torch.no_grad()
def record_areas(
    model: nn.Module,
    images: Float[Tensor, "B ..."] | Iterable[Float[Tensor, "B ..."]],
    areas: Sequence[str] | str | None,
    folder: str | Path,
    *,
    warmup_ms: float = 200.0,
    stimulus_ms: float = 200.0,
    off_ms: float = 0.0,
    every: int = 1,
    dt_ms: float | None = None,
    progress: bool = True,
) -> AreaRecording:
    """Record activity to disk while images are shown, batch by batch.

    >>> recording = record_areas(model, images, "area2", "activity", off_ms=200, every=5)
    >>> recording.values("area2").shape
    (41, 8, 64, 8, 8)

    Args:
        model: A ``DynamicStage``; put it into ``eval()`` first.
        images: One batch, axes (batch, ...), or any number of batches one after the other.
        areas: Names of activities, as ``"area2"`` of CordsNet or a field of a state; ``None`` is
            all of them.
        folder: Where to record; made if missing.
        warmup_ms: Time without input before onset, which is not recorded; a multiple of the step.
        stimulus_ms: How long every image is shown.
        off_ms: Time without input after that.
        every: Keep every n-th step only, starting with the baseline.
        dt_ms: Step of the model; needed only if none of its stages has an attribute ``dt_ms``.
        progress: Whether to show how far it is; only where the number of batches is known.

    Raises:
        InputError: If the folder holds a recording of another model, other settings or other
            images, there are no images, or a time is not a multiple of the step.
        UnknownNameError: If there is no such activity; the message lists what there is.
        FileFormatError: If the folder holds a recording that is damaged.
        RunError: If the disk has not enough room, or the folder cannot be written.
    """
    if every < 1:
        raise InputError(f"record_areas expected every >= 1, got {every}.")
    taken, folder = player(model, dt_ms), Path(folder)
    steps = steps_of("record_areas", "stimulus_ms", stimulus_ms, taken.dt_ms)
    steps += steps_of("record_areas", "off_ms", off_ms, taken.dt_ms)
    steps_of("record_areas", "stimulus_ms and off_ms", steps * taken.dt_ms, taken.dt_ms, least=1)
    batches = [images] if isinstance(images, Tensor) else images
    known = len(batches) if isinstance(batches, Sized) else None
    settings: dict[str, Any] = {
        "format": FORMAT,
        "dt_ms": taken.dt_ms,
        "warmup_ms": float(warmup_ms),
        "stimulus_ms": float(stimulus_ms),
        "time_ms": [step * taken.dt_ms for step in range(0, steps + 1, every)],
        "weights": digest(model.state_dict().values()),
        "batches": None,
        "images": [],
    }
    bar = open_progress((known or 0) * steps, 0, shown=progress and known is not None, unit="step")
    number = 0
    try:
        for number, batch in enumerate(batches, start=1):
            state = taken.baseline(batch, warmup_ms)
            if number == 1:
                settings["areas"] = list(chosen_areas(taken.activities(state), areas))
                settings = begun(folder, settings)
            announce(folder, settings, number - 1, batch)
            left = 1 if known is None else known - number + 1
            made = _opened(taken, folder, settings, number - 1, state, left, every)
            states = (moment.state for moment in taken.play(batch, state, stimulus_ms, off_ms))
            if made:
                _stream(taken, made, chain([state], states), steps, bar, (number - 1) * steps)
            bar.advance(number * steps)
    finally:
        bar.close()
    if not number:
        raise InputError("record_areas expected at least one batch of images, got none.")
    write_settings(folder, {**settings, "batches": number})
    return open_recording(folder)


def _opened(
    taken: Player,
    folder: Path,
    settings: dict[str, Any],
    number: int,
    state: Any,
    left: int,
    every: int,
) -> dict[str, Recording]:
    """Return where to record what is missing of a batch, after a look at the room for it."""
    files = {name: area_file(folder, name, number) for name in settings["areas"]}
    missing = {name: path for name, path in files.items() if not path.exists()}
    found = taken.activities(state)
    _check_room(folder, [found[name] for name in missing], len(settings["time_ms"]) * left)
    return {name: Recording(path, every=every) for name, path in missing.items()}


def _stream(
    taken: Player,
    recordings: dict[str, Recording],
    states: Iterable[Any],
    steps: int,
    bar: Progress,
    done: int,
) -> None:
    """Write the activities of one batch, at the baseline and after every step."""
    failed: BaseException | None = None
    try:
        for step, state in enumerate(states):
            now = taken.activities(state)
            for name, recording in recordings.items():
                recording.append(now[name], step, steps + 1)
            bar.advance(done + step)
    except BaseException as failure:
        failed = failure
        raise
    finally:
        for recording in recordings.values():
            recording.close(failed)


def _check_room(folder: Path, activities: list[Tensor], frames: int) -> None:
    sizes = [a.numel() * max(a.element_size(), 4 * a.is_floating_point()) for a in activities]
    needed, free = frames * sum(sizes), shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"Recording needs {needed / 1e9:.2f} GB more in {folder}, where {free / 1e9:.2f} GB "
            "are free. Record fewer areas or images, or a larger every."
        )
