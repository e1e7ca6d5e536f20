"""LN: centre-surround filtering and a soft threshold.

    y = softplus(c)         c = CenterSurround(x)

Axes    B batch | C channel | H W image
Units   standard deviations and sizes in pixels
Source  berardino2017 (form); berardino2018, Table 2 (fitted values)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.lgn.borders import PadMode
from calcarine.lgn.center_surround import CenterSurround
from calcarine.lgn.fitted import fitted_or_given
from calcarine.lgn.frontend import FrontEnd
from calcarine.lgn.parameters import Numbers

__all__ = ["LinearNonlinear"]


class LinearNonlinear(FrontEnd):
    """Centre-surround filter followed by a pointwise nonlinearity.

    Every channel is filtered alike. The parameters are fixed until ``requires_grad_(True)`` is
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
        )
        self.center_surround = CenterSurround(
            kernel_size, on_center=on_center, pad_mode=pad_mode, cache_filt=cache_filt, **values
        )
        self._finish(filters=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Map images to responses >= 0 (with the default activation); the size is kept.

        Raises:
            ShapeError: If the axes are not (batch, channel, height, width).
        """
        return self.activation(self.center_surround(x))
