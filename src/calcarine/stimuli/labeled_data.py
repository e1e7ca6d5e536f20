"""Labeled pictures to learn classes from: endless batches that a number and a seed determine.

    batch(n, B, seed)     pictures of an endless stream of epochs, each one a permutation of all
    held_out(B)           pictures that are never learned from, in order and as they are
    prepare(picture)      a picture of your own, as held-out ones are shown to a network

Nothing has to be remembered to go on where a run was stopped: batch n is made without those before
it, its random changes included. Several processes share a batch by taking equal runs of its rows,
which are the same as in one process.

    shown    x = (code - mean) / std, per channel

Axes    B batch | C channel, 1 (grey) or 3 | H W rows down, columns right | K classes
Units   code values in [0, 1]; shown ones have no unit
Source  ours; the mean and the deviation that most networks for ImageNet are given are those of
        russakovsky2015's training pictures, as used for the published weights of torchvision
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from calcarine.errors import InputError, ShapeError
from calcarine.stimuli.light import luminance

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "LabeledBatch",
    "LabeledData",
    "as_code_values",
    "checked_moments",
    "fitted",
    "normalised",
    "with_channels",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's training pictures, red green blue."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Their standard deviation."""

_ROUNDING = 1e-5  # how far outside [0, 1] a code value may lie


class LabeledBatch(NamedTuple):
    """Pictures and what they show.

    Attributes:
        images: Pictures as shown to a network, of torch's default type.
        targets: Class numbers (B,), or class probabilities (B, K) where pictures are mixed.
    """

    images: Float[Tensor, "B C H W"]
    targets: Shaped[Tensor, "B ..."]


