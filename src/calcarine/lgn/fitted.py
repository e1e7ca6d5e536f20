"""Parameters of the front ends as fitted to human judgements of distorted images.

Units   standard deviations in pixels; scalars in 1 / (unit of the image)
Source  berardino2018, Table 2: kernels of 31 x 31 pixels
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

from calcarine.errors import InputError
from calcarine.lgn.filters import check_kernel_size

__all__ = ["FITTED", "FITTED_KERNEL", "fitted_or_given"]

FITTED_KERNEL = 31
"""Side length of the kernels in pixels."""

FITTED: Mapping[str, Mapping[str, float | tuple[float, ...]]] = {
    "LinearNonlinear": {"amplitude_ratio": 1.25, "center_std": 0.5339, "surround_std": 6.148},
    "LuminanceGainControl": {
        "amplitude_ratio": 1.25,
        "luminance_scalar": 14.95,
        "center_std": 1.962,
        "surround_std": 4.235,
        "luminance_std": 4.235,
    },
    "LuminanceContrastGainControl": {
        "amplitude_ratio": 1.25,
        "luminance_scalar": 2.94,
        "contrast_scalar": 34.03,
        "center_std": 0.7363,
        "surround_std": 48.37,
        "luminance_std": 170.99,
        "contrast_std": 2.658,
    },
    "OnOff": {
        "amplitude_ratio": 1.25,
        "luminance_scalar": (3.2637, 14.3961),
        "contrast_scalar": (7.3405, 16.7423),
        "center_std": (1.237, 0.3233),
        "surround_std": (30.12, 2.184),
        "luminance_std": (76.4, 2.184),
        "contrast_std": (7.49, 2.43),
    },
}
"""Class name -> constructor argument -> value."""


def fitted_or_given(
    cls: type, kernel_size: int | tuple[int, int], *, pretrained: bool, **given: Any
) -> dict[str, Any]:
    """Return the fitted values of a class if asked for, else the given ones.

    Raises:
        InputError: If fitted values are asked for with another kernel size, or together with a
            value that is neither the default nor the fitted one.
    """
    if not pretrained:
        return given
    owner, fitted = cls.__name__, FITTED[cls.__name__]
    if check_kernel_size(owner, kernel_size) != (FITTED_KERNEL, FITTED_KERNEL):
        raise InputError(
            f"{owner}(pretrained=True) expected kernel_size={FITTED_KERNEL}, for which the "
            f"parameters were fitted, got {kernel_size!r}."
        )
    signature = inspect.signature(cls).parameters
    for name, value in given.items():
        if value != signature[name].default and not _close(value, fitted[name]):
            raise InputError(
                f"{owner}(pretrained=True) sets {name}={fitted[name]}, but {name}={value!r} was "
                "given. Leave one of the two out."
            )
    return dict(fitted)


def _close(value: Any, fitted: float | tuple[float, ...]) -> bool:
    """Compare up to the rounding of a stored parameter."""
    values, wanted = (tuple(v) if isinstance(v, (tuple, list)) else (v,) for v in (value, fitted))
    return len(values) == len(wanted) and all(
        math.isclose(a, b, rel_tol=1e-6) for a, b in zip(values, wanted, strict=True)
    )
