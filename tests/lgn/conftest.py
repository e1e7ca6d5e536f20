"""Reference arrays and the plain convolution that every filter must equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F


@pytest.fixture(scope="session")
def reference():
    """Return the reference arrays by name."""
    with np.load(Path(__file__).parent.parent / "data" / "lgn.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="session")
def convolve():
    """Return padding followed by a two-dimensional correlation."""

    def direct(x, kernels, pad_mode):
        height, width = kernels.shape[-2:]
        border = ((width - 1) // 2, width // 2, (height - 1) // 2, height // 2)
        padded = F.pad(x, border, mode="constant" if pad_mode == "zeros" else pad_mode)
        return F.conv2d(padded, kernels[:, None])

    return direct
