"""A cortical sheet that settles: afferent drive, then excitation from near and inhibition from far.

    s    = afferent_strength sum over channels c of A_c(x_c)            drive, fixed while settling
    a_0  = f(s)
    a_t  = f(s + excitatory_strength E(a_t-1) - inhibitory_strength I(a_t-1))    t = 1 ... settling

Learning is one Hebbian step of the connections on the settled activity. The fields of all channels
are normalised together, so that a unit shares one amount of input among them.

Axes    B batch | C channels | H W source sheet | h w cortical sheet
Source  miikkulainen2005, stevens2013
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.simulate import run
from calcarine.stage import DynamicStage, Stage
from calcarine.v1.local_connection import LocalConnection
from calcarine.v1.plasticity import hebbian_together_, normalize_together_

__all__ = ["LateralInteraction", "LateralState", "SettlingSheet"]


class LateralState(NamedTuple):
    """Activity of the sheet; silence at first."""

    activity: Float[Tensor, "B h w"]


class LateralInteraction(DynamicStage):
    """One settling step: the drive and what the sheet tells itself, through the activation.

    From rest the first step gives a_0 = f(drive). ``simulate.run(lateral, drive.expand(n, ...))``
    returns the whole course of settling.

    Args:
        excitatory: Connection of the sheet to itself that adds.
        inhibitory: Connection of the sheet to itself that subtracts.
        activation: What a unit makes of its input.
        excitatory_strength: Factor on the excitation.
        inhibitory_strength: Factor on the inhibition.

    Raises:
        InputError: If the connections are not from one sheet to itself.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)

    def __init__(
        self,
        excitatory: LocalConnection,
        inhibitory: LocalConnection,
        activation: nn.Module,
        *,
        excitatory_strength: float = 0.9,
        inhibitory_strength: float = 0.9,
    ) -> None:
        super().__init__()
        shapes = {excitatory.source, excitatory.target, inhibitory.source, inhibitory.target}
        if len(shapes) > 1:
            raise InputError(
                "LateralInteraction expected connections from one sheet to itself, got "
                f"{excitatory.source} to {excitatory.target} (excitatory) and "
                f"{inhibitory.source} to {inhibitory.target} (inhibitory)."
            )
        self.excitatory, self.inhibitory, self.activation = excitatory, inhibitory, activation
        self.excitatory_strength = excitatory_strength
        self.inhibitory_strength = inhibitory_strength

    def initial_state(self, like: Float[Tensor, "B h w"]) -> LateralState:
        """Return silence."""
        return LateralState(torch.zeros_like(like))

    def forward(
        self, drive: Float[Tensor, "B h w"], state: LateralState
    ) -> tuple[Float[Tensor, "B h w"], LateralState]:
        """Settle by one step."""
        total = torch.add(
            drive, self.excitatory(state.activity), alpha=self.excitatory_strength
        ).sub(self.inhibitory(state.activity), alpha=self.inhibitory_strength)
        activity = self.activation(total)
        return activity, LateralState(activity)


