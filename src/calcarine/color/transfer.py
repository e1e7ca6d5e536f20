"""The sRGB transfer curve between display values and linear light.

    linear = srgb / 12.92                        srgb <= 0.04045
           = ((srgb + 0.055) / 1.055)^2.4        above

Negative values, which arise when colours outside the display's gamut are converted, follow the
linear part. Works element by element on tensors of any shape.

Source  iec61966
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError

__all__ = ["linear_to_srgb", "srgb_to_linear"]

SLOPE = 12.92
KNEE_SRGB = 0.04045
KNEE_LINEAR = 0.0031308
OFFSET = 0.055
EXPONENT = 2.4


def srgb_to_linear(srgb: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Decode sRGB display values [0..1] into linear light [0..1].

    Args:
        srgb: Display values; integers must be divided by 255 first.

    Raises:
        InputError: If the tensor does not hold real floating-point numbers.
    """
    _check_floating(srgb, "srgb_to_linear")
    # The clamp keeps the unused branch finite, so that its gradient is 0 rather than NaN.
    curve = ((srgb.clamp(min=KNEE_SRGB) + OFFSET) / (1 + OFFSET)) ** EXPONENT
    return (srgb / SLOPE).where(srgb <= KNEE_SRGB, curve)


def linear_to_srgb(linear: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Encode linear light [0..1] as sRGB display values [0..1]; nothing is clipped.

    Args:
        linear: Linear light relative to the display's white.

    Raises:
        InputError: If the tensor does not hold real floating-point numbers.
    """
    _check_floating(linear, "linear_to_srgb")
    curve = (1 + OFFSET) * linear.clamp(min=KNEE_LINEAR) ** (1 / EXPONENT) - OFFSET
    return (linear * SLOPE).where(linear <= KNEE_LINEAR, curve)


def _check_floating(values: Tensor, name: str) -> None:
    if not values.is_floating_point():
        raise InputError(
            f"{name} expected a tensor of floating-point numbers in [0, 1], got {values.dtype}. "
            "For 8-bit images pass image / 255."
        )
