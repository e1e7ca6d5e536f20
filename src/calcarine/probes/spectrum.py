"""Spectra of linear operators given as functions: convolutions, Jacobians of areas, anything.

    A v = lambda v          A: tensor of a shape -> tensor of that shape, never written down
    V^T A V = H             Arnoldi: V orthonormal, H upper Hessenberg, its eigenvalues approach
                            those of A from the edge of the spectrum inwards
    residual                ||A v - lambda v|| of unit v, by one more product for every pair

For the linear flow dr/dt = B r an eigenvalue mu of B means a mode that decays with the time
constant -1 / Re(mu) and turns with the frequency Im(mu) / 2 pi. An explicit Euler step of dt has
the Jacobian 1 + dt B, so mu = (lambda - 1) / dt.

Axes    n components of the operator's tensor, row-major | k eigenvalues
Source  lehoucq1998 (ARPACK); soo2024 (spectra of recurrent convolutions)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import (
    CalcarineWarning,
    InputError,
    NonFiniteError,
    ShapeError,
    UnknownNameError,
)
from calcarine.stage import DynamicStage, state_tensors

__all__ = [
    "PowerIteration",
    "Spectrum",
    "Stability",
    "dense_matrix",
    "leading_eigenvalues",
    "leading_eigenvectors",
    "power_iteration",
    "spectral_radius",
    "stability",
]

Operator = Callable[[Tensor], Tensor]
Which = Literal["LM", "LR", "SR", "LI"]

_ORDER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LM": np.abs,
    "LR": np.real,
    "SR": lambda values: -np.real(values),
    "LI": lambda values: np.abs(np.imag(values)),
}
_SETTLED = 10  # ours: iterations over which the second eigenvalue must hold still
_DENSE = 64  # ours: below this size the whole matrix costs less than a Krylov space


class Spectrum(NamedTuple):
    """Eigenvalues at one end of a spectrum, and how far they can be trusted.

    Attributes:
        values: Eigenvalues in the order asked for, of a pair the one above the real axis first.
        residuals: ``||A v - lambda v||`` of unit eigenvectors, from products made for this purpose.
        vectors: Unit eigenvectors, each of the operator's shape; ``None`` where not asked for.
        products: Number of products with the operator.
        status: ``"converged"``, or ``"max_products"`` if some residuals are above the tolerance.
    """

    values: Complex[Tensor, "k"]
    residuals: Float[Tensor, "k"]
    vectors: Complex[Tensor, "k ..."] | None
    products: int
    status: Literal["converged", "max_products"]


class _Product:
    """An operator on flat float64 vectors, counted and checked."""

    def __init__(
        self, operator: Operator, shape: Sequence[int], dtype: torch.dtype, device: Any
    ) -> None:
        self.operator, self.shape = operator, tuple(shape)
        self.dtype, self.device = dtype, torch.device(device)
        self.size, self.count = math.prod(self.shape), 0
        if not self.shape or self.size < 1:
            raise ShapeError(f"A spectrum expected a shape with components, got {self.shape}.")

    @torch.no_grad()
    def __call__(self, flat: Tensor) -> Tensor:
        """Apply the operator to one flat vector of the operator's dtype."""
        image = self.operator(flat.to(self.device, self.dtype).reshape(self.shape))
        self.count += 1
        if image.shape != self.shape:
            raise ShapeError(
                f"The operator expected to map {self.shape} to itself, but returned "
                f"{tuple(image.shape)}. A convolution needs as many channels out as in, stride 1 "
                "and padding that keeps the size."
            )
        image = image.detach().reshape(-1)
        if not image.isfinite().all():
            raise NonFiniteError(f"Product {self.count} with the operator was NaN or infinite.")
        return image

    def numpy(self, flat: np.ndarray) -> np.ndarray:
        """Apply the operator to a NumPy vector, real or complex, in double precision."""
        if np.iscomplexobj(flat):
            return self.numpy(flat.real) + 1j * self.numpy(flat.imag)
        return self(torch.from_numpy(np.ascontiguousarray(flat).ravel())).double().cpu().numpy()


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
    product = _Product(operator, shape, dtype or torch.get_default_dtype(), device)
    matrix = torch.empty(product.size, product.size, dtype=product.dtype, device=product.device)
    unit = torch.zeros(product.size, dtype=product.dtype, device=product.device)
    for column in range(product.size):
        unit[column] = 1
        matrix[:, column] = product(unit)
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
    method: Literal["auto", "arpack", "arnoldi"] = "auto",
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
        method: ``"arpack"`` restarts implicitly on the CPU (SciPy); ``"arnoldi"`` is a growing
            space of tensors on the operator's device. ``"auto"`` takes the first on the CPU, the
            second on a GPU.
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
    if which not in _ORDER:
        raise UnknownNameError("end of the spectrum", which, _ORDER)
    if method not in ("auto", "arpack", "arnoldi"):
        raise UnknownNameError("method", method, ["auto", "arpack", "arnoldi"])
    product = _Product(operator, shape, dtype or torch.get_default_dtype(), device)
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
    start = torch.randn(product.size, dtype=torch.float64, generator=_seeded(generator))
    if product.size <= max(_DENSE, k + 2):
        values, vectors = _dense_pairs(product)
    elif method == "arnoldi" or (method == "auto" and product.device.type != "cpu"):
        values, vectors = _arnoldi_pairs(product, start, k, which, tolerance, max_products)
    else:
        values, vectors = _arpack_pairs(product, start, k, which, tolerance, max_products)
    return _finish(product, values, vectors, k, which, tolerance)


