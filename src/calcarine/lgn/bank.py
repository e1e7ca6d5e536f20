"""Weighted Gaussians applied to one image together, by the fastest way that is exact.

    y_k = sum_r  weight_rk  G(std_rk) * x

Axes    B batch | C channel | H W image | R Gaussians of an output | K outputs
Units   standard deviations in pixels
Source  ours
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.lgn.bands import Bands, FixedBands, Term, band_matrices, banded
from calcarine.lgn.borders import PadMode, check_pad_mode, check_reach
from calcarine.lgn.filters import (
    check_kernel_size,
    gaussian_profile,
    gaussian_spectrum,
    spectral_filter,
)
from calcarine.lgn.memory import Memory, is_fixed

__all__ = ["FilterBank", "Mixture", "MixtureFilter", "check_image"]

T = TypeVar("T")

_SPECTRAL_FROM = 96 * 96
"""Pixels from which circular images are filtered by spectra. Ours, measured."""


class Mixture(NamedTuple):
    """Weighted Gaussians: ``std`` in pixels and ``weight``, both with axes (R, K)."""

    std: Tensor
    weight: Tensor


class MixtureFilter(Protocol):
    """A part that filters with a mixture of Gaussians."""

    @property
    def out_channels(self) -> int:
        """Number of outputs K."""

    def mixture(self, dtype: torch.dtype) -> Mixture:
        """Return the mixture in this dtype."""

    def filter_parameters(self) -> Sequence[Tensor]:
        """Return the tensors that the mixture is made from."""


class FilterBank:
    """Applies mixtures of Gaussians and remembers what it computed for fixed parameters.

    Args:
        owner: Name of the stage, for messages.
        kernel_size: Side length, or (height, width), in pixels.
        pad_mode: What lies beyond the border.
        remember: Keep matrices and spectra between calls while the parameters are fixed.
    """

    def __init__(
        self,
        owner: str,
        kernel_size: int | tuple[int, int],
        pad_mode: PadMode,
        *,
        remember: bool = True,
    ) -> None:
        self.kernel = check_kernel_size(owner, kernel_size)
        check_pad_mode(owner, pad_mode)
        self.owner, self.pad_mode, self.remember = owner, pad_mode, remember
        self.memory = Memory()

    def filter(
        self, x: Tensor, parts: Sequence[MixtureFilter], *, positive: bool = False
    ) -> Float[Tensor, "B K H W"]:
        """Return the outputs of all parts, one after the other along the channels.

        Args:
            x: Images with one channel, or with one for every output; any number for one output.
            parts: The filters.
            positive: Let sums of positive terms stay positive.
        """
        check_reach(self.owner, (x.shape[-2], x.shape[-1]), self.kernel, self.pad_mode)
        if self.pad_mode == "circular" and not positive and _spectral_is_faster(x):
            return self._spectral(x, parts)
        outputs = [self._banded(x, part) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-3)

    def spectrum(
        self, parts: Sequence[MixtureFilter], size: tuple[int, int], dtype: torch.dtype
    ) -> Tensor:
        """Return the responses of all outputs to the frequencies of ``rfft2``."""
        responses = []
        for part in parts:
            std, weight = part.mixture(dtype)
            each = gaussian_spectrum(std.reshape(-1), self.kernel, size)
            each = each.reshape(*std.shape, *each.shape[1:])
            responses.append((weight[:, :, None, None] * each).sum(0))
        return torch.cat(responses)

    def _spectral(self, x: Tensor, parts: Sequence[MixtureFilter]) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        spectrum = self._remembered(
            ("spectrum", size, x.dtype), parts, lambda: self.spectrum(parts, size, x.dtype)
        )
        return spectral_filter(x, spectrum)

    def _banded(self, x: Tensor, part: MixtureFilter) -> Tensor:
        shape, outputs = x.shape, part.out_channels
        if shape[1] > 1 and outputs == 1:
            x = x.reshape(-1, 1, *shape[2:])
        fixed = not torch.compiler.is_compiling() and is_fixed(part.filter_parameters())

        def build() -> list[Bands]:
            return self._bands(part, (shape[2], shape[3]), x.dtype, both=fixed)

        bands = self._remembered(("bands", id(part), *shape[2:], x.dtype, fixed), [part], build)
        terms = tuple(
            Term(t % outputs if x.shape[1] > 1 else 0, t % outputs, t)
            for t in range(bands[0].blocks.shape[0])
        )
        # Forward mode differentiates the plain products; only the way back is worth its own rule.
        if fixed and x.requires_grad and torch.is_grad_enabled():
            y = FixedBands.apply(x, *(b.blocks for b in bands), tuple(b.cut for b in bands), terms)
        else:
            y = banded(x, bands[0], bands[1], terms)
        return y.reshape(shape) if shape[1] > 1 and outputs == 1 else y

    def _bands(
        self, part: MixtureFilter, size: tuple[int, int], dtype: torch.dtype, *, both: bool
    ) -> list[Bands]:
        """Return the matrices of both axes, the weights in the first, and the transposed ones."""
        std, weight = (value.reshape(-1) for value in part.mixture(dtype))
        made = []
        for transposed in (False, True)[: 1 + both]:
            for axis in (0, 1):
                profile = gaussian_profile(self.kernel[axis], std)
                if axis == 0:
                    profile = weight[:, None] * profile
                made.append(
                    band_matrices(profile, size[axis], self.pad_mode, transposed=transposed)
                )
        return made

    def _remembered(
        self, key: tuple[object, ...], parts: Sequence[MixtureFilter], build: Callable[[], T]
    ) -> T:
        if not self.remember:
            return build()
        return self.memory.get(key, [p for part in parts for p in part.filter_parameters()], build)


def _spectral_is_faster(x: Tensor) -> bool:
    """Large images whose sides have small prime factors only, in a dtype that has a transform."""
    sides = (x.shape[-2], x.shape[-1])
    known = x.dtype in (torch.float32, torch.float64)
    return known and sides[0] * sides[1] >= _SPECTRAL_FROM and all(map(_is_smooth, sides))


def _is_smooth(number: int) -> bool:
    for prime in (2, 3, 5, 7, 11, 13):
        while number % prime == 0:
            number //= prime
    return number == 1


def check_image(owner: str, x: Tensor, parameter: Tensor) -> None:
    """Refuse what is not a batch of images in floating point beside the parameters.

    Raises:
        ShapeError: If the axes are not (batch, channel, height, width) of floating point values.
        InputError: If image and parameters are on different devices.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ShapeError(
            f"{owner} expected images with axes (batch, channel, height, width) in floating point, "
            f"got {x.dtype} of shape {tuple(x.shape)}. For one grey image pass image[None, None]."
        )
    if x.device != parameter.device:
        raise InputError(
            f"{owner} expected an image on {parameter.device}, where its parameters are, got one "
            f"on {x.device}. Move the stage with .to({str(x.device)!r}), or move the image."
        )
