"""Coloured light: daylight through filters of random, smooth transmission.

    filter(lambda) = exp(spread g(lambda))      g: Gaussian, mean 0, variance 1,
    correlation    = exp(-(distance / 30 nm)^2 / 2)

Light below leaves, behind glass, at dusk, and of lamps differs from daylight by more than a colour
temperature, in as many ways as there are bands of wavelength. Filters are drawn at nodes 10 nm
apart and linear between them, so that all that is asked of wavelengths is one table.

Axes    B batch | L lights | N nodes
Source  the distribution is ours
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import default_wavelengths

__all__ = ["NODES", "between_nodes", "filters"]

NODES = 31
"""Wavelengths 400, 410, ... 700 nm."""

_STEP_NM = 10.0
_CORRELATION_NM = 30.0  # half the width of a coloured lamp's band


def filters(normal: Float[Tensor, "B L N"], spread: float) -> Float[Tensor, "B L N"]:
    """Return transmissions at the nodes, out of independent normal numbers.

    Args:
        normal: Of mean 0 and variance 1.
        spread: Standard deviation of the logarithm of the transmission.
    """
    return (spread * normal @ _root().to(normal).T).exp()


@lru_cache(maxsize=1)
def between_nodes() -> Float[Tensor, "wavelengths N"]:
    """Return what every node contributes to every wavelength of the default grid, float64."""
    at = (default_wavelengths()[:, None] - 400) / _STEP_NM
    return (1 - (at - torch.arange(NODES)).abs()).clamp(min=0)


@lru_cache(maxsize=1)
def _root() -> Float[Tensor, "N N"]:
    at = _STEP_NM * torch.arange(NODES, dtype=torch.float64)
    covariance = torch.exp(-(((at[:, None] - at) / _CORRELATION_NM) ** 2) / 2)
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
