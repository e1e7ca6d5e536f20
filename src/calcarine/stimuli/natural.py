"""Natural patches for a sheet: grey crops of photographs, whitened and scaled as a map needs them.

    luminance -> whitening -> (x - mean x) s + mean          s: to the contrast asked for

    whitening   |R(f)| = f exp(-(f / f0)^4), f0 = 0.8 Nyquist, without a phase

Whitening undoes the 1/f spectrum of natural images and cuts off the highest frequencies. It is done
on a larger crop whose rim is then thrown away, so the border of a patch is as good as its middle.

Axes    B batch | 1 channel | H W rows down, columns right
Units   frequencies in cycles per pixel; contrast is the standard deviation over the mean
Source  olshausen1996 (the filter, f0 = 200 cycles per picture of 512)
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.stimuli._checks import checked_dtype
from calcarine.stimuli._pattern import Span, checked_span
from calcarine.stimuli.light import luminance, work_dtype
from calcarine.stimuli.patches import ImagePatches
from calcarine.stimuli.sheet import Sheet

__all__ = ["NaturalPatches"]

_CUTOFF = 200 / 512  # cycles per pixel
_RIM = 12  # px; at this distance the filter has fallen to a thousandth of its peak


class NaturalPatches:
    """Endless grey patches of photographs, of the size of a sheet.

    Args:
        source: Where photographs come from, as for :class:`calcarine.stimuli.ImagePatches`.
        density: Units per sheet unit. stevens2013.
        half_side: From the centre to the border of the retina. stevens2013.
        whiten: Whether to flatten the spectrum.
        contrast: Standard deviation of every patch, relative to ``mean``; ``None`` leaves contrast
            as it is. Needed to whiten. A patch without any contrast stays uniform.
        mean: Mean of every patch, where contrast is set.
        scales: Sizes of the images relative to the file.
        flip: Mirror half of the patches.
        names: Use only these images.

    Raises:
        FileFormatError: If images are bad, or there are none.
        InputError: If a setting is out of its range.
    """

    sources: ClassVar[tuple[str, ...]] = ("olshausen1996",)

    def __init__(
        self,
        *,
        source: str | Path = "samples",
        density: float = 24.0,
        half_side: Span = 1.646,
        whiten: bool = False,
        contrast: float | None = None,
        mean: float = 0.5,
        scales: tuple[float, ...] = (1.0, 0.5),
        flip: bool = True,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self.sheet = Sheet(density, half_side)
        self.density, self.half_side = density, half_side
        self.whiten, self.flip, self.names, self.source = whiten, flip, names, source
        if whiten and contrast is None:
            raise InputError(
                "NaturalPatches expected a contrast with whiten=True, because whitening leaves "
                "none of its own. For example contrast=0.3."
            )
        self.contrast = contrast
        if contrast is not None:
            checked_span("NaturalPatches", "contrast", contrast)
        self.mean, _ = checked_span("NaturalPatches", "mean", mean)
        rim = _RIM if whiten else 0
        height, width = self.sheet.size
        self.patches = ImagePatches(
            source=source, size=(height + 2 * rim, width + 2 * rim), scales=scales, flip=flip,
            names=names,
        )  # fmt: skip
        self.scales = self.patches.scales

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the patches [px]."""
        return self.sheet.size

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "B 1 H W"]:
        """Draw patches; with a contrast set, values may leave [0, 1].

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out.
            dtype: Floating-point type, torch's default one if left out.
            device: Where to put the patches.
        """
        dtype = checked_dtype("draw", dtype)
        crops = self.patches.draw(batch_size, generator, dtype=work_dtype(dtype), device=device)
        grey = luminance(crops)
        if self.whiten:
            grey = _whitened(grey)[..., _RIM:-_RIM, _RIM:-_RIM]
        if self.contrast is not None:
            grey = self._scaled(grey)
        return grey.to(dtype)

    def _scaled(self, grey: Tensor) -> Tensor:
        assert self.contrast is not None
        centred = grey - grey.mean(dim=(-2, -1), keepdim=True)
        spread = centred.std(dim=(-2, -1), correction=0, keepdim=True)
        # Rounding in a uniform patch must not be blown up to full contrast.
        scale = torch.where(spread > 1e-5, self.contrast * self.mean / spread, 0.0)
        return self.mean + scale * centred


def _whitened(grey: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
    height, width = grey.shape[-2:]
    fy = torch.fft.fftfreq(height, dtype=grey.dtype, device=grey.device)[:, None]
    fx = torch.fft.rfftfreq(width, dtype=grey.dtype, device=grey.device)
    f = torch.hypot(fy, fx)
    gain = f * torch.exp(-((f / _CUTOFF) ** 4))
    return torch.fft.irfft2(torch.fft.rfft2(grey) * gain, s=(height, width))