def _seeded(generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(0) if generator is None else generator


def _dense_pairs(product: _Product) -> tuple[np.ndarray, np.ndarray]:
    columns = [product.numpy(unit) for unit in np.eye(product.size)]
    return np.linalg.eig(np.stack(columns, axis=1))


def _arpack_pairs(
    product: _Product, start: Tensor, k: int, which: str, tolerance: float, max_products: int
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


def _arnoldi_pairs(
    product: _Product, start: Tensor, k: int, which: str, tolerance: float, max_products: int
) -> tuple[np.ndarray, np.ndarray]:
    """Grow one Krylov space on the device until the wanted pairs have converged."""
    most = min(product.size, max_products)
    room = min(most, max(4 * k, 40))
    basis = torch.zeros(room + 1, product.size, dtype=product.dtype, device=product.device)
    table = np.zeros((most + 1, most))
    basis[0] = (start / start.norm()).to(basis)
    done = 0
    while True:
        for column in range(done, room):
            rest = product(basis[column])
            inside = rest.new_zeros(column + 1)
            for _ in range(2):  # the second pass makes up for what rounding left inside
                part = basis[: column + 1] @ rest
                rest, inside = rest - part @ basis[: column + 1], inside + part
            norm = rest.norm()
            table[: column + 1, column] = inside.double().cpu().numpy()
            table[column + 1, column] = float(norm)
            done = column + 1
            if float(norm) <= torch.finfo(product.dtype).eps * np.abs(table[:done, column]).max():
                table[done, column] = 0.0  # an invariant space: its pairs are exact
                break
            basis[done] = rest / norm
        values, small = np.linalg.eig(table[:done, :done])
        order = np.argsort(-_ORDER[which](values), kind="stable")[:k]
        left = np.abs(table[done, done - 1] * small[-1, order])
        if (left <= 0.1 * tolerance * np.abs(values).max()).all() or done < room or done == most:
            coordinates = torch.from_numpy(small[:, order]).to(product.device)
            flat = basis[:done].T.to(coordinates.dtype) @ coordinates
            return values[order], flat.cpu().numpy()
        room = min(most, 2 * room)
        grown = torch.zeros(room + 1, product.size, dtype=product.dtype, device=product.device)
        grown[: done + 1] = basis
        basis = grown


def _finish(
    product: _Product, values: np.ndarray, vectors: np.ndarray, k: int, which: str, tolerance: float
) -> Spectrum:
    """Sort, take the residuals by fresh products, and say whether they are small enough."""
    products = product.count
    order = np.lexsort((-values.imag, -values.real.round(9), -_ORDER[which](values).round(9)))[:k]
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


class PowerIteration(NamedTuple):
    """The leading eigenpair by power iteration, or the reason why there is none.

    Attributes:
        value: The leading eigenvalue, or the modulus that several share without a gap.
        vector: Its unit eigenvector, of the operator's shape; ``None`` unless converged.
        residual: ``||A v - lambda v||``.
        ratio: Modulus of the second eigenvalue over that of the first, as far as was seen.
        iterations: Iterations done.
        status: ``"converged"``, ``"no spectral gap"`` when several eigenvalues share the largest
            modulus (a conjugate pair, a sign, a multiple), or ``"max_iter"``.
    """

    value: float
    vector: Tensor | None
    residual: float
    ratio: float
    iterations: int
    status: Literal["converged", "no spectral gap", "max_iter"]


def power_iteration(
    operator: Operator,
    shape: Sequence[int],
    *,
    starts: int = 4,
    max_iter: int = 1000,
    tolerance: float = 1e-6,
    gap: float = 1e-4,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> PowerIteration:
    """Find the eigenvector that repeated application of an operator tends to.

    Several starts run side by side and are kept orthogonal; they show the next eigenvalues too, and
    so whether there is one leading eigenvalue at all.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on.
        starts: Vectors side by side, at least 2 where there are 2 components.
        max_iter: Iterations at most.
        tolerance: Residual relative to the eigenvalue at which to stop.
        gap: The second eigenvalue must be smaller by this share at least.
        dtype: Precision the operator works in; torch's default.
        device: Where the operator works.
        generator: Source of the starts; seeded with 0 by default.

    Raises:
        InputError: If there are fewer than two starts for an operator of several components.
        ShapeError: If the operator changes the shape.
        NonFiniteError: If a product is not finite.
    """
    product = _Product(operator, shape, dtype or torch.get_default_dtype(), device)
    if starts < min(2, product.size) or max_iter < 1:
        raise InputError(
            f"power_iteration expected at least two starts and one iteration, got {starts} and "
            f"{max_iter}. A single start cannot see whether there is a spectral gap."
        )
    count = min(starts, product.size)
    noise = torch.randn(product.size, count, dtype=torch.float64, generator=_seeded(generator))
    block, _ = torch.linalg.qr(noise.to(product.device, product.dtype))
    value, ratio, residual, settled = math.nan, math.nan, math.inf, 0
    for iteration in range(1, max_iter + 1):
        images = torch.stack([product(column) for column in block.unbind(1)], 1)
        values, small = np.linalg.eig((block.mT @ images).double().cpu().numpy())
        moduli = np.sort(np.abs(values))[::-1]
        lead = int(np.abs(values).argmax())
        before, ratio = ratio, float(moduli[1] / moduli[0]) if count > 1 and moduli[0] else 0.0
        weights = torch.from_numpy(small[:, lead].real.copy()).to(block)
        vector = block @ weights
        length = vector.norm().clamp_min(torch.finfo(block.dtype).tiny)
        value = float(values[lead].real)
        residual = float((images @ weights - value * vector).norm() / length)
        # Equal moduli that stay equal: more iterations will not tell them apart.
        settled = settled + 1 if abs(ratio - before) < gap else 0
        if settled >= _SETTLED and ratio > 1 - gap:
            return PowerIteration(
                float(moduli[0]), None, residual, ratio, iteration, "no spectral gap"
            )
        small_enough = residual <= tolerance * max(abs(value), torch.finfo(block.dtype).tiny)
        if small_enough and settled >= _SETTLED:
            unit = (vector / length).reshape(product.shape)
            return PowerIteration(value, unit, residual, ratio, iteration, "converged")
        block, _ = torch.linalg.qr(images)
    return PowerIteration(value, None, residual, ratio, max_iter, "max_iter")


def spectral_radius(operator: Operator, shape: Sequence[int], **options: Any) -> float:
    """Return the largest modulus of the eigenvalues of an operator.

    Args:
        operator: Linear function on tensors of ``shape``.
        shape: What it acts on.
        **options: As for :func:`leading_eigenvectors`.
    """
    return float(leading_eigenvalues(operator, shape, 1, "LM", **options).values.abs()[0])


class Stability(NamedTuple):
    """How a system moves close to a state.

    Attributes:
        values_per_ms: Eigenvalues of the flow's Jacobian, 1 / ms, the least stable first.
        time_constants_ms: ``-1 / Re``; infinite on the imaginary axis, negative for growing modes.
        frequencies_hz: ``|Im| / 2 pi``, Hz.
        step_values: Eigenvalues of the Jacobian of one time step.
        stable: Whether every mode found decays, by steps of this length.
        spectrum: What was computed, with residuals and status.
    """

    values_per_ms: Complex[Tensor, "k"]
    time_constants_ms: Float[Tensor, "k"]
    frequencies_hz: Float[Tensor, "k"]
    step_values: Complex[Tensor, "k"]
    stable: bool
    spectrum: Spectrum


def stability(
    model: DynamicStage,
    frame: Float[Tensor, "1 ..."],
    state: Any,
    *,
    k: int = 6,
    dt_ms: float | None = None,
    **options: Any,
) -> Stability:
    """Linearise one step of a model around a state and read off its modes.

    Args:
        model: One explicit Euler step per call, as all our stages make it.
        frame: The input that is held, one frame with a batch of one.
        state: Where to linearise, often a fixed point.
        k: Number of modes.
        dt_ms: Duration of a step; the model's own ``dt_ms`` by default.
        **options: As for :func:`leading_eigenvectors`.

    Raises:
        InputError: If the step is not known or the state holds nothing to linearise.
    """
    step_ms = getattr(model, "dt_ms", None) if dt_ms is None else dt_ms
    if not isinstance(step_ms, int | float) or not step_ms > 0:
        raise InputError(f"{type(model).__name__} has no dt_ms > 0. Pass the step in dt_ms.")
    parts = [t for t in state_tensors(state) if t.is_floating_point()]
    if not parts:
        raise InputError(f"The state of {type(model).__name__} holds no floating-point tensor.")
    base = torch.cat([t.detach().reshape(-1) for t in parts])

    def step(flat: Tensor) -> Tensor:
        pieces = iter(flat.split([t.numel() for t in parts]))
        _, after = model(frame, _refilled(state, pieces))
        floats = [t for t in state_tensors(after) if t.is_floating_point()]
        return torch.cat([t.reshape(-1) for t in floats])

    def jacobian(flat: Tensor) -> Tensor:
        return torch.func.jvp(step, (base,), (flat,))[1]

    found = leading_eigenvectors(
        jacobian, base.shape, k, "LR", dtype=base.dtype, device=base.device, **options
    )
    flow = (found.values - 1) / step_ms
    return Stability(
        flow,
        -1 / flow.real,
        flow.imag.abs() * 1000 / (2 * math.pi),
        found.values,
        bool((found.values.abs() < 1).all()),
        found,
    )


def _refilled(state: Any, pieces: Any) -> Any:
    """Return the same state with its floating-point tensors taken from ``pieces``, in order."""
    if isinstance(state, Tensor):
        return next(pieces).reshape(state.shape) if state.is_floating_point() else state
    if isinstance(state, tuple):
        parts = [_refilled(part, pieces) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state
