"""calcarine: a PyTorch laboratory for biological vision.

Build a visual system from stages (retina, LGN, V1, cortex), let it learn by the rule its paper
proposes, and probe it. Subpackages are imported when first used, so ``import calcarine`` costs
nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_ROOMS = (
    "color",
    "cortex",
    "distributed",
    "errors",
    "lgn",
    "models",
    "plot",
    "probes",
    "recipe",
    "registry",
    "report",
    "retina",
    "simulate",
    "sources",
    "spiking",
    "stage",
    "stimuli",
    "testing",
    "training",
    "v1",
)

__all__ = ["__version__", "cite", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "cite":
        return importlib.import_module(f"{__name__}.sources").cite
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
