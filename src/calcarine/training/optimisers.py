"""The optimisers that the settings name, in one kernel where there is one.

    adam    g <- g + decay w;  w <- w - rate m / (sqrt(v) + eps)      m, v running means of g, g^2
    adamw   w <- (1 - rate decay) w, then adam without the first line
    sgd     g <- g + decay w;  b <- momentum b + g;  w <- w - rate b
    muon    kernels of convolutions: see muon.py;  everything else: adamw

Source  kingma2015 (Adam), loshchilov2019 (AdamW), sutskever2013 (momentum; as b + g here)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.errors import CheckpointError
from calcarine.training.muon import Muon
from calcarine.training.settings import TrainingSettings

__all__ = ["load_optimiser", "make_optimiser"]


def make_optimiser(
    parameters: list[nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Make the optimiser of some parameters.

    Args:
        parameters: What it changes.
        settings: Which optimiser, and its constants; its rate is set before every step.
    """
    # Fused: one kernel for a step; elsewhere one per operation.
    fused = all(p.device.type in {"cpu", "cuda"} and p.is_floating_point() for p in parameters)
    common: dict[str, Any] = {
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "fused": fused,
        "foreach": not fused,
    }
    if settings.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, **common)
    if settings.optimiser == "muon":
        return Muon(parameters, momentum=settings.momentum, betas=settings.betas, **common)
    kind = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return kind(parameters, betas=settings.betas, **common)


def load_optimiser(
    optimiser: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Any]], *, label: str
) -> None:
    """Give an optimiser the running means of a checkpoint; they move to their parameters' device.

    Args:
        optimiser: A new optimiser of the same kind.
        state: The ``"state"`` of the old one's ``state_dict()``.
        label: What it learns, for the message.

    Raises:
        CheckpointError: If they belong to other parameters.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    sizes = dict(enumerate(tuple(p.shape) for p in parameters))
    held = {index: _size(entry) for index, entry in state.items()}
    fits = all(index in sizes and size in (None, sizes[index]) for index, size in held.items())
    if not fits:
        raise CheckpointError(
            f"The checkpoint's running means of objective {label!r} have sizes "
            f"{list(held.values())}, its parameters {list(sizes.values())}. Resume with the task "
            "that wrote it."
        )
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _size(entry: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Size of the running means of one parameter; ``None`` if there are none yet."""
    means = [v for name, v in entry.items() if isinstance(v, Tensor) and name != "step"]
    return tuple(means[0].shape) if means else None
