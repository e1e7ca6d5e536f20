"""What the front ends of Berardino and colleagues have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.lgn.bank import FilterBank, check_image
from calcarine.lgn.borders import PadMode
from calcarine.lgn.center_surround import CenterSurround
from calcarine.lgn.gaussian import Gaussian
from calcarine.lgn.parameters import vector
from calcarine.stage import Stage

__all__ = ["FrontEnd"]


class FrontEnd(Stage):
    """A centre-surround filter, gain controls, and a pointwise nonlinearity.

    Args:
        kernel_size: Side length, or (height, width), in pixels.
        pad_mode: What lies beyond the border.
        pretrained: Whether the parameters are the fitted ones.
        activation: Pointwise nonlinearity.
        cache_filt: Keep what was computed from the parameters between calls, while they are fixed.
    """

    center_surround: CenterSurround

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        pad_mode: PadMode,
        pretrained: bool,
        activation: Callable[[Tensor], Tensor],
        cache_filt: bool,
    ) -> None:
        super().__init__()
        self.kernel_size, self.pad_mode, self.pretrained = kernel_size, pad_mode, pretrained
        self.activation, self.cache_filt = activation, cache_filt
        self._bank = FilterBank(type(self).__name__, kernel_size, pad_mode, remember=cache_filt)

    def _scalar(self, name: str, values: dict[str, Any], filters: int = 1) -> nn.Parameter:
        """Take a strength >= 0 out of the values, one per filter."""
        given = vector(type(self).__name__, name, values.pop(name), zero=True)
        return nn.Parameter(given.repeat(filters) if len(given) == 1 else given)

    def _finish(self, *, filters: int) -> None:
        """Leave a stage that can be probed: parameters fixed, in ``eval()``."""
        for name, parameter in self.named_parameters():
            if parameter.shape != (filters,):
                raise InputError(
                    f"{type(self).__name__} expected {filters} value(s) for "
                    f"{name.replace('center_surround.', '').replace('.', '_')}, got "
                    f"{parameter.tolist()}."
                )
        self.requires_grad_(False).eval()

    def _linear(self, x: Tensor, luminance: Gaussian) -> tuple[Tensor, Tensor]:
        """Return centre-surround response and local luminance, which share one transform.

        Every channel of the image becomes as many as there are filters.
        """
        owner, filters = type(self).__name__, luminance.out_channels
        check_image(owner, x, luminance.std)
        apart = x.reshape(-1, 1, *x.shape[-2:])
        both = self._bank.filter(apart, [self.center_surround, luminance])
        linear, average = both.split(filters, dim=1)
        shape = (x.shape[0], x.shape[1] * filters, *x.shape[-2:])
        return linear.reshape(shape), average.reshape(shape)

    @property
    def amplitude_ratio(self) -> Tensor:
        """Factor on the difference of Gaussians."""
        return self.center_surround.amplitude_ratio

    @property
    def center_std(self) -> Tensor:
        """Standard deviation of the centre in pixels."""
        return self.center_surround.center_std

    @property
    def surround_std(self) -> Tensor:
        """Standard deviation of the surround in pixels."""
        return self.center_surround.surround_std

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"kernel_size={self.kernel_size}, pad_mode={self.pad_mode}, "
            f"pretrained={self.pretrained}"
        )
