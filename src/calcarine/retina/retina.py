"""The retina: from a scene in front of a moving eye to the signals of the optic nerve.

    scene -> eye motion -> sampling -> cone activation -> lateral inhibition -> (spikes)

Everything that the brain knows about the world passes through one number per cell and frame: the
colour of a cone, its place and the movement of the eye are not among them.

Axes    B batch | T cone types (planes L, M, S and perhaps Q) | H W scene, px | F frames | S cells
        along a side | R side of the field of view, px
Units   eye_shift in halves of the field of view, x right and y down
Source  kotani2024
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from calcarine import simulate
from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError
from calcarine.retina.activation import ConeActivation
from calcarine.retina.density import Density
from calcarine.retina.eye_motion import (
    EyeMotion,
    FixationalDrift,
    GivenPath,
    RandomShifts,
    crop,
    crop_center,
    limits,
)
from calcarine.retina.inhibition import LateralInhibition
from calcarine.retina.noise import Noise, NoisyStage, draw_noise
from calcarine.retina.sampling import FovealSampling, UniformSampling
from calcarine.retina.spikes import RetinalSpikes

__all__ = ["Retina", "RetinaChance", "RetinaOutput"]


class RetinaChance(NamedTuple):
    """Everything that is left to chance while the eye looks at some scenes.

    Attributes:
        gaze: Where it looks in every frame, (dx, dy) in px from the centre (batch, frames, 2).
        photon: Noise of the cones; ``None`` where they add none.
        bipolar: Noise after lateral inhibition; ``None`` where there is none.
    """

    gaze: Tensor
    photon: Noise | None
    bipolar: Noise | None


class RetinaOutput(NamedTuple):
    """What happens in the retina, stage by stage.

    Attributes:
        optic_nerve: Signal of every cell (batch, frames, size, size); with ON/OFF spikes (batch,
            frames, 2, size, size).
        eye_shift: Movement from each frame to the next as (dx, dy), in halves of the field of
            view (batch, frames - 1, 2).
        sampled: Cone signals of all types at every cell (batch, frames, types, size, size).
        activation: Cone activations (batch, frames, size, size).
        bipolar: After lateral inhibition (batch, frames, size, size).
        field_of_view: What falls on the retina (batch, frames, types, window, window).
    """

    optic_nerve: Tensor
    eye_shift: Tensor
    sampled: Tensor
    activation: Tensor
    bipolar: Tensor
    field_of_view: Tensor


class Retina(nn.Module):
    """A retina made of swappable stages.

    The stages are the attributes ``eye_motion``, ``sampling``, ``activation``, ``inhibition`` and
    ``spikes``; assign another module, or ``None`` to the last two, to change one.

    In ``train()`` every batch item moves its eye by itself and noise is added, drawn from the
    generator that the call passes on. In ``eval()`` there is no noise, and without a generator all
    batch items follow one path that is the same in every call.

    Args:
        size: Cells along each side.
        mosaic: Kind of cone mosaic, see :func:`calcarine.retina.cone_mosaic`.
        peaks_nm: Peaks of L, M, S and perhaps Q, nm: as in the ``ConeSpace`` that made the scene.
        sampling: ``"fovea"`` for cones as dense as in a real eye, ``"uniform"`` for a regular
            lattice with one cell per pixel.
        layout: Layout of the cones, for foveal sampling; see
            :class:`calcarine.retina.FovealSampling`.
        inhibition: Whether horizontal cells subtract the surround.
        spikes: ``None`` for graded signals, ``"lif"`` for spikes of one frame per millisecond.
        on_off: Spikes in two channels, which keep the sign of the bipolar signal.
        max_shift_px: Largest movement of the eye from frame to frame, px of the scene.
        frames: Frames per scene.
        noise: Whether photon and bipolar noise are added in ``train()``.
        motion: ``"shifts"`` at random, or ``"drift"`` with microsaccades.
        seed: Seed of the mosaic, the jitter of the cones, and the eye's path in ``eval()``.
        generator: Source of the mosaic instead of the seed, on the CPU.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    # A swapped stage may be any module that is called in the same way.
    eye_motion: Any
    sampling: Any
    activation: Any
    inhibition: Any
    spikes: Any

    def __init__(
        self,
        size: int = 64,
        *,
        mosaic: str = "LMS",
        peaks_nm: tuple[float, ...] = (560.0, 530.0, 419.0),
        sampling: Literal["fovea", "uniform"] = "fovea",
        layout: str | Density = "fovea",
        inhibition: bool = True,
        spikes: Literal["lif"] | None = None,
        on_off: bool = False,
        max_shift_px: int = 15,
        frames: int = 2,
        noise: bool = True,
        motion: Literal["shifts", "drift"] = "shifts",
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.peaks_nm = tuple(float(peak) for peak in peaks_nm)
        if len(self.peaks_nm) not in (3, 4):
            raise InputError(
                "Retina expected the peaks of L, M and S, or of L, M, S and Q, got "
                f"{len(self.peaks_nm)}: {self.peaks_nm}. A dichromat has three peaks too; which "
                "cones it lacks is said by mosaic='LS', 'MS' or 'LM'."
            )
        if isinstance(frames, bool) or not isinstance(frames, int) or frames < 1:
            raise InputError(f"Retina expected frames as a whole number >= 1, got {frames!r}.")
        if on_off and spikes is None:
            warnings.warn(
                "on_off=True has no effect without spikes='lif': graded signals keep their sign.",
                CalcarineWarning,
                stacklevel=2,
            )
        self.size, self.frames, self.max_shift_px = size, frames, max_shift_px
        self.seed = seed
        level = 0.01 if noise else 0.0  # kotani2024
        self.eye_motion = _eye_motion(motion, max_shift_px)
        self.sampling = _sampling(sampling, size, layout, seed)
        self.activation = ConeActivation(
            size,
            kind=mosaic,
            types="LMSQ" if len(self.peaks_nm) == 4 else "LMS",
            noise_level=level,
            seed=seed,
            generator=generator,
        )
        self.inhibition = LateralInhibition(noise_level=level) if inhibition else None
        self.spikes = _spikes(spikes, on_off)

    @property
    def mosaic(self) -> Float[Tensor, "T S S"]:
        """Share of each pigment in each cell."""
        return self.activation.mosaic

    @property
    def cone_types(self) -> str:
        """Names of the planes of the mosaic, the channels of the scene."""
        return "LMSQ"[: len(self.peaks_nm)]

    @property
    def window(self) -> int:
        """Side of the field of view, px."""
        return self.sampling.required_resolution

    @property
    def scene_size(self) -> int:
        """Side of a scene within which one largest movement of the eye is never cut short, px."""
        return self.window + 2 * self.max_shift_px

    def forward(
        self,
        scene: Float[Tensor, "B T H W"],
        generator: torch.Generator | None = None,
        path: Int64[Tensor, "B F 2"] | None = None,
        *,
        chance: RetinaChance | None = None,
    ) -> RetinaOutput:
        """Look at a scene for a few frames.

        Args:
            scene: Scene in cone space, at least ``window`` px in height and width; smaller than
                ``scene_size``, movements of the eye end at its border.
            generator: Source of eye movements and noise.
            path: Gaze per frame as (dx, dy) in whole px from the centre of the scene, axes
                (batch, frames, 2) or (frames, 2), instead of a drawn one; clamped to the scene.
            chance: What :meth:`chance` drew for this scene, instead of generator and path.

        Raises:
            ShapeError: If the scene has other axes or cone types, or is too small.
        """
        self._check_scene(scene)
        gaze = self._gaze(scene, generator, path) if chance is None else chance.gaze
        field_of_view = crop(scene, gaze, self.window)
        shift = gaze.diff(dim=1).to(device=scene.device, dtype=scene.dtype) * (2 / self.window)
        sampled = self.sampling(field_of_view)
        photon, bipolar_noise = (None, None) if chance is None else chance[1:]
        activation = _call(self.activation, sampled, generator, photon)
        bipolar = self._inhibit(activation, generator, bipolar_noise)
        optic_nerve = self._fire(bipolar)
        return RetinaOutput(optic_nerve, shift, sampled, activation, bipolar, field_of_view)

    def chance(
        self, scene: Float[Tensor, "B T H W"], generator: torch.Generator | None = None
    ) -> RetinaChance:
        """Draw beforehand what ``forward`` would draw for a scene, in the same order.

        With it ``forward`` is a plain function of tensors, which can be compiled. Noisy stages of
        your own are taken to draw one strength and one number per cell and frame, as ours do.

        Args:
            scene: The scene; only its axes, dtype and device matter.
            generator: As for ``forward``; on the scene's device, nothing waits for a copy.
        """
        self._check_scene(scene)
        gaze = self._gaze(scene, generator, None).to(scene.device)
        batch, frames = gaze.shape[:2]
        noises: list[Noise | None] = []
        shape = (self.size, self.size)
        for stage, axes in (
            (self.activation, (batch, frames, *shape)),
            (self.inhibition, (batch * frames, 1, *shape)),
        ):
            drawn = isinstance(stage, NoisyStage) and stage.adds_noise()
            noises.append(
                draw_noise(axes, generator, dtype=scene.dtype, device=scene.device)
                if drawn
                else None
            )
        return RetinaChance(gaze, *noises)

    def snapshot(self, scene: Float[Tensor, "B T H W"]) -> Float[Tensor, "B C S S"]:
        """Look at the centre of a scene for one frame, without motion or noise.

        For probes: deterministic also in ``train()``, and differentiable. Spikes are those of the
        first step from rest; their gradient is the surrogate of
        :class:`calcarine.retina.RetinalSpikes`.

        Returns:
            The optic nerve with one channel, or with two for ON/OFF spikes.
        """
        self._check_scene(scene)
        sampled = self.sampling(crop_center(scene, self.window))[:, None]
        activation = _call(self.activation, sampled, noise=False)
        optic_nerve = self._fire(self._inhibit(activation, noise=False))
        return optic_nerve if optic_nerve.ndim == 4 else optic_nerve.squeeze(1)

    def _gaze(self, scene: Tensor, generator: torch.Generator | None, path: Any) -> Tensor:
        batch = scene.shape[0]
        limit = limits(scene.shape[-2], scene.shape[-1], self.window)
        if path is not None:
            given = GivenPath(path)
            return given.path(batch, given.path_px.shape[-2], limit)
        if self.training or generator is not None:
            return self.eye_motion.path(batch, self.frames, limit, generator)
        fixed = torch.Generator().manual_seed(self.seed)
        return self.eye_motion.path(1, self.frames, limit, fixed).expand(batch, -1, -1)

    def _inhibit(
        self,
        activation: Tensor,
        generator: torch.Generator | None = None,
        noise: bool | Noise | None = None,
    ) -> Tensor:
        if self.inhibition is None:
            return activation
        # One image with one channel per frame, which any spatial stage takes.
        images = activation.flatten(0, 1)[:, None]
        bipolar = _call(self.inhibition, images, generator, noise)
        return bipolar.view_as(activation)

    def _fire(self, bipolar: Tensor) -> Tensor:
        if self.spikes is None:
            return bipolar
        spikes, _ = simulate.run(self.spikes, bipolar.movedim(1, 0))
        return spikes.movedim(0, 1)

    def _check_scene(self, scene: Tensor) -> None:
        types, window = self.cone_types, self.window
        if scene.ndim != 4 or scene.shape[1] != len(types):
            raise ShapeError(
                "Retina expected a scene with axes (batch, type, height, width) and "
                f"{len(types)} types ({', '.join(types)}), got shape {tuple(scene.shape)}. "
                f"Convert with ConeSpace(peaks_nm={self.peaks_nm}); for one scene pass scene[None]."
            )
        if min(scene.shape[-2:]) < window:
            raise ShapeError(
                f"Retina expected a scene of at least {window} x {window} px, its field of view, "
                f"and {self.scene_size} x {self.scene_size} to leave eye movements room, got "
                f"height {scene.shape[-2]} and width {scene.shape[-1]}. Resize the scene."
            )
        if not scene.is_floating_point():
            raise InputError(f"Retina expected floating-point cone signals, got {scene.dtype}.")

    def extra_repr(self) -> str:
        """Show the settings that no inner stage shows."""
        return f"size={self.size}, frames={self.frames}, peaks_nm={self.peaks_nm}, seed={self.seed}"


def _call(
    stage: nn.Module,
    x: Tensor,
    generator: torch.Generator | None = None,
    noise: bool | Noise | None = None,
) -> Tensor:
    """Call a stage; one that can be noisy is told whether, and where from."""
    return stage(x, generator, noise=noise) if isinstance(stage, NoisyStage) else stage(x)


def _eye_motion(motion: str, max_shift_px: int) -> EyeMotion:
    if motion == "shifts":
        return RandomShifts(max_shift_px)
    if motion == "drift":
        return FixationalDrift(max_shift_px)
    raise UnknownNameError("eye motion", str(motion), ("drift", "shifts"))


def _sampling(sampling: str, size: int, layout: str | Density, seed: int) -> nn.Module:
    if sampling == "fovea":
        return FovealSampling(size, layout=layout, seed=seed)
    if sampling != "uniform":
        raise UnknownNameError("sampling", str(sampling), ("fovea", "uniform"))
    if layout not in ("fovea", "uniform"):
        warnings.warn(
            f"layout={layout!r} has no effect with sampling='uniform'. Use sampling='fovea'.",
            CalcarineWarning,
            stacklevel=3,
        )
    return UniformSampling(size)


def _spikes(spikes: str | None, on_off: bool) -> RetinalSpikes | None:
    if spikes is None:
        return None
    if spikes != "lif":
        raise UnknownNameError("spike generator", str(spikes), ("lif",))
    return RetinalSpikes(on_off=on_off)
