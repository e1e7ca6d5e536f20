"""W, what the cortex believes about lateral inhibition in the retina, and how to undo it.

    encode    s = w * a                         zero beyond the border
    divide    V(s) = F^-1[ F(s) conj(W) / max(|W|^2, floor^2) ]   W = F(w), on twice the size
    decode    a = V(s);  then per round  a <- a + V(s - w * a)

Division by W is exact wherever |W| >= floor and stays finite, with a finite gradient, where a
learned kernel has a zero. The kernel starts as a delta, with which everything is the identity. One
division takes what lies beyond the border for silent, and is wrong within a few cells of it; every
further round takes away about half of that error.

Axes    B batch | H W lattice of cells | k side of the kernel, odd
Source  kotani2024, section 3.2 (no further rounds); floor and rounds are ours
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex._sliding_kernel import correlate
from calcarine.errors import InputError, ShapeError
from calcarine.native import plain
from calcarine.stage import Stage

__all__ = ["GivenInhibition", "LearnedInhibition"]

FLOOR = 0.02  # gains above 50 would amplify noise only; the retina's kernel stays above 0.09. Ours.


def _encode(signal: Float[Tensor, "B 1 H W"], kernel: Float[Tensor, "k k"]) -> Tensor:
    """Correlate with the kernel: the sum over the neighbourhood of every cell."""
    half = kernel.shape[-1] // 2
    return correlate(F.pad(signal, (half, half, half, half)), kernel.to(signal))


def _decode(signal: Float[Tensor, "B 1 H W"], kernel: Float[Tensor, "k k"], rounds: int) -> Tensor:
    """Divide by the kernel's spectrum, and correct the border."""
    inverse = _inverse_spectrum(signal, kernel)
    decoded = _divide(signal, inverse)
    for _ in range(rounds):
        decoded = decoded + _divide(signal - _encode(decoded, kernel), inverse)
    return decoded


def _divide(signal: Tensor, inverse: Tensor) -> Tensor:
    if plain((signal, inverse.real)):
        out: Tensor = _Divide.apply(signal, inverse)
        return out
    return _back(_spectrum(signal) * inverse, *signal.shape[2:])


def _spectrum(signal: Tensor) -> Tensor:
    """Return the spectrum on twice the size; rows that hold nothing but padding are left out."""
    height, width = signal.shape[-2:]
    return torch.fft.fft(torch.fft.rfft(signal, n=2 * width), n=2 * height, dim=-2)


def _back(spectrum: Tensor, height: int, width: int) -> Tensor:
    """Return the first rows and columns of what has this spectrum."""
    rows = torch.fft.ifft(spectrum, dim=-2)[..., :height, :]
    return torch.fft.irfft(rows, n=2 * width)[..., :width]


