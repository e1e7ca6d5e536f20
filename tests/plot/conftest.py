from __future__ import annotations

import pytest

from calcarine.probes import ColorMatching, perfect_observer


@pytest.fixture(scope="session")
def outcomes() -> dict[str, ColorMatching]:
    """Perfect observers behind two and three types of cones, and one that four do not suffice."""
    lights = {"most_primaries": 4, "wavelengths_nm": list(range(400, 701, 25))}
    three = perfect_observer(**lights)
    return {
        "two": perfect_observer((560.0, 419.0), **lights),
        "three": three,
        "more": ColorMatching(
            **{**three.__dict__, "mean_residual": (0.9, 0.8, 0.7, 0.6), "max_residual": (1.0,) * 4}
        ),
    }
