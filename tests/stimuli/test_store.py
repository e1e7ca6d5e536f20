from __future__ import annotations

import numpy as np
import pytest

from calcarine.errors import CalcarineWarning
from calcarine.stimuli._sources import ImageSource
from calcarine.stimuli._store import ImageStore


def test_images_used_longest_ago_go_first():
    """Three images, room for two of 300 bytes each; every decoding is counted."""
    decoded = []

    def read(index: int) -> np.ndarray:
        decoded.append(index)
        return np.full((10, 10, 1), index, dtype=np.uint8)

    source = ImageSource("three greys", ("a", "b", "c"), read)
    with pytest.warns(CalcarineWarning, match="only 2 of the 3 images of three greys"):
        store = ImageStore(source, size=(5, 5), scales=(1.0,), budget=600, skip_bad=False)
    assert sorted(decoded) == [0, 1, 2]
    decoded.clear()
    wanted = (1, 2, 1, 0, 1, 2, 2, 1)  # held at first: 1 and 2
    assert [store.ladder(i)[0][0, 0, 0].item() for i in wanted] == list(wanted)
    assert decoded == [0, 2]  # 0 replaces 2, not 1, which was used after it; then 2 replaces 0
