"""A network of spiking neurons that tells pictures apart, learned by surrogate gradient.

    picture -> spikes (T, B, N) -> W_in -> LIF layer -> W_out -> leaky integrators v (T, B, K)
    logit_k = max over t of v_k(t)

The hidden layer may have recurrent connections, and time constants of its own in every unit, fixed
or learned. Answers count by their maximum, so there is no need to say when to look.

Axes    T time | B batch | H W rows down, columns right | N input | U hidden units | K classes
Units   milliseconds; voltages in units of the threshold; firing rates in hertz
Source  zenke2018 (surrogate gradient); cramer2022 (read-out by the maximum over time); sizes, gains
        and the spread of time constants are ours
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.models._picture_spikes import Encoding, event_code, latency_code, poisson_code
from calcarine.spiking import LIF, LeakyIntegrator, LIFBox, Recurrent
from calcarine.spiking.surrogate import Surrogate
from calcarine.stage import Pathway, Stage

__all__ = ["SpikingClassifier", "SpikingResponse"]

_CODES = ("current", "latency", "poisson", "events")
_SHORTEST_STEPS = 2.0  # no drawn time constant is shorter, or the Euler step overshoots
_LONGEST_MS = 100.0


class SpikingResponse(NamedTuple):
    """Everything that the network did with some pictures.

    Attributes:
        encoded: Spikes of the input, axes (T, B, N).
        hidden: Spikes of the hidden layer, axes (T, B, U).
        membrane: Voltages of the read-out, axes (T, B, K).
        logits: Their maximum over time, axes (B, K).
    """

    encoded: Float[Tensor, "T B N"]
    hidden: Float[Tensor, "T B U"]
    membrane: Float[Tensor, "T B K"]
    logits: Float[Tensor, "B K"]


class SpikingClassifier(Stage):
    """Pictures to logits by spikes: ``model(image)``, or ``model.respond(image)`` for all of it.

    Args:
        size: Height and width of the pictures, pixels.
        classes: Number of classes.
        hidden: Number of hidden units. Ours.
        encoding: How a picture becomes spikes: ``"current"``, an integrate-and-fire neuron per
            pixel, ``"latency"``, ``"poisson"``, or ``"events"`` of the shaken picture. With
            ``"poisson"`` every call in ``train()`` draws spikes afresh; in ``eval()`` chance is
            frozen, drawn once for all pictures.
        steps: Length of the simulation in steps. Ours.
        dt_ms: Time step.
        gain: Drive of a pixel of value 1, in thresholds (``"current"``). Ours.
        rate_hz: Firing rate of a pixel of value 1 (``"poisson"``). Ours.
        tau_mem_ms: Membrane time constant of the hidden layer.
        tau_syn_ms: Synaptic time constant of the hidden layer.
        readout_tau_mem_ms: Membrane time constant of the read-out.
        spread: Standard deviation of the logarithm of the hidden layer's time constants, drawn for
            every unit; 0 for equal ones. Ours.
        learnable: Whether the hidden layer's time constants are learned, one of each per unit.
        recurrent: Whether hidden units excite and inhibit each other, one step later.
        surrogate: Name of the surrogate gradient.
        alpha: Its steepness. Ours: 10 learns faster here than 100.

    Raises:
        InputError: If a number is out of its range.
        UnknownNameError: If there is no such encoding or surrogate.
    """

    sources: ClassVar[tuple[str, ...]] = ("zenke2018", "cramer2022")

    def __init__(
        self,
        *,
        size: tuple[int, int] = (8, 8),
        classes: int = 10,
        hidden: int = 128,
        encoding: Encoding = "current",
        steps: int = 30,
        dt_ms: float = 1.0,
        gain: float = 6.0,
        rate_hz: float = 200.0,
        tau_mem_ms: float = 10.0,
        tau_syn_ms: float = 5.0,
        readout_tau_mem_ms: float = 10.0,
        spread: float = 0.0,
        learnable: bool = False,
        recurrent: bool = False,
        surrogate: Surrogate = "superspike",
        alpha: float = 10.0,
    ) -> None:
        super().__init__()
        if encoding not in _CODES:
            raise UnknownNameError("encoding", encoding, _CODES)
        counts = {"size": min(size), "classes": classes, "hidden": hidden, "steps": steps}
        wrong = [f"{name}={value}" for name, value in counts.items() if value < 1]
        if wrong or len(size) != 2 or not gain > 0 or not 0 <= spread <= 2:
            raise InputError(
                "SpikingClassifier expected a size of two sides, counts of at least 1, gain > 0 "
                f"and spread in [0, 2], got size={size}, gain={gain}, spread={spread} "
                f"{' '.join(wrong)}."
            )
        if not 0 < rate_hz * dt_ms <= 1000:
            raise InputError(
                "SpikingClassifier expected at most one spike per step, 0 < rate_hz * dt_ms <= "
                f"1000, got {rate_hz} Hz and {dt_ms} ms."
            )
        self.size, self.classes, self.hidden = size, classes, hidden
        self.encoding, self.steps, self.dt_ms = encoding, steps, dt_ms
        self.gain, self.rate_hz, self.spread = gain, rate_hz, spread
        self.tau_mem_ms, self.tau_syn_ms = tau_mem_ms, tau_syn_ms
        self.readout_tau_mem_ms, self.learnable = readout_tau_mem_ms, learnable
        self.recurrent, self.surrogate, self.alpha = recurrent, surrogate, alpha
        inputs = size[0] * size[1] * (2 if encoding == "events" else 1)
        self.encoder = LIFBox(tau_mem_ms=10.0, dt_ms=dt_ms, surrogate=surrogate, alpha=alpha)
        self.w_in = _weights(inputs, hidden, 4.0)
        self.layer = self._make_layer()
        self.w_out = _weights(hidden, classes, 2.0)
        self.readout = LeakyIntegrator(tau_mem_ms=readout_tau_mem_ms, dt_ms=dt_ms)
        chance = torch.rand(steps, 1, *size) if encoding == "poisson" else torch.empty(0)
        self.register_buffer("chance", chance)

    chance: Tensor

    def forward(
        self, image: Float[Tensor, "B 1 H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "B K"]:
        """Return the logits of pictures with pixels in [0, 1].

        Args:
            image: The pictures.
            generator: For the chance in ``"poisson"`` while in ``train()``.

        Raises:
            ShapeError: If the pictures are not of the network's size.
        """
        return self.respond(image, generator).logits

    def respond(
        self, image: Float[Tensor, "B 1 H W"], generator: torch.Generator | None = None
    ) -> SpikingResponse:
        """Return spikes, voltages and logits; arguments and errors as in ``forward``."""
        encoded = self.encode(image, generator)
        hidden = simulate.run(self.layer, self.w_in(encoded))[0]
        membrane = simulate.run(self.readout, self.w_out(hidden))[0]
        # A spike train has no NaN, so one in the picture would go unnoticed.
        passed_on = 0 * image.detach().flatten(1).sum(1, keepdim=True)
        return SpikingResponse(encoded, hidden, membrane, membrane.amax(0) + passed_on)

    def encode(
        self, image: Float[Tensor, "B 1 H W"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "T B N"]:
        """Return pictures as spikes; arguments and errors as in ``forward``."""
        if image.ndim != 4 or image.shape[1:] != (1, *self.size):
            raise ShapeError(
                "SpikingClassifier expected pictures with axes (batch, 1, height, width) of "
                f"{self.size[0]} x {self.size[1]} px, got shape {tuple(image.shape)}. For one "
                "picture pass image[None]."
            )
        if self.encoding == "latency":
            return latency_code(image, self.steps, self.dt_ms)
        if self.encoding == "poisson":
            expected = self.rate_hz * self.dt_ms / 1000
            return poisson_code(image, self._chance(image, generator), expected)
        if self.encoding == "events":
            return event_code(image, self.steps, self.dt_ms)
        drive = (self.gain * image.flatten(1)).expand(self.steps, -1, -1)
        return simulate.run(self.encoder, drive)[0]

    def network(self) -> Pathway:
        """Return what follows the encoder as one pathway, spikes to read-out potentials.

        Its parts are those of this model, not copies; :func:`calcarine.spiking.export_nir` takes
        it.
        """
        return Pathway(w_in=self.w_in, hidden=self.layer, w_out=self.w_out, readout=self.readout)

    def time_constants_ms(self) -> dict[str, Float[Tensor, "U"]]:
        """Return the time constants of the hidden units as they are now, by name."""
        neuron = self.layer.neuron if isinstance(self.layer, Recurrent) else self.layer
        assert isinstance(neuron, LIF)  # _make_layer puts no other neuron there
        found = {"tau_mem_ms": neuron.tau_mem, "tau_syn_ms": neuron.tau_syn}
        return {
            name: constant.current().detach().expand(self.hidden)
            for name, constant in found.items()
        }

    def _chance(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training:
            return self.chance.to(image)
        drawn = torch.rand(self.steps, len(image), *self.size, generator=generator)
        return drawn.to(image)

    def _make_layer(self) -> LIF | Recurrent:
        neuron = LIF(
            tau_mem_ms=self._time_constants(self.tau_mem_ms),
            tau_syn_ms=self._time_constants(self.tau_syn_ms),
            dt_ms=self.dt_ms,
            surrogate=self.surrogate,
            alpha=self.alpha,
            learnable=("tau_mem_ms", "tau_syn_ms") if self.learnable else False,
        )
        if not self.recurrent:
            return neuron
        units = self.hidden
        return Recurrent(neuron, 0.1 * torch.randn(units, units) / units**0.5)

    def _time_constants(self, middle: float) -> float | list[float]:
        """Return one time constant, or one per unit, log-normal around the middle."""
        if self.spread == 0 and not self.learnable:
            return middle
        drawn = middle * (self.spread * torch.randn(self.hidden)).exp()
        drawn = drawn.clamp(_SHORTEST_STEPS * self.dt_ms, _LONGEST_MS)
        values: list[float] = drawn.tolist()
        return values


def _weights(inputs: int, outputs: int, scale: float) -> nn.Linear:
    """Return weights that are large enough for spikes to pass from the start."""
    weights = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        weights.weight.mul_(scale)
    return weights
