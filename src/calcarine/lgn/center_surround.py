"""Centre-surround filtering as a difference of Gaussians.

    y_k = +- amplitude_ratio (G(center_std_k) - G(surround_std_k)) * x       + on, - off centre

Axes    B batch | C channel | K filters | H W image
Units   standard deviations and sizes in pixels
Source  berardino2017
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.lgn.bank import FilterBank, Mixture, check_image
from calcarine.lgn.borders import PadMode
from calcarine.lgn.filters import full_spectrum
from calcarine.lgn.parameters import Numbers, check_channels, same_length, vector
from calcarine.stage import Stage

__all__ = ["CenterSurround"]


class CenterSurround(Stage):
    """Difference of two Gaussians of equal volume, which a uniform image leaves silent.

    One filter filters every channel alike; several make one output channel each from a grey image,
    or filter as many channels one by one.

    The parameters are fixed until ``requires_grad_(True)`` is called, and the stage starts in
    ``eval()``, so that a fresh one can be probed.

    Args:
        kernel_size: Side length, or (height, width), in pixels.
        center_std: Standard deviation of the centre in pixels, or several.
        surround_std: Standard deviation of the surround in pixels, or several.
        on_center: Whether the centre excites, one value or one per filter.
        amplitude_ratio: Factor on the difference, at least 1. berardino2017.
        pad_mode: What lies beyond the border: ``reflect``, ``circular``, ``replicate``, ``zeros``.
        cache_filt: Keep what was computed from the parameters between calls, while they are fixed.

    Raises:
        InputError: If a size or a standard deviation is not positive, or the numbers of values
            differ.
    """

    sources: ClassVar[tuple[str, ...]] = ("berardino2017",)
    amplitude_ratio: Tensor
    _sign: Tensor

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        center_std: Numbers = 1.0,
        surround_std: Numbers = 4.0,
        on_center: bool | tuple[bool, ...] = True,
        amplitude_ratio: Numbers = 1.25,
        pad_mode: PadMode = "reflect",
        *,
        cache_filt: bool = True,
    ) -> None:
        super().__init__()
        self._bank = FilterBank("CenterSurround", kernel_size, pad_mode, remember=cache_filt)
        self.kernel_size, self.pad_mode, self.cache_filt = kernel_size, pad_mode, cache_filt
        center = vector("CenterSurround", "center_std", center_std)
        surround = vector("CenterSurround", "surround_std", surround_std)
        self.on_center = on_center if isinstance(on_center, bool) else tuple(on_center)
        signs = (self.on_center,) if isinstance(self.on_center, bool) else self.on_center
        center, surround, sign = same_length(
            "CenterSurround",
            center_std=center,
            surround_std=surround,
            on_center=torch.tensor([1.0 if on else -1.0 for on in signs]),
        )
        self.center_std, self.surround_std = nn.Parameter(center), nn.Parameter(surround)
        ratio = vector("CenterSurround", "amplitude_ratio", amplitude_ratio)
        if ratio.shape != (1,) or ratio < 1:
            raise InputError(
                "CenterSurround expected one amplitude_ratio of at least 1, got "
                f"{amplitude_ratio!r}. Published models use 1.25."
            )
        self.register_buffer("amplitude_ratio", ratio[0].clone())
        self.register_buffer("_sign", sign, persistent=False)
        self.requires_grad_(False).eval()

    @property
    def out_channels(self) -> int:
        """Number of filters."""
        return self.center_std.shape[0]

    def filter_parameters(self) -> Sequence[Tensor]:
        """Return the tensors that the filters are made from."""
        return self.center_std, self.surround_std, self.amplitude_ratio

    def mixture(self, dtype: torch.dtype) -> Mixture:
        """Return standard deviations and weights (2, K): the centres, then the surrounds."""
        weight = self._sign.to(dtype) * self.amplitude_ratio.to(dtype)
        std = torch.stack([self.center_std, self.surround_std]).to(dtype)
        return Mixture(std, torch.stack([weight, -weight]))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        """Filter images; the size is kept.

        Raises:
            ShapeError: If the axes or the number of channels do not fit.
        """
        check_image("CenterSurround", x, self.center_std)
        check_channels("CenterSurround", x, self.out_channels)
        return self._bank.filter(x, [self])

    def transfer_function(self, shape: tuple[int, int]) -> Float[Tensor, "K H W"]:
        """Return the response H(f) to every frequency of ``fft2`` on a circular image.

        Real for odd kernels, complex for even ones, which shift the image by half a pixel.

        Args:
            shape: Height and width of the image.
        """
        half = self._bank.spectrum([self], shape, self.center_std.dtype)
        return full_spectrum(half, shape[1])

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"kernel_size={self.kernel_size}, center_std={self.center_std.tolist()}, "
            f"surround_std={self.surround_std.tolist()}, on_center={self.on_center}, "
            f"pad_mode={self.pad_mode}"
        )
