"""What an eye looks at, twice: as signals of its cones, and as a picture for people.

    cones_t = sum_lambda spectrum fundamental_t / sum_lambda y-bar
    linear  = A^-1 sum_lambda spectrum (x-bar, y-bar, z-bar) / sum_lambda y-bar

Both are sums over the spectrum with fixed weights, so they are computed together, as T + 3
channels. The picture is what a perfect camera without white balance takes; colours that no display
shows have values outside [0, 1], which are kept.

Axes    B batch | T cone types | H W rows down, columns right | N wavelengths
Source  kotani2024 (cone signals), iec61966 (A, from linear sRGB to XYZ), cie1931
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import ConeSpace, cie_1931, default_wavelengths
from calcarine.color.space import RGB_TO_XYZ

__all__ = ["DEFAULT_PEAKS_NM", "SceneBatch", "Scenes", "response_weights", "whites"]

DEFAULT_PEAKS_NM = (560.0, 530.0, 419.0)
"""Peaks of the human L, M and S pigments, nm. carroll2000."""


class SceneBatch(NamedTuple):
    """Scenes as an eye and as a person sees them."""

    cones: Float[Tensor, "B T H W"]
    linear: Float[Tensor, "B 3 H W"]


class Scenes(Protocol):
    """Anything that scenes for an eye can be drawn from."""

    size: tuple[int, int]

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        peaks_nm: tuple[float, ...] = DEFAULT_PEAKS_NM,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SceneBatch:
        """Draw scenes for an eye with the given pigments."""
        ...


@lru_cache(maxsize=16)
def response_weights(peaks_nm: tuple[float, ...]) -> Float[Tensor, "channels N"]:
    """Weights of a spectrum, 400..700 nm in 1 nm, in every cone type and in R, G and B; float64.

    Raises:
        InputError: If a peak is impossible.
        MissingDependencyError: If colour-science is not installed.
    """
    cones = ConeSpace(peaks_nm).spectrum_to_cones(
        torch.eye(default_wavelengths().numel(), dtype=torch.float64)
    )
    observer = cie_1931()
    to_rgb = torch.linalg.inv(torch.tensor(RGB_TO_XYZ, dtype=torch.float64))
    return torch.cat([cones.T, to_rgb @ observer.T / observer[:, 1].sum()])


@lru_cache(maxsize=16)
def whites(peaks_nm: tuple[float, ...]) -> Float[Tensor, " channels"]:
    """Cone signals and R, G, B of the defined white, that of the display (D65); float64."""
    return torch.cat([ConeSpace(peaks_nm).white_point, torch.ones(3, dtype=torch.float64)])
