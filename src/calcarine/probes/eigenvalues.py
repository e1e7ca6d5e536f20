"""Eigenvalues at one end of the spectrum of an operator that is given as a function.

    A v = lambda v          A: tensor of a shape -> tensor of that shape, never written down
    residual                ||A v - lambda v|| of unit v, by one more product for every pair

Small operators are written down; middle-sized ones on the CPU go to ARPACK; large ones, and those
on a GPU, to a restarted Arnoldi method for a polynomial of A, on tensors of the operator's own
precision (:mod:`calcarine.probes._arnoldi`).

Axes    n components of the operator's tensor, row-major | k eigenvalues
Source  lehoucq1998 (ARPACK); stewart2002, saad2011 (the other method); soo2024 (spectra of
        recurrent convolutions)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError, UnknownNameError
from calcarine.probes._arnoldi import restarted_arnoldi
from calcarine.probes._products import Operator, Product, seeded
from calcarine.probes._spectral_filters import ENDS

__all__ = [
    "Spectrum",
    "Which",
    "dense_matrix",
    "leading_eigenvalues",
    "leading_eigenvectors",
    "spectral_radius",
]

Which = Literal["LM", "LR", "SR", "LI"]
Method = Literal["auto", "arpack", "arnoldi"]

_DENSE = 64  # ours: below this size the whole matrix costs less than a Krylov space
_LARGE = 20_000  # ours: above this size ARPACK's double precision costs more than its steps save


class Spectrum(NamedTuple):
    """Eigenvalues at one end of a spectrum, and how far they can be trusted.

    Attributes:
        values: Eigenvalues in the order asked for, of a pair the one above the real axis first.
        residuals: ``||A v - lambda v||`` of unit eigenvectors, from products made for this purpose.
        vectors: Unit eigenvectors, each of the operator's shape; ``None`` where not asked for.
        products: Number of products with the operator.
        status: ``"converged"``, or ``"max_products"`` if some residuals are above the tolerance.
    """

    values: Complex[Tensor, " k"]
    residuals: Float[Tensor, " k"]
    vectors: Complex[Tensor, "k ..."] | None
    products: int
    status: Literal["converged", "max_products"]


def dense_matrix(
    operator: Operator,
    shape: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "n n"]:
    """Write a linear operator down as a matrix, one product per column.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on, the batch axis included where it has one, as in (1, 10, 10, 10).
        dtype: Precision the operator works in; torch's default.
        device: Where the operator works.

    Returns:
        The matrix on row-major flat tensors, on that device.

    Raises:
        ShapeError: If the operator changes the shape.
        NonFiniteError: If a product is not finite.
    """
    product = Product(operator, shape, dtype or torch.get_default_dtype(), device)
    return _written_down(product)


def _written_down(product: Product) -> Float[Tensor, "n n"]:
    matrix = torch.empty(product.size, product.size, dtype=product.dtype, device=product.device)
    unit = torch.zeros(product.size, dtype=product.dtype, device=product.device)
    for column in range(product.size):
        unit[column] = 1
        matrix[:, column] = product.finite(product(unit))
        unit[column] = 0
    return matrix


def leading_eigenvalues(
    operator: Operator, shape: Sequence[int], k: int = 6, which: Which = "LM", **options: Any
) -> Spectrum:
    """Find eigenvalues at one end of a spectrum; see :func:`leading_eigenvectors`."""
    return leading_eigenvectors(operator, shape, k, which, **options)._replace(vectors=None)


def leading_eigenvectors(
    operator: Operator,
    shape: Sequence[int],
    k: int = 6,
    which: Which = "LM",
    *,
    tolerance: float | None = None,
    max_products: int = 5000,
    method: Method = "auto",
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Spectrum:
    """Find eigenpairs at one end of the spectrum of a real linear operator.

    >>> conv = torch.nn.Conv2d(10, 10, 3, padding=1, bias=False)
    >>> leading_eigenvalues(conv, (1, 10, 10, 10), k=20).values.abs()

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on, the batch axis included where it has one.
        k: Number of eigenvalues, fewer than components. Conjugates count each.
        which: ``"LM"`` largest modulus, ``"LR"`` largest real part, ``"SR"`` smallest real part,
            ``"LI"`` largest imaginary part (by modulus).
        tolerance: Residual relative to the largest modulus found; by default 1e-8 in float64 and
            1e-5 in float32.
        max_products: Products with the operator at most, apart from those for the residuals.
        method: ``"arpack"`` restarts implicitly on the CPU, in double precision (SciPy);
            ``"arnoldi"`` works on tensors of the operator's precision and device. ``"auto"`` takes
            the first on the CPU up to 20 000 components, else the second.
        dtype: Precision the operator works in; torch's default.
        device: Where the operator works.
        generator: Source of the start vector; seeded with 0 by default.

    Returns:
        The eigenpairs. A failure to converge is told by a warning and by ``status``.

    Raises:
        InputError: If ``k`` does not fit the operator, or a limit is not positive.
        UnknownNameError: If ``which`` or ``method`` is unknown.
        ShapeError: If the operator changes the shape.
        NonFiniteError: If a product is not finite.
    """
    if which not in ENDS:
        raise UnknownNameError("end of the spectrum", which, ENDS)
    if method not in ("auto", "arpack", "arnoldi"):
        raise UnknownNameError("method", method, ["auto", "arpack", "arnoldi"])
    product = Product(operator, shape, dtype or torch.get_default_dtype(), device)
    if not 1 <= k <= product.size:
        raise InputError(
            f"leading_eigenvectors expected k between 1 and the {product.size} components of "
            f"{product.shape}, got {k}."
        )
    if tolerance is None:
        tolerance = 1e-8 if product.dtype == torch.float64 else 1e-5
    if not tolerance > 0 or max_products < 1:
        raise InputError(
            "leading_eigenvectors expected tolerance > 0 and max_products >= 1, got "
            f"{tolerance!r} and {max_products!r}."
        )
    generator = seeded(generator)
    values, vectors = _pairs(product, k, which, tolerance, max_products, method, generator)
    return _finish(product, values, vectors, k, which, tolerance)


def _pairs(
    product: Product,
    k: int,
    which: Which,
    tolerance: float,
    max_products: int,
    method: Method,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenpairs by the method that suits the operator."""
    if product.size <= max(_DENSE, k + 2):
        return np.linalg.eig(_written_down(product).double().cpu().numpy())
    start = torch.randn(product.size, dtype=torch.float64, generator=generator)
    small = product.device.type == "cpu" and product.size <= _LARGE
    if method == "arpack" or (method == "auto" and small):
        return _arpack_pairs(product, start, k, which, tolerance, max_products)
    begin = start.to(product.device, product.dtype)
    return restarted_arnoldi(product, begin, k, which, tolerance, max_products, generator)


