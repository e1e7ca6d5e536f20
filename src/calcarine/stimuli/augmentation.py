"""Augmentation of pictures to learn from: crops, mirror images, random operations, mixtures.

    padded crop    a window of the picture at a random place, up to some pixels over the border
    resized crop   a random part (8 to 100 % of the area, 3:4 to 4:3), scaled to the size
    operations     RandAugment: some of 15 operations, drawn anew for every picture
    mixtures       MixUp   x <- (1 - l) x + l x',             y <- (1 - l) y + l y'
                   CutMix  a box of x' that covers the share l of x, labels as above

Every function takes the chances of each row of a whole batch, or numbers that a seed is made from,
so what becomes of a row does not depend on which process makes it, or on the rows made beside it.
The operations and the mixtures are those of kornia, which draw from torch's global generator: it is
set for the time of the call and put back.

Axes    B batch | C channel, 3 or 1 | H W rows down, columns right | K classes
Units   code values in [0, 1], or 8-bit ones for crops
Source  cubuk2020 (RandAugment), zhang2018 (MixUp), yun2019 (CutMix), szegedy2015 (resized crop),
        he2016 (padded crop)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from calcarine.errors import InputError, require
from calcarine.stimuli._epochs import seed_of

__all__ = ["Mixture", "RandomOperations", "drawn_mixture", "padded_crops", "resized_crop_box"]

AREA = (0.08, 1.0)
"""Smallest and largest share of the area that a resized crop shows. szegedy2015."""
ASPECT = (3 / 4, 4 / 3)
"""Smallest and largest ratio of its width to its height. szegedy2015."""
KINDS = 15
"""How many operations kornia's RandAugment chooses from: those of cubuk2020 but the identity, and
inverting and adding above a threshold."""
TRIES = 10
"""Draws of a resized crop before the centre is taken. Ours, as many as others make."""


def padded_crops(
    pictures: Tensor,
    chances: Float[Tensor, "B 3"],
    *,
    padding_px: int,
    flip: bool,
) -> Tensor:
    """Cut a window of the same size from every picture, black around it.

    Args:
        pictures: Pictures (B, C, H, W), of whole or of real numbers.
        chances: Three uniform numbers in [0, 1) a picture: row, column, mirrored or not.
        padding_px: How far the window may reach over the border.
        flip: Mirror half of the pictures left to right.
    """
    height, width = pictures.shape[-2:]
    padded = functional.pad(pictures, (padding_px,) * 4)
    places = (chances[:, :2] * (2 * padding_px + 1)).long().tolist()
    crops = torch.empty_like(pictures)
    for crop, picture, (top, left) in zip(crops, padded, places, strict=True):
        crop.copy_(picture[:, top : top + height, left : left + width])
    if not flip:
        return crops
    return torch.where((chances[:, 2] < 0.5)[:, None, None, None], crops.flip(-1), crops)


def resized_crop_box(
    height: int, width: int, chances: Sequence[Sequence[float]]
) -> tuple[int, int, int, int]:
    """Choose a part of a picture: top, left, height, width, px.

    Args:
        height: Height of the picture, px.
        width: Width of the picture, px.
        chances: Tries, each four uniform numbers in [0, 1): area, shape, row, column. The first
            part that fits is taken; without any, the largest part in the centre whose shape is
            allowed.
    """
    for area_chance, shape_chance, row_chance, column_chance in chances:
        area = height * width * (AREA[0] + area_chance * (AREA[1] - AREA[0]))
        low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
        aspect = math.exp(low + shape_chance * (high - low))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            top = int(row_chance * (height - down + 1))
            return top, int(column_chance * (width - across + 1)), down, across
    across = min(width, max(1, round(height * ASPECT[1])))
    down = min(height, max(1, round(width / ASPECT[0])))
    return (height - down) // 2, (width - across) // 2, down, across


class RandomOperations:
    """RandAugment: operations such as turning, posterising or inverting, some for each picture.

    Args:
        count: How many are applied to a picture, one after the other. cubuk2020: 2 for ResNet-50.
        magnitude: How strongly, above 0 and below 30. cubuk2020: 9 for ResNet-50.

    Raises:
        InputError: If a number is out of its range.
        MissingDependencyError: If kornia is not installed.
    """

    def __init__(self, count: int = 2, magnitude: int = 9) -> None:
        if not (1 <= count <= KINDS and 0 < magnitude < 30):
            raise InputError(
                f"RandAugment expected 1 to {KINDS} operations and a magnitude above 0 and "
                f"below 30, got {count} and {magnitude}."
            )
        self.count, self.magnitude = count, magnitude
        library = require("kornia.augmentation.auto", extra="train", purpose="RandAugment")
        self._all: Any = library.RandAugment(n=KINDS, m=magnitude)

    @torch.no_grad()
    def __call__(
        self,
        pictures: Float[Tensor, "B C H W"],
        rows: Sequence[int],
        batch_size: int,
        *numbers: int,
    ) -> Float[Tensor, "B C H W"]:
        """Apply operations to some rows of a batch.

        Args:
            pictures: Code values in [0, 1].
            rows: Which rows of the whole batch they are.
            batch_size: Rows of the whole batch.
            *numbers: Whole numbers of at least 0 that determine what happens to each row.
        """
        channels, here = pictures.shape[1], list(rows)
        changed = pictures.expand(-1, 3, -1, -1).clone()  # some operations know three channels only
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(*numbers))
            chosen = torch.rand(batch_size, KINDS).argsort(1)[here, : self.count]
            drawn = self._all.forward_parameters(torch.Size((batch_size, *changed.shape[1:])))
        # every operation is called once a turn, for all rows that it has come to
        for turn in chosen.unbind(1):
            for number, (name, ((_, parameters),)) in enumerate(drawn):
                mine = (turn == number).nonzero()[:, 0]
                if len(mine):
                    picked = [here[i] for i in mine.tolist()]
                    kept = {
                        key: value if key == "forward_input_shape" else value[picked]
                        for key, value in parameters.items()
                    }
                    operation = self._all.get_submodule(name)[0]
                    changed[mine] = operation(changed[mine], params=kept)
        return changed[:, :channels].clamp(0.0, 1.0)


class Mixture(NamedTuple):
    """Which rows of a batch are mixed, and how; made by :func:`drawn_mixture`.

    Attributes:
        operation: The operation of kornia.
        parameters: What it has drawn for the whole batch.
        partners: The other row of every row.
    """

    operation: Any
    parameters: dict[str, Tensor]
    partners: Int[Tensor, "B"]

    def needed(self, own: Sequence[int]) -> list[int]:
        """Return the rows that have to be at hand to mix some: these, and then their partners."""
        extra = dict.fromkeys(int(self.partners[row]) for row in own)
        return [*own, *(row for row in extra if row not in set(own))]

    def mixed(
        self,
        own: Sequence[int],
        images: Float[Tensor, "N C H W"],
        targets: Int[Tensor, "N"],
        classes: int,
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B K"]]:
        """Mix rows.

        Args:
            own: The rows wanted.
            images: Images of the rows that :meth:`needed` lists.
            targets: Their classes.
            classes: How many classes there are.

        Returns:
            The rows wanted, and the probability of every class.
        """
        rows = self.needed(own)
        place = {row: i for i, row in enumerate(rows)}
        # rows that are here only as partners are mixed, too, with anything, and then left out
        pairs = torch.tensor([place.get(int(self.partners[row]), 0) for row in rows])
        kept = dict(self.parameters)
        kept["batch_prob"] = kept["batch_prob"][rows]
        cut = "crop_src" in kept
        if not cut:
            kept |= {"mixup_pairs": pairs, "mixup_lambdas": kept["mixup_lambdas"][rows]}
        else:
            kept |= {"mix_pairs": pairs[None], "crop_src": kept["crop_src"][:, rows]}
        mixed, labels = self.operation(images, targets, params=kept)
        first, second, share = labels.reshape(-1, 3)[: len(own)].unbind(1)
        one = functional.one_hot(first.long(), classes).to(images)
        other = functional.one_hot(second.long(), classes).to(images)
        share = share.to(images)[:, None]
        if cut:  # here kornia says how much of the row itself is left, there how much of the other
            share = 1 - share
        return mixed[: len(own)], (1 - share) * one + share * other


def drawn_mixture(
    kind: Literal["mixup", "cutmix", "both"],
    shape: tuple[int, int, int, int],
    *numbers: int,
) -> Mixture:
    """Draw how the rows of a batch are mixed.

    Shares are uniform, as both papers have them for small pictures.

    Args:
        kind: What to do; ``"both"`` tosses a coin for every batch.
        shape: Shape of the whole batch (B, C, H, W).
        *numbers: Whole numbers of at least 0 that determine the draw.

    Raises:
        MissingDependencyError: If kornia is not installed.
    """
    library = require("kornia.augmentation", extra="train", purpose="Mixing pictures")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*numbers))
        cut = kind == "cutmix" or (kind == "both" and torch.rand(()).item() < 0.5)
        keys = {"data_keys": ["input", "class"]}
        operation = (
            library.RandomCutMixV2(use_correct_lambda=True, **keys)
            if cut
            else library.RandomMixUpV2(**keys)
        )
        parameters = operation.forward_parameters(torch.Size(shape))
    pairs = parameters["mix_pairs"][0] if cut else parameters["mixup_pairs"]
    return Mixture(operation, parameters, pairs)
