"""Networks in time that classify, for the verb that shows them pictures.

    of a run       the network that went through all steps, or the one trained directly
    of a file      a published state dict; depth, classes, channels and size follow from its tensors

Of a file only tensors are unpacked; one that wants to run code is refused. Pictures for published
weights are prepared as in their training: shorter side 256/224 of the network's, the centre cut
out, mean and standard deviation of ImageNet taken off per channel.

Axes    B batch | C channels of a file, 1 or 3 | c channels of the network | H W rows down
Source  soo2024 (published weights)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from calcarine.commands.shared import check_age, check_run
from calcarine.errors import CalcarineWarning, FileFormatError, InputError
from calcarine.files import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from calcarine.models import CordsNet

__all__ = ["Classifier", "Which", "class_names_of", "network_of_run", "published_network"]

Which = Literal["staged", "direct"]

_STEM = "inp_conv.parametrizations.weight.original1"
_READOUT = "out_fc.parametrizations.weight.original1"


@dataclass(frozen=True)
class Classifier:
    """A network, and how pictures get into it.

    Args:
        model: The network, in ``eval()``.
        class_names: One per class.
        prepare: From sRGB code values (B, C, H, W) to what the network takes (B, c, H, W).
        display: The inverse as far as there is one, code values in [0, 1].
        data: What the run learned from, with its held-out images; ``None`` for a file.
        name: What the network is called.
    """

    model: CordsNet
    class_names: tuple[str, ...]
    prepare: Callable[[Tensor], Tensor]
    display: Callable[[Tensor], Tensor]
    data: Any
    name: str


def network_of_run(run: Path, age: int | None, which: Which) -> Classifier:
    """Open the network of a run.

    Raises:
        FileFormatError: If there is no such run.
        InputError: If it is one of something else, or has no such weights.
    """
    check_run(run)
    if age is not None:
        check_age(run, age)
    from calcarine.training import open_run
    from calcarine.training.cordsnet_task import CordsNetTask

    opened = open_run(run, age)
    task = opened.task
    if not isinstance(task, CordsNetTask):
        raise InputError(
            f"{run} was expected to be a run of a CordsNet, such as one of the recipe "
            f"cordsnet-digits; it is one of {opened.recipe.name}."
        )
    model = task.model if which == "staged" else task.direct
    if model is None:
        raise InputError(f"{run} has no directly trained network; leave out --network.")
    from calcarine.report.cordsnet_measures import reservation

    if remark := reservation(opened, which):
        warnings.warn(remark, CalcarineWarning, stacklevel=2)
    data, name = task.data, f"{opened.recipe.name or run.name}, {which}, {opened.update} updates"
    names = tuple(map(str, data.class_names))
    return Classifier(model.eval(), names, data.prepare, data.display, data, name)


def published_network(path: Path) -> Classifier:
    """Read a published state dict into a network of its depth and size.

    Raises:
        FileFormatError: If the file cannot be read, or holds no such weights.
        InputError: If weights are missing or left over.
    """
    from calcarine.models import CordsNet

    weights = _state_dict(path)
    plain = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    areas = {m[1] for name in plain if (m := re.match(r"area_conv\.(\d+)\.", name))}
    if _STEM not in plain or _READOUT not in plain or "conv_bias.0" not in plain:
        raise FileFormatError(
            f"{path} was expected to hold the weights of a CordsNet under their published names, "
            f"such as {_STEM}; it holds {', '.join(list(weights)[:3]) or 'nothing'}."
        )
    height, width = (4 * side for side in plain["conv_bias.0"].shape[-2:])
    model = CordsNet(
        depth=_depth(len(areas), path), classes=len(plain[_READOUT]),
        channels=plain[_STEM].shape[1], image_size=(height, width),
    )  # fmt: skip
    model.load_published(weights)
    names = tuple(str(k) for k in range(model.classes))
    prepare, display = _as_in_training(model.channels, (height, width))
    return Classifier(model.eval(), names, prepare, display, None, path.stem)


def _depth(areas: int, path: Path) -> Literal[2, 4, 6, 8]:
    known: tuple[Literal[2, 4, 6, 8], ...] = (2, 4, 6, 8)
    for depth in known:
        if depth == areas:
            return depth
    raise FileFormatError(
        f"{path} was expected to have 2, 4, 6 or 8 areas, it has {areas}: it is not complete."
    )


def class_names_of(path: Path, classes: int) -> tuple[str, ...]:
    """Read names of classes, one to a line.

    Raises:
        FileFormatError: If the file cannot be read, or has another number of lines.
    """
    try:
        names = tuple(path.read_text(encoding="utf-8").strip().splitlines())
    except (OSError, ValueError) as error:
        raise FileFormatError(f"Cannot read names of classes from {path}: {error}.") from error
    if len(names) != classes:
        raise FileFormatError(
            f"{path} was expected to name {classes} classes, one to a line; it has {len(names)} "
            "lines."
        )
    return names


def _state_dict(path: Path) -> Mapping[str, Any]:
    import torch

    if not path.is_file():
        raise FileFormatError(f"There is no checkpoint {str(path)!r}.")
    found = load_tensors(
        path,
        lambda reason: FileFormatError(
            f"{path} cannot be read as a checkpoint: it is damaged, or holds more than tensors "
            f"({reason})."
        ),
    )
    if isinstance(found, Mapping) and isinstance(found.get("state_dict"), Mapping):
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in found.values()
    ):
        raise FileFormatError(f"{path} was expected to hold tensors by name, and nothing else.")
    return found


def _as_in_training(
    channels: int, size: tuple[int, int]
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return how pictures are prepared for published weights, and the way back."""
    from calcarine.stimuli.labeled_data import (
        IMAGENET_MEAN,
        IMAGENET_STD,
        as_code_values,
        fitted,
        normalised,
        with_channels,
    )

    photographs = channels == 3
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if photographs else ((0.5,) * channels,) * 2

    def prepare(picture: Tensor) -> Tensor:
        return normalised(with_channels(fitted(picture, size, 256 / 224), channels), mean, std)

    return prepare, partial(as_code_values, mean=mean, std=std)
