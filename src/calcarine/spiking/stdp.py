"""Spike-timing-dependent plasticity by traces, for pairs and for triplets of spikes.

    pairs      dw = + A+ r1   at a postsynaptic spike      r1, r2  traces of presynaptic spikes
                    - A- o1   at a presynaptic spike       o1, o2  traces of postsynaptic spikes
    triplets   dw = + r1 (A2+ + A3+ o2)   at a postsynaptic spike
                    - o1 (A2- + A3- r2)   at a presynaptic spike
    traces     q <- q exp(-dt / tau), then q + 1 (all-to-all) or 1 (nearest spike) at a spike

Traces decay by the exact factor of a step, not by Euler's 1 - dt/tau, so spikes n steps apart
change a weight by exactly A exp(-n dt / tau). Within a step presynaptic spikes come first: neurons
of this house answer in the step of their input, so a pair of the same step is a cause with its
effect and strengthens by A+. The slow traces r2 and o2 are read before the step's own spikes.

    bounds     "hard"   w is clamped to [w_min, w_max]
               "soft"   increases scale with (w_max - w) / (w_max - w_min), decreases with
                        (w - w_min) / (w_max - w_min), so A stays in units of the weight
               "none"   w goes where it goes

Axes    B batch, averaged over | N presynaptic units | M postsynaptic units
Units   amplitudes in units of the weight, time constants in ms
Source  song2000 (pairs), bi1998 (the window), pfister2006 (triplets), gerstner2014 (traces, bounds)
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError, UnknownNameError

__all__ = ["PairSTDP", "PairTraces", "TripletSTDP", "TripletTraces"]

Bounds = Literal["hard", "soft", "none"]
Pairing = Literal["all_to_all", "nearest"]


class PairTraces(NamedTuple):
    """Traces of pre- and postsynaptic spikes, axes (batch, unit)."""

    r1: Tensor
    o1: Tensor


class TripletTraces(NamedTuple):
    """Fast (1) and slow (2) traces of pre- (r) and postsynaptic (o) spikes, axes (batch, unit)."""

    r1: Tensor
    r2: Tensor
    o1: Tensor
    o2: Tensor


class PairSTDP(nn.Module):
    """Plasticity by pairs: a presynaptic spike before a postsynaptic one strengthens.

    The rule holds no weights and no traces; a step takes both and returns new ones, so it serves
    any weight of shape (post, pre): of a linear layer, of recurrent connections, of a sheet.

        traces = rule.initial_state(pre, post)
        weight, traces = rule(pre, post, layer.weight, traces)

    Args:
        a_plus: Largest increase by one pair. Ours is a hundredth of the range; song2000 uses 0.005.
        a_minus: Largest decrease. song2000: 1.05 times ``a_plus``, so that chance pairs weaken.
        tau_plus_ms: Window of strengthening, ms. song2000: 20.
        tau_minus_ms: Window of weakening, ms. song2000: 20.
        w_min: Lower bound of weights.
        w_max: Upper bound of weights.
        bounds: ``"hard"``, ``"soft"`` or ``"none"``.
        pairing: ``"all_to_all"`` or ``"nearest"``: every spike with all earlier spikes of the other
            side, or with the last one only.
        dt_ms: Duration of one step, ms.

    Raises:
        InputError: If a time constant or the step is not positive, an amplitude is negative, or
            the bounds are the wrong way round.
        UnknownNameError: If bounds or pairing go by another name.
    """

    sources: ClassVar[tuple[str, ...]] = ("bi1998", "song2000", "gerstner2014")

    def __init__(
        self,
        *,
        a_plus: float = 0.01,
        a_minus: float = 0.0105,
        tau_plus_ms: float = 20.0,
        tau_minus_ms: float = 20.0,
        w_min: float = 0.0,
        w_max: float = 1.0,
        bounds: Bounds = "hard",
        pairing: Pairing = "all_to_all",
        dt_ms: float = 1.0,
    ) -> None:
        super().__init__()
        _check_rule("PairSTDP", w_min, w_max, bounds, pairing)
        _check_signs(
            "PairSTDP",
            {"a_plus": a_plus, "a_minus": a_minus},
            {"tau_plus_ms": tau_plus_ms, "tau_minus_ms": tau_minus_ms, "dt_ms": dt_ms},
        )
        self.a_plus, self.a_minus = a_plus, a_minus
        self.tau_plus_ms, self.tau_minus_ms = tau_plus_ms, tau_minus_ms
        self.w_min, self.w_max, self.bounds = w_min, w_max, bounds
        self.pairing, self.dt_ms = pairing, dt_ms

    def initial_state(self, pre: Float[Tensor, "B N"], post: Float[Tensor, "B M"]) -> PairTraces:
        """Return traces without a past, for frames of the shapes of ``pre`` and ``post``."""
        return PairTraces(torch.zeros_like(pre), torch.zeros_like(post))

    @torch.no_grad()
    def forward(
        self,
        pre: Float[Tensor, "B N"],
        post: Float[Tensor, "B M"],
        weight: Float[Tensor, "M N"],
        state: PairTraces,
    ) -> tuple[Float[Tensor, "M N"], PairTraces]:
        """Learn from the spikes of one step.

        Args:
            pre: Presynaptic spikes, 0 or 1.
            post: Postsynaptic spikes of the same step.
            weight: Weights, rows postsynaptic. Left untouched.
            state: Traces that the last step returned, or ``initial_state(pre, post)``.

        Returns:
            The new weights and the new traces; neither carries a gradient.

        Raises:
            ShapeError: If the shapes do not fit each other.
        """
        _check_shapes("PairSTDP", pre, post, weight, state)
        r1 = _add(state.r1 * math.exp(-self.dt_ms / self.tau_plus_ms), pre, self.pairing)
        o1 = state.o1 * math.exp(-self.dt_ms / self.tau_minus_ms)
        up = self.a_plus * _coincidence(post, r1)
        down = self.a_minus * _coincidence(o1, pre)
        weight = _changed(weight, up, down, self.w_min, self.w_max, self.bounds)
        return weight, PairTraces(r1, _add(o1, post, self.pairing))

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"a_plus={self.a_plus}, a_minus={self.a_minus}, tau_plus_ms={self.tau_plus_ms}, "
            f"tau_minus_ms={self.tau_minus_ms}, w_min={self.w_min}, w_max={self.w_max}, "
            f"bounds={self.bounds!r}, pairing={self.pairing!r}, dt_ms={self.dt_ms}"
        )


class TripletSTDP(nn.Module):
    """Plasticity by triplets, which makes the sign of the change depend on the rate of spiking.

    Used as :class:`PairSTDP` is. The defaults are the full all-to-all model of pfister2006 for
    visual cortex; with ``pairing="nearest"`` use that paper's other set of numbers. Its amplitudes
    are relative changes: 1 is the weight before learning.

    Args:
        a2_plus: Increase by a pair.
        a3_plus: Increase by a triplet of one pre- and two postsynaptic spikes.
        a2_minus: Decrease by a pair.
        a3_minus: Decrease by a triplet of one post- and two presynaptic spikes.
        tau_plus_ms: Fast presynaptic trace r1, ms.
        tau_x_ms: Slow presynaptic trace r2, ms.
        tau_minus_ms: Fast postsynaptic trace o1, ms.
        tau_y_ms: Slow postsynaptic trace o2, ms.
        w_min: Lower bound of weights. Ours.
        w_max: Upper bound of weights. Ours.
        bounds: ``"hard"``, ``"soft"`` or ``"none"``.
        pairing: ``"all_to_all"`` or ``"nearest"``.
        dt_ms: Duration of one step, ms.

    Raises:
        InputError: If a time constant or the step is not positive, an amplitude is negative, or
            the bounds are the wrong way round.
        UnknownNameError: If bounds or pairing go by another name.
    """

    sources: ClassVar[tuple[str, ...]] = ("pfister2006", "gerstner2014")

    def __init__(
        self,
        *,
        a2_plus: float = 5e-10,
        a3_plus: float = 6.2e-3,
        a2_minus: float = 7e-3,
        a3_minus: float = 2.3e-4,
        tau_plus_ms: float = 16.8,
        tau_x_ms: float = 101.0,
        tau_minus_ms: float = 33.7,
        tau_y_ms: float = 125.0,
        w_min: float = 0.0,
        w_max: float = 2.0,
        bounds: Bounds = "hard",
        pairing: Pairing = "all_to_all",
        dt_ms: float = 1.0,
    ) -> None:
        super().__init__()
        _check_rule("TripletSTDP", w_min, w_max, bounds, pairing)
        _check_signs(
            "TripletSTDP",
            {"a2_plus": a2_plus, "a3_plus": a3_plus, "a2_minus": a2_minus, "a3_minus": a3_minus},
            {
                "tau_plus_ms": tau_plus_ms,
                "tau_x_ms": tau_x_ms,
                "tau_minus_ms": tau_minus_ms,
                "tau_y_ms": tau_y_ms,
                "dt_ms": dt_ms,
            },
        )
        self.a2_plus, self.a3_plus = a2_plus, a3_plus
        self.a2_minus, self.a3_minus = a2_minus, a3_minus
        self.tau_plus_ms, self.tau_x_ms = tau_plus_ms, tau_x_ms
        self.tau_minus_ms, self.tau_y_ms = tau_minus_ms, tau_y_ms
        self.w_min, self.w_max, self.bounds = w_min, w_max, bounds
        self.pairing, self.dt_ms = pairing, dt_ms

    def initial_state(self, pre: Float[Tensor, "B N"], post: Float[Tensor, "B M"]) -> TripletTraces:
        """Return traces without a past, for frames of the shapes of ``pre`` and ``post``."""
        none, never = torch.zeros_like(pre), torch.zeros_like(post)
        return TripletTraces(none, none, never, never)

    @torch.no_grad()
    def forward(
        self,
        pre: Float[Tensor, "B N"],
        post: Float[Tensor, "B M"],
        weight: Float[Tensor, "M N"],
        state: TripletTraces,
    ) -> tuple[Float[Tensor, "M N"], TripletTraces]:
        """Learn from the spikes of one step.

        Args:
            pre: Presynaptic spikes, 0 or 1.
            post: Postsynaptic spikes of the same step.
            weight: Weights, rows postsynaptic. Left untouched.
            state: Traces that the last step returned, or ``initial_state(pre, post)``.

        Returns:
            The new weights and the new traces; neither carries a gradient.

        Raises:
            ShapeError: If the shapes do not fit each other.
        """
        _check_shapes("TripletSTDP", pre, post, weight, state)
        how = self.pairing
        r1 = _add(state.r1 * math.exp(-self.dt_ms / self.tau_plus_ms), pre, how)
        r2 = state.r2 * math.exp(-self.dt_ms / self.tau_x_ms)
        o1 = state.o1 * math.exp(-self.dt_ms / self.tau_minus_ms)
        o2 = state.o2 * math.exp(-self.dt_ms / self.tau_y_ms)
        up = _coincidence(post * (self.a2_plus + self.a3_plus * o2), r1)
        down = _coincidence(o1, pre * (self.a2_minus + self.a3_minus * r2))
        weight = _changed(weight, up, down, self.w_min, self.w_max, self.bounds)
        traces = TripletTraces(r1, _add(r2, pre, how), _add(o1, post, how), _add(o2, post, how))
        return weight, traces

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"a2_plus={self.a2_plus}, a3_plus={self.a3_plus}, a2_minus={self.a2_minus}, "
            f"a3_minus={self.a3_minus}, tau_plus_ms={self.tau_plus_ms}, tau_x_ms={self.tau_x_ms}, "
            f"tau_minus_ms={self.tau_minus_ms}, tau_y_ms={self.tau_y_ms}, w_min={self.w_min}, "
            f"w_max={self.w_max}, bounds={self.bounds!r}, pairing={self.pairing!r}, "
            f"dt_ms={self.dt_ms}"
        )


def _coincidence(post: Tensor, pre: Tensor) -> Tensor:
    """Return the product of every post with every pre value, averaged over the batch."""
    return post.T @ pre / pre.shape[0]


def _add(trace: Tensor, spikes: Tensor, pairing: Pairing) -> Tensor:
    if pairing == "all_to_all":
        return trace + spikes
    return trace + spikes * (1.0 - trace)


def _changed(
    weight: Tensor, up: Tensor, down: Tensor, w_min: float, w_max: float, bounds: Bounds
) -> Tensor:
    if bounds == "none":
        return weight + (up - down)
    if bounds == "soft":
        share = (weight - w_min) / (w_max - w_min)
        up, down = up * (1.0 - share), down * share
    # Soft bounds need the clamp, too: a large step could leap over one.
    return (weight + (up - down)).clamp(w_min, w_max)


def _check_rule(name: str, w_min: float, w_max: float, bounds: str, pairing: str) -> None:
    if bounds not in ("hard", "soft", "none"):
        raise UnknownNameError("kind of bounds", bounds, ["hard", "soft", "none"])
    if pairing not in ("all_to_all", "nearest"):
        raise UnknownNameError("pairing of spikes", pairing, ["all_to_all", "nearest"])
    if not w_min < w_max:
        raise InputError(f"{name} expected w_min < w_max, got {w_min} and {w_max}.")


def _check_signs(name: str, amplitudes: dict[str, float], times: dict[str, float]) -> None:
    for key, value in amplitudes.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name} expected {key} >= 0, got {value}. The rule has the signs.")
    for key, value in times.items():
        if not 0 < value < math.inf:
            raise InputError(f"{name} expected {key} > 0, in ms, got {value}.")


def _check_shapes(
    name: str, pre: Tensor, post: Tensor, weight: Tensor, state: PairTraces | TripletTraces
) -> None:
    fits = pre.ndim == 2 and post.ndim == 2 and pre.shape[0] == post.shape[0] > 0
    if not fits or weight.shape != (post.shape[1], pre.shape[1]):
        raise ShapeError(
            f"{name} expected spikes with axes (batch, pre) and (batch, post) and weights with "
            f"axes (post, pre), got shapes {tuple(pre.shape)}, {tuple(post.shape)} and "
            f"{tuple(weight.shape)}. Flatten sheets and images first."
        )
    for field, trace in zip(state._fields, state, strict=True):
        like = pre if field.startswith("r") else post
        if trace.shape != like.shape:
            raise ShapeError(
                f"{name} expected a trace {field} of shape {tuple(like.shape)}, got "
                f"{tuple(trace.shape)}. Use initial_state(pre, post)."
            )
