"""The front ends of the published walk-through, plenoptic's and ours, and what both look at.

Both of a pair compute the same: 31 x 31 kernels, circular padding, parameters of berardino2018,
Table 2. plenoptic 2 is installed apart, `pip install 'calcarine[oracle]'`.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from calcarine import lgn
from calcarine.errors import require
from calcarine.stimuli import sample_image

__all__ = ["MODELS", "describe_machine", "front_ends", "peer_module", "photograph", "quiet"]

MODELS = ("gaussian", "center_surround", "luminance_gain_control")

_GAIN = {
    "luminance_scalar": 14.95,
    "luminance.std": 4.235,
    "center_surround.center_std": 1.962,
    "center_surround.surround_std": 4.235,
    "center_surround.amplitude_ratio": 1.25,
}


def peer_module(name: str = "plenoptic"):
    """Return a module of the peer, or say how to install it."""
    return require(name, extra="oracle", purpose="The comparison")


def front_ends(name: str) -> tuple[nn.Module, nn.Module]:
    """Return the peer's front end and ours."""
    peer = peer_module("plenoptic.models")
    if name == "gaussian":
        pair = (
            peer.Gaussian((31, 31), std=3.0, pad_mode="circular"),
            lgn.Gaussian(31, 3.0, pad_mode="circular"),
        )
    elif name == "center_surround":
        stds = {"center_std": 1.962, "surround_std": 4.235, "pad_mode": "circular"}
        pair = peer.CenterSurround((31, 31), **stds), lgn.CenterSurround(31, **stds)
    else:
        pair = (
            peer.LuminanceGainControl((31, 31), pad_mode="circular"),
            lgn.LuminanceGainControl(31, pad_mode="circular", pretrained=True),
        )
        pair[0].load_state_dict({key: torch.as_tensor([value]) for key, value in _GAIN.items()})
    for model in pair:
        model.eval().requires_grad_(False)
    return pair


def photograph(size: int) -> Tensor:
    """Return a grey photograph with axes (1, 1, size, size) and values in [0, 1]."""
    return sample_image("camera", size=size, channels="gray", dtype=torch.float32)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the peer's progress bars and warnings out of the table."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def describe_machine() -> str:
    """Return what timings depend on."""
    load = os.getloadavg()[0]
    return (
        f"torch {torch.__version__}, {torch.get_num_threads()} threads on {os.cpu_count()} cores, "
        f"load of the last minute {load:.1f}"
    )