class SettlingSheet(Stage):
    """A sheet of units with afferent fields and lateral interaction.

    Args:
        afferents: One connection per channel of the input.
        lateral: Interaction within the sheet.
        afferent_strength: Factor on the afferent input.
        settling: Number of steps t after a_0.
        afferent_rate: Hebbian rate, shared among the sources of a field; 0 keeps the weights.
        excitatory_rate: The same for lateral excitation.
        inhibitory_rate: The same for lateral inhibition.

    Raises:
        InputError: If the connections do not end on one sheet or come from different ones, or a
            number is out of range.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)
    RATES: ClassVar[tuple[str, ...]] = ("afferent_rate", "excitatory_rate", "inhibitory_rate")

    def __init__(
        self,
        afferents: Sequence[LocalConnection],
        lateral: LateralInteraction,
        *,
        afferent_strength: float = 1.0,
        settling: int = 9,
        afferent_rate: float = 0.0,
        excitatory_rate: float = 0.0,
        inhibitory_rate: float = 0.0,
    ) -> None:
        super().__init__()
        ends = {(each.source, each.target) for each in afferents}
        if len(ends) != 1 or next(iter(ends))[1] != lateral.excitatory.target:
            raise InputError(
                "SettlingSheet expected afferents from one source sheet to the sheet of "
                f"{lateral.excitatory.target}, got {sorted(ends) or 'none'}."
            )
        self.afferents, self.lateral = nn.ModuleList(afferents), lateral
        self.afferent_strength = afferent_strength
        self.settling, self.afferent_rate = 0, 0.0
        self.excitatory_rate, self.inhibitory_rate = 0.0, 0.0
        self.set_(
            settling=settling, afferent_rate=afferent_rate,
            excitatory_rate=excitatory_rate, inhibitory_rate=inhibitory_rate,
        )  # fmt: skip
        self.normalize_().eval()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the sheet."""
        return self.lateral.excitatory.target

    def set_(self, **settings: float) -> Self:
        """Change ``settling`` or one of the rates, as a schedule does.

        Raises:
            UnknownNameError: If there is no such setting.
            InputError: If a value is out of range.
        """
        for name, value in settings.items():
            if name not in ("settling", *self.RATES):
                raise UnknownNameError("setting", name, ["settling", *self.RATES])
            if not 0 <= value < math.inf or (name == "settling" and value != int(value)):
                raise InputError(
                    f"SettlingSheet expected {name} >= 0"
                    f"{', a whole number' if name == 'settling' else ''}, got {value!r}."
                )
            setattr(self, name, int(value) if name == "settling" else float(value))
        return self

    def normalize_(self) -> Self:
        """Let the afferent fields of each unit, and its lateral ones, sum to one."""
        normalize_together_(self._afferents())
        normalize_together_([self.lateral.excitatory])
        normalize_together_([self.lateral.inhibitory])
        return self

    def _afferents(self) -> list[LocalConnection]:
        return [each for each in self.afferents if isinstance(each, LocalConnection)]

    def drive(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w"]:
        """Return the afferent response before settling, s.

        Raises:
            ShapeError: If the channels or the sheet do not fit.
        """
        if x.ndim != 4 or x.shape[1] != len(self.afferents):
            raise ShapeError(
                "SettlingSheet expected input with axes (batch, channel, height, width) and "
                f"{len(self.afferents)} channels, one for each afferent connection, got shape "
                f"{tuple(x.shape)}."
            )
        parts = [field(x[:, c]) for c, field in enumerate(self.afferents)]
        return sum(parts[1:], parts[0]) * self.afferent_strength

    def settle(self, drive: Float[Tensor, "B h w"]) -> Float[Tensor, "B h w"]:
        """Return the activity that a drive settles to, from silence."""
        activity, state = self.lateral(drive, self.lateral.initial_state(drive))
        for _ in range(self.settling):
            activity, state = self.lateral(drive, state)
        return activity

    def course(self, drive: Float[Tensor, "B h w"]) -> Float[Tensor, "T B h w"]:
        """Return a_0 and the activity after every settling step."""
        outputs, _ = run(self.lateral, drive.expand(self.settling + 1, *drive.shape))
        return outputs

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w"]:
        """Return the settled activity.

        Args:
            x: Activity of the source sheet, one channel for each afferent connection.

        Raises:
            ShapeError: If the channels or the sheet do not fit.
        """
        return self.settle(self.drive(x))

    @torch.no_grad()
    def hebbian_(self, x: Float[Tensor, "B C H W"], activity: Float[Tensor, "B h w"]) -> Self:
        """Let every connection with a rate learn from one input and the settled activity.

        Args:
            x: What the sheet was shown.
            activity: What it settled to.
        """
        afferents, lateral = self._afferents(), self.lateral
        if self.afferent_rate:
            hebbian_together_(
                afferents,
                [x[:, c] for c in range(len(afferents))],
                activity,
                [self.afferent_rate / each.field_size for each in afferents],
            )
        for field, rate in (
            (lateral.excitatory, self.excitatory_rate),
            (lateral.inhibitory, self.inhibitory_rate),
        ):
            if rate:
                field.hebbian_(activity, activity, rate / field.field_size)
        return self

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        settings = [float(self.settling), *(getattr(self, name) for name in self.RATES)]
        destination[f"{prefix}settings"] = torch.tensor(settings, dtype=torch.float64)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        settings = state_dict.pop(f"{prefix}settings", None)
        if settings is not None:
            values: Mapping[str, float] = dict(
                zip(("settling", *self.RATES), settings.tolist(), strict=True)
            )
            self.set_(**values)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"shape={self.shape}, settling={self.settling}"
