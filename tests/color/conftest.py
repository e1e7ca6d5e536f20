"""Reference arrays of the colour rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def reference():
    path = Path(__file__).parents[1] / "data" / "color_reference.npz"
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}
