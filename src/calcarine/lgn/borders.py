"""What lies beyond the border of an image, as the place that each sample is taken from.

Axes    N samples along an axis | K samples of a profile
Source  ours
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from calcarine.errors import InputError, ShapeError

__all__ = ["PadMode", "check_pad_mode", "check_reach", "folded", "reaches"]

PadMode = Literal["reflect", "circular", "replicate", "zeros"]
"""Beyond the border lies the mirror image, the other side, the last pixel, or zero."""


def check_pad_mode(owner: str, pad_mode: str) -> None:
    """Refuse a padding mode that does not exist.

    Raises:
        InputError: With the known modes.
    """
    if pad_mode not in get_args(PadMode):
        known = ", ".join(get_args(PadMode))
        raise InputError(f"{owner} expected pad_mode as one of {known}, got {pad_mode!r}.")


def check_reach(owner: str, size: tuple[int, int], kernel: tuple[int, int], mode: str) -> None:
    """Refuse an image that is too small for its mirror image to fill the border.

    Raises:
        ShapeError: If a kernel reaches further beyond the border than the mirror image does.
    """
    if mode == "reflect" and any(k // 2 >= n for n, k in zip(size, kernel, strict=True)):
        least = " x ".join(str(k // 2 + 1) for k in kernel)
        raise ShapeError(
            f"{owner} with pad_mode 'reflect' and a kernel of {kernel[0]} x {kernel[1]} px needs "
            f"images of at least {least} px (height x width), got {size[0]} x {size[1]}. Use a "
            "smaller kernel_size, or pad_mode 'circular', 'replicate' or 'zeros'."
        )


def reaches(samples: int) -> tuple[int, int]:
    """Return how far a profile reaches (before, behind) a sample for the size to be kept."""
    return (samples - 1) // 2, samples // 2


def folded(
    size: int, samples: int, pad_mode: PadMode, device: torch.device
) -> tuple[Int[Tensor, "N K"], Bool[Tensor, "N K"]]:
    """Return which sample every tap reads, and whether it counts (beyond zeros it does not)."""
    tap = torch.arange(samples, device=device) - reaches(samples)[0]
    place = torch.arange(size, device=device)[:, None] + tap
    inside = (place >= 0) & (place < size)
    if pad_mode == "circular":
        place = place % size
    elif pad_mode == "reflect":
        period = max(2 * (size - 1), 1)
        place = place % period
        place = torch.minimum(place, period - place)
    counts = inside if pad_mode == "zeros" else torch.ones_like(inside)
    return place.clamp(0, size - 1), counts
