"""Random numbers and data for the device that computes, without making the host wait for it.

    random_source   on a GPU, a generator there that takes one number from the run's generator
    send            a copy that the GPU fetches from pinned memory while the host goes on

A copy from ordinary memory to a GPU waits until all work queued before it is done; so do numbers
read back. On the CPU both return what they are given, so nothing there depends on them.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_source", "send"]

_SEEDS = 2**62


def random_source(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """Return where the random numbers of one update are drawn from.

    Args:
        generator: The run's generator, on the CPU. Its state alone decides what is drawn, so a
            run that goes on from it draws what it would have drawn.
        device: Where the numbers are needed.

    Returns:
        ``generator`` itself, unless the numbers are needed on a GPU: then a new one there.
    """
    if device.type != "cuda" or generator.device.type != "cpu":
        return generator
    seed = int(torch.randint(_SEEDS, (), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def send(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """Return a tensor on a device; the host does not wait for the copy.

    Args:
        tensor: On the CPU, or on the device already.
        device: Where it is needed; ``None`` leaves it where it is.
    """
    if device is None or torch.device(device).type != "cuda" or tensor.is_cuda:
        return tensor.to(device=device)
    return tensor.pin_memory().to(device=device, non_blocking=True)
