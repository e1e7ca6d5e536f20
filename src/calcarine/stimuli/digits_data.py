"""Handwritten digits to learn from, without a download, each time written a little differently.

The digits come with scikit-learn, 1797 of 8 x 8 pixels. The last third in the order of the data
set, 599, is held out. Enlarging and distorting are one bilinear resampling.

Axes    B batch | C 1 channel, ink 1 on paper 0 | H W rows down, columns right
Source  alpaydin1998 (digits), simard2003 (affine distortion of digits); the split is ours
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_size, is_count
from calcarine.stimuli._epochs import JITTER, Epochs, generator_of, own_rows
from calcarine.stimuli._jitter import drawn_affine, resampled
from calcarine.stimuli.datasets import digits
from calcarine.stimuli.labeled_data import (
    LabeledBatch,
    LabeledData,
    checked_moments,
    fitted,
    with_channels,
)

__all__ = ["DigitsData"]

_STORED = (8, 8)


class DigitsData(LabeledData):
    """Handwritten digits, 1198 to learn from and 599 held out.

    Args:
        size: Height and width of the pictures [px], or one number for a square.
        rotation_deg: Digits to learn from are turned by up to this angle. Ours, as those below.
        shear: Slanted by up to this much.
        stretch: Widened or narrowed by up to this share.
        shift_px: Moved by up to this many of the 8 pixels they are stored with.
        mean: Subtracted from the ink, one number. Of the enlarged digits to learn from.
        std: What the ink is divided by then. Of the same.

    Raises:
        InputError: If a number is out of its range.
        MissingDependencyError: If scikit-learn, which holds the digits, is not installed.
    """

    sources: ClassVar[tuple[str, ...]] = ("alpaydin1998", "simard2003")

    def __init__(
        self,
        *,
        size: int | tuple[int, int] = 32,
        rotation_deg: float = 12.0,
        shear: float = 0.15,
        stretch: float = 0.1,
        shift_px: float = 0.75,
        mean: tuple[float, ...] = (0.29,),
        std: tuple[float, ...] = (0.315,),
    ) -> None:
        limits = (rotation_deg, shear, stretch, shift_px)
        if not (min(limits) >= 0 and stretch < 1 and max(limits) < 180):
            raise InputError(
                "DigitsData expected rotation_deg, shear and shift_px >= 0 and stretch in [0, 1), "
                f"got {limits}."
            )
        self.size = checked_size("DigitsData", size)
        self.rotation_deg, self.shear, self.stretch = rotation_deg, shear, stretch
        self.shift_px = shift_px
        self.classes, self.channels = 10, 1
        self.class_names = tuple(str(digit) for digit in range(10))
        self.mean, self.std = checked_moments("DigitsData", 1, mean, std)
        found = digits()
        self._learned = 2 * len(found.labels) // 3
        self._images, self._labels = found.images, found.labels
        self._epochs = Epochs(self._learned)

    def __len__(self) -> int:
        """Return the number of digits to learn from."""
        return self._learned

    @property
    def held_out_count(self) -> int:
        """Return the number of digits held out."""
        return len(self._labels) - self._learned

    def batch(
        self, number: int, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)
    ) -> LabeledBatch:
        """Return one batch to learn from, see :meth:`LabeledData.batch`."""
        own = own_rows(batch_size, part)
        chosen = self._epochs.rows(number, batch_size, seed)[own.start : own.stop]
        affine = drawn_affine(
            batch_size,
            generator_of(seed, JITTER, number),
            size=_STORED,
            rotation_deg=self.rotation_deg,
            shear=self.shear,
            stretch=self.stretch,
            shift_px=self.shift_px,
        )
        pictures = resampled(self._images[chosen], affine[own.start : own.stop], self.size)
        return LabeledBatch(self.normalised(pictures), self._labels[chosen])

    def held_out(self, batch_size: int, part: tuple[int, int] = (0, 1)) -> Iterator[LabeledBatch]:
        """Yield the held-out digits once, see :meth:`LabeledData.held_out`."""
        own_rows(part[1], part)
        if not is_count(batch_size):
            raise InputError(f"held_out expected a batch size of at least 1, got {batch_size!r}.")
        images = self._images[self._learned :][part[0] :: part[1]]
        labels = self._labels[self._learned :][part[0] :: part[1]]
        for some, names in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            yield LabeledBatch(self.normalised(self.fit(some)), names)

    def fit(self, picture: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1 h w"]:
        """Average the central square over 8 x 8 blocks, as digits were made, and enlarge these.

        Args:
            picture: Light ink on dark paper, code values in [0, 1].
        """
        side = min(picture.shape[-2:])
        square = fitted(with_channels(picture, 1), (side, side))
        stored = functional.adaptive_avg_pool2d(square, _STORED)
        same = torch.eye(2, 3).expand(len(stored), -1, -1)
        return resampled(stored, same, self.size)
