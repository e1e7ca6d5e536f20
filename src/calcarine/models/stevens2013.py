"""GCAL: stable orientation maps from gain control in the LGN and adaptive thresholds in V1.

    u      = +- lgn_strength (G_center - G_surround) * retina                   ON, OFF
    r_0    = max(0, u) / gain_constant                                          no gain yet
    r_t    = max(0, u) / (gain_constant + gain_strength G r_t-1)                t = 1 ... gain_steps
    V1     = settling sheet on (ON, OFF) with a_t = max(0, input - theta)
    theta  follows the average activity of each unit to a target, see ``v1.HomeostaticThreshold``

Without gain control (r = max(0, u)) and homeostasis (theta fixed) the model is L; with one of them
GCL or AL. Retina and LGN extend past V1 by what the fields and two steps of gain control reach, so
that only lateral fields are cropped.

Axes    B batch | H W retina | L LGN | h w cortex, rows down, columns right
Units   sheet units; V1 is 1 x 1 of them by default
Source  stevens2013
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.models._sheets import check_retina, placement, reset_connections
from calcarine.stage import Stage
from calcarine.v1.local_connection import LocalConnection
from calcarine.v1.plasticity import HomeostaticThreshold
from calcarine.v1.settling_sheet import LateralInteraction, SettlingSheet

__all__ = ["Gcal", "GcalActivity"]

# stevens2013, in sheet units.
_CENTER, _SURROUND, _RELAY_RADIUS = 0.0369, 0.1477, 0.375
_GAIN_SIGMA, _GAIN_RADIUS = 0.125, 0.25
_GAIN_REACH = 2 * _GAIN_RADIUS  # of two steps
_AFFERENT = 0.27083  # radius and sigma
_EXCITATORY_SIGMA, _EXCITATORY_RADIUS = 0.025, 0.104
_INHIBITORY_SIGMA, _INHIBITORY_RADIUS = 0.075, 0.22917


class GcalActivity(NamedTuple):
    """What every stage does for one batch of images."""

    on: Float[Tensor, "B L L"]
    off: Float[Tensor, "B L L"]
    afferent: Float[Tensor, "B h w"]
    settling: Float[Tensor, "T B h w"]
    v1: Float[Tensor, "B h w"]


class Gcal(Stage):
    """Retina, gain-controlled LGN and an adaptive, self-organising V1.

    Args:
        cortex_density: Units of V1 per sheet unit. stevens2013: 98; 48 develops as well, faster.
        lgn_density: Cells of retina and LGN per sheet unit. stevens2013: 24.
        area: Height and width of V1 in sheet units.
        gain_control: Whether the LGN divides by the activity nearby.
        homeostasis: Whether thresholds adapt.
        lgn_strength: Factor on the centre-surround response. stevens2013: 2.33.
        gain_constant: Constant of the division. stevens2013: 0.11.
        gain_strength: Weight of the activity nearby. stevens2013: 0.6.
        gain_steps: How often the LGN divides by the activity nearby. stevens2013: 2. Odd numbers
            end below the equilibrium and even ones above it, so 1 compresses contrast more.
        afferent_strength: Factor on the afferent input. stevens2013: 1.5.
        afferent_rate: Hebbian rate, shared among the sources of a field. stevens2013: 0.1.
        excitatory_strength: Factor on lateral excitation, which does not learn. stevens2013: 1.7.
        inhibitory_strength: Factor on lateral inhibition. stevens2013: 1.4.
        inhibitory_rate: Hebbian rate, as above. stevens2013: 0.3.
        threshold: Threshold before learning. stevens2013: 0.15.
        threshold_jitter: Width of the noise on it. Ours.
        target_activity: Average activity that thresholds lead to. stevens2013: 0.024.
        threshold_rate: Change of thresholds per stimulus. stevens2013: 0.01.
        smoothing: Share of the average activity that stays. stevens2013: 0.991.
        settling: Responses of V1 to a stimulus, the first included. stevens2013: 16.

    Raises:
        InputError: If a size or a number is out of range.
    """

    sources: ClassVar[tuple[str, ...]] = ("stevens2013",)

    def __init__(
        self,
        cortex_density: float = 48,
        lgn_density: float = 24,
        area: tuple[float, float] = (1.0, 1.0),
        *,
        gain_control: bool = True,
        homeostasis: bool = True,
        lgn_strength: float = 2.33,
        gain_constant: float = 0.11,
        gain_strength: float = 0.6,
        gain_steps: int = 2,
        afferent_strength: float = 1.5,
        afferent_rate: float = 0.1,
        excitatory_strength: float = 1.7,
        inhibitory_strength: float = 1.4,
        inhibitory_rate: float = 0.3,
        threshold: float = 0.15,
        threshold_jitter: float = 0.01,
        target_activity: float = 0.024,
        threshold_rate: float = 0.01,
        smoothing: float = 0.991,
        settling: int = 16,
    ) -> None:
        super().__init__()
        self.cortex_density, self.lgn_density = cortex_density, lgn_density
        self.area = (float(area[0]), float(area[1]))
        self.gain_control, self.homeostasis = gain_control, homeostasis
        self.lgn_strength, self.gain_constant = lgn_strength, gain_constant
        self.gain_strength, self.gain_steps = gain_strength, gain_steps
        self.afferent_strength = afferent_strength
        self.afferent_rate, self.excitatory_strength = afferent_rate, excitatory_strength
        self.inhibitory_strength, self.inhibitory_rate = inhibitory_strength, inhibitory_rate
        self.threshold, self.threshold_jitter = threshold, threshold_jitter
        self.target_activity, self.threshold_rate = target_activity, threshold_rate
        self.smoothing, self.settling = smoothing, settling
        self._check()
        beyond = _AFFERENT + _GAIN_REACH
        self.cortex_shape = self._shape(cortex_density, 0.0)
        self.lgn_shape = self._shape(lgn_density, beyond)
        self.retina_shape = self._shape(lgn_density, beyond + _RELAY_RADIUS)
        self.relay = self._relay()
        self.gain = LocalConnection(
            self.lgn_shape, self.lgn_shape, _GAIN_RADIUS * lgn_density, _GAIN_SIGMA * lgn_density,
            profile="gaussian",
        )  # fmt: skip
        self.v1 = self._sheet()
        self.eval()

    def _check(self) -> None:
        densities = (self.cortex_density, self.lgn_density)
        if not all(d > 0 for d in (*densities, *self.area)):
            raise InputError(
                "Gcal expected densities and area > 0, got cortex_density="
                f"{self.cortex_density}, lgn_density={self.lgn_density}, area={self.area}."
            )
        if self.gain_constant <= 0 or self.gain_strength < 0:
            raise InputError(
                "Gcal expected gain_constant > 0 and gain_strength >= 0, so that nothing is "
                f"divided by zero, got {self.gain_constant} and {self.gain_strength}."
            )
        if not isinstance(self.gain_steps, int) or self.gain_steps < 1:
            raise InputError(
                f"Gcal expected gain_steps >= 1, a whole number, got {self.gain_steps!r}. Without "
                "gain control pass gain_control=False."
            )
        if not isinstance(self.settling, int) or self.settling < 1:
            raise InputError(f"Gcal expected settling >= 1, a whole number, got {self.settling!r}.")

    def _shape(self, density: float, beyond: float) -> tuple[int, int]:
        """Return the units of a sheet that extends past V1 on every side."""
        rows, columns = (max(1, round((side + 2 * beyond) * density)) for side in self.area)
        return rows, columns

    def _relay(self) -> LocalConnection:
        d = self.lgn_density
        return LocalConnection(
            self.retina_shape, self.lgn_shape, _RELAY_RADIUS * d, _CENTER * d,
            profile="difference", sigma_surround=_SURROUND * d,
            margin=placement(self.retina_shape, d, self.lgn_shape, d),
        )  # fmt: skip

    def _sheet(self) -> SettlingSheet:
        cortex, density = self.cortex_shape, self.cortex_density
        place = placement(self.lgn_shape, self.lgn_density, cortex, density)
        radius = _AFFERENT * self.lgn_density
        thresholds = HomeostaticThreshold(
            cortex, start=self.threshold, jitter=self.threshold_jitter,
            target=self.target_activity, rate=self.threshold_rate, smoothing=self.smoothing,
        )  # fmt: skip
        lateral = LateralInteraction(
            LocalConnection(
                cortex, cortex, _EXCITATORY_RADIUS * density, _EXCITATORY_SIGMA * density,
                profile="gaussian",
            ),
            LocalConnection(
                cortex, cortex, _INHIBITORY_RADIUS * density, _INHIBITORY_SIGMA * density
            ),
            thresholds,
            excitatory_strength=self.excitatory_strength,
            inhibitory_strength=self.inhibitory_strength,
        )  # fmt: skip
        afferents = [
            LocalConnection(self.lgn_shape, cortex, radius, radius, margin=place) for _ in "+-"
        ]
        return SettlingSheet(
            afferents, lateral, afferent_strength=self.afferent_strength,
            settling=self.settling - 1, afferent_rate=self.afferent_rate,
            inhibitory_rate=self.inhibitory_rate,
        )  # fmt: skip

    @property
    def thresholds(self) -> HomeostaticThreshold:
        """The adaptive thresholds of V1."""
        activation = self.v1.lateral.activation
        assert isinstance(activation, HomeostaticThreshold)
        return activation

    def reset_(self, generator: torch.Generator | None = None) -> Self:
        """Draw initial weights and thresholds anew.

        Args:
            generator: CPU generator of the noise; torch's global one without it.
        """
        reset_connections(self, generator)
        self.v1.normalize_()
        self.thresholds.reset_(generator)
        return self

    def relayed(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2 L L"]:
        """Return the responses of the ON and the OFF relay.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        check_retina("Gcal", image, self.retina_shape)
        contrast = self.relay(image[:, 0]) * self.lgn_strength
        excited = torch.stack([contrast, -contrast], dim=1).clamp(min=0)
        if not self.gain_control:
            return excited
        response = excited / self.gain_constant
        for _ in range(self.gain_steps):
            response = excited / (self.gain_constant + self.gain_strength * self.gain(response))
        return response

    def afferent(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w"]:
        """Return the afferent response of V1, before settling and thresholds."""
        return self.v1.drive(self.relayed(image))

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w"]:
        """Return the settled response of V1.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        return self.v1(self.relayed(image))

    def activity(self, image: Float[Tensor, "B 1 H W"]) -> GcalActivity:
        """Return what every stage does, and the whole course of settling."""
        relayed = self.relayed(image)
        drive = self.v1.drive(relayed)
        course = self.v1.course(drive)
        return GcalActivity(relayed[:, 0], relayed[:, 1], drive, course, course[-1])

    @torch.no_grad()
    def learn(self, images: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
        """Show images one after another; after each, weights learn and thresholds adapt.

        Args:
            images: Stimuli; activity starts at zero for each one.

        Returns:
            Means over units and stimuli, as tensors on the model's device: the ``activity`` of V1,
            the share of units that are ``active``, and the ``threshold`` at the end.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        check_retina("Gcal", images, self.retina_shape)
        responses = []
        for image in images.split(1):
            one = self.relayed(image)
            response = self.v1(one)
            self.v1.hebbian_(one, response)
            if self.homeostasis:
                self.thresholds.adapt_(response)
            responses.append(response)
        v1 = torch.cat(responses)
        return {
            "activity": v1.mean(),
            "active": (v1 > 0).to(v1.dtype).mean(),
            "threshold": self.thresholds.threshold.mean(),
        }

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return (
            f"cortex={self.cortex_shape}, lgn={self.lgn_shape}, retina={self.retina_shape}, "
            f"gain_control={self.gain_control}, homeostasis={self.homeostasis}"
        )
