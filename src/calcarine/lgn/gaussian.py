"""Blur: every output is a Gaussian average of the image.

    y_k = G(std_k) * x          G sums to one

Axes    B batch | C channel | K Gaussians | H W image
Units   standard deviations and sizes in pixels
Source  berardino2017
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.lgn.bank import FilterBank, Mixture, check_image
from calcarine.lgn.borders import PadMode
from calcarine.lgn.filters import full_spectrum
from calcarine.lgn.parameters import Numbers, check_channels, vector
from calcarine.stage import Stage

__all__ = ["Gaussian"]


class Gaussian(Stage):
    """Gaussian blur with one or several standard deviations.

    One standard deviation filters every channel alike; several make one output channel each from a
    grey image, or filter as many channels one by one.

    The parameter ``std`` is fixed until ``requires_grad_(True)`` is called, and the stage starts in
    ``eval()``, so that a fresh one can be probed.

    Args:
        kernel_size: Side length, or (height, width), in pixels.
        std: Standard deviation in pixels, or several. berardino2017's implementation starts at 3.
        pad_mode: What lies beyond the border: ``reflect`` (mirror image), ``circular`` (other
            side), ``replicate`` (last pixel) or ``zeros``.
        cache_filt: Keep what was computed from the parameters between calls, while they are fixed.

    Raises:
        InputError: If a size or a standard deviation is not positive, or the mode is unknown.
    """

    sources: ClassVar[tuple[str, ...]] = ("berardino2017",)

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        std: Numbers = 3.0,
        pad_mode: PadMode = "reflect",
        *,
        cache_filt: bool = True,
    ) -> None:
        super().__init__()
        self._bank = FilterBank("Gaussian", kernel_size, pad_mode, remember=cache_filt)
        self.kernel_size, self.pad_mode, self.cache_filt = kernel_size, pad_mode, cache_filt
        self.std = nn.Parameter(vector("Gaussian", "std", std))
        self.requires_grad_(False).eval()

    @property
    def out_channels(self) -> int:
        """Number of Gaussians."""
        return self.std.shape[0]

    def filter_parameters(self) -> Sequence[Tensor]:
        """Return the tensors that the filters are made from."""
        return (self.std,)

    def mixture(self, dtype: torch.dtype) -> Mixture:
        """Return standard deviations and weights (1, K): one Gaussian per output."""
        std = self.std.to(dtype)[None]
        return Mixture(std, torch.ones_like(std))

    def forward(
        self, x: Float[Tensor, "B C H W"], *, positive: bool = False
    ) -> Float[Tensor, "B K H W"]:
        """Blur images; the size is kept.

        Args:
            x: Images.
            positive: Let no rounding error turn the blur of values >= 0 negative, so that a root
                may follow. Slower on large circular images.

        Raises:
            ShapeError: If the axes or the number of channels do not fit.
        """
        check_image("Gaussian", x, self.std)
        check_channels("Gaussian", x, self.out_channels)
        return self._bank.filter(x, [self], positive=positive)

    def transfer_function(self, shape: tuple[int, int]) -> Float[Tensor, "K H W"]:
        """Return the response H(f) to every frequency of ``fft2`` on a circular image.

        Real for odd kernels, complex for even ones, which shift the image by half a pixel.

        Args:
            shape: Height and width of the image.
        """
        return full_spectrum(self._bank.spectrum([self], shape, self.std.dtype), shape[1])

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"kernel_size={self.kernel_size}, std={self.std.tolist()}, pad_mode={self.pad_mode}"
