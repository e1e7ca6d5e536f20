"""OnOff: an on-centre and an off-centre pathway, each with its own gain controls.

Per pathway

    n = c / (1 + luminance_scalar * lum)        c = CenterSurround(x)    lum = Gaussian(x)
    con = sqrt(Gaussian(n^2)) + 1e-6
    y = softplus(n / (1 + contrast_scalar * con))

Axes    B batch | channel 0 on-centre, 1 off-centre | H W image
Units   standard deviations and sizes in pixels; scalars in 1 / (unit of what they weigh)
Source  berardino2017 (form); berardino2018, Table 2 (fitted values)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import ShapeError
from calcarine.lgn.borders import PadMode
from calcarine.lgn.center_surround import CenterSurround
from calcarine.lgn.fitted import fitted_or_given
from calcarine.lgn.frontend import FrontEnd
from calcarine.lgn.gain import contrast_gain, luminance_gain
from calcarine.lgn.gaussian import Gaussian
from calcarine.lgn.parameters import Numbers, pair

__all__ = ["OnOff", "soft_disk"]


class OnOff(FrontEnd):
    """On-centre and off-centre pathways with luminance and contrast gain control.

    The optional mask keeps a soft disk of the response and silences the periphery: one out to half
    the radius of the largest circle in the image, then a cosine down to zero at that circle.

    The parameters are fixed until ``requires_grad_(True)`` is called, and the stage starts in
    ``eval()``, so that a fresh one can be probed.

    Args:
        kernel_size: Side length, or (height, width), in pixels.
        amplitude_ratio: Factor on the difference of Gaussians, at least 1. berardino2017.
        pad_mode: What lies beyond the border: ``reflect``, ``circular``, ``replicate``, ``zeros``.
        pretrained: Take the values fitted to human judgements, for ``kernel_size=31``.
        activation: Pointwise nonlinearity.
        apply_mask: Multiply the responses with the soft disk.
        center_std: Standard deviation of the centre in pixels.
        surround_std: Standard deviation of the surround in pixels.
        luminance_scalar: Strength of the luminance gain control. Ours: the middle of 0..10.
        luminance_std: Standard deviation of the luminance average in pixels.
        contrast_scalar: Strength of the contrast gain control. Ours: the middle of 0..10.
        contrast_std: Standard deviation of the contrast average in pixels.
        cache_filt: Keep what was computed from the parameters between calls, while they are fixed.

    Raises:
        InputError: If a value is not positive, or ``pretrained`` contradicts another argument.
    """

    sources: ClassVar[tuple[str, ...]] = ("berardino2017", "berardino2018")

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        amplitude_ratio: Numbers = 1.25,
        pad_mode: PadMode = "reflect",
        pretrained: bool = False,
        activation: Callable[[Tensor], Tensor] = F.softplus,
        apply_mask: bool = False,
        *,
        center_std: Numbers = 1.0,
        surround_std: Numbers = 4.0,
        luminance_scalar: Numbers = 5.0,
        luminance_std: Numbers = 3.0,
        contrast_scalar: Numbers = 5.0,
        contrast_std: Numbers = 3.0,
        cache_filt: bool = True,
    ) -> None:
        super().__init__(kernel_size, pad_mode, pretrained, activation, cache_filt)
        self.apply_mask = apply_mask
        values = fitted_or_given(
            type(self),
            kernel_size,
            pretrained=pretrained,
            amplitude_ratio=amplitude_ratio,
            center_std=center_std,
            surround_std=surround_std,
            luminance_scalar=luminance_scalar,
            luminance_std=luminance_std,
            contrast_scalar=contrast_scalar,
            contrast_std=contrast_std,
        )
        shared: dict[str, Any] = {"pad_mode": pad_mode, "cache_filt": cache_filt}
        self.luminance = Gaussian(kernel_size, pair(values.pop("luminance_std")), **shared)
        self.contrast = Gaussian(kernel_size, pair(values.pop("contrast_std")), **shared)
        self.luminance_scalar = self._scalar("luminance_scalar", values, 2)
        self.contrast_scalar = self._scalar("contrast_scalar", values, 2)
        self.center_surround = CenterSurround(
            kernel_size, on_center=(True, False), **shared, **values
        )
        self._finish(filters=2)

    @property
    def luminance_std(self) -> Tensor:
        """Standard deviation of the luminance average in pixels."""
        return self.luminance.std

    @property
    def contrast_std(self) -> Tensor:
        """Standard deviation of the contrast average in pixels."""
        return self.contrast.std

    def forward(self, x: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2 H W"]:
        """Map images to responses >= 0 (with the default activation); the size is kept.

        Raises:
            ShapeError: If the axes are not (batch, one channel, height, width).
        """
        if x.ndim == 4 and x.shape[1] != 1:
            raise ShapeError(
                "OnOff expected one channel (batch, 1, height, width), got shape "
                f"{tuple(x.shape)}. Convert to grey, or pass the channels as batch."
            )
        linear, luminance = self._linear(x, self.luminance)
        normed = luminance_gain(linear, luminance, self.luminance_scalar)
        y = self.activation(contrast_gain(normed, self.contrast, self.contrast_scalar))
        return y * soft_disk((y.shape[-2], y.shape[-1]), like=y) if self.apply_mask else y


def soft_disk(size: tuple[int, int], like: Tensor) -> Float[Tensor, "H W"]:
    """Return a mask that is one in the middle and fades to zero at the largest circle.

    Args:
        size: Height and width in pixels.
        like: A tensor whose dtype and device the mask gets.
    """
    down, right = (
        torch.arange(n, dtype=like.dtype, device=like.device) - (n - 1) / 2 for n in size
    )
    outer = (min(size) - 1) / 2
    radius = (down[:, None] ** 2 + right**2).sqrt()
    fade = (
        ((radius - outer / 2) / (outer / 2)).clamp(0, 1) if outer > 0 else torch.zeros_like(radius)
    )
    return (1 + torch.cos(math.pi * fade)) / 2
