"""How far apart two images, or two representations, are.

    mse(x, y)       mean |x - y|^2                        over the positions of one channel
    l2_norm(x, y)   sqrt(sum |x - y|^2)                   over the positions of one channel
    model_metric(M)(x, y)   r(mean |M(x) - M(y)|^2)       over the whole representation
    r(m) = sqrt(m + eps) - sqrt(eps)                      a root with a slope at m = 0

The perceptual metrics have files of their own: :mod:`calcarine.probes.structural_similarity` and
:mod:`calcarine.probes.normalized_laplacian`. Every metric gives one number per image and channel.

Axes    B batch | C channel | H W rows down, columns right | N entries of a vector
Units   those of the images; representations may be complex
Source  wang2008 (metrics out of models are what maximum differentiation competition compares)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.probes._pairs import check_pair, smooth_root
from calcarine.probes.normalized_laplacian import nlpd
from calcarine.probes.structural_similarity import ms_ssim, ssim

__all__ = ["l2_norm", "model_metric", "ms_ssim", "mse", "nlpd", "ssim"]

Metric = Callable[[Tensor, Tensor], Tensor]


def mse(x: Inexact[Tensor, "B C *N"], y: Inexact[Tensor, "B C *N"]) -> Float[Tensor, "B C"]:
    """Return the mean squared difference of every channel, also of complex values.

    Args:
        x: Images (B, C, H, W), averaged over height and width, or representations (B, C, N),
            averaged over N.
        y: The same shape, dtype and device.

    Raises:
        ShapeError: If the shapes differ or are neither 3-D nor 4-D.
        InputError: If dtypes or devices differ, or the values are whole numbers.
    """
    check_pair("mse", x, y, ranks=(3, 4))
    return _squares(x - y).flatten(2).mean(-1)


def l2_norm(x: Inexact[Tensor, "B C *N"], y: Inexact[Tensor, "B C *N"]) -> Float[Tensor, "B C"]:
    """Return the Euclidean length of the difference of every channel.

    At identical arguments, where a length has a corner, the gradient is zero.

    Args:
        x: Images (B, C, H, W) or representations (B, C, N), real or complex.
        y: The same shape, dtype and device.

    Raises:
        ShapeError: If the shapes differ or are neither 3-D nor 4-D.
        InputError: If dtypes or devices differ, or the values are whole numbers.
    """
    check_pair("l2_norm", x, y, ranks=(3, 4))
    return torch.linalg.vector_norm((x - y).flatten(2), dim=-1)


def model_metric(
    model: Callable[[Tensor], Tensor], distance: str | Metric = "rms", *, epsilon: float = 1e-10
) -> Metric:
    """Turn a model into a metric: the distance between what it makes of two images.

    The metric takes two images (B, C, H, W) and returns (B, 1): the channels of a representation
    are not those of the image, so all entries are pooled.

    Args:
        model: Any ``image -> representation``.
        distance: ``"rms"``, the root of the mean square over all entries of a representation;
            ``"mse"``, the mean square itself; or a metric of your own, which gets two
            representations and returns (B, C), averaged over C.
        epsilon: Mean square below which the root bends into a parabola, so that it has a slope at
            identical images (only for ``"rms"``). Ours: 1e-10, a difference of 1e-5.

    Raises:
        UnknownNameError: If ``distance`` is another name.
        InputError: If ``epsilon`` is not above 0.
    """
    if isinstance(distance, str) and distance not in ("rms", "mse"):
        raise UnknownNameError("distance of model_metric", distance, ["mse", "rms"])
    if not epsilon > 0:
        raise InputError(f"model_metric expected epsilon > 0, got {epsilon!r}.")

    def metric(x: Tensor, y: Tensor) -> Tensor:
        check_pair("a model metric", x, y, ranks=(4,))
        ours, theirs = model(x), model(y)
        if not isinstance(distance, str):
            return distance(ours, theirs).mean(1, keepdim=True)
        if ours.ndim < 2 or ours.shape != theirs.shape:
            raise ShapeError(
                "model_metric expected representations with the batch first and one more axis, "
                f"got shapes {tuple(ours.shape)} and {tuple(theirs.shape)}."
            )
        square = _squares(ours - theirs).flatten(1).mean(-1, keepdim=True)
        return square if distance == "mse" else smooth_root(square, epsilon)

    return metric


def _squares(difference: Tensor) -> Tensor:
    """Return |d|^2; the root inside ``abs`` would have no slope at a complex zero."""
    if difference.is_complex():
        return difference.real.square() + difference.imag.square()
    return difference.square()
