"""Where whole images come from: samples, a folder, or a named data set, behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from calcarine.errors import FileFormatError, InputError, UnknownNameError
from calcarine.stimuli._decode import SUFFIXES, Pixels, decode
from calcarine.stimuli.samples import TRAINING_SAMPLES, sample_path

__all__ = ["ImageSource", "open_source"]


class ImageSource(NamedTuple):
    """A list of images that can be read one by one.

    Args:
        label: What to call the whole in a message.
        names: Name of every image, in the order that random choices refer to.
        read: Decode the image of a number; raises ``FileFormatError`` for a bad one.
    """

    label: str
    names: Sequence[str]
    read: Callable[[int], Pixels]


def open_source(
    source: str | Path, names: tuple[str, ...] | None, split: str, column: str | None
) -> ImageSource:
    """Open ``"samples"``, ``"hf:NAME"`` or a folder, restricted to ``names`` where given."""
    if names is not None and (isinstance(names, str) or not names):
        raise InputError(
            f"ImagePatches expected names as a tuple of at least one name, got {names!r}."
        )
    if source == "samples":
        return _samples(TRAINING_SAMPLES if names is None else tuple(names))
    if str(source).startswith("hf:"):
        return _data_set(str(source).removeprefix("hf:"), names, split, column)
    return _folder(Path(source).expanduser(), names)


def _samples(names: tuple[str, ...]) -> ImageSource:
    paths = [sample_path(name) for name in names]
    return ImageSource(
        "the sample images", names, lambda i: decode(paths[i], f"sample image {names[i]!r}")
    )


def _folder(folder: Path, names: tuple[str, ...] | None) -> ImageSource:
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise FileFormatError(
            f"ImagePatches expected source as 'samples', 'hf:NAME' or a folder of images, but "
            f"there is {what} at {folder}."
        )
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    if not found:
        raise FileFormatError(
            f"There are no images in {folder} or the folders inside it. Looked for files ending in "
            f"{', '.join(SUFFIXES)}."
        )
    if names is not None:
        known = set(found)
        for name in names:
            if name not in known:
                raise UnknownNameError(f"image in {folder}", name, found)
        found = list(names)
    return ImageSource(
        f"the folder {folder}", found, lambda i: decode(folder / found[i], str(folder / found[i]))
    )


class _Numbered(Sequence[str]):
    """Names ``data_set[0]``, ``data_set[1]``, ... without a list of a million strings."""

    def __init__(self, name: str, count: int) -> None:
        self._name, self._total = name, count

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        if not -self._total <= index < self._total:
            raise IndexError(index)
        return f"{self._name}[{index % self._total}]"


def _data_set(
    name: str, names: tuple[str, ...] | None, split: str, column: str | None
) -> ImageSource:
    from calcarine.stimuli.datasets import named_images

    if names is not None:
        raise InputError(
            "ImagePatches takes names for samples and folders only; the images of a data set have "
            "numbers. Choose a part of it by split, for example split='train[:1000]'."
        )
    images = named_images(name, split, column=column)
    if not len(images):
        raise FileFormatError(f"The split {split!r} of the data set {name!r} has no images.")
    return ImageSource(f"the data set {name!r}", _Numbered(name, len(images)), images.pixels)
