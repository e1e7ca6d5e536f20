"""What the classifying verb is shown: pictures, folders of them, movies, and held-out images.

    photo.jpg                 a picture
    folder                    all pictures in it; the right class is that of the folder they lie in
    clip.gif                  a movie, each frame as long as the file says
    sample:coffee             a sample photograph
    sample:held-out           the first held-out images of the run, and which class they are
    sample:held-out-7         one of them, counted from 0

Axes    T frames of a movie | B batch, 1 here | c channels of the network | H W rows down
Units   time in ms
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from calcarine.commands.classifiers import Classifier
from calcarine.commands.shared import open_picture, picture_name
from calcarine.errors import FileFormatError, InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HELD_OUT", "Shown", "what_is_shown"]

HELD_OUT = "sample:held-out"

_FIRST = 8  # held-out images where no number is given
_ANIMATED = (".gif", ".webp", ".png", ".apng", ".avif")
_MOST_VALUES = 400_000_000  # of a movie, about 1.6 GB


class Shown(NamedTuple):
    """One picture or movie, prepared for the network.

    Attributes:
        name: For people and for names of files.
        images: (1, c, H, W), or (T, 1, c, H, W) of a movie.
        truth: Number of the right class, where it is known.
        frame_ms: How long each frame of a movie lasts.
    """

    name: str
    images: Tensor
    truth: int | None = None
    frame_ms: tuple[float, ...] = ()


def what_is_shown(
    words: Sequence[str], network: Classifier, invert: bool = False
) -> Iterator[Shown]:
    """Yield what was typed, one picture after the other; files with light and dark exchanged.

    Raises:
        FileFormatError: If a picture cannot be read.
        InputError: If there are no held-out images, or a folder holds no picture.
    """
    for word in words:
        if word.startswith(HELD_OUT):
            yield from _held_out(word, network)
        elif Path(word).is_dir():
            yield from _folder(Path(word), network, invert)
        else:
            yield _file(word, network, None, invert)


def _folder(folder: Path, network: Classifier, invert: bool) -> Iterator[Shown]:
    from calcarine.stimuli._decode import SUFFIXES

    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"The folder {folder} holds no pictures.")
    numbers = {name: k for k, name in enumerate(network.class_names)}
    for path in found:
        yield _file(str(path), network, numbers.get(path.parent.name), invert)


def _file(word: str, network: Classifier, truth: int | None, invert: bool) -> Shown:
    if Path(word).suffix.lower() in _ANIMATED and Path(word).is_file():
        movie = _movie(Path(word), network, invert)
        if movie is not None:
            return Shown(picture_name(word), movie[0], truth, movie[1])
    picture = open_picture(word)
    return Shown(picture_name(word), network.prepare(1 - picture if invert else picture), truth)


def _movie(
    path: Path, network: Classifier, invert: bool
) -> tuple[Tensor, tuple[float, ...]] | None:
    """Return frames and how long each lasts, or ``None`` for a picture that stands still."""
    import numpy as np
    import torch
    from PIL import Image, ImageSequence

    frames, durations = [], []
    try:
        with Image.open(path) as film:
            count = getattr(film, "n_frames", 1)
            if count == 1:
                return None
            values = count * 3 * film.width * film.height
            if values > _MOST_VALUES:
                raise InputError(f"The movie {path} is too large: {count} frames of {film.size}.")
            for frame in ImageSequence.Iterator(film):
                pixels = torch.from_numpy(np.array(frame.convert("RGB")))
                picture = pixels.permute(2, 0, 1)[None] / 255
                frames.append(network.prepare(1 - picture if invert else picture))
                durations.append(float(frame.info.get("duration", 0.0)))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise FileFormatError(f"The movie {path} is incomplete or damaged ({error}).") from error
    return torch.stack(frames), tuple(durations)


def _held_out(word: str, network: Classifier) -> Iterator[Shown]:
    if network.data is None:
        raise InputError(f"{word} is of a run's data; a checkpoint has none. Name pictures.")
    number = word.removeprefix(HELD_OUT).removeprefix("-")
    if number and not number.isdecimal():
        raise InputError(f"{word} was expected to end in a number, such as {HELD_OUT}-7.")
    count = network.data.held_out_count
    wanted = range(min(_FIRST, count)) if not number else range(int(number), int(number) + 1)
    if number and int(number) >= count:
        raise InputError(f"There is no {word}: the run has {count} held-out images, from 0 on.")
    begin = 0
    for images, targets in network.data.held_out(64):
        for k in wanted:
            if begin <= k < begin + len(images):
                place = slice(k - begin, k - begin + 1)
                yield Shown(f"held-out-{k}", images[place], int(targets[k - begin]))
        begin += len(images)
        if begin > wanted[-1]:
            return
