"""A recurrent convolutional area: a continuous-time network whose weights are convolutions.

    tau dr/dt = -r + relu(W_rec * r + b + W_in * u)
    r <- r + dt / tau (relu(W_rec * r + b + W_in * u) - r)        one Euler step

Both kernels are 3 x 3, zero-padded, without bias and weight-normalised, w = g v / |v| per output
channel; b is one number per unit. Rates that start at or above 0 stay there, since dt <= tau.

Axes    B batch | c channels of the input | C channels of the area | H W rows down, columns right;
        the input is ``stride`` times as high and wide
Units   time in ms; rates without unit
Source  soo2024, section 2; weight normalisation salimans2016
"""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from calcarine.constants import Constant, Value
from calcarine.errors import InputError, ShapeError
from calcarine.stage import DynamicStage

__all__ = ["AreaWeights", "RecurrentArea", "RecurrentAreaState", "half_side"]

SHORTEST_TAU_MS, LONGEST_TAU_MS = 2.0, 1000.0
"""Bounds of a learned time constant, ms. Ours: one published step, and far beyond any trial."""


class RecurrentAreaState(NamedTuple):
    """Rate of every unit."""

    r: Float[Tensor, "B C H W"]


class AreaWeights(NamedTuple):
    """What one step needs, with weight normalisation carried out: fold once, step often."""

    feedforward: Float[Tensor, "C c 3 3"]
    recurrent: Float[Tensor, "C C 3 3"]
    bias: Float[Tensor, "C H W"]
    rate: Tensor | float
    stride: int

    def detached(self) -> AreaWeights:
        """Return the same weights cut off from the parameters."""
        rate = self.rate.detach() if isinstance(self.rate, Tensor) else self.rate
        return AreaWeights(
            self.feedforward.detach(),
            self.recurrent.detach(),
            self.bias.detach(),
            rate,
            self.stride,
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """Return everything a step depends on that is a tensor."""
        rate = (self.rate,) if isinstance(self.rate, Tensor) else ()
        return self.feedforward, self.recurrent, self.bias, *rate

    def feed(self, u: Float[Tensor, "B c h w"]) -> Float[Tensor, "B C H W"]:
        """Return W_in * u."""
        return F.conv2d(u, self.feedforward, stride=self.stride, padding=1)

    def target(
        self,
        r: Float[Tensor, "B C H W"],
        fed: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"],
        slope: float = 0.0,
    ) -> Float[Tensor, "B C H W"]:
        """Return phi(W_rec * r + fed), where the rates tend; ``fed`` is b + W_in * u.

        phi passes what is positive and ``slope`` times what is negative: 0 is relu, 1 is linear.
        """
        drive = F.conv2d(r, self.recurrent, padding=1) + fed
        return F.leaky_relu(drive, slope) if slope else torch.relu(drive)

    def step(
        self,
        r: Float[Tensor, "B C H W"],
        fed: Float[Tensor, "B C H W"] | Float[Tensor, "C H W"],
        slope: float = 0.0,
    ) -> Float[Tensor, "B C H W"]:
        """Return the rates one step later; ``slope`` as in :meth:`target`."""
        return r + self.rate * (self.target(r, fed, slope) - r)


class RecurrentArea(DynamicStage):
    """One area of a recurrent convolutional network; one step of dt per call.

    >>> area = RecurrentArea(in_channels=3, channels=8, size=(28, 28), stride=2)
    >>> r, state = simulate.run(area, torch.rand(10, 1, 3, 56, 56))
    >>> r.shape
    torch.Size([10, 1, 8, 28, 28])

    Weights start as those of ``nn.Conv2d`` do, which leaves the recurrence stable; b starts at 0.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the area.
        size: Height and width of the area in units; those of the input are ``stride`` times these,
            or one less where that is odd.
        stride: Stride of the feed-forward convolution, 1 or 2.
        dt_ms: Duration of one step, ms. soo2024: 2.
        tau_ms: Time constant, ms, at least ``dt_ms``: a number, or one per channel or unit.
            soo2024: 10.
        learnable: Whether the time constant is learned, between 2 ms and 1 s.

    Raises:
        InputError: If a count is not positive, the stride not 1 or 2, or dt_ms not within
            0 < dt_ms <= tau_ms.
    """

    sources: ClassVar[tuple[str, ...]] = ("soo2024", "salimans2016")

    def __init__(
        self,
        *,
        in_channels: int = 64,
        channels: int = 64,
        size: tuple[int, int] = (56, 56),
        stride: int = 1,
        dt_ms: float = 2.0,
        tau_ms: Value | Tensor = 10.0,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        _check_counts(in_channels, channels, size, stride)
        shortest = SHORTEST_TAU_MS if learnable else dt_ms
        if not 0 < dt_ms <= shortest:
            raise InputError(
                f"RecurrentArea expected 0 < dt_ms, and at most {SHORTEST_TAU_MS:g} where tau is "
                f"learned, got dt_ms={dt_ms}. A step must not outlast the time constant."
            )
        self.in_channels, self.channels = in_channels, channels
        self.size, self.stride = (int(size[0]), int(size[1])), stride
        self.dt_ms, self.tau_ms, self.learnable = float(dt_ms), tau_ms, bool(learnable)
        high = LONGEST_TAU_MS if learnable else math.inf
        self.tau = Constant("tau_ms", tau_ms, learnable=learnable, low=shortest, high=high)
        self.feedforward = weight_norm(
            nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        )
        self.recurrent = weight_norm(nn.Conv2d(channels, channels, 3, padding=1, bias=False))
        self.bias = nn.Parameter(torch.zeros(channels, *self.size))
        self.rate(self.bias[None])

    def rate(self, like: Float[Tensor, "B C H W"]) -> Tensor | float:
        """Return dt / tau for rates of the shape, dtype and device of ``like``."""
        return self.dt_ms / self.tau(like)

    def folded(self) -> AreaWeights:
        """Return the weights with weight normalisation carried out, differentiable."""
        return AreaWeights(
            self.feedforward.weight,
            self.recurrent.weight,
            self.bias,
            self.rate(self.bias[None]),
            self.stride,
        )

    def initial_state(self, like: Float[Tensor, "B c h w"]) -> RecurrentAreaState:
        """Return rates of 0 for input of the shape of ``like``."""
        self._check(like)
        return RecurrentAreaState(like.new_zeros(like.shape[0], self.channels, *self.size))

    def forward(
        self, x: Float[Tensor, "B c h w"], state: RecurrentAreaState
    ) -> tuple[Float[Tensor, "B C H W"], RecurrentAreaState]:
        """Advance the rates by one step.

        Args:
            x: Input u, axes (batch, channel, height, width).
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            The new rates, and the state that holds them.

        Raises:
            ShapeError: If channels or sides of the input, or the state, do not fit the area.
        """
        self._check(x)
        if state.r.shape != (expected := (x.shape[0], self.channels, *self.size)):
            raise ShapeError(
                f"RecurrentArea expected a state of shape {expected} for input of shape "
                f"{tuple(x.shape)}, got {tuple(state.r.shape)}. Use initial_state(frame)."
            )
        weights = self.folded()
        r = weights.step(state.r, weights.bias + weights.feed(x))
        return r, RecurrentAreaState(r)

    def _check(self, x: Tensor) -> None:
        fits = x.ndim == 4 and x.is_floating_point() and x.shape[1] == self.in_channels
        sides = tuple(half_side(n) if self.stride == 2 else n for n in x.shape[-2:])
        if not fits or sides != self.size:
            height, width = (self.stride * n for n in self.size)
            raise ShapeError(
                "RecurrentArea expected floating-point input with axes (batch, channel, height, "
                f"width) and shape (B, {self.in_channels}, {height}, {width}) for an area of "
                f"{self.size[0]} x {self.size[1]} units and stride {self.stride}, got {x.dtype} "
                f"of shape {tuple(x.shape)}."
            )

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"size={self.size}, dt_ms={self.dt_ms:g}"


def half_side(side: int) -> int:
    """Return the side after a convolution or pooling of stride 2 with padding: half, rounded up."""
    return -(-side // 2)


def _check_counts(in_channels: int, channels: int, size: tuple[int, int], stride: int) -> None:
    if min(in_channels, channels, *size) < 1 or len(size) != 2:
        raise InputError(
            "RecurrentArea expected positive channels and a size (height, width), got "
            f"in_channels={in_channels}, channels={channels}, size={size}."
        )
    if stride not in (1, 2):
        raise InputError(f"RecurrentArea expected stride 1 or 2, got {stride}.")
