"""Colour vision that emerges from predicting one's own optic-nerve signals.

    percept    p_t   = D(C W^-1 s_t)                 decode: undo inhibition, inject identities,
                                                     fill in
    movement   p_t+1 = Omega(p_t, shift)             move the percept with the eye; shift = M(s)
    prediction s_t+1 = W <C, p_t+1>                  encode: what every cell should report
    loss             = sum over cells [ sum_b m (s_t+1 - actual)^2 / (sum_b m + 1) ]

with m the mask of what the eye had seen before. Nothing here knows about colour: everything is
learned from this loss alone. In the full model that is W (lateral inhibition), C (cone identities),
D (demosaicing) and P (positions of cells, on which Omega and M rest); in the sandbox C and D, with
cells on a regular lattice and no inhibition. Every part can be learned, given, or left out.

Axes    B batch | T fixations | K latent | H W lattice of cells, rows down, columns right |
        R side of a picture of the visual field, px
Source  kotani2024
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.cortex.cone_identity import ConeIdentity
from calcarine.cortex.demosaicing import Demosaicing, full_precision
from calcarine.cortex.given_positions import LatticePositions
from calcarine.cortex.movement import blur_signal, estimate_movement
from calcarine.cortex.movement_search import COARSEST_PX, blur_lattice, search_movement
from calcarine.cortex.translation import translate
from calcarine.cortex.visual_field import erode, lattice_of_field, look_up, warp
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.models._color_parts import MOVEMENTS, build_inhibition, build_positions, facts

__all__ = ["ColorVision", "Prediction"]

MOVEMENT_BLUR = 1.0  # cells; more makes movements less exact, less leaves the mosaic in. Ours.
PERCEPT_SHARE = 8.0  # of the percept against the signals, in which movements are told. Ours.


class Prediction(NamedTuple):
    """What the cortex made of a sequence of fixations; N = batch * (fixations - 1)."""

    percept: Float[Tensor, "N K H W"]
    optic_nerve: Float[Tensor, "N 1 H W"]
    known: Float[Tensor, "N 1 H W"]


class ColorVision(nn.Module):
    """The colour cortex. The defaults are the sandbox variant.

    Args:
        size: Cells per side of the optic nerve.
        latent: Numbers per cell and per point of the percept. kotani2024: 8.
        widths: Channels per level of the demosaicing network, finest first. kotani2024: 16, 32, 64
            in the sandbox, 16, 32, 64, 128 in the full model.
        plasticity: How fast cone identities turn, relative to the other weights; see
            :class:`calcarine.cortex.ConeIdentity`. kotani2024: 1.
        border: Cells at every edge that the loss leaves out. kotani2024: half the width of the
            7 x 7 inhibition kernel.
        inhibition: What the cortex knows of lateral inhibition: ``"none"`` takes signals as they
            come, ``"learned"`` finds out, ``"true"`` is told.
        positions: What it knows of the places of its cells: ``"lattice"`` takes them for regular,
            ``"learned"`` finds out, ``"published"`` too, but by a map that is slower to find them,
            ``"true"`` is told.
        movement: What it knows of eye movements: ``"true"`` is told, ``"estimated"`` tells them
            from signals and percepts with several hypotheses, ``"published"`` from signals with
            one.
        kernel_size: Cells per side of the inhibition kernel. kotani2024: 7.
        border_rounds: Corrections of the border when inhibition is undone; see
            :class:`calcarine.cortex.LearnedInhibition`. kotani2024: 0.
        field_px: Pixels per side of the picture of the visual field in which movements are told;
            0 takes the size of a regular lattice, and twice the size otherwise, as the retina's
            field of view has.
        inhibition_plasticity: How fast the kernel changes, relative to the other weights.
        positions_plasticity: How fast positions move, relative to the other weights.

    Raises:
        InputError: If a setting is out of its range.
        UnknownNameError: If a part is not known in the way that is asked for.
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
        inhibition: Literal["none", "learned", "true"] = "none",
        positions: Literal["lattice", "learned", "published", "true"] = "lattice",
        movement: Literal["true", "estimated", "published"] = "true",
        kernel_size: int = 7,
        border_rounds: int = 0,
        field_px: int = 0,
        inhibition_plasticity: float = 1.0,
        positions_plasticity: float = 1.0,
    ) -> None:
        super().__init__()
        if border < 0 or size <= 2 * border:
            raise InputError(
                f"ColorVision expected a border below half the size {size}, got {border}."
            )
        if field_px < 0 or 0 < field_px < COARSEST_PX:
            raise InputError(
                f"ColorVision expected field_px of 0 or at least {COARSEST_PX}, got {field_px}."
            )
        if movement not in MOVEMENTS:
            raise UnknownNameError("way to know eye movements", str(movement), MOVEMENTS)
        self.size, self.latent, self.widths, self.border = size, latent, tuple(widths), border
        self.plasticity, self.movement, self.kernel_size = plasticity, movement, kernel_size
        self.border_rounds = border_rounds
        self.field_px = field_px or (size if positions == "lattice" else 2 * size)
        self.inhibition_plasticity = inhibition_plasticity
        self.positions_plasticity = positions_plasticity
        # The two parts that the sandbox has come first, so that seeds give the weights they gave.
        self.identity = ConeIdentity(size, latent, plasticity)
        self.demosaicing = Demosaicing(latent, widths)
        self.inhibition = build_inhibition(
            inhibition, kernel_size, inhibition_plasticity, border_rounds
        )
        # Who is told movements in units of the field can learn its place and size, too.
        self.positions = build_positions(
            positions, size, positions_plasticity, normalized=movement != "true"
        )

    def take_facts(self, retina: Any) -> None:
        """Take over from a retina what this cortex is told instead of learning it.

        Args:
            retina: A :class:`calcarine.retina.Retina` of the cortex's size.

        Raises:
            InputError: If the retina does not have what the cortex is to be told.
        """
        facts(self.inhibition, self.positions, retina)

    def decode(self, optic_nerve: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B K H W"]:
        """Turn optic-nerve signals into a percept."""
        return self.demosaicing(self.identity.inject(self._cones(optic_nerve)))

    def encode(self, percept: Float[Tensor, "B K H W"]) -> Float[Tensor, "B 1 H W"]:
        """Turn a percept into the optic-nerve signals it would cause."""
        return self._nerve(self.identity.sample(percept))

    def unwarp(
        self, percept: Float[Tensor, "B K H W"], side: int | None = None
    ) -> Float[Tensor, "B K R R"]:
        """Lay a percept, or anything else on the lattice, out in the visual field, for display.

        Args:
            percept: One value per cell and channel.
            side: Pixels per side of the result; ``field_px`` by default.

        Returns:
            What is seen in every place, 0 where there are no cells.
        """
        points = lattice_of_field(self.positions, side or self.field_px, percept)
        return look_up(percept, points)[0]

    def estimate(self, optic_nerve: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T-1 2"]:
        """Tell the movements of the eye from the signals.

        Returns:
            (dx, dy) from each fixation to the next, in halves of the field of view. No gradient.
        """
        self._check_nerve(optic_nerve)
        with torch.no_grad():
            cones, unit = self._cones(optic_nerve.flatten(0, 1)[:, None]), self.identity.unit()
            seen = cones
            if self.movement == "estimated":
                percept = self.demosaicing(self.identity.inject(cones, unit))
                seen = self._looks(cones, percept, unit)
            return self._estimate(seen.view_as(optic_nerve))

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
            eye_shift: Movement between them as (dx, dy) in units of half the field of view. With
                ``None`` the cortex estimates it from the signals.

        Raises:
            ShapeError: If fixations and movements do not fit each other.
        """
        self._check_nerve(optic_nerve, eye_shift)
        unit = self.identity.unit()
        before = self._cones(optic_nerve[:, :-1].flatten(0, 1)[:, None])
        percept = self.demosaicing(self.identity.inject(before, unit))
        if eye_shift is None:
            with torch.no_grad():  # what comes last is compared, and teaches nothing
                last, earlier = self._cones(optic_nerve[:, -1:]), before
                if self.movement == "estimated":
                    then = self.demosaicing(self.identity.inject(last, unit))
                    last = self._looks(last, then, unit)
                    earlier = self._looks(before, percept, unit)
                earlier = earlier.unflatten(0, (len(last), -1))[:, :, 0]
                eye_shift = self._estimate(torch.cat([earlier, last], dim=1))
        moved, known = self._move(percept, eye_shift.flatten(0, 1))
        return Prediction(percept, self._nerve(self.identity.sample(moved, unit)), known)

    def _cones(self, optic_nerve: Tensor) -> Tensor:
        if self.inhibition is None:
            return optic_nerve
        with full_precision(optic_nerve.device.type):
            return self.inhibition.decode(optic_nerve)

    def _nerve(self, activation: Tensor) -> Tensor:
        if self.inhibition is None:
            return activation
        with full_precision(activation.device.type):
            return self.inhibition.encode(activation)

    def _looks(
        self, cones: Tensor, percept: Tensor, unit: Float[Tensor, "K H W"]
    ) -> Float[Tensor, "N 1 H W"]:
        """Return the pictures in which movements are told: signals, and what cells see on average.

        Signals show the mosaic, which does not move with the eye; a percept does not. At birth it
        is faint, and the signals tell.
        """
        mean = unit.mean(dim=(1, 2))
        blurred = blur_lattice(cones, MOVEMENT_BLUR)
        return blurred + PERCEPT_SHARE * torch.einsum("k,nkhw->nhw", mean, percept)[:, None]

    def _estimate(self, seen: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T-1 2"]:
        """Tell movements between pictures on the lattice, in halves of the field; no gradient."""
        with torch.no_grad(), full_precision(seen.device.type):
            return self._search(seen) * (2 / self.field_px)

    def _search(self, seen: Float[Tensor, "B T H W"]) -> Float[Tensor, "B T-1 2"]:
        published = self.movement != "estimated"
        flat = seen.flatten(0, 1)[:, None]
        blurred = blur_signal(flat) if published else flat
        known = None
        if not isinstance(self.positions, LatticePositions) or self.field_px != self.size:
            points = lattice_of_field(self.positions, self.field_px, seen)
            blurred, known = look_up(blurred, points)
        frames = blurred.unflatten(0, seen.shape[:2])
        pair = (frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1))
        if published:
            shift = estimate_movement(*pair, known, blurred=True)
        else:
            shift = search_movement(*pair, known)
        return shift.unflatten(0, (seen.shape[0], -1)).to(seen.dtype)

    def _move(self, percept: Tensor, shift: Float[Tensor, "N 2"]) -> tuple[Tensor, Tensor]:
        """Move percepts with the eye; cells whose neighbourhood is unknown count as unknown."""
        if isinstance(self.positions, LatticePositions):
            moved, known = translate(percept, (shift * (self.size / 2)).round().long())
        else:
            with full_precision(percept.device.type):
                moved, known = warp(percept, self.positions, shift)
        if self.inhibition is not None:
            known = erode(known, self.kernel_size)
        return moved, known

    def _check_nerve(self, optic_nerve: Tensor, eye_shift: Tensor | None = None) -> None:
        frames = optic_nerve.shape[1] if optic_nerve.ndim > 1 else 0
        moves = (optic_nerve.shape[0], frames - 1, 2)
        given = moves if eye_shift is None else tuple(eye_shift.shape)
        if optic_nerve.ndim != 4 or frames < 2 or given != moves:
            raise ShapeError(
                "ColorVision expected an optic nerve with axes (batch, fixation, height, width), "
                "at least two fixations, and one (dx, dy) per movement, got shapes "
                f"{tuple(optic_nerve.shape)} and {given}."
            )

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
