"""LISSOM: orientation maps from Hebbian learning of all connections, lateral ones included.

    on, off = piecewise sigmoid of  +- lgn_strength (G_center - G_surround) * retina     0 .. 1
    V1      = settling sheet on (on, off), or on their sum

Sizes that are not given follow from the shorter sides L of the LGN and N of the cortex:

    afferent   radius L / 4 + 0.5    sigma radius / 1.3
    excitatory radius N / 10         sigma 0.78 radius
    inhibitory radius N / 4 - 1      sigma 2.08 radius
    LGN        centre sigma (afferent radius / 13) (shorter side of the retina / L),
               surround sigma four times that, radius 4.7 surround sigmas

Axes    B batch | H W retina | L LGN | h w cortex, rows down, columns right
Units   radii and sigmas in pixels of the sheet that is looked at
Source  miikkulainen2005
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, UnknownNameError
from calcarine.models._sheets import check_retina, placement, reset_connections
from calcarine.stage import Stage
from calcarine.v1._local_fields import sheet
from calcarine.v1.activation import PiecewiseSigmoid, piecewise_sigmoid
from calcarine.v1.local_connection import LocalConnection
from calcarine.v1.settling_sheet import LateralInteraction, SettlingSheet

__all__ = ["BOOK_SCHEDULE", "Lissom", "LissomActivity", "book_settings"]

BOOK_SCHEDULE: Mapping[int, Mapping[str, float]] = {
    200: {"excitatory_radius": 0.0625, "excitatory_rate": 0.12168, "lower": 0.11, "upper": 0.66},
    500: {
        "excitatory_radius": 0.04375, "excitatory_rate": 0.06084, "afferent_rate": 0.685,
        "lower": 0.12, "upper": 0.67,
    },
    1000: {"excitatory_radius": 0.035, "lower": 0.15, "upper": 0.68},
    2000: {
        "excitatory_radius": 0.028, "afferent_rate": 0.548, "lower": 0.18, "upper": 0.70,
        "settling": 10,
    },
    3000: {"excitatory_radius": 0.0224, "lower": 0.20, "upper": 0.73},
    4000: {
        "excitatory_radius": 0.01344, "afferent_rate": 0.411, "lower": 0.20, "upper": 0.76,
    },
    5000: {"excitatory_radius": 0.00806, "lower": 0.21, "upper": 0.79, "settling": 11},
    6500: {"excitatory_radius": 0.00484, "lower": 0.22, "upper": 0.82, "settling": 12},
    8000: {"excitatory_radius": 0.0029, "lower": 0.23, "upper": 0.85, "settling": 13},
    20000: {"excitatory_radius": 0.00174, "afferent_rate": 0.2055, "lower": 0.24, "upper": 0.88},
}  # fmt: skip
"""What changes after how many of 20,000 stimuli; the radius in sides of the cortex.

