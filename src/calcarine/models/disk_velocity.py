"""Disks and how fast they move, from events, by leaky integrators that inhibit each other.

    ring        d    = [K * x]+                                K an outline, negative inside
    integrators u_k' = u_k + dt / tau_k (d - u_k)              k slow, medium, fast
    place       a    = G * u_medium,  m = strongest a around
                e    = [a - c m]+ / (1 - c) / (m + sigma)
    speed       n_k  = gain_k G * u_k                          equal at the border of two bands
    channels    z1_k = LIFBox_k([e - beta sum_j [n_j - n_k]+ / max_j n_j]+)
    memory      p_k' = p_k + dt / tau (S * z1_k - p_k)
    centres     z2_k = LIFBox([C * z1_k - w S * sum_j z1_j - gamma sum_j [p_j - p_k]+ / max_j p_j]+)
                C centre, S surround

The ratio of two integrators rises with the speed, whatever the number of events per pixel (see
:mod:`calcarine.models._disk_constants`), so inhibition in proportion to the difference leaves the
channel of the right band alone. The strongest place around inhibits the others (its neighbours and
the trail behind a fast disk); what is left is cleaned by the second layer, where the channel with
the most spikes around in the last 15 frames silences the others.

Axes    B batch | 1 or 3 channels, slow, medium, fast | H W rows down, columns right
Units   events per pixel and frame; a pixel counts once per frame; px per frame
Source  lagorce2017 (integrators as memory of events), gerstner2014 (neurons); ours: the circuit
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calcarine.constants import Constant
from calcarine.errors import InputError, ShapeError
from calcarine.models._disk_constants import DiskConstants, band_borders, closed_form
from calcarine.models._disk_readout import Detections, DiskReadout
from calcarine.simulate import run
from calcarine.spiking.leaky_integrator import LeakyIntegratorBox, LeakyIntegratorBoxState
from calcarine.spiking.lif_box import LIFBox, LIFBoxState
from calcarine.stage import DynamicStage
from calcarine.stimuli.events import EventStream

__all__ = [
    "Detections",
    "DiskConstants",
    "DiskReadout",
    "DiskVelocityNet",
    "DiskVelocityState",
    "ring_kernel",
]

BLUR_PX = 1.0
CENTER_PX, SURROUND_PX = 1.2, 3.5
MEMORY_STEPS, MEMORY_WEIGHT = 15.0, 6.0

Three = tuple[float, float, float]


class DiskVelocityState(NamedTuple):
    """Integrators, channels of the first layer, memory of their spikes, centres of the second."""

    integrators: LeakyIntegratorBoxState
    channels: LIFBoxState
    memory: LeakyIntegratorBoxState
    centers: LIFBoxState


def ring_kernel(radius_px: float, width_px: float = 0.8, inside: float = 0.6) -> Tensor:
    """Return a ring of total weight 1 around an inside of total weight ``-inside``.

    Args:
        radius_px: Radius of the ring.
        width_px: Standard deviation of its profile. Ours: about the width of an edge's events.
        inside: Weight against events within the outline. Ours.

    Returns:
        (1, 1, side, side), side odd.
    """
    reach = math.ceil(radius_px + 4 * width_px)
    distance = _distance(reach)
    ring = torch.exp(-((distance - radius_px) ** 2) / (2 * width_px**2))
    core = (distance < radius_px - 2 * width_px).double()
    kernel = ring / ring.sum() - inside * core / core.sum().clamp(min=1)
    return kernel[None, None]


class DiskVelocityNet(DynamicStage):
    """Find disks of one radius in events and tell slow, medium and fast ones apart.

    >>> net = DiskVelocityNet()
    >>> found = net.detect(moving_disks(generator=generator).events)

    A constant left at ``None`` is set by hand from its closed form for the radius and speeds given.
    The bands are separated by the geometric means of neighbouring speeds: for the default speeds
    slow is below 0.42 px per frame, medium between 0.42 and 0.85, and fast above; with frames of
    dt_ms the same numbers divided by dt_ms are px per ms.

    Args:
        radius_px: Radius of the disks.
        speeds: Speeds in the middle of the bands slow, medium, fast, px per frame. Ours.
        tau_integrator_ms: Time constants of the integrators, ms.
        gain: What integrators are multiplied by before they are compared.
        tau_mem_ms: Membrane time constants of the channels, ms.
        v_th: Thresholds of the channels, 1 being the strongest drive there can be.
        inhibition: beta, strength of the inhibition between channels. Ours.
        surround: Weight of the second layer's surround; its centre weighs 1. Ours.
        semi_saturation: sigma, mean of events on the outline below which a place counts for little.
            Ours.
        relative_height: c, what share of the strongest place around a place must exceed. Ours.
        v_th_center: Threshold of the second layer. Ours.
        dt_ms: Duration of a frame, ms.
        alpha: Steepness of the surrogate gradient. Ours: 10, so that gradients reach silent cells.
        learnable: Whether the constants of integrators, channels and inhibition are learned.

    Raises:
        InputError: If a setting is impossible.
    """

    sources: ClassVar[tuple[str, ...]] = ("lagorce2017", "gerstner2014", "zenke2018")

    ring: Tensor
    blur: Tensor
    center: Tensor
    around: Tensor

    def __init__(
        self,
        *,
        radius_px: float = 5.0,
        speeds: Three = (0.3, 0.6, 1.2),
        tau_integrator_ms: Three | None = None,
        gain: Three | None = None,
        tau_mem_ms: Three | None = None,
        v_th: Three | None = None,
        inhibition: float = 4.0,
        surround: float = 0.05,
        semi_saturation: float = 0.025,
        relative_height: float = 0.8,
        v_th_center: float = 0.5,
        dt_ms: float = 1.0,
        alpha: float = 10.0,
        learnable: bool = False,
    ) -> None:
        super().__init__()
        _check(radius_px, speeds, relative_height, dt_ms)
        self.radius_px, self.speeds, self.dt_ms = radius_px, tuple(speeds), float(dt_ms)
        self.inhibition, self.surround = inhibition, surround
        self.semi_saturation, self.relative_height = semi_saturation, relative_height
        self.v_th_center, self.alpha, self.learnable = v_th_center, float(alpha), learnable
        hand = closed_form(self.speeds, dt_ms=self.dt_ms)
        self.tau_integrator_ms = tau_integrator_ms or hand.tau_integrator_ms
        self.gain, self.v_th = gain or hand.gain, v_th or hand.v_th
        self.tau_mem_ms = tau_mem_ms or hand.tau_mem_ms
        self.lag_steps = hand.lag_steps
        learned = ("tau_mem_ms", "v_th") if learnable else ()
        neuron: dict[str, Any] = {"dt_ms": self.dt_ms, "alpha": self.alpha}
        self.integrators = LeakyIntegratorBox(
            tau_mem_ms=self.tau_integrator_ms, dt_ms=self.dt_ms, learnable=learned[:1]
        )
        self.channels = LIFBox(
            tau_mem_ms=self.tau_mem_ms, v_th=self.v_th, learnable=learned, **neuron
        )
        self.centers = LIFBox(tau_mem_ms=2 * self.dt_ms, v_th=v_th_center, **neuron)
        self.memory = LeakyIntegratorBox(tau_mem_ms=MEMORY_STEPS * self.dt_ms, dt_ms=self.dt_ms)
        free = {"learnable": learnable}
        self.gains = Constant("gain", self.gain, low=0.01, high=100.0, **free)
        self.beta = Constant("inhibition", inhibition, low=0.01, high=100.0, **free)
        self._add_kernels()

    @property
    def band_borders_px(self) -> tuple[float, float]:
        """Speeds between the bands, px per frame."""
        return band_borders(self.speeds)

    def initial_state(self, like: Float[Tensor, "B 1 H W"]) -> DiskVelocityState:
        """Return the state at rest for frames of the shape of ``like``."""
        three = torch.zeros_like(like[:, :1]).expand(-1, 3, -1, -1).contiguous()
        return DiskVelocityState(
            self.integrators.initial_state(three),
            self.channels.initial_state(three),
            self.memory.initial_state(three),
            self.centers.initial_state(three),
        )

    def forward(
        self, x: Float[Tensor, "B 1 H W"], state: DiskVelocityState
    ) -> tuple[Float[Tensor, "B 3 H W"], DiskVelocityState]:
        """Take one frame of events.

        Args:
            x: Events per pixel, axes (batch, 1, height, width), without polarity.
            state: What the last step returned, or ``initial_state(x)``.

        Returns:
            Spikes of the second layer, channels slow, medium, fast; and the new state.

        Raises:
            ShapeError: If the frame has other axes.
        """
        if x.ndim != 4 or x.shape[1] != 1 or not x.is_floating_point():
            raise ShapeError(
                "DiskVelocityNet expected events without polarity, floating point with axes (batch,"
                f" 1, height, width), got {x.dtype} of shape {tuple(x.shape)}. Merge polarities "
                "with EventStream.frames(polarity='merge')."
            )
        drive = _same(x.clamp(0, 1), self.ring).clamp(min=0)
        u, integrators = self.integrators(drive.expand(-1, 3, -1, -1), state.integrators)
        z, channels = self.channels(self._input(_blurred(u, self.blur)), state.channels)
        around = _blurred(_blurred(z, self.around), self.around.mT)
        p, memory = self.memory(around, state.memory)
        center = _blurred(_blurred(z, self.center), self.center.mT)
        center = center - self.surround * around.sum(1, keepdim=True) - MEMORY_WEIGHT * _excess(p)
        spikes, centers = self.centers(center.clamp(min=0), state.centers)
        return spikes, DiskVelocityState(integrators, channels, memory, centers)

    def _input(self, u: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Return the input of the channels: place minus inhibition between channels."""
        here = u[:, 1:2]
        reach = math.ceil(1.6 * self.radius_px)
        strongest = F.max_pool2d(here, 2 * reach + 1, 1, reach)
        height = (here - self.relative_height * strongest).clamp(min=0)
        power = strongest.square()
        place = height / (1 - self.relative_height) / strongest.clamp(min=1e-6)
        place = place * power / (power + self.semi_saturation**2)
        return (place - self.beta(u) * _excess(u * self.gains(u))).clamp(min=0)

    def detect(
        self,
        frames: Float[Tensor, "T 1 H W"] | EventStream,
        readout: DiskReadout | None = None,
    ) -> Detections:
        """List the disks of every frame.

        Args:
            frames: Events per pixel (time, 1, height, width), or (time, height, width), dense or
                sparse; or a stream of events.
            readout: Read-out of the spikes; ``None`` for the default one of this net.

        Returns:
            One row per disk and frame: frame, x, y in px, class 0 slow, 1 medium, 2 fast, and
            confidence in [0, 1].

        Raises:
            ShapeError: If the frames have other axes.
        """
        if isinstance(frames, EventStream):
            frames = frames.frames(self.dt_ms, start_ms=min(0.0, frames.start_ms))
        frames = frames.to_dense() if frames.is_sparse else frames
        if frames.ndim == 3:
            frames = frames[:, None]
        if frames.ndim != 4 or frames.shape[1] != 1:
            raise ShapeError(
                "detect expected one recording with axes (time, 1, height, width), got shape "
                f"{tuple(frames.shape)}. Pass recordings one by one."
            )
        where = self.ring
        frames = frames.to(where.device, where.dtype) if not frames.is_floating_point() else frames
        if not len(frames):
            frames = frames.new_zeros(1, 1, *frames.shape[-2:])
        with torch.no_grad():
            spikes, _ = run(self, frames[:, None], engine="plain")
        return (readout or DiskReadout(lag_steps=self.lag_steps))(spikes[:, 0])

    def _add_kernels(self) -> None:
        kernels = {
            "ring": ring_kernel(self.radius_px),
            "blur": _gaussian(BLUR_PX, 4),
            "center": _row(CENTER_PX),
            "around": _row(SURROUND_PX),
        }
        for name, kernel in kernels.items():
            self.register_buffer(name, kernel.to(torch.get_default_dtype()), persistent=False)

    def extra_repr(self) -> str:
        """Show the settings that are not constants."""
        low, high = self.band_borders_px
        return f"radius_px={self.radius_px:g}, bands at {low:.3g} and {high:.3g} px per frame"


