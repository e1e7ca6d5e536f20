"""How strongly an objective bends along each spatial frequency, and steps scaled accordingly.

    S(f) = E[ V(f) Y(f) ] / E[ V(f)^2 ],   y = (g(x + d v) - g(x)) / d,   v white noise
    x = B' P z,   P(f) = 1 / sqrt(S(f) + floor),   capitals: coefficients in the basis B

Models of early vision are nearly the same everywhere in the image, so their curvature is nearly
diagonal in spatial frequency, and it spans many orders of magnitude: a blur by 3 px passes a
grating at the Nyquist frequency 10^19 times weaker than uniform light. Descent on x then creeps
along the frequencies that the model sees poorly; on z all of them above the floor are alike. It
changes how fast a solution is reached and, within what the model cannot see, which one; never what
counts as a solution.

S is measured with a few gradients, so that it is there for any model and any loss; noise is
averaged over neighbouring frequencies. The basis is the one in which S explains the changes of the
gradient best: waves around a torus (Hartley transform) suit circular padding, waves between mirrors
on the outermost pixels (cosine transform of type I) suit reflecting padding, and between mirrors
just outside them (type II) many others.

Axes    B batch | C channel | H W rows down, columns right, or the frequencies along them
Source  ours; ahmed1974 (cosine transform), bracewell1983 (Hartley transform)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Curvature", "Preconditioner", "can_precondition", "measure_curvature", "preconditioner"]

Basis = Literal["torus", "mirrors", "mirrors_between"]
Gradient = Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "B C H W"]]

_PROBES, _DISTANCE, _NEIGHBOURS = 4, 1e-2, 5
_FLOOR = 0.1  # relative to the curvature of the penalty; measured on the LGN front ends, ours
_TRUST = 0.1  # floor relative to the strongest curvature, per share left unexplained; likewise
_LARGEST = 1024  # sides up to which the cosine transform is made with matrices


class Curvature(NamedTuple):
    """Curvature of an objective at an image.

    Attributes:
        spectrum: Along each spatial frequency of each channel; not negative.
        mean: Over all frequencies and channels.
        basis: Which waves the frequencies are those of.
        unexplained: Share of the gradient's changes that the spectrum does not explain.
    """

    spectrum: Float[Tensor, "B C H W"]
    mean: Float[Tensor, " B"]
    basis: Basis
    unexplained: Float[Tensor, ""]


class Preconditioner(NamedTuple):
    """The change of variables x = B' P z.

    Attributes:
        gain: P along each spatial frequency; the smallest is 1.
        basis: Which waves the frequencies are those of.
    """

    gain: Float[Tensor, "B C H W"]
    basis: Basis

    def to_image(self, z: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return x = B' P z."""
        return _synthesis(z * self.gain, self.basis)

    def from_image(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Return z = P^-1 B x."""
        return _analysis(x, self.basis) / self.gain


def can_precondition(pixels: Float[Tensor, "B C H W"]) -> bool:
    """Return whether the transforms exist for these pixels and say anything about them."""
    big_enough = min(pixels.shape[-2:]) >= 2 * _NEIGHBOURS
    return pixels.dtype in (torch.float32, torch.float64) and big_enough


def measure_curvature(
    gradient: Gradient, pixels: Float[Tensor, "B C H W"], generator: torch.Generator
) -> Curvature:
    """Measure how strongly an objective bends along each spatial frequency.

    Costs five gradients. Probes to where a gradient is no number do not count.

    Args:
        gradient: Gradient of the objective of each image, summed over pixels (not a mean).
        pixels: Where to measure.
        generator: CPU generator of the probing noise.
    """
    here = gradient(pixels)
    noises, changes = [], []
    for _ in range(_PROBES):
        noise = torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype).to(pixels.device)
        noises.append(noise)
        changes.append((gradient(pixels + _DISTANCE * noise) - here) / _DISTANCE)
    noise, change = torch.stack(noises), torch.stack(changes)
    finite = change.isfinite().flatten(2).all(2)[:, :, None, None, None]
    noise, change = torch.where(finite, noise, 0.0), torch.where(finite, change, 0.0)
    along = (noise * change).sum((0, 2, 3, 4)) / noise.square().sum((0, 2, 3, 4))
    bases: list[Basis] = ["torus"]
    if max(pixels.shape[-2:]) <= _LARGEST:
        bases += ["mirrors", "mirrors_between"]
    found = {basis: _spectrum(noise, change, basis) for basis in bases}
    best = min(bases, key=lambda basis: float(found[basis][1]))
    spectrum, unexplained = found[best]
    return Curvature(spectrum.clamp_min(0), along.clamp_min(0), best, unexplained)


def preconditioner(curvature: Curvature, floor: Float[Tensor, " B"]) -> Preconditioner:
    """Return the change of variables that makes an objective bend alike along all frequencies.

    Args:
        curvature: That of the objective.
        floor: Curvature of the penalty; frequencies far below it are left as they are, and so are
            those whose curvature the spectrum is not to be trusted with.
    """
    spectrum = curvature.spectrum
    strongest = spectrum.flatten(1).amax(1)
    lowest = _TRUST * curvature.unexplained.clamp(1e-5, 1) * strongest
    lowest = torch.maximum(_FLOOR * floor, lowest)
    lowest = lowest.clamp_min(torch.finfo(spectrum.dtype).tiny)
    gain = (spectrum + lowest[:, None, None, None]).rsqrt()
    return Preconditioner(gain / gain.flatten(1).amin(1)[:, None, None, None], curvature.basis)


def _spectrum(
    noise: Float[Tensor, "N B C H W"], change: Float[Tensor, "N B C H W"], basis: Basis
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, ""]]:
    """Return S, and the share of the changes that it leaves unexplained; 0 and 1 of nothing."""
    v, y = _analysis(noise, basis), _adjoint(change, basis)
    spectrum = _smooth((v * y).sum(0), basis) / _smooth((v * v).sum(0), basis)
    spectrum = spectrum.nan_to_num(0.0)
    unexplained = (y - spectrum * v).square().sum() / y.square().sum()
    return spectrum, unexplained.nan_to_num(1.0)


def _smooth(spectrum: Float[Tensor, "B C H W"], basis: Basis) -> Float[Tensor, "B C H W"]:
    """Average over neighbouring frequencies; on a torus those at the edges are neighbours too."""
    half = _NEIGHBOURS // 2
    wrapped = F.pad(spectrum, (half,) * 4, mode="circular" if basis == "torus" else "reflect")
    return F.avg_pool2d(wrapped, _NEIGHBOURS, stride=1)


def _synthesis(z: Float[Tensor, "... H W"], basis: Basis) -> Float[Tensor, "... H W"]:
    """Return the image with given coefficients: x = B' z."""
    if basis == "torus":
        return _hartley(z)
    rows, columns = (_cosines(size, z, basis) for size in z.shape[-2:])
    return rows @ z @ columns.mT


def _adjoint(x: Float[Tensor, "... H W"], basis: Basis) -> Float[Tensor, "... H W"]:
    """Return B x: what the gradient by pixels is by coefficients."""
    if basis == "torus":
        return _hartley(x)
    rows, columns = (_cosines(size, x, basis) for size in x.shape[-2:])
    return rows.mT @ x @ columns


def _analysis(x: Float[Tensor, "... H W"], basis: Basis) -> Float[Tensor, "... H W"]:
    """Return the coefficients of an image, the inverse of :func:`_synthesis`."""
    if basis != "mirrors":
        return _adjoint(x, basis)
    weighted = x.clone()
    weighted[..., [0, -1], :] *= 0.5
    weighted[..., [0, -1]] *= 0.5
    return _adjoint(weighted, basis)


def _hartley(x: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    return _Hartley.apply(x)


class _Hartley(torch.autograd.Function):
    """The Hartley transform, which is orthonormal, symmetric, and its own inverse and adjoint.

    PyTorch's gradient of ``fft2`` takes a complex transform where this takes a real one.
    """

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
        waves = torch.fft.fft2(x, norm="ortho")
        return waves.real - waves.imag

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _hartley(gradients[0])


def _cosines(size: int, like: Tensor, basis: Basis) -> Float[Tensor, "H H"]:
    """Return the waves between mirrors, place by frequency.

    Mirrors between pixels give an orthonormal matrix C; mirrors on the outermost pixels give
    C' W C = 1, W halving those pixels.
    """
    place = torch.arange(size, dtype=like.dtype, device=like.device)
    if basis == "mirrors":
        waves = torch.cos(math.pi / (size - 1) * place[:, None] * place)
        waves[:, [0, -1]] *= math.sqrt(0.5)
        return waves * math.sqrt(2 / (size - 1))
    waves = torch.cos(math.pi / size * (place[:, None] + 0.5) * place)
    waves[:, 0] *= math.sqrt(0.5)
    return waves * math.sqrt(2 / size)
