"""What :class:`calcarine.stimuli.NamedData` can be set to, and who is to be cited for it."""

from __future__ import annotations

from typing import Literal, get_args

from calcarine.errors import InputError, UnknownNameError
from calcarine.stimuli._held_pictures import HeldPictures

__all__ = ["Augmentation", "Mix", "check_classes", "check_settings", "paper_keys"]

Augmentation = Literal[
    "none", "flip_crop", "randaugment", "random_resized_crop", "random_resized_crop_randaugment"
]
Mix = Literal["none", "mixup", "cutmix", "both"]


def paper_keys(augmentation: str, mix: str, imagenet: bool) -> tuple[str, ...]:
    """Return the keys of the papers behind the settings in use."""
    used = {
        "russakovsky2015": imagenet,
        "he2016": augmentation in ("flip_crop", "randaugment"),
        "szegedy2015": augmentation.startswith("random_resized_crop"),
        "krizhevsky2012": augmentation.startswith("random_resized_crop"),
        "cubuk2020": augmentation.endswith("randaugment"),
        "zhang2018": mix in ("mixup", "both"),
        "yun2019": mix in ("cutmix", "both"),
    }
    return tuple(sorted(key for key, applies in used.items() if applies))


def check_settings(
    augmentation: str,
    mix: str,
    channels: int,
    padding_px: int,
    workers: int,
    memory_budget_mb: float,
    cover: float | None,
) -> None:
    """Check settings that are wrong on their own.

    Raises:
        InputError: If a number is out of its range.
        UnknownNameError: If a choice is not known.
    """
    if augmentation not in get_args(Augmentation):
        raise UnknownNameError("augmentation", str(augmentation), get_args(Augmentation))
    if mix not in get_args(Mix):
        raise UnknownNameError("mix", str(mix), get_args(Mix))
    if channels not in (1, 3):
        raise InputError(f"NamedData expected channels as 1 (grey) or 3, got {channels!r}.")
    if padding_px < 0 or workers < 0 or not memory_budget_mb >= 0:
        raise InputError(
            "NamedData expected padding_px, workers and memory_budget_mb of at least 0, got "
            f"{padding_px}, {workers} and {memory_budget_mb}."
        )
    if cover is not None and not cover >= 1:
        raise InputError(f"NamedData expected cover of at least 1, or None, got {cover!r}.")


def check_classes(name: str, train: HeldPictures, unseen: HeldPictures, classes: int) -> None:
    """Check that labels are class numbers, and mean the same in both parts.

    Raises:
        InputError: If they are not, or do not.
    """
    other = unseen.table.class_names
    if other and train.table.class_names and other != train.table.class_names:
        raise InputError(
            f"The two parts of {name!r} have different classes: {train.table.class_names} and "
            f"{other}."
        )
    for held in (train, unseen):
        low, high = int(held.labels.min()), int(held.labels.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"Labels of {name!r} in {held.table.label_column!r} should be 0 to {classes - 1}, "
                f"but run from {low} to {high}. Parts without labels, like the test part of some "
                "data sets, cannot be used; name another one as split_held_out=..."
            )