def _arpack_pairs(
    product: Product, start: Tensor, k: int, which: str, tolerance: float, max_products: int
) -> tuple[np.ndarray, np.ndarray]:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigs

    operator = LinearOperator(
        (product.size, product.size), matvec=product.numpy, dtype=np.dtype(np.float64)
    )
    # One more than asked for: a cut through a conjugate pair slows the restarts down.
    wanted = min(k + 1, product.size - 2)
    space = min(product.size, max(3 * wanted + 1, 40))
    try:
        return eigs(
            operator,
            k=wanted,
            which=which,
            v0=start.numpy(),
            ncv=space,
            tol=tolerance / 10,
            maxiter=max(max_products // max(space - wanted, 1), 1),
        )
    except ArpackNoConvergence as failure:
        return failure.eigenvalues, failure.eigenvectors


def _finish(
    product: Product, values: np.ndarray, vectors: np.ndarray, k: int, which: str, tolerance: float
) -> Spectrum:
    """Sort, take the residuals by fresh products, and say whether they are small enough."""
    products = product.count
    order = np.lexsort((-values.imag, -values.real.round(9), -ENDS[which](values).round(9)))[:k]
    values, vectors = values[order], vectors[:, order]
    vectors = vectors / np.linalg.norm(vectors, axis=0).clip(np.finfo(float).tiny)
    residuals = [
        float(np.linalg.norm(product.numpy(v) - value * v))
        for value, v in zip(values, vectors.T, strict=True)
    ]
    scale = max(np.abs(values).max(initial=0.0), np.finfo(float).tiny)
    good = len(values) == k and max(residuals, default=math.inf) <= tolerance * scale
    if not good:
        warnings.warn(
            f"{len(values)} of {k} eigenvalues were found after {products} products, the largest "
            f"residual {max(residuals, default=math.nan):.1e} (wanted: {tolerance * scale:.1e}). "
            "Raise max_products or tolerance, or ask for fewer.",
            CalcarineWarning,
            stacklevel=3,
        )
    return Spectrum(
        torch.from_numpy(values.astype(complex)),
        torch.tensor(residuals, dtype=torch.float64),
        torch.from_numpy(vectors.T.astype(complex)).reshape(-1, *product.shape),
        products,
        "converged" if good else "max_products",
    )


def spectral_radius(operator: Operator, shape: Sequence[int], **options: Any) -> float:
    """Return the largest modulus of the eigenvalues of an operator.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on.
        **options: As for :func:`leading_eigenvectors`.
    """
    return float(leading_eigenvalues(operator, shape, 1, "LM", **options).values.abs()[0])
