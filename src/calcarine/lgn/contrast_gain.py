"""LGG: centre-surround filtering, divided by the local luminance, then by the local contrast.

    n = c / (1 + luminance_scalar * lum)        c = CenterSurround(x)    lum = Gaussian(x)
    con = sqrt(Gaussian(n^2)) + 1e-6
    y = softplus(n / (1 + contrast_scalar * con))

Axes    B batch | C channel | H W image
Units   standard deviations and sizes in pixels; scalars in 1 / (unit of what they weigh)
Source  berardino2017 (form); berardino2018, Table 2 (fitted values)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.lgn.borders import PadMode
from calcarine.lgn.center_surround import CenterSurround
from calcarine.lgn.fitted import fitted_or_given
from calcarine.lgn.frontend import FrontEnd
from calcarine.lgn.gain import contrast_gain, luminance_gain
from calcarine.lgn.gaussian import Gaussian
from calcarine.lgn.parameters import Numbers

__all__ = ["LuminanceContrastGainControl"]


class LuminanceContrastGainControl(FrontEnd):
    """Centre-surround filter with luminance and contrast gain control.

    Every channel is treated alike. The parameters are fixed until ``requires_grad_(True)`` is
    called, and the stage starts in ``eval()``, so that a fresh one can be probed.

    Args:
        kernel_size: Side length, or (height, width), in pixels.
        on_center: Whether the centre excites.
        amplitude_ratio: Factor on the difference of Gaussians, at least 1. berardino2017.
        pad_mode: What lies beyond the border: ``reflect``, ``circular``, ``replicate``, ``zeros``.
        pretrained: Take the values fitted to human judgements, for ``kernel_size=31``.
        activation: Pointwise nonlinearity.
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
        on_center: bool = True,
        amplitude_ratio: Numbers = 1.25,
        pad_mode: PadMode = "reflect",
        pretrained: bool = False,
        activation: Callable[[Tensor], Tensor] = F.softplus,
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
        self.on_center = on_center
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
        self.luminance = Gaussian(kernel_size, values.pop("luminance_std"), **shared)
        self.contrast = Gaussian(kernel_size, values.pop("contrast_std"), **shared)
        self.luminance_scalar = self._scalar("luminance_scalar", values)
        self.contrast_scalar = self._scalar("contrast_scalar", values)
        self.center_surround = CenterSurround(kernel_size, on_center=on_center, **shared, **values)
        self._finish(filters=1)

    @property
    def luminance_std(self) -> Tensor:
        """Standard deviation of the luminance average in pixels."""
        return self.luminance.std

    @property
    def contrast_std(self) -> Tensor:
        """Standard deviation of the contrast average in pixels."""
        return self.contrast.std

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map images to responses >= 0 (with the default activation); the size is kept.

        Raises:
            ShapeError: If the axes are not (batch, channel, height, width).
        """
        linear, luminance = self._linear(x, self.luminance)
        normed = luminance_gain(linear, luminance, self.luminance_scalar)
        return self.activation(contrast_gain(normed, self.contrast, self.contrast_scalar))
