"""Colour vision that emerges from predicting one's own optic-nerve signals.

    percept    p_t   = D(C s_t)                      decode: inject cone identities, fill in
    movement   p_t+1 = Omega(p_t, shift)             move the percept with the eye
    prediction s_t+1 = <C, p_t+1>                    encode: what every cell should report
    loss             = sum over cells [ sum_b m (s_t+1 - actual)^2 / (sum_b m + 1) ]

with m the mask of what the eye had seen before. Nothing here knows about colour: C and D are
learned from this loss alone. This is the sandbox variant: no lateral inhibition to undo, cells on a
regular lattice, eye movement given (or estimated).

Axes    B batch | T fixations | K latent | H W lattice of cells, rows down, columns right
Source  kotani2024
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex.cone_identity import ConeIdentity
from calcarine.cortex.demosaicing import Demosaicing
from calcarine.cortex.movement import estimate_movement
from calcarine.cortex.translation import translate
from calcarine.errors import InputError, ShapeError

__all__ = ["ColorVision", "Prediction"]


class Prediction(NamedTuple):
    """What the cortex made of a sequence of fixations; N = batch * (fixations - 1)."""

    percept: Float[Tensor, "N K H W"]
    optic_nerve: Float[Tensor, "N 1 H W"]
    known: Float[Tensor, "N 1 H W"]


class ColorVision(nn.Module):
    """The colour cortex, sandbox variant.

    Args:
        size: Cells per side of the optic nerve.
        latent: Numbers per cell and per point of the percept. kotani2024: 8.
        widths: Channels per level of the demosaicing network, finest first.
        plasticity: How fast cone identities turn, relative to the other weights; see
            :class:`calcarine.cortex.ConeIdentity`. kotani2024: 1.
        border: Cells at every edge that the loss leaves out. kotani2024: half the width of the
            7 x 7 inhibition kernel.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(
        self,
        *,
        size: int = 64,
        latent: int = 8,
        widths: tuple[int, ...] = (16, 32, 64),
        plasticity: float = 1.0,
        border: int = 3,
    ) -> None:
        super().__init__()
        if border < 0 or size <= 2 * border:
            raise InputError(
                f"ColorVision expected a border below half the size {size}, got {border}."
            )
        self.size, self.latent, self.widths, self.border = size, latent, tuple(widths), border
        self.plasticity = plasticity
        self.identity = ConeIdentity(size, latent, plasticity)
        self.demosaicing = Demosaicing(latent, widths)

    def decode(self, optic_nerve: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B K H W"]:
        """Turn optic-nerve signals into a percept."""
        return self.demosaicing(self.identity.inject(optic_nerve))

    def encode(self, percept: Float[Tensor, "B K H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn a percept into the optic-nerve signals it would cause."""
        return self.identity.sample(percept)

    def forward(self, optic_nerve: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B K H W"]:
        """Return the percept, the representation that probes look at."""
        return self.decode(optic_nerve)

    def predict(
        self,
        optic_nerve: Float[Tensor, "B T H W"],
        eye_shift: Float[Tensor, "B T-1 2"] | None = None,
    ) -> Prediction:
        """Predict every fixation but the first from the one before.

        Args:
            optic_nerve: Signals of successive fixations.
            eye_shift: Movement between them as (dx, dy) in units of half the field of view, as in
                the sandbox. ``None`` lets the cortex estimate it from the signals.

        Raises:
            ShapeError: If fixations and movements do not fit each other.
        """
        batch, frames = optic_nerve.shape[:2]
        moves = (batch, frames - 1, 2) if eye_shift is None else tuple(eye_shift.shape)
        if optic_nerve.ndim != 4 or frames < 2 or moves != (batch, frames - 1, 2):
            raise ShapeError(
                "ColorVision expected an optic nerve with axes (batch, fixation, height, width), "
                "at least two fixations, and one (dx, dy) per movement, got shapes "
                f"{tuple(optic_nerve.shape)} and {moves}."
            )
        unit = self.identity.unit()
        before = optic_nerve[:, :-1].flatten(0, 1)[:, None]
        percept = self.demosaicing(self.identity.inject(before, unit))
        if eye_shift is None:
            shift_px = estimate_movement(before, optic_nerve[:, 1:].flatten(0, 1)[:, None])
        else:
            shift_px = (eye_shift.flatten(0, 1) * (self.size / 2)).round().long()
        moved, known = translate(percept, shift_px)
        return Prediction(percept, self.identity.sample(moved, unit), known)

    def prediction_loss(
        self, prediction: Prediction, optic_nerve: Float[Tensor, "B T H W"]
    ) -> Float[Tensor, ""]:
        """Compare a prediction with the signals that came."""
        actual = optic_nerve[:, 1:].flatten(0, 1)[:, None]
        inner = slice(self.border, self.size - self.border)
        known = prediction.known[..., inner, inner]
        error = (prediction.optic_nerve - actual)[..., inner, inner].square() * known
        return (error.sum(dim=0) / (known.sum(dim=0) + 1)).sum()

    def loss(
        self,
        optic_nerve: Float[Tensor, "B T H W"],
        eye_shift: Float[Tensor, "B T-1 2"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the prediction error on a sequence of fixations, see the module's equation."""
        return self.prediction_loss(self.predict(optic_nerve, eye_shift), optic_nerve)
