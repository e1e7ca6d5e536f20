"""What the metrics share: checks of two arguments, and a root that can be differentiated at zero.

    r(m) = sqrt(m + eps) - sqrt(eps) = m / (sqrt(m + eps) + sqrt(eps))

The second form is exact at m = 0 and loses no digits near it.
"""

from __future__ import annotations

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError, ShapeError

__all__ = ["check_pair", "smooth_root", "warn_outside"]

_AXES = {3: "(batch, channel, entry)", 4: "(batch, channel, height, width)"}


def check_pair(owner: str, x: Tensor, y: Tensor, *, ranks: tuple[int, ...]) -> None:
    """Refuse two arguments that cannot be compared entry by entry.

    Raises:
        ShapeError: If the shapes differ, or the number of axes is not among ``ranks``.
        InputError: If dtypes or devices differ, or the values are whole numbers.
    """
    if x.ndim not in ranks or y.ndim not in ranks:
        axes = " or ".join(_AXES[rank] for rank in ranks)
        raise ShapeError(
            f"{owner} expected two tensors with axes {axes}, got shapes {tuple(x.shape)} and "
            f"{tuple(y.shape)}. For one grey image pass image[None, None]."
        )
    if x.shape != y.shape:
        raise ShapeError(
            f"{owner} expected two tensors of one shape, got {tuple(x.shape)} and "
            f"{tuple(y.shape)}. To compare one image with several pass image.expand_as(others)."
        )
    if x.dtype != y.dtype or x.device != y.device:
        raise InputError(
            f"{owner} expected two tensors of one dtype on one device, got {x.dtype} on {x.device} "
            f"and {y.dtype} on {y.device}. Pass y.to(x)."
        )
    if not (x.is_floating_point() or x.is_complex()):
        raise InputError(
            f"{owner} expected floating-point values, got {x.dtype}. For 8-bit images pass "
            "image.double() / 255."
        )


def warn_outside(owner: str, data_range: float, *images: Tensor) -> None:
    """Warn about values outside ``[0, data_range]`` where looking at them costs nothing.

    That is on the CPU and outside of optimisations: elsewhere a look would halt the device or
    break a graph, and a synthesis checks its images once, before it starts.
    """
    if torch.compiler.is_compiling() or any(
        image.requires_grad or image.device.type != "cpu" for image in images
    ):
        return
    for image in images:
        low, high = torch.aminmax(image)
        try:
            outside = bool((low < 0) | (high > data_range))
        except RuntimeError:  # inside torch.vmap nobody may look at a value
            return
        if outside:
            warnings.warn(
                f"{owner} is made for values in [0, {data_range:g}], got values from {low:.4g} to "
                f"{high:.4g}; the result may mean little. Rescale or clamp the images.",
                CalcarineWarning,
                stacklevel=3,
            )
            return


def smooth_root(m: Float[Tensor, "*N"], epsilon: float) -> Float[Tensor, "*N"]:
    """Return ``sqrt(m + epsilon) - sqrt(epsilon)``, zero with a finite slope at zero."""
    return m / ((m + epsilon).sqrt() + math.sqrt(epsilon))