class LabeledData(ABC):
    """Pictures with classes, some to learn from and some held out.

    Attributes:
        classes: Number of classes.
        class_names: Their names.
        channels: 1 (grey) or 3.
        size: Height and width of the pictures, px.
        mean: What is subtracted from code values, per channel.
        std: What they are divided by then, per channel.
    """

    classes: int
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of pictures to learn from."""

    @property
    @abstractmethod
    def held_out_count(self) -> int:
        """Return the number of pictures held out."""

    @property
    def skipped(self) -> tuple[str, ...]:
        """Return what is known to be wrong with pictures that were skipped, one line each."""
        return ()

    @abstractmethod
    def batch(
        self, number: int, batch_size: int, seed: int, part: tuple[int, int] = (0, 1)
    ) -> LabeledBatch:
        """Return one batch to learn from.

        Args:
            number: Number of the batch in the endless stream, counted from 0.
            batch_size: Rows of the whole batch.
            seed: What the order of pictures and all random changes follow from.
            part: Number of this process, counted from 0, and how many share the batch.

        Returns:
            This process's rows.

        Raises:
            InputError: If a number is negative, or the batch cannot be shared equally.
            FileFormatError: If a picture cannot be read and is not to be skipped.
        """

    def stream(
        self,
        first_number: int = 0,
        *,
        batch_size: int,
        seed: int,
        part: tuple[int, int] = (0, 1),
    ) -> Iterator[LabeledBatch]:
        """Yield batches without end, made ahead by other processes where that helps.

        Args:
            first_number: Number of the first batch, others than 0 to go on with a run.
            batch_size: As in :meth:`batch`.
            seed: As in :meth:`batch`.
            part: As in :meth:`batch`.
        """
        return (self.batch(number, batch_size, seed, part) for number in count(first_number))

    @abstractmethod
    def held_out(self, batch_size: int, part: tuple[int, int] = (0, 1)) -> Iterator[LabeledBatch]:
        """Yield the held-out pictures once, in batches, the last of which may be smaller.

        Args:
            batch_size: Rows of a batch of this process.
            part: Number of this process, counted from 0, and how many share the pictures: each
                takes every so many, so one may have a picture more than another.
        """

    @abstractmethod
    def fit(self, picture: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        """Bring pictures to the size and the channels of this data set, in code values."""

    def prepare(self, picture: Float[Tensor, "B C H W"]) -> Float[Tensor, "B c h w"]:
        """Prepare pictures exactly as held-out ones.

        Args:
            picture: sRGB code values in [0, 1], one channel or three, of any size.

        Returns:
            Pictures for a network, of the same type and on the same device.

        Raises:
            ShapeError: If the axes are others.
            InputError: If values are no code values in [0, 1].
        """
        if picture.ndim != 4 or picture.shape[1] not in (1, 3) or 0 in picture.shape:
            raise ShapeError(
                "prepare expected pictures with axes (batch, channel, height, width) and 1 or 3 "
                f"channels, got shape {tuple(picture.shape)}. For one picture pass picture[None]."
            )
        if not picture.is_floating_point():
            raise InputError(
                f"prepare expected code values in [0, 1], got {picture.dtype}. Divide whole "
                "numbers by their white, for example picture / 255."
            )
        if not ((picture >= -_ROUNDING) & (picture <= 1 + _ROUNDING)).all():
            low, high = picture.detach().aminmax()
            raise InputError(
                f"prepare expected code values in [0, 1], got {low.item():.4g} to "
                f"{high.item():.4g}. Rescale the picture first."
            )
        return self.normalised(self.fit(picture))

    def normalised(self, picture: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return code values as they are shown to a network."""
        return normalised(picture, self.mean, self.std)

    def display(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return pictures as shown to a network as code values again, in [0, 1]."""
        return as_code_values(images, self.mean, self.std)


def normalised(
    picture: Float[Tensor, "B C H W"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B C H W"]:
    """Return code values as they are shown to a network, ``(code - mean) / std`` per channel."""
    middle, spread = (picture.new_tensor(v)[:, None, None] for v in (mean, std))
    return (picture - middle) / spread


def as_code_values(
    images: Float[Tensor, "B C H W"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "B C H W"]:
    """Return pictures as shown to a network as code values again, cut to [0, 1]."""
    middle, spread = (images.new_tensor(v)[:, None, None] for v in (mean, std))
    return (images * spread + middle).clamp(0.0, 1.0)


def fitted(
    picture: Float[Tensor, "B C H W"], size: tuple[int, int], cover: float = 1.0
) -> Float[Tensor, "B C h w"]:
    """Cut the centre out of pictures, scaled without distortion.

    Code values are averaged, not light, under a triangle as wide as the reduction: this is what
    networks for the usual data sets are trained and tested with.

    Args:
        picture: Pictures.
        size: Height and width wanted, px.
        cover: How many times the size the scaled picture just covers before it is cut.
    """
    height, width = picture.shape[-2:]
    scale = cover * max(size[0] / height, size[1] / width)
    scaled = max(size[0], round(scale * height)), max(size[1], round(scale * width))
    if scaled != (height, width):
        picture = functional.interpolate(
            picture, size=scaled, mode="bilinear", antialias=True, align_corners=False
        )
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    return picture[..., top : top + size[0], left : left + size[1]]


def with_channels(
    picture: Float[Tensor, "B C H W"], channels: int
) -> Float[Tensor, "B channels H W"]:
    """Return grey pictures of equal luminance, or colour pictures."""
    if picture.shape[1] == channels:
        return picture
    return luminance(picture) if channels == 1 else picture.expand(-1, 3, -1, -1)


def checked_moments(
    owner: str, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return a mean and a standard deviation for every channel.

    Raises:
        InputError: If there are others than one per channel, or a deviation is not above 0.
    """
    if len(mean) != channels or len(std) != channels or not all(s > 0 for s in std):
        raise InputError(
            f"{owner} expected mean and std with one number for each of {channels} channel(s), std "
            f"above 0, got {mean!r} and {std!r}."
        )
    return tuple(map(float, mean)), tuple(map(float, std))
