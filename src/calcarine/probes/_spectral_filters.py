"""Polynomials of an operator that keep one end of its spectrum and let the rest die away.

    p(A) x = sum_j c_j (A - c)^j x          j = 0..8, no more than eight products
    LM      lambda^8                        where the spectrum surrounds 0
            lambda^a, a = 4 |c| / rho       cut off after eight terms, where it lies off 0
    LR, SR  exp(+-4 (lambda - c) / rho)     likewise

An Arnoldi method with p(A) in place of A spends its orthogonalisation once per eight products, and
eigenvalues that are close to each other are eight times farther apart. The order of the moduli
|p(lambda)| is the order asked for: |lambda|, or the real part. c and rho, the centre and radius of
the spectrum, are read from the first Ritz values.

Source  saad2011, chapter 7 (filtering); the polynomials are ours
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor

from calcarine.probes._products import Product

__all__ = ["ENDS", "PLAIN", "SpectralFilter", "choose_filter"]

ENDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LM": np.abs,
    "LR": np.real,
    "SR": lambda values: -np.real(values),
    "LI": lambda values: np.abs(np.imag(values)),
}
"""What is largest at each end of a spectrum, of eigenvalues."""

_DEGREE = 8  # ours: from 4 to 8 the time falls by a third, from 8 to 16 no more
_SPREAD = 4.0  # ours: exponent at one radius from the centre; eight terms give 98 % of exp(4)
_FAINT = 0.01  # ours: a wanted eigenvalue may not become smaller than this share of the largest


class SpectralFilter(NamedTuple):
    """A polynomial by its products: each term is ``gain * (A - centre)`` times the one before.

    Attributes:
        gains: One per product.
        centre: What is taken off the spectrum.
        series: Whether all terms are added up, or the last one is all.
        steepness: Residual of p(A) over that of A to be expected, both relative.
    """

    gains: tuple[float, ...]
    centre: float
    series: bool
    steepness: float

    def __call__(self, product: Product, x: Tensor) -> Tensor:
        """Return p(A) x."""
        term = total = x
        for gain in self.gains:
            image = product(term)
            if self.centre:
                image = image.sub(term, alpha=self.centre)
            term = image * gain if gain != 1 else image
            if self.series:
                total = total + term
        return total if self.series else term


PLAIN = SpectralFilter((1.0,), 0.0, False, 1.0)


def choose_filter(ritz: np.ndarray, k: int, which: str) -> SpectralFilter:
    """Return the polynomial for one end of a spectrum, of which some Ritz values are known."""
    scale = float(np.abs(ritz).max(initial=0.0))
    centre = float(ritz.real.max() + ritz.real.min()) / 2
    radius = float(np.abs(ritz - centre).max())
    if which == "LI" or radius <= 1e-6 * scale or scale == 0.0:
        return PLAIN
    if which in ("LR", "SR"):
        slope = (_SPREAD if which == "LR" else -_SPREAD) / radius
        gains = tuple(slope / (j + 1) for j in range(_DEGREE))
        return SpectralFilter(gains, centre, True, abs(slope) * scale)
    power = _SPREAD * abs(centre) / radius
    if power > _DEGREE:
        gains = tuple((power - j) / ((j + 1) * centre) for j in range(_DEGREE))
        return SpectralFilter(gains, centre, True, power)
    ratio = float(np.sort(np.abs(ritz))[::-1][min(k, len(ritz)) - 1]) / scale
    degree = _DEGREE
    if 0 <= ratio < _FAINT ** (1 / _DEGREE):
        degree = max(int(math.log(_FAINT) / math.log(ratio)), 1) if ratio > _FAINT else 1
    # Eigenvectors around 0 are far from orthogonal: a quarter of the slope is what they show.
    return SpectralFilter((1 / scale,) * degree, 0.0, False, max(degree / 4, 1.0))