miikkulainen2005; each entry goes to :meth:`Lissom.set_`."""


def book_settings(cortex_density: int = 48, retina_density: int = 24) -> dict[str, Any]:
    """Return the arguments of :class:`Lissom` for the book's orientation map.

    Retina and LGN extend past the cortex, so that no afferent field is cut off.

    Args:
        cortex_density: Units along a side of the cortex. miikkulainen2005: 48 or 142.
        retina_density: Cells of retina and LGN along the same length. miikkulainen2005: 24.
    """
    afferent, center = 0.27083 * retina_density, 0.5 * 0.27083 * retina_density / 6.5
    reach = 4.7 * 4 * center
    lgn = 2 * round((0.5 + 0.27083) * retina_density + 0.5)
    retina = lgn + 2 * round(reach + 0.5)
    inhibitory = 0.22917 * cortex_density
    return {
        "retina_shape": (retina, retina),
        "lgn_shape": (lgn, lgn),
        "cortex_shape": (cortex_density, cortex_density),
        "retina_margin": (retina - lgn) / 2,
        "lgn_margin": placement((lgn, lgn), retina_density, (cortex_density,) * 2, cortex_density),
        "center_sigma": center,
        "afferent_radius": afferent,
        "excitatory_radius": 0.10417 * cortex_density,
        "inhibitory_radius": inhibitory,
        "thresholds": (0.1, 0.65),
    }


class LissomActivity(NamedTuple):
    """What every stage does for one batch of images."""

    on: Float[Tensor, "B L L"]
    off: Float[Tensor, "B L L"]
    afferent: Float[Tensor, "B h w"]
    settling: Float[Tensor, "T B h w"]
    v1: Float[Tensor, "B h w"]


class Lissom(Stage):
    """Retina, LGN and a self-organising V1.

    Args:
        retina_shape: Height and width of the retina.
        lgn_shape: Height and width of the LGN.
        cortex_shape: Height and width of V1.
        lgn: Whether V1 has a field for each of ON and OFF, normalised together
            (miikkulainen2005), or one for their sum, as pylissom does.
        retina_margin: How far inside the retina's border the first LGN cells look.
        lgn_margin: How far inside the LGN's border the first units of V1 look.
        center_sigma: Standard deviation of the LGN's centre; ``None`` as above, and so below.
        lgn_strength: Factor on the centre-surround response. miikkulainen2005: 2.33.
        afferent_radius: Radius of the fields in the LGN.
        afferent_strength: Factor on the afferent input. miikkulainen2005: 1.
        afferent_rate: Hebbian rate, shared among the sources of a field. miikkulainen2005.
        excitatory_radius: Radius of lateral excitation.
        excitatory_strength: Factor on it. miikkulainen2005: 0.9.
        excitatory_rate: Hebbian rate, as above. miikkulainen2005.
        inhibitory_radius: Radius of lateral inhibition.
        inhibitory_strength: Factor on it. miikkulainen2005: 0.9.
        inhibitory_rate: Hebbian rate, as above. miikkulainen2005.
        thresholds: Where the response of V1 starts and where it saturates. pylissom's; the book
            starts with (0.1, 0.65).
        settling: Steps after the first response. miikkulainen2005: 9.
        border: ``crop``, or ``wrap`` for sheets that are tori.

    Raises:
        InputError: If a size, radius or number is out of range.
    """

    sources: ClassVar[tuple[str, ...]] = ("miikkulainen2005",)

    def __init__(
        self,
        retina_shape: tuple[int, int] = (24, 24),
        lgn_shape: tuple[int, int] = (24, 24),
        cortex_shape: tuple[int, int] = (96, 96),
        *,
        lgn: Literal["separate", "summed"] = "separate",
        retina_margin: float | tuple[float, float] = 0.0,
        lgn_margin: float | tuple[float, float] = 0.0,
        center_sigma: float | None = None,
        lgn_strength: float = 2.33,
        afferent_radius: float | None = None,
        afferent_strength: float = 1.0,
        afferent_rate: float = 0.959,
        excitatory_radius: float | None = None,
        excitatory_strength: float = 0.9,
        excitatory_rate: float = 2.55528,
        inhibitory_radius: float | None = None,
        inhibitory_strength: float = 0.9,
        inhibitory_rate: float = 1.80873,
        thresholds: tuple[float, float] = (0.083, 0.633),
        settling: int = 9,
        border: Literal["crop", "wrap"] = "crop",
    ) -> None:
        super().__init__()
        self.retina_shape = sheet("Lissom", "retina_shape", retina_shape)
        self.lgn_shape = sheet("Lissom", "lgn_shape", lgn_shape)
        self.cortex_shape, self.lgn = sheet("Lissom", "cortex_shape", cortex_shape), lgn
        self.retina_margin, self.lgn_margin, self.border = retina_margin, lgn_margin, border
        self.center_sigma, self.lgn_strength = center_sigma, lgn_strength
        self.afferent_radius, self.afferent_strength = afferent_radius, afferent_strength
        self.excitatory_radius, self.excitatory_strength = excitatory_radius, excitatory_strength
        self.inhibitory_radius, self.inhibitory_strength = inhibitory_radius, inhibitory_strength
        self.afferent_rate, self.excitatory_rate = afferent_rate, excitatory_rate
        self.inhibitory_rate, self.thresholds = inhibitory_rate, thresholds
        self.settling = settling
        if lgn not in ("separate", "summed"):
            raise InputError(f"Lissom expected lgn 'separate' or 'summed', got {lgn!r}.")
        self.relay = self._relay()
        self.v1 = self._sheet()
        self.eval()

    def _relay(self) -> LocalConnection:
        side = min(self.lgn_shape)
        radius = self._afferent_radius()
        center = self.center_sigma
        if center is None:
            center = 0.5 * radius / 6.5 * min(self.retina_shape) / side
        return LocalConnection(
            self.retina_shape, self.lgn_shape, 4.7 * 4 * center, center, profile="difference",
            sigma_surround=4 * center, margin=self.retina_margin, border=self.border,
        )  # fmt: skip

    def _afferent_radius(self) -> float:
        given = self.afferent_radius
        return min(self.lgn_shape) / 4 + 0.5 if given is None else given

    def _sheet(self) -> SettlingSheet:
        side, cortex = min(self.cortex_shape), self.cortex_shape
        radius = self._afferent_radius()
        excitatory = self.excitatory_radius if self.excitatory_radius is not None else side / 10
        inhibitory = self.inhibitory_radius if self.inhibitory_radius is not None else side / 4 - 1
        lateral = LateralInteraction(
            LocalConnection(cortex, cortex, excitatory, 0.78 * excitatory, border=self.border),
            LocalConnection(cortex, cortex, inhibitory, 2.08 * inhibitory, border=self.border),
            PiecewiseSigmoid(*self.thresholds),
            excitatory_strength=self.excitatory_strength,
            inhibitory_strength=self.inhibitory_strength,
        )
        afferents = [
            LocalConnection(
                self.lgn_shape, cortex, radius, radius / 1.3,
                margin=self.lgn_margin, border=self.border,
            )
            for _ in range(2 if self.lgn == "separate" else 1)
        ]  # fmt: skip
        return SettlingSheet(
            afferents, lateral, afferent_strength=self.afferent_strength, settling=self.settling,
            afferent_rate=self.afferent_rate, excitatory_rate=self.excitatory_rate,
            inhibitory_rate=self.inhibitory_rate,
        )  # fmt: skip

    def reset_(self, generator: torch.Generator | None = None) -> Self:
        """Draw the initial weights anew.

        Args:
            generator: CPU generator of the noise; torch's global one without it.
        """
        reset_connections(self, generator)
        self.v1.normalize_()
        return self

    def set_(self, **settings: float) -> Self:
        """Change what a schedule changes; the names of :data:`BOOK_SCHEDULE`.

        Args:
            **settings: ``excitatory_radius`` in sides of the cortex, ``lower`` and ``upper``
                threshold (both together), ``settling``, the three rates, and ``prune``: cut
                inhibitory weights below this value.

        Raises:
            UnknownNameError: If there is no such setting.
            InputError: If a value is out of range.
        """
        rest = dict(settings)
        known = ("excitatory_radius", "lower", "upper", "prune", "settling", *SettlingSheet.RATES)
        for name in rest:
            if name not in known:
                raise UnknownNameError("setting", name, known)
        lateral = self.v1.lateral
        if "excitatory_radius" in rest:
            radius = rest.pop("excitatory_radius") * min(self.cortex_shape)
            lateral.excitatory.shrink_(radius)
        if "lower" in rest or "upper" in rest:
            activation = lateral.activation
            assert isinstance(activation, PiecewiseSigmoid)
            lower, upper = rest.pop("lower", None), rest.pop("upper", None)
            if lower is None or upper is None:
                raise InputError("Lissom.set_ expected lower and upper together.")
            activation.move_(lower, upper)
        if "prune" in rest:
            lateral.inhibitory.prune_(rest.pop("prune"))
        self.v1.set_(**rest)
        return self

    def relayed(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 2 L L"]:
        """Return the responses of the ON and the OFF relay, 0 to 1.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        check_retina("Lissom", image, self.retina_shape)
        contrast = self.relay(image[:, 0]) * self.lgn_strength
        return piecewise_sigmoid(torch.stack([contrast, -contrast], dim=1), 0.0, 1.0)

    def _input(self, relayed: Tensor) -> Tensor:
        return relayed if self.lgn == "separate" else relayed.sum(dim=1, keepdim=True)

    def afferent(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w"]:
        """Return the afferent response of V1, before settling and thresholds."""
        return self.v1.drive(self._input(self.relayed(image)))

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B h w"]:
        """Return the settled response of V1.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        return self.v1(self._input(self.relayed(image)))

    def activity(self, image: Float[Tensor, "B 1 H W"]) -> LissomActivity:
        """Return what every stage does, and the whole course of settling."""
        relayed = self.relayed(image)
        drive = self.v1.drive(self._input(relayed))
        course = self.v1.course(drive)
        return LissomActivity(relayed[:, 0], relayed[:, 1], drive, course, course[-1])

    @torch.no_grad()
    def learn(self, images: Float[Tensor, "B 1 H W"]) -> dict[str, Tensor]:
        """Show images one after another and learn from each.

        Args:
            images: Stimuli; activity starts at zero for each one.

        Returns:
            Means over units and stimuli, as tensors on the model's device: the ``activity`` of V1
            and the share of units that are ``active``.

        Raises:
            ShapeError: If the images do not fit the retina.
        """
        check_retina("Lissom", images, self.retina_shape)
        responses = []
        for image in images.split(1):
            one = self._input(self.relayed(image))
            response = self.v1(one)
            self.v1.hebbian_(one, response)
            responses.append(response)
        v1 = torch.cat(responses)
        return {"activity": v1.mean(), "active": (v1 > 0).to(v1.dtype).mean()}

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        return f"lgn={self.lgn}, lgn_strength={self.lgn_strength}"