def _check(radius_px: float, speeds: Sequence[float], height: float, dt_ms: float) -> None:
    if not (math.isfinite(radius_px) and radius_px >= 2):
        raise InputError(f"DiskVelocityNet expected radius_px >= 2, got {radius_px}.")
    if len(speeds) != 3 or not 0 < speeds[0] < speeds[1] < speeds[2] < math.inf:
        raise InputError(
            "DiskVelocityNet expected three rising speeds (slow, medium, fast) in px per frame, "
            f"got {speeds!r}."
        )
    if not 0 <= height < 1 or not dt_ms > 0:
        raise InputError(
            "DiskVelocityNet expected 0 <= relative_height < 1 and dt_ms > 0, got "
            f"{height} and {dt_ms}."
        )


def _excess(n: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Return by how much the other channels exceed each, relative to the largest."""
    n = n / (n.amax(1, keepdim=True) + 1e-6)
    return (n[:, None] - n[:, :, None]).clamp(min=0).sum(2)


def _distance(reach: int) -> Tensor:
    along = torch.arange(-reach, reach + 1, dtype=torch.double)
    return torch.hypot(along[:, None], along)


def _gaussian(sigma: float, reach: int) -> Tensor:
    kernel = torch.exp(-(_distance(reach) ** 2) / (2 * sigma**2))
    return (kernel / kernel.sum())[None, None]


def _row(sigma: float) -> Tensor:
    along = torch.arange(-math.ceil(3 * sigma), math.ceil(3 * sigma) + 1, dtype=torch.double)
    return torch.exp(-(along**2) / (2 * sigma**2))[None, None, None]


def _same(x: Tensor, kernel: Tensor) -> Tensor:
    kernel = kernel.to(x)
    pads = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
    return F.conv2d(x, kernel, padding=pads)


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    return _same(x.flatten(0, 1)[:, None], kernel).view(x.shape)
