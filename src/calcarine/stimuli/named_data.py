"""Labeled pictures by the name of a data set, or from a folder, to learn classes from.

    NamedData(name="cifar10")                            from the Hugging Face hub, or its cache
    NamedData(name="photos/")                            photos/train/CLASS/*.jpg, photos/val/...
    NamedData(name="parquet", data_dir="tables/")        and what save_to_disk wrote

    flip_crop            padded crop, mirrored or not                       small pictures
    randaugment          the same, then random operations
    random_resized_crop  a random part scaled to the size, mirrored or not  photographs
    random_resized_crop_randaugment   the same, then random operations

Small data sets are decoded once and held, others are decoded as they are needed, by several
processes in :meth:`NamedData.stream`.

Axes    B batch | C channel, 1 (grey) or 3 (red green blue) | H W rows down, columns right
Source  as in :mod:`calcarine.stimuli.augmentation`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_size, is_count
from calcarine.stimuli._epochs import CROPS, MIXING, OPERATIONS, Epochs, generator_of, own_rows
from calcarine.stimuli._held_pictures import HeldPictures
from calcarine.stimuli._loading import made_ahead
from calcarine.stimuli._named_settings import (
    Augmentation,
    Mix,
    check_classes,
    check_settings,
    paper_keys,
)
from calcarine.stimuli._tables import split_names
from calcarine.stimuli.augmentation import (
    TRIES,
    RandomOperations,
    drawn_mixture,
    padded_crops,
    resized_crop_box,
)
from calcarine.stimuli.datasets import named_images
from calcarine.stimuli.labeled_data import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LabeledBatch,
    LabeledData,
    checked_moments,
    fitted,
    with_channels,
)

__all__ = ["NamedData"]

_HELD_OUT_SPLITS = ("validation", "val", "valid", "test")
_PHOTOGRAPH_COVER = 256 / 224
"""The shorter side is scaled to 256 px before the central 224 px are cut out. krizhevsky2012."""


class NamedData(LabeledData):
    """Labeled pictures of a data set.

    Args:
        name: A name on the Hugging Face hub, or a folder or file, as in
            :func:`calcarine.stimuli.named_images`.
        split_train: Part to learn from.
        split_held_out: Part held out. ``None``: the validation part, or else the test part.
        size: Height and width of the pictures [px], or one number for a square.
        channels: 3, or 1 for grey.
        configuration: Variant of the data set, for those that have several.
        data_dir: Folder with the files, for generic names such as ``"imagefolder"``.
        cache_dir: Where prepared tables are kept, by default where ``datasets`` keeps them.
        column: Column of the pictures; may be left out where there is only one.
        label_column: Column of the classes; may be left out where there is only one.
        augmentation: What is done to pictures to learn from.
        flip: Mirror half of them, for augmentations that crop; off for letters and digits.
        padding_px: How far padded crops reach over the border. he2016: 4 of 32 px.
        operations: Random operations applied to a picture. cubuk2020.
        magnitude: How strongly, above 0 and below 30. cubuk2020.
        mix: Whether pictures are mixed in pairs; targets are class probabilities then.
        cover: Held-out pictures are scaled to cover this many times the size before their centre is
            cut out. ``None``: 256/224 with random resized crops, otherwise 1.
        mean: Subtracted from code values, one number a channel. ``None``: that of ImageNet, for
            grey pictures the mean over its channels.
        std: What they are divided by then. ``None``: as for the mean.
        workers: Processes that make batches of :meth:`stream` and :meth:`held_out` ahead, where
            pictures are not held in memory or random operations take their time; 0 for none.
        memory_budget_mb: Data sets are held in memory if they need no more than this, each of the
            two parts [MB].
        skip_corrupt: Skip pictures that cannot be read (a warning names them) instead of stopping.

    Raises:
        InputError: If a setting is out of its range, or labels are missing.
        UnknownNameError: If there is no such split, column, or augmentation.
        FileFormatError: If a local path does not exist or holds no data set.
        RunError: If the data set would have to be fetched, but cannot be.
        MissingDependencyError: If ``datasets``, or kornia where it is needed, is not installed.
    """

    sources: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        name: str = "cifar10",
        split_train: str = "train",
        split_held_out: str | None = None,
        size: int | tuple[int, int] = 32,
        channels: int = 3,
        configuration: str | None = None,
        data_dir: str | None = None,
        cache_dir: str | None = None,
        column: str | None = None,
        label_column: str | None = None,
        augmentation: Augmentation = "flip_crop",
        flip: bool = True,
        padding_px: int = 4,
        operations: int = 2,
        magnitude: int = 9,
        mix: Mix = "none",
        cover: float | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        workers: int = 2,
        memory_budget_mb: float = 1024.0,
        skip_corrupt: bool = False,
    ) -> None:
        check_settings(augmentation, mix, channels, padding_px, workers, memory_budget_mb, cover)
        self.size = checked_size("NamedData", size)
        self.name, self.configuration, self.data_dir = name, configuration, data_dir
        self.cache_dir, self.column, self.label_column = cache_dir, column, label_column
        self.channels, self.augmentation, self.flip, self.mix = channels, augmentation, flip, mix
        self.padding_px, self.operations, self.magnitude = padding_px, operations, magnitude
        self.workers, self.memory_budget_mb = workers, memory_budget_mb
        self.skip_corrupt = skip_corrupt
        self._resized = augmentation.startswith("random_resized_crop")
        self.cover = cover or (_PHOTOGRAPH_COVER if self._resized else 1.0)
        usual = (IMAGENET_MEAN, IMAGENET_STD)
        if channels == 1:
            usual = tuple((sum(values) / 3,) for values in usual)  # type: ignore[assignment]
        self.mean, self.std = checked_moments(
            "NamedData", channels, mean or usual[0], std or usual[1]
        )
        self._operations = (
            RandomOperations(operations, magnitude)
            if augmentation.endswith("randaugment")
            else None
        )
        if mix != "none":
            drawn_mixture(mix, (2, channels, *self.size), 0)  # says now if kornia is missing
        self.sources = paper_keys(augmentation, mix, mean is None or std is None)
        self.split_train = split_train
        self.split_held_out = split_held_out or self._usual_held_out_split()
        if self.split_held_out == split_train:
            raise InputError(f"NamedData learns from {split_train!r} and cannot hold it out, too.")
        self._open()

    def _open(self) -> None:
        """Open both parts and agree on the classes."""
        parts = []
        for split in (self.split_train, self.split_held_out):
            table = named_images(
                self.name,
                split,
                column=self.column,
                label_column=self.label_column,
                configuration=self.configuration,
                data_dir=self.data_dir,
                cache_dir=self.cache_dir,
            )
            if len(table) == 0:
                raise InputError(f"The split {split!r} of {self.name!r} holds no pictures.")
            parts.append(
                HeldPictures(table, budget_mb=self.memory_budget_mb, skip_corrupt=self.skip_corrupt)
            )
        self._train, self._unseen = parts
        names = self._train.table.class_names
        self.classes = len(names) or int(self._train.labels.max()) + 1
        self.class_names = names or tuple(str(number) for number in range(self.classes))
        check_classes(self.name, self._train, self._unseen, self.classes)
        self._epochs = Epochs(len(self._train))

    def _usual_held_out_split(self) -> str:
        known = split_names(self.name, self.configuration, self.data_dir, self.cache_dir)
        found = [split for split in _HELD_OUT_SPLITS if split in known]
        if not found:
            raise InputError(
                f"NamedData found no part of {self.name!r} to hold out: its splits are "
                f"{', '.join(known) or 'none'}. Name one as split_held_out=..., or share one out: "
                f"split_train='{self.split_train}[:90%]', "
                f"split_held_out='{self.split_train}[90%:]'."
            )
        return found[0]

    def __len__(self) -> int:
        """Return the number of pictures to learn from, those skipped included."""
        return len(self._train)

    @property
    def held_out_count(self) -> int:
        """Return the number of pictures held out, those skipped included."""
        return len(self._unseen)

    @property
    def in_memory(self) -> bool:
        """Whether the pictures to learn from are held in memory; decodes them at the first call."""
        return self._train.in_memory

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return what is wrong with the pictures that were skipped so far, one line each."""
        return (*self._train.bad.values(), *self._unseen.bad.values())

    def batch(
        self, number: int, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)
    ) -> LabeledBatch:
        """Return one batch to learn from, see :meth:`LabeledData.batch`."""
        own = own_rows(batch_size, part)
        order = self._epochs.rows(number, batch_size, seed)
        if self.mix == "none":
            images, targets = self._learned(order, own, number, seed)
            return LabeledBatch(self.normalised(images), targets)
        shape = (batch_size, self.channels, *self.size)
        mixture = drawn_mixture(self.mix, shape, seed, MIXING, number)
        images, targets = self._learned(order, mixture.needed(own), number, seed)
        images, shares = mixture.mixed(own, images, targets, self.classes)
        return LabeledBatch(self.normalised(images), shares)

    def _learned(
        self, order: Sequence[int], rows: Sequence[int], number: int, seed: int
    ) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, "B"]]:
        """Return rows of a batch, changed at random, in code values, and their classes."""
        chosen = [self._train.next_good(order[row]) for row in rows]
        drawn = torch.rand(
            len(order),
            3 + 4 * TRIES,
            generator=generator_of(seed, CROPS, number),
            dtype=torch.double,
        )[list(rows)]
        if self._resized:
            images, targets = self._resized_crops(chosen, drawn)
        elif self.augmentation == "none":
            images, targets = self._whole(self._train, chosen)
        else:
            images, targets = self._padded_crops(chosen, drawn)
        if self._operations is not None:
            images = self._operations(images, rows, len(order), seed, OPERATIONS, number)
        return images, targets

    def _padded_crops(self, chosen: Sequence[int], drawn: Tensor) -> tuple[Tensor, Tensor]:
        stacked, pictures = self._train.stacked(), self._train
        cut = partial(
            padded_crops, chances=drawn[:, :3], padding_px=self.padding_px, flip=self.flip
        )
        if stacked is None or stacked.shape[-2:] != self.size or self.cover != 1:
            images, targets = self._whole(pictures, chosen)
            return cut(images), targets
        crops = cut(stacked[list(chosen)])  # cheaper with 8 bits
        return with_channels(_code(crops), self.channels), pictures.labels[list(chosen)]

    def _resized_crops(self, chosen: Sequence[int], drawn: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for index, chances in zip(chosen, drawn, strict=True):
            pixels, label = self._train.picture(index)
            tries = chances[3:].reshape(TRIES, 4).tolist()
            top, left, height, width = resized_crop_box(pixels.shape[1], pixels.shape[2], tries)
            image = functional.interpolate(  # with 8 bits, which is cheaper and fine enough
                pixels[None, :, top : top + height, left : left + width],
                size=self.size,
                mode="bilinear",
                antialias=True,
                align_corners=False,
            )
            images.append(image.flip(-1) if self.flip and chances[2] < 0.5 else image)
            labels.append(label)
        most = max(image.shape[1] for image in images)
        crops = torch.cat([image.expand(-1, most, -1, -1) for image in images])
        return with_channels(_code(crops), self.channels), torch.tensor(labels)

    def _whole(self, pictures: HeldPictures, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return whole pictures at the size and with the channels of this data set."""
        stacked = pictures.stacked()
        if stacked is not None:
            return self.fit(_code(stacked[list(chosen)])), pictures.labels[list(chosen)]
        found = [pictures.picture(index) for index in chosen]
        images = torch.cat([self.fit(_code(pixels[None])) for pixels, _ in found])
        return images, torch.tensor([label for _, label in found])

    def stream(
        self,
        first_number: int = 0,
        *,
        batch_size: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[LabeledBatch]:
        """Yield batches without end, see :meth:`LabeledData.stream`."""
        own_rows(batch_size, part)
        if self.workers == 0 or (self.in_memory and self._operations is None):
            return super().stream(first_number, batch_size=batch_size, seed=seed, part=part)
        return made_ahead(
            _Batches(self, batch_size, seed, part),
            count(first_number),
            workers=self.workers,
            bad=self._bad,
            found_bad=self._found_bad,
        )

    def held_out(self, batch_size: int, part: tuple[int, int] = (0, 1)) -> Iterator[LabeledBatch]:
        """Yield the held-out pictures once, without those skipped; see the base class."""
        own_rows(part[1], part)
        if not is_count(batch_size):
            raise InputError(f"held_out expected a batch size of at least 1, got {batch_size!r}.")
        numbers = range(len(self._unseen))[part[0] :: part[1]]
        keys = [numbers[i : i + batch_size] for i in range(0, len(numbers), batch_size)]
        made: Iterator[LabeledBatch] = map(self._held_out_batch, keys)
        if self.workers > 0 and not self._unseen.in_memory:
            made = made_ahead(
                self._held_out_batch,
                keys,
                workers=min(self.workers, max(len(keys), 1)),
                bad=self._bad,
                found_bad=self._found_bad,
            )
        for batch in made:
            if len(batch.targets):
                yield batch
        self._unseen.tell()
        self._train.tell()

    def _held_out_batch(self, numbers: Sequence[int]) -> LabeledBatch:
        chosen = [number for number in numbers if self._unseen.good(number) is not None]
        if not chosen:
            return LabeledBatch(torch.empty(0), torch.empty(0, dtype=torch.long))
        images, targets = self._whole(self._unseen, chosen)
        return LabeledBatch(self.normalised(images), targets)

    def fit(self, picture: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        """Scale pictures, cut out their centre, and make them grey or coloured."""
        return with_channels(fitted(picture, self.size, self.cover), self.channels)

    def _bad(self) -> dict[str, dict[int, str]]:
        return {"train": self._train.bad, "held out": self._unseen.bad}

    def _found_bad(self, found: dict[str, dict[int, str]]) -> None:
        self._train.add_bad(found["train"])
        self._unseen.add_bad(found["held out"])


class _Batches:
    """Makes a batch of its number, in whichever process."""

    def __init__(self, data: NamedData, batch_size: int, seed: int, part: tuple[int, int]) -> None:
        self.data, self.batch_size, self.seed, self.part = data, batch_size, seed, part

    def __call__(self, number: int) -> LabeledBatch:
        return self.data.batch(number, self.batch_size, self.seed, self.part)


def _code(pixels: Tensor) -> Tensor:
    """Return 8-bit pixels as code values in [0, 1]."""
    return pixels.to(torch.get_default_dtype()) / 255
