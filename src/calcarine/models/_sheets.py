"""What the sheet models share: geometry in sheet units, and checks.

Sheets of different density and extent lie centre on centre. Unit i of n at a density of d units per
sheet unit is at ((i + 1/2) - n/2) / d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from calcarine.errors import ShapeError
from calcarine.v1.local_connection import LocalConnection

__all__ = ["check_retina", "placement", "reset_connections"]


def placement(
    source: tuple[int, int],
    source_density: float,
    target: tuple[int, int],
    target_density: float,
) -> tuple[float, float]:
    """Return how far inside the source's border the first units look, in source pixels."""
    rows, columns = (
        (n - 1) / 2 - (m - 1) / 2 * source_density / target_density
        for n, m in zip(source, target, strict=True)
    )
    return rows, columns


def check_retina(owner: str, image: Tensor, shape: tuple[int, int]) -> None:
    """Refuse images that do not fit the retina.

    Raises:
        ShapeError: If axes, channels or sizes differ.
    """
    if image.ndim != 4 or tuple(image.shape[1:]) != (1, *shape) or not image.is_floating_point():
        raise ShapeError(
            f"{owner} expected grey floating-point images with axes (batch, 1, height, width) of "
            f"{shape[0]} x {shape[1]} pixels, the size of its retina, got {image.dtype} of shape "
            f"{tuple(image.shape)}."
        )


def reset_connections(model: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all initial weights anew."""
    for module in model.modules():
        if isinstance(module, LocalConnection):
            module.reset_(generator)
