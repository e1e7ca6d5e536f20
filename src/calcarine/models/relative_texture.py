"""Texture statistics relative to those of a reference image, for synthesis that converges.

    r_i = w_i s_i       w_i = 1 / |reference s_i|   variances, standard deviations, kurtoses
                              0                     minimum and maximum of the pixels
                              1                     the mean, skewnesses and all correlations

Raw statistics span four orders of magnitude: the variance of the high-pass residual is near 0.001,
the standard deviation of the low-pass image near 10. Under the mean squared error the small ones
count for nothing, and the image keeps noise or lacks detail at the finest scale. Relative to the
reference all entries are of order one. Minimum and maximum depend on single pixels; a penalty on
the range does their work.

Axes    B batch | C channel | n statistic
Source  portilla2000 (statistics); the weights are ours
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.models._texture_layout import TextureScale
from calcarine.models.portilla2000 import PortillaSimoncelli
from calcarine.stage import Stage

__all__ = ["RelativeTexture"]

_SMALLEST = 1e-6  # references below count as this, so that no weight explodes; ours
_VARIANCE, _KURTOSIS, _RANGE = 1, 3, slice(4, 6)  # among the pixel statistics


class RelativeTexture(Stage):
    """A texture model whose entries are weighed by the statistics of a reference.

    With it the mean squared error is a good loss for metamers: pass
    ``RelativeTexture(model, image)`` in place of ``model``.

    Args:
        model: The texture model.
        reference: The image to imitate, or several: one per batch item.

    Attributes:
        weights: What every statistic is multiplied by, axes (batch, channel, n).
        scales: Groups of statistics in coarse-to-fine order, for ``forward(scales=)``.

    Raises:
        ShapeError: If the reference does not fit the model.
        InputError: If the reference holds NaN or infinity.
    """

    weights: Tensor

    def __init__(self, model: PortillaSimoncelli, reference: Float[Tensor, "B C H W"]) -> None:
        super().__init__()
        self.model, self.scales = model, model.scales
        with torch.no_grad():
            statistics = model(reference)
        if not torch.isfinite(statistics).all():
            raise InputError(
                "RelativeTexture expected a reference with finite values, got NaN or infinity."
            )
        self.register_buffer("weights", _weights(model, statistics))

    def forward(
        self, image: Float[Tensor, "B C H W"], scales: Sequence[TextureScale] | None = None
    ) -> Float[Tensor, "B C n"]:
        """Return the weighed statistics of every image and channel.

        Args:
            image: Images of the size the model is for.
            scales: Groups of statistics to keep, some of ``self.scales``; ``None`` keeps all.

        Raises:
            ShapeError: If the images have another size.
            InputError: If a wanted scale does not exist.
        """
        weighed = self.model(image) * self.weights.to(image.dtype)
        return weighed if scales is None else self.model.keep(weighed, scales)


def _weights(model: PortillaSimoncelli, statistics: Tensor) -> Tensor:
    inverse = 1 / statistics.abs().clamp_min(_SMALLEST)
    values, inverses = model.to_dict(statistics), model.to_dict(inverse)
    weights = {name: torch.ones_like(array) for name, array in values.items()}
    for name in (
        "std_reconstructed",
        "kurtosis_reconstructed",
        "magnitude_std",
        "var_highpass_residual",
    ):
        weights[name] = inverses[name]
    pixels = weights["pixel_statistics"]
    for entry in (_VARIANCE, _KURTOSIS):
        pixels[..., entry] = inverses["pixel_statistics"][..., entry]
    pixels[..., _RANGE] = 0
    return model.to_vector(weights)
