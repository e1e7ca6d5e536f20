"""Images by the name of a data set.

    named_images("cifar10")                  from the Hugging Face hub, or its cache on this machine
    named_images("photos/")                  a folder of images, Parquet or Arrow files
    named_images("saved/")                   what ``datasets.Dataset.save_to_disk`` wrote
    digits()                                 handwritten digits inside scikit-learn, no download

Hugging Face ``datasets`` finds, fetches and caches the tables; the images in them are decoded here,
as strictly as files are. With the environment variable ``HF_HUB_OFFLINE=1`` nothing is fetched.

Axes    N images of the data set | B batch, 1 per item | C channel | H W rows down, columns right
Source  alpaydin1998 (digits)
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from calcarine.errors import FileFormatError, InputError, UnknownNameError, require
from calcarine.stimuli._checks import checked_dtype, checked_size
from calcarine.stimuli._decode import Pixels, decode
from calcarine.stimuli._tables import class_names, image_column, label_column, open_table
from calcarine.stimuli.images import Channels, to_image

__all__ = ["Digits", "LabeledImage", "NamedImages", "StreamedImages", "digits", "named_images"]


class LabeledImage(NamedTuple):
    """One image of a data set and its label.

    Args:
        image: sRGB code values in [0, 1], axes (1, C, H, W).
        label: Class number, ``None`` where the data set has no labels.
    """

    image: Float[Tensor, "1 C H W"]
    label: int | None


class Digits(NamedTuple):
    """Handwritten digits.

    Args:
        images: Ink in [0, 1], axes (1797, 1, 8, 8).
        labels: The digit, 0 to 9.
    """

    images: Float[Tensor, "N 1 8 8"]
    labels: Int[Tensor, "N"]


class _Reader:
    """How a row of a table becomes an image and a label."""

    def __init__(
        self,
        table: Any,
        name: str,
        columns: tuple[str | None, str | None],
        size: int | tuple[int, int] | None,
        channels: Channels,
        dtype: torch.dtype,
    ) -> None:
        self.name = name
        self.column, self.table = image_column(table, name, columns[0])
        self.label_column = label_column(self.table, name, columns[1])
        self.class_names = class_names(self.table, self.label_column)
        self._size, self._channels, self._dtype = size, channels, dtype

    def pixels(self, row: dict[str, Any], index: int) -> Pixels:
        cell = row[self.column]
        where = f"{self.name}[{index}]"
        if cell is None:
            raise FileFormatError(f"Expected an image in {where}, but the cell is empty.")
        content, path = cell.get("bytes"), cell.get("path")
        if path:
            where = f"{where} ({path})"
        return decode(content if content is not None else str(path), where)

    def item(self, row: dict[str, Any], index: int) -> LabeledImage:
        image = to_image(
            self.pixels(row, index), size=self._size, channels=self._channels, dtype=self._dtype
        )
        label = None if self.label_column is None else row[self.label_column]
        return LabeledImage(image, None if label is None else int(label))


class NamedImages(Sequence[LabeledImage]):
    """Images of a data set by number, decoded when asked for; made by :func:`named_images`.

    ``len(images)``, ``images[i]`` (a :class:`LabeledImage`), iteration.

    Attributes:
        name: What the data set was called.
        column: Column that holds the images.
        label_column: Column that holds the labels, or ``None``.
        class_names: Names of the classes, empty where the data set has none.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader, self._table = reader, reader.table
        self.name, self.column = reader.name, reader.column
        self.label_column, self.class_names = reader.label_column, reader.class_names

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: Any) -> Any:
        """Return one item, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number, row = self._row(index)
        return self._reader.item(row, number)

    def pixels(self, index: int) -> Pixels:
        """Return one image as stored: array (H, W, C), neither resized nor converted."""
        number, row = self._row(index)
        return self._reader.pixels(row, number)

    def labels(self) -> Int[Tensor, "N"]:
        """Return all labels, without decoding an image.

        Raises:
            InputError: If the data set has no labels, or lacks some.
        """
        if self.label_column is None:
            known = ", ".join(self._table.column_names)
            raise InputError(
                f"It is not clear which column of {self.name!r} holds labels (columns: {known}). "
                "Pass label_column=... if one of them holds class numbers."
            )
        values = self._table[self.label_column][:]
        if any(value is None for value in values):
            raise InputError(f"Some labels of {self.name!r} are missing in {self.label_column!r}.")
        return torch.tensor(values, dtype=torch.long)

    def _row(self, index: int) -> tuple[int, dict[str, Any]]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} images, there is no number {index}.")
        return index % len(self), self._table[index % len(self)]


class StreamedImages:
    """Images of a data set one after the other, fetched on the way; made by :func:`named_images`.

    Attributes:
        name: What the data set was called.
        column: Column that holds the images.
        label_column: Column that holds the labels, or ``None``.
        class_names: Names of the classes, empty where the data set has none.
    """

    def __init__(self, reader: _Reader) -> None:
        self._reader, self._table = reader, reader.table
        self.name, self.column = reader.name, reader.column
        self.label_column, self.class_names = reader.label_column, reader.class_names

    def __iter__(self) -> Iterator[LabeledImage]:
        return (self._reader.item(row, index) for index, row in enumerate(self._table))

    def shuffled(self, seed: int, *, buffer_size: int = 1000) -> StreamedImages:
        """Return the same stream in another order.

        Args:
            seed: The same seed gives the same order.
            buffer_size: How many rows are held at a time to draw the next one from.
        """
        other = StreamedImages(self._reader)
        other._table = self._table.shuffle(seed=seed, buffer_size=buffer_size)
        return other


@overload
def named_images(
    name: str | os.PathLike[str],
    split: str = ...,
    *,
    column: str | None = ...,
    label_column: str | None = ...,
    configuration: str | None = ...,
    data_dir: str | None = ...,
    cache_dir: str | None = ...,
    streaming: Literal[False] = ...,
    size: int | tuple[int, int] | None = ...,
    channels: Channels = ...,
    dtype: torch.dtype | None = ...,
) -> NamedImages: ...
@overload
def named_images(
    name: str | os.PathLike[str],
    split: str = ...,
    *,
    column: str | None = ...,
    label_column: str | None = ...,
    configuration: str | None = ...,
    data_dir: str | None = ...,
    cache_dir: str | None = ...,
    streaming: Literal[True],
    size: int | tuple[int, int] | None = ...,
    channels: Channels = ...,
    dtype: torch.dtype | None = ...,
) -> StreamedImages: ...
def named_images(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    column: str | None = None,
    label_column: str | None = None,
    configuration: str | None = None,
    data_dir: str | None = None,
    cache_dir: str | None = None,
    streaming: bool = False,
    size: int | tuple[int, int] | None = None,
    channels: Channels = "as-is",
    dtype: torch.dtype | None = None,
) -> NamedImages | StreamedImages:
    """Open a data set of images.

    Args:
        name: A name on the Hugging Face hub (``"cifar10"``, ``"owner/name"``), a folder or file on
            this machine, or ``"imagefolder"``, ``"parquet"`` and the like with ``data_dir``.
        split: Which part, for example ``"train"`` or ``"test"``.
        column: Column of the images; may be left out where there is only one.
        label_column: Column of the class numbers; may be left out where there is only one.
        configuration: Variant of the data set, for those that have several.
        data_dir: Folder with the files, for the generic names.
        cache_dir: Where prepared tables are kept, by default where ``datasets`` keeps them.
        streaming: Fetch rows as they are needed instead of the whole data set first.
        size: As in :func:`calcarine.stimuli.load_image`.
        channels: As in :func:`calcarine.stimuli.load_image`.
        dtype: As in :func:`calcarine.stimuli.load_image`.

    Returns:
        :class:`NamedImages`, or :class:`StreamedImages` when streaming.

    Raises:
        MissingDependencyError: If ``datasets`` is not installed.
        RunError: If the data set would have to be fetched, but cannot be (offline mode, network).
        UnknownNameError: If there is no such split, column, or variant.
        FileFormatError: If a local path does not exist or holds no data set.
        InputError: If the name is not known, or which column to use is not clear.
    """
    if channels not in ("as-is", "gray", "rgb"):
        raise UnknownNameError("choice of channels", str(channels), ("as-is", "gray", "rgb"))
    if size is not None:
        checked_size("named_images", size)
    dtype = checked_dtype("named_images", dtype)
    name = os.fspath(name)
    table = open_table(name, split, configuration, data_dir, cache_dir, streaming)
    reader = _Reader(table, name, (column, label_column), size, channels, dtype)
    return StreamedImages(reader) if streaming else NamedImages(reader)


def digits(*, dtype: torch.dtype | None = None) -> Digits:
    """Return the 1797 handwritten digits of 8 x 8 pixels inside scikit-learn.

    Args:
        dtype: Floating-point type of the images, torch's default one if left out.

    Returns:
        Images with ink 1 on paper 0 (17 levels), and their labels.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    dtype = checked_dtype("digits", dtype)
    require("sklearn", extra="data", purpose="The data set of digits")
    loaded = require("sklearn.datasets", extra="data", purpose="The digits").load_digits()
    images = torch.tensor(loaded.images, dtype=dtype)[:, None] / 16
    return Digits(images, torch.tensor(loaded.target, dtype=torch.long))