class _Divide(torch.autograd.Function):
    """Multiplication of a signal's spectrum; the spectrum is kept, and nothing else."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, inverse: Tensor) -> Tensor:
        spectrum = _spectrum(signal)
        ctx.save_for_backward(spectrum if ctx.needs_input_grad[1] else None, inverse)
        product = spectrum * inverse if ctx.needs_input_grad[1] else spectrum.mul_(inverse)
        return _back(product, *signal.shape[2:])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        spectrum, inverse = ctx.saved_tensors
        height, width = gradient.shape[-2:]
        taught, to_signal, to_inverse = _spectrum(gradient), None, None
        if ctx.needs_input_grad[0]:
            to_signal = _back(taught * inverse.conj(), height, width)
        if ctx.needs_input_grad[1]:
            to_inverse = (taught.conj_physical_() * spectrum).sum(dim=(0, 1)).conj_physical_()
            to_inverse /= 2 * height * width  # twice for the half of the spectrum that is not kept
            to_inverse[:, ::width] /= 2
        return to_signal, to_inverse


def _inverse_spectrum(signal: Tensor, kernel: Tensor) -> Tensor:
    height, width = signal.shape[-2:]
    side, half = kernel.shape[-1], kernel.shape[-1] // 2
    flipped = kernel.to(signal).flip(0, 1)
    padded = F.pad(flipped, (0, 2 * width - side, 0, 2 * height - side))
    # The middle of the kernel goes to the origin, so that nothing is displaced.
    spectrum = torch.fft.rfft2(padded.roll((-half, -half), (0, 1)))
    power = spectrum.real.square() + spectrum.imag.square()
    return spectrum.conj() / power.clamp(min=FLOOR**2)


def _check_settings(name: str, kernel_size: int, border_rounds: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise InputError(
            f"{name} expected an odd kernel_size, so that a cell is in the middle, got "
            f"{kernel_size}."
        )
    if border_rounds < 0:
        raise InputError(f"{name} expected border_rounds >= 0, got {border_rounds}.")


class LearnedInhibition(Stage):
    """A kernel of lateral inhibition that is learned; ``forward`` decodes.

    Args:
        kernel_size: Cells per side of the kernel, odd. kotani2024: 7.
        plasticity: How fast the kernel changes, relative to the other weights: what is stored is
            the kernel divided by it, and a step of Adam has the same length everywhere.
        border_rounds: Corrections of the border after the division. kotani2024: 0.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(
        self, kernel_size: int = 7, plasticity: float = 1.0, border_rounds: int = 0
    ) -> None:
        super().__init__()
        _check_settings("LearnedInhibition", kernel_size, border_rounds)
        if not 0 < plasticity <= 100:
            raise InputError(f"LearnedInhibition expected 0 < plasticity <= 100, got {plasticity}.")
        self.kernel_size, self.plasticity = kernel_size, plasticity
        self.border_rounds = border_rounds
        weights = torch.zeros(kernel_size, kernel_size)
        weights[kernel_size // 2, kernel_size // 2] = 1 / plasticity
        self.weights = nn.Parameter(weights)

    @property
    def kernel(self) -> Float[Tensor, "k k"]:
        """The receptive field that every cell is believed to have."""
        return self.weights * self.plasticity

    def encode(self, activation: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn activations of cones into signals of the optic nerve.

        Raises:
            ShapeError: If there is not one channel, or the lattice is smaller than the kernel.
        """
        _check("LearnedInhibition", activation, self.kernel_size)
        return _encode(activation, self.kernel)

    def decode(self, signal: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn signals of the optic nerve back into activations of cones.

        Raises:
            ShapeError: If there is not one channel, or the lattice is smaller than the kernel.
        """
        _check("LearnedInhibition", signal, self.kernel_size)
        return _decode(signal, self.kernel, self.border_rounds)

    def forward(self, signal: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Return ``decode(signal)``."""
        return self.decode(signal)


class GivenInhibition(Stage):
    """A kernel that is given, the counterpart of a learned one; ``forward`` decodes.

    Args:
        kernel_size: Cells per side of the kernel, odd. Until :meth:`give` is called the kernel is
            a delta.
        border_rounds: Corrections of the border after the division.
    """

    kernel: Tensor

    def __init__(self, kernel_size: int = 7, border_rounds: int = 0) -> None:
        super().__init__()
        _check_settings("GivenInhibition", kernel_size, border_rounds)
        self.kernel_size, self.border_rounds = kernel_size, border_rounds
        kernel = torch.zeros(kernel_size, kernel_size)
        kernel[kernel_size // 2, kernel_size // 2] = 1
        self.register_buffer("kernel", kernel)

    def give(self, kernel: Float[Tensor, "k k"]) -> None:
        """Take over the receptive field that cells have.

        Raises:
            ShapeError: If the kernel is of another size.
        """
        if tuple(kernel.shape) != tuple(self.kernel.shape):
            raise ShapeError(
                f"GivenInhibition expected a kernel of shape {tuple(self.kernel.shape)}, got "
                f"{tuple(kernel.shape)}. Set kernel_size={kernel.shape[-1]}."
            )
        self.kernel.copy_(kernel)

    def encode(self, activation: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn activations of cones into signals of the optic nerve."""
        _check("GivenInhibition", activation, self.kernel_size)
        return _encode(activation, self.kernel)

    def decode(self, signal: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn signals of the optic nerve back into activations of cones."""
        _check("GivenInhibition", signal, self.kernel_size)
        return _decode(signal, self.kernel, self.border_rounds)

    def forward(self, signal: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Return ``decode(signal)``."""
        return self.decode(signal)


def _check(name: str, x: Tensor, kernel_size: int) -> None:
    if x.ndim != 4 or x.shape[1] != 1 or min(x.shape[2:]) < kernel_size:
        raise ShapeError(
            f"{name} expected signals with axes (batch, 1, height, width), at least "
            f"{kernel_size} x {kernel_size} cells, got shape {tuple(x.shape)}."
        )
