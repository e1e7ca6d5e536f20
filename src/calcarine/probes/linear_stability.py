"""How a system moves close to a state: modes, their time constants and frequencies.

    r' = g(r)                       one step of dt; J = dg/dr at the state, J v = lambda v
    step    v lambda^n              tau = -dt / log |lambda|      f = |arg lambda| / (2 pi dt)
    flow    J = 1 + dt B, an explicit Euler step of dr/dt:
            mu = (lambda - 1) / dt  tau = -1 / Re mu              f = |Im mu| / 2 pi

The first line is what a simulation with this step does, the second what the equation says that the
step approximates; both agree where dt is short against tau. A fixed point is stable in a simulation
when all |lambda| < 1, in the equation when all Re mu < 0.

J is a product, not a matrix: the step is traced once at the state, so that what does not depend on
the direction, such as which units are above threshold, is not computed again.

Axes    k modes | n components of all state tensors, one after another
Units   time in ms, frequencies in Hz
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes._products import Operator
from calcarine.probes.eigenvalues import Spectrum, leading_eigenvectors
from calcarine.stage import DynamicStage, state_tensors

__all__ = ["Stability", "linearised", "modes", "stability", "step_stability"]


class Stability(NamedTuple):
    """Modes of a system close to a state, the slowest to decay, or fastest to grow, first.

    Attributes:
        values_per_ms: Eigenvalues mu of the flow's Jacobian, 1 / ms.
        time_constants_ms: ``-1 / Re mu``; infinite on the imaginary axis, negative for growing
            modes.
        frequencies_hz: ``|Im mu| / 2 pi``, Hz.
        step_values: Eigenvalues lambda of the Jacobian of one time step.
        step_time_constants_ms: ``-dt / log |lambda|``; infinite on the unit circle, negative
            outside.
        step_frequencies_hz: ``|arg lambda| / (2 pi dt)``, Hz.
        stable: Whether every mode found decays, by steps of this length.
        spectrum: What was computed, with residuals and status.
    """

    values_per_ms: Complex[Tensor, " k"]
    time_constants_ms: Float[Tensor, " k"]
    frequencies_hz: Float[Tensor, " k"]
    step_values: Complex[Tensor, " k"]
    step_time_constants_ms: Float[Tensor, " k"]
    step_frequencies_hz: Float[Tensor, " k"]
    stable: bool
    spectrum: Spectrum


def modes(spectrum: Spectrum, dt_ms: float) -> Stability:
    """Read time constants and frequencies off the eigenvalues of a step's Jacobian.

    Args:
        spectrum: Eigenvalues lambda of one explicit Euler step.
        dt_ms: Duration of the step, ms.

    Raises:
        InputError: If the step is not positive.
    """
    if not dt_ms > 0:
        raise InputError(f"modes expected dt_ms > 0, got {dt_ms!r}.")
    values = spectrum.values
    flow = (values - 1) / dt_ms
    return Stability(
        flow,
        1 / (0 - flow.real),
        flow.imag.abs() * 1000 / (2 * math.pi),
        values,
        dt_ms / (0 - values.abs().log()),
        values.angle().abs() * 1000 / (2 * math.pi * dt_ms),
        bool((values.abs() < 1).all()),
        spectrum,
    )


def linearised(function: Callable[[Tensor], Tensor], point: Float[Tensor, ...]) -> Operator:
    """Return the product with the Jacobian of a function at a point.

    The function is traced once, and what does not depend on the direction is kept: of an area of
    rectified units that is the mask of those above threshold. What cannot be traced is
    differentiated anew in every product.

    Args:
        function: Differentiable, of one tensor.
        point: Where.
    """
    point = point.detach()

    def differentiated(direction: Tensor) -> Tensor:
        return torch.func.jvp(function, (point,), (direction,))[1]

    try:
        with warnings.catch_warnings():
            # torch's own remarks about the graph it makes; nobody can act on them.
            warnings.simplefilter("ignore")
            _, product = torch.func.linearize(function, point)
    except Exception:  # whatever a model of the user's does that no tracer can follow
        return differentiated
    return product


def step_stability(
    step: Callable[[Tensor], Tensor],
    point: Float[Tensor, ...],
    dt_ms: float,
    *,
    k: int = 6,
    **options: Any,
) -> Stability:
    """Linearise one step, given as a function of a tensor, and read off its modes.

    >>> weights, state = area.folded(), torch.zeros(1, 64, 56, 56)
    >>> step_stability(lambda r: weights.step(r, weights.bias), state, dt_ms=2.0)

    Args:
        step: One explicit Euler step, of a tensor to one of the same shape.
        point: Where to linearise, often a fixed point.
        dt_ms: Duration of a step, ms.
        k: Number of modes.
        **options: As for :func:`leading_eigenvectors`; ``which`` is ``"LM"`` unless given.

    Raises:
        InputError: If the step is not positive, or ``k`` does not fit.
        ShapeError: If the step changes the shape.
    """
    if not dt_ms > 0:
        raise InputError(f"step_stability expected dt_ms > 0, got {dt_ms!r}.")
    options = {"dtype": point.dtype, "device": point.device, **options}
    found = leading_eigenvectors(linearised(step, point), point.shape, k, **options)
    return modes(found, dt_ms)


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

    >>> model = CordsNet(depth=2, classes=10, image_size=32).eval()
    >>> frame = torch.rand(1, 3, 32, 32)
    >>> found = stability(model, frame, model.settle(frame).state)
    >>> found.step_time_constants_ms  # -dt / log |lambda|
    >>> found.step_frequencies_hz  # |arg lambda| / (2 pi dt)

    Args:
        model: One explicit Euler step per call, as all our stages make it.
        frame: The input that is held, one frame with a batch of one.
        state: Where to linearise, often a fixed point.
        k: Number of modes.
        dt_ms: Duration of a step; the model's own ``dt_ms`` by default.
        **options: As for :func:`leading_eigenvectors`; ``which`` is ``"LM"`` unless given, the
            modes that decide whether a simulation is stable.

    Raises:
        InputError: If the step is not known or the state holds nothing to linearise.
    """
    step_ms = getattr(model, "dt_ms", None) if dt_ms is None else dt_ms
    if not isinstance(step_ms, int | float) or not step_ms > 0:
        raise InputError(f"{type(model).__name__} has no dt_ms > 0. Pass the step in dt_ms.")
    parts = [t for t in state_tensors(state) if t.is_floating_point()]
    if not parts:
        raise InputError(f"The state of {type(model).__name__} holds no floating-point tensor.")

    def step(flat: Tensor) -> Tensor:
        pieces = iter(flat.split([t.numel() for t in parts]))
        _, after = model(frame, _refilled(state, pieces))
        floats = [t for t in state_tensors(after) if t.is_floating_point()]
        return torch.cat([t.reshape(-1) for t in floats])

    base = torch.cat([t.detach().reshape(-1) for t in parts])
    return step_stability(step, base, step_ms, k=k, **options)


def _refilled(state: Any, pieces: Iterator[Tensor]) -> Any:
    """Return the same state with its floating-point tensors taken from ``pieces``, in order."""
    if isinstance(state, Tensor):
        return next(pieces).reshape(state.shape) if state.is_floating_point() else state
    if isinstance(state, tuple):
        parts = [_refilled(part, pieces) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state
