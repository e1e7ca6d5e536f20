"""Names of the weights of CordsNet in published checkpoints, and in ours.

    inp_conv      stem                    area_conv.k   area(k+1).recurrent
    inp_skip      skip2                   area_area.k   area(k+1).feedforward
    skip_area.k   skip(2k+4)              conv_bias.k   area(k+1).bias
    out_fc        readout

Below these names both sides follow ``torch.nn.utils.parametrizations.weight_norm``.

Source  soo2024 (checkpoint of CordsNet-R8)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from calcarine.errors import InputError, ShapeError

__all__ = ["take_over"]

_PATTERNS = (
    (r"inp_conv\.", lambda m: "stem."),
    (r"inp_skip\.", lambda m: "skip2."),
    (r"out_fc\.", lambda m: "readout."),
    (r"area_conv\.(\d+)\.", lambda m: f"area{int(m[1]) + 1}.recurrent."),
    (r"area_area\.(\d+)\.", lambda m: f"area{int(m[1]) + 1}.feedforward."),
    (r"conv_bias\.(\d+)$", lambda m: f"area{int(m[1]) + 1}.bias"),
    (r"skip_area\.(\d+)\.", lambda m: f"skip{2 * int(m[1]) + 4}."),
)


@torch.no_grad()
def take_over(
    published: Mapping[str, Tensor], mine: Mapping[str, Tensor], size: tuple[int, int]
) -> None:
    """Write a published state dict, complete and without leftovers, into our tensors.

    Args:
        published: Tensors under their published names, each possibly after ``module.``.
        mine: Our tensors, under our names; nothing is written where an error is raised.
        size: Height and width of the images, for messages.

    Raises:
        InputError: If a tensor is missing, unknown, double, or not a finite tensor.
        ShapeError: If one has another shape than ours.
    """
    for name, tensor in _our_state(published, mine, size).items():
        mine[name].copy_(tensor)


def _our_state(
    published: Mapping[str, Tensor], wanted: Mapping[str, Tensor], size: tuple[int, int]
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    extra = []
    for name, tensor in published.items():
        ours = _our_name(name.removeprefix("module."))
        if ours not in wanted or ours in found:
            extra.append(name)
        else:
            found[ours] = tensor
    missing = [_published_name(name) for name in wanted if name not in found]
    if missing or extra:
        raise InputError(
            "CordsNet expected exactly the weights of its depth under their published names. "
            f"Missing: {_listed(missing)}. Unknown or double: {_listed(extra)}. Pass the state "
            "dict itself, to a model of the same depth."
        )
    for name, tensor in found.items():
        _check(_published_name(name), tensor, wanted[name], size)
    return found


def _our_name(published: str) -> str:
    for pattern, name in _PATTERNS:
        if match := re.match(pattern, published):
            return name(match) + published[match.end() :]
    return ""


def _published_name(ours: str) -> str:
    plain = {"stem": "inp_conv", "skip2": "inp_skip", "readout": "out_fc"}
    head, _, rest = ours.partition(".")
    if head in plain:
        return f"{plain[head]}.{rest}"
    number = int(re.sub(r"\D", "", head))
    if head.startswith("skip"):
        return f"skip_area.{number // 2 - 2}.{rest}"
    kind, _, rest = rest.partition(".")
    part = {"recurrent": "area_conv", "feedforward": "area_area", "bias": "conv_bias"}[kind]
    return f"{part}.{number - 1}" + (f".{rest}" if rest else "")


def _check(name: str, tensor: Tensor, ours: Tensor, size: tuple[int, int]) -> None:
    if not isinstance(tensor, Tensor) or not tensor.isfinite().all():
        raise InputError(f"CordsNet expected {name} to be a tensor of finite numbers.")
    if tensor.shape != ours.shape:
        raise ShapeError(
            f"CordsNet expected {name} of shape {tuple(ours.shape)}, got {tuple(tensor.shape)}. "
            f"Depth, classes, channels and image_size have to be those of the checkpoint; this "
            f"model takes images of {size[0]} x {size[1]}."
        )


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:6])
    return f"{shown} and {len(names) - 6} more" if len(names) > 6 else shown or "none"
