"""Learning colour vision from photographs behind a moving eye.

    photograph -> linear RGB -> cone signals -> retina -> optic nerve, two fixations
    cortex         predicts the second fixation from the first; this is all it learns from
    percept_scope  percept of the first fixation -> linear RGB      (a window for us, no teacher)
    mosaic_scope   cone identities -> cone types                    (the same)

Source  kotani2024, the sandbox variant
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.color import ConeSpace
from calcarine.devices import random_source, send
from calcarine.errors import CalcarineError, InputError
from calcarine.models.kotani2024 import ColorVision
from calcarine.probes.neural_scope import mosaic_scope, percept_scope
from calcarine.recipe import DefaultType
from calcarine.retina import Retina
from calcarine.retina.eye_motion import crop_center
from calcarine.retina.retina import RetinaChance
from calcarine.stimuli import HyperspectralScenes, ImagePatches, RgbSpectra, SpectralLeaves
from calcarine.training.color_therapy import StartingRun, inherit, refusal
from calcarine.training.compiling import CompiledStep, Compiling, resolve_compiling
from calcarine.training.precision import multiply_in, resolve_precision
from calcarine.training.task import GradientTask, Probed

__all__ = ["ColorVisionTask", "Percept"]

ColorScenes = ImagePatches | SpectralLeaves | HyperspectralScenes | RgbSpectra


class Percept(nn.Module):
    """Picture in sRGB -> cone signals -> one fixation of the retina, at rest -> percept.

    Args:
        space: From linear RGB to cone signals.
        retina: The eye.
        cortex: The cortex.
    """

    def __init__(self, space: ConeSpace, retina: Retina, cortex: ColorVision) -> None:
        super().__init__()
        self.space, self.retina, self.cortex = space, retina, cortex

    def forward(self, image: Float[Tensor, "B 3 W W"]) -> Float[Tensor, "B D S S"]:
        """Return the percept of a picture as large as what the eye takes in."""
        scene = self.space.linear_to_cones(self.space.srgb_to_linear(image))
        return self.cortex.decode(self.retina.snapshot(scene))


class ColorVisionTask(GradientTask):
    """The colour cortex, its two scopes, the eye and the photographs it looks at.

    Args:
        stimuli: What the eye looks at, at least of the retina's ``scene_size``: photographs, or
            scenes with spectra of their own (leaves, hyperspectral images, photographs under
            daylight), which more than three cone types need.
        retina: The eye.
        cortex: The cortex, of the retina's size.
        batch_size: Photographs per update. kotani2024: 8.
        illuminant_spread: How much the colour of the light differs: standard deviation of the
            logarithm of the gains of red, green and blue. Every photograph is lit by two lamps of
            its own, from opposite sides. Cameras have removed such changes by their white balance,
            eyes meet them. Ours; 0 leaves photographs as they are. For photographs only: spectral
            scenes bring their light along.
        precision: In which precision convolutions multiply while learning: ``"fp32"``, ``"bf16"``
            with sums in fp32, or ``"auto"``, bf16 where the hardware has matrix units for it.
        compile: Whether the step of the cortex (retina, decoding, movement, encoding) runs as code
            compiled for it; ``"auto"`` does on a GPU.
        start: A finished run whose cortex goes on learning here, behind the same eye with a pigment
            added. If it cannot be taken over, training refuses to begin; a run that has begun
            needs it no more.
    """

    sources: ClassVar[tuple[str, ...]] = ("kotani2024",)

    def __init__(
        self,
        *,
        stimuli: Annotated[ColorScenes, DefaultType("image_patches")],
        retina: Retina,
        cortex: ColorVision,
        batch_size: int = 8,
        illuminant_spread: float = 0.0,
        precision: Literal["auto", "fp32", "bf16"] = "auto",
        compile: Compiling = "auto",
        start: StartingRun | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"ColorVisionTask expected batch_size >= 1, got {batch_size}.")
        if not 0 <= illuminant_spread < 2:
            raise InputError(
                f"ColorVisionTask expected illuminant_spread in [0, 2), got {illuminant_spread}."
            )
        if illuminant_spread > 0 and not isinstance(stimuli, ImagePatches):
            raise InputError(
                f"ColorVisionTask colours the light of photographs only, {type(stimuli).__name__} "
                "bring light of their own. Set illuminant_spread=0."
            )
        resolve_precision(precision, torch.device("cpu"))
        resolve_compiling(compile, torch.device("cpu"))
        self.illuminant_spread = illuminant_spread
        if cortex.size != retina.size:
            raise InputError(
                f"The retina has {retina.size} x {retina.size} cells, the cortex expects "
                f"{cortex.size} x {cortex.size}. Set cortex.size={retina.size}."
            )
        if min(stimuli.size) < retina.scene_size:
            raise InputError(
                f"The eye moves over scenes of {retina.scene_size} px, the stimuli are crops of "
                f"{stimuli.size}. Set stimuli.size={retina.scene_size}."
            )
        if retina.frames < 2 or retina.spikes is not None:
            raise InputError(
                "The cortex learns from at least two fixations of graded signals. Set "
                "retina.frames=2 and retina.spikes=null."
            )
        if isinstance(stimuli, HyperspectralScenes):
            # Long work: here Ctrl-C ends it at once, and no other progress bar is in the way.
            stimuli.prepare(retina.peaks_nm)
        self.stimuli, self.batch_size = stimuli, batch_size
        self.precision, self.compile = precision, compile
        self._compiled: CompiledStep | None = None
        self.retina = retina.train()
        self.cortex = cortex
        cortex.take_facts(retina)
        self.space = ConeSpace(retina.peaks_nm)
        self.percept_scope = percept_scope(cortex.latent, cortex.border)
        self.mosaic_scope = mosaic_scope(cortex.latent, len(retina.peaks_nm), cortex.border)
        self._origin: dict[str, Any] = {}
        self._refused: Exception | None = None
        if start is not None:
            self._inherit(start)

    def _inherit(self, start: StartingRun) -> None:
        # Opening or resuming a run must not need the run that it once started from.
        try:
            self._origin = inherit(self, start)
        except CalcarineError as error:
            self._refused = refusal(start, error)
            self._refused.__cause__ = error

    def extra_state(self) -> dict[str, Any]:
        """Return where the cortex came from.

        Raises:
            CheckpointError: If it was to come from a run that could not be taken over.
        """
        if self._refused is not None:
            raise self._refused
        return {"origin": self._origin} if self._origin else {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, which holds what was taken over."""
        self._refused, self._origin = None, state.get("origin", {})

    def modules(self) -> dict[str, nn.Module]:
        """Return what learns; the retina's mosaic comes along as a buffer."""
        return {
            "cortex": self.cortex,
            "percept_scope": self.percept_scope,
            "mosaic_scope": self.mosaic_scope,
            "retina": self.retina,
        }

    def probed(self) -> Probed:
        """Return the percept of one fixation."""
        window = self.retina.window
        return Probed(Percept(self.space, self.retina, self.cortex), 3, (window, window))

    def objectives(self) -> dict[str, list[nn.Parameter]]:
        """Return one objective each for the cortex and the scopes."""
        learning = {n: m for n, m in self.modules().items() if n != "retina"}
        return {name: list(module.parameters()) for name, module in learning.items()}

    def draw(
        self, generator: torch.Generator
    ) -> tuple[Float[Tensor, "B 3 S S"], Float[Tensor, "B T S S"]]:
        """Draw scenes; return them as linear RGB and as cone signals."""
        device = self.retina.mosaic.device
        if not isinstance(self.stimuli, ImagePatches):
            if isinstance(self.stimuli, SpectralLeaves):  # made where their numbers are drawn
                generator = random_source(generator, device)
            cones, linear = self.stimuli.draw(
                self.batch_size, generator, peaks_nm=self.retina.peaks_nm, device=device
            )
            return linear, cones
        image = self.stimuli.draw(self.batch_size, generator, device=device)
        self.space.to(device)
        linear = self.space.srgb_to_linear(image)
        if self.illuminant_spread > 0:
            height, width = linear.shape[-2:]
            light = self._light((height, width), generator)
            linear = linear * send(light, device).to(linear)
        return linear, self.space.linear_to_cones(linear)

    def _light(self, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
        """Draw the light on every photograph: one lamp fades into the other across the scene."""
        lamps = torch.randn(2, self.batch_size, 3, 1, 1, generator=generator)
        lamps = (self.illuminant_spread * lamps).exp()
        first, second = lamps / lamps.amax(dim=2, keepdim=True)
        angle = 2 * torch.pi * torch.rand(self.batch_size, 1, 1, 1, generator=generator)
        y, x = torch.meshgrid(*(torch.linspace(-1, 1, side) for side in size), indexing="ij")
        share = (1 + (x * angle.cos() + y * angle.sin()) / 2**0.5) / 2
        return torch.lerp(first, second, share)

    def losses(self, generator: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Draw a batch and return the prediction error and the losses of the scopes."""
        return self.losses_on(*self.draw(generator), generator)

    def losses_on(
        self,
        linear: Float[Tensor, "B 3 S S"],
        scene: Float[Tensor, "B T S S"],
        generator: torch.Generator,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the losses on given photographs."""
        chance = self.retina.chance(scene, random_source(generator, scene.device))
        step: Any = self._step
        if resolve_compiling(self.compile, scene.device):
            self._compiled = self._compiled or CompiledStep(self._step)
            step = self._compiled
        error, percept, seen = step(
            linear, scene, chance, resolve_precision(self.precision, scene.device)
        )
        # Scopes stay outside: no gradient of theirs may reach what they read.
        identity = self.cortex.identity.unit()[None]
        return {
            "cortex": error,
            "percept_scope": self.percept_scope.loss(percept, seen),
            "mosaic_scope": self.mosaic_scope.loss(identity, self.retina.mosaic[None]),
        }

    def _step(
        self,
        linear: Tensor,
        scene: Tensor,
        chance: RetinaChance,
        precision: Literal["fp32", "bf16"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "B K S S"], Float[Tensor, "B 3 S S"]]:
        """Return the prediction error, the first percept, and what it should show."""
        with torch.no_grad():
            eye = self.retina(scene, chance=chance)
            seen = self.retina.sampling(crop_center(linear, self.retina.window))
        with multiply_in(precision, scene.device):
            told = eye.eye_shift if self.cortex.movement == "true" else None
            prediction = self.cortex.predict(eye.optic_nerve, told)
        first = prediction.percept[:: self.retina.frames - 1].detach()
        return self.cortex.prediction_loss(prediction, eye.optic_nerve), first, seen
