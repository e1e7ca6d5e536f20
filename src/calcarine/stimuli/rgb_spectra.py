"""Photographs given spectra: pictures in red, green and blue under daylight of other colours.

    reflectance = basis rgb              basis: smooth reflectances of the primaries of sRGB
    spectrum    = reflectance (share sun + (1 - share) sky)

Everything is linear in rgb, so a picture becomes cone signals by one matrix of T x 3 per lamp.
Under light of 6504 K (D65) the picture comes back as it was. Spectra made this way span three
dimensions under one light, however many cone types look at them, so they teach a tetrachromat
nothing about its fourth. See :class:`calcarine.stimuli.SpectralLeaves` for scenes with more.

Axes    B batch | T cone types | H W rows down, columns right | C = T + 3 channels
Source  mallett2019 (basis), judd1964 (daylight); two lamps across a scene are ours
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import DAYLIGHT_RANGE_K, cie_1931, srgb_basis, srgb_to_linear
from calcarine.color.tables import daylight_parts, daylight_weights
from calcarine.devices import send
from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_dtype
from calcarine.stimuli.light import work_dtype
from calcarine.stimuli.patches import ImagePatches
from calcarine.stimuli.scenes import DEFAULT_PEAKS_NM, SceneBatch, response_weights

__all__ = ["RgbSpectra"]


class RgbSpectra:
    """Endless crops of photographs as an eye sees them under daylight of changing colour.

    Every scene is lit by two daylights from opposite sides; their colour temperatures are drawn
    uniformly in 1/T. With ``temperatures_k=(6504, 6504)`` photographs stay as they are.

    Args:
        source: Where photographs come from, as for :class:`calcarine.stimuli.ImagePatches`.
        size: Height and width of a scene [px], or one number for a square.
        scales: Sizes of the images relative to the file.
        temperatures_k: Range of the colour temperatures of the light, within 4000..25000 K.
        flip: Mirror half of the scenes left to right.
        names: Use only these images.
        memory_budget_mb: Memory for decoded images [MB].
        skip_bad: Skip images that cannot be used instead of refusing the source.

    Raises:
        FileFormatError: If images are bad, or there are none.
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("mallett2019", "judd1964")

    def __init__(
        self,
        *,
        source: str | Path = "samples",
        size: int | tuple[int, int] = 64,
        scales: tuple[float, ...] = (1.0, 0.5, 0.25),
        temperatures_k: tuple[float, float] = DAYLIGHT_RANGE_K,
        flip: bool = True,
        names: tuple[str, ...] | None = None,
        memory_budget_mb: float = 1024.0,
        skip_bad: bool = False,
    ) -> None:
        least, most = temperatures_k
        if not DAYLIGHT_RANGE_K[0] <= least <= most <= DAYLIGHT_RANGE_K[1]:
            raise InputError(
                "RgbSpectra expected temperatures_k as a pair (least, most) within "
                f"{DAYLIGHT_RANGE_K[0]:g}..{DAYLIGHT_RANGE_K[1]:g} K, got {temperatures_k}."
            )
        self.images = ImagePatches(
            source=source, size=size, scales=scales, flip=flip, names=names,
            memory_budget_mb=memory_budget_mb, skip_bad=skip_bad,
        )  # fmt: skip
        self.source, self.flip, self.names = source, flip, names
        self.memory_budget_mb, self.skip_bad = memory_budget_mb, skip_bad
        self.size, self.scales = self.images.size, self.images.scales
        self.temperatures_k = temperatures_k

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        peaks_nm: tuple[float, ...] = DEFAULT_PEAKS_NM,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SceneBatch:
        """Draw scenes.

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out. Its state alone
                decides what is drawn.
            peaks_nm: Peaks of the eye's pigments, nm.
            dtype: Floating-point type, torch's default one if left out.
            device: Where to compute the scenes.

        Returns:
            Cone signals and linear sRGB, both of the picture in its light.
        """
        dtype = checked_dtype("draw", dtype)
        image = self.images.draw(batch_size, generator, dtype=work_dtype(dtype), device=device)
        where = "cpu" if generator is None else generator.device
        chance = torch.rand(batch_size, 3, generator=generator, dtype=torch.double, device=where)
        chance = chance.to(image.dtype)
        least, most = self.temperatures_k
        kelvin = 1 / (1 / most + (1 / least - 1 / most) * chance[:, :2])
        matrices = send(light_matrices(peaks_nm, kelvin), image.device)
        share = _across(self.size, send(2 * torch.pi * chance[:, 2], image.device))
        linear = srgb_to_linear(image).flatten(2)
        one, other = (matrices[:, lamp] @ linear for lamp in range(2))
        scene = torch.lerp(one, other, share).unflatten(2, self.size).to(dtype)
        return SceneBatch(scene[:, :-3].contiguous(), scene[:, -3:].contiguous())


def light_matrices(
    peaks_nm: tuple[float, ...], temperatures_k: Float[Tensor, "*B"]
) -> Float[Tensor, "*B C 3"]:
    """From linear sRGB under D65 to cone signals and linear sRGB under other daylight.

    A white surface has luminance 1 under every light.
    """
    parts, luminance = _basis_under_daylight(peaks_nm)
    weights = daylight_weights(temperatures_k)
    weights = weights / (weights @ luminance.to(weights))[..., None]
    return torch.einsum("cpk,...k->...cp", parts.to(weights), weights)


def _across(size: tuple[int, int], angle: Float[Tensor, " B"]) -> Float[Tensor, "B 1 HW"]:
    """Share of the second lamp: from 0 in one corner to 1 in the opposite one."""
    y, x = (torch.linspace(-1, 1, n, dtype=angle.dtype, device=angle.device) for n in size)
    angle = angle[:, None, None]
    return ((1 + (x * angle.cos() + y[:, None] * angle.sin()) / 2**0.5) / 2).flatten(1)[:, None]


@lru_cache(maxsize=8)
def _basis_under_daylight(peaks_nm: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Responses to every primary under each part of daylight; luminance of each part."""
    parts, luminosity = daylight_parts(), cie_1931()[:, 1]
    responses = torch.einsum("np,cn,nk->cpk", srgb_basis(), response_weights(peaks_nm), parts)
    return responses, luminosity @ parts / luminosity.sum()
