"""The lateral geniculate nucleus: centre-surround front ends with luminance and contrast gain."""

from calcarine.lgn.center_surround import CenterSurround
from calcarine.lgn.contrast_gain import LuminanceContrastGainControl
from calcarine.lgn.filters import gaussian_kernel
from calcarine.lgn.gaussian import Gaussian
from calcarine.lgn.linear_nonlinear import LinearNonlinear
from calcarine.lgn.luminance_gain import LuminanceGainControl
from calcarine.lgn.on_off import OnOff, soft_disk

__all__ = [
    "CenterSurround",
    "Gaussian",
    "LinearNonlinear",
    "LuminanceContrastGainControl",
    "LuminanceGainControl",
    "OnOff",
    "gaussian_kernel",
    "soft_disk",
]
