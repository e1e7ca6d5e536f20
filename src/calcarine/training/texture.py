"""Texture synthesis as a run: noise turns into an image with the texture statistics of a picture.

    minimise  mean(w^2 (f(x) - f(picture))^2)    by one step of L-BFGS per update

w weighs the statistics as :class:`calcarine.models.RelativeTexture` does. It is a metamer of
:class:`calcarine.models.PortillaSimoncelli` under the training driver, with its checkpoints,
resuming, logs and report. What is learned are the pixels.

Axes    C channel | H W rows down, columns right
Source  portilla2000
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.models import PortillaSimoncelli, RelativeTexture
from calcarine.probes import Metamer
from calcarine.probes.metamer import MetamerLosses
from calcarine.probes.steppers import Stepper
from calcarine.stimuli import cover_image
from calcarine.stimuli.samples import picture_path
from calcarine.training.task import Probed, Step, Task

__all__ = ["Canvas", "TextureTask"]


class Canvas(nn.Module):
    """The image under synthesis.

    Args:
        pixels: Where it begins.
    """

    pixels: Tensor

    def __init__(self, pixels: Float[Tensor, "1 1 H W"]) -> None:
        super().__init__()
        self.register_buffer("pixels", pixels)


class TextureTask(Task):
    """Synthesise the texture of a picture.

    Args:
        texture: The statistics; their ``image_shape`` is also the size of the image.
        picture: Name of a sample image, or path of a picture; its centre is used, in grey.
        initial_std: Standard deviation of the white noise around the picture's mean that the image
            begins with. Ours.
        penalty_weight: Of pixels outside [0, 1], see :class:`calcarine.probes.Metamer`.
    """

    sources: ClassVar[tuple[str, ...]] = ("portilla2000",)

    def __init__(
        self,
        texture: PortillaSimoncelli,
        picture: str = "brick",
        *,
        initial_std: float = 0.1,
        penalty_weight: float = 0.1,
    ) -> None:
        if not initial_std > 0:
            raise InputError(f"TextureTask expected initial_std > 0, got {initial_std}.")
        self.texture = texture.eval().requires_grad_(False)
        self.picture, self.initial_std = picture, initial_std
        self.penalty_weight = penalty_weight
        self.target = cover_image(picture_path(picture), texture.image_shape, channels="gray")
        noise = torch.randn(self.target.shape, dtype=self.target.dtype)
        self.canvas = Canvas((self.target.mean() + initial_std * noise).clamp(0, 1))
        self._stepper: Stepper | None = None
        self._resumed: dict[str, Tensor] = {}

    def modules(self) -> dict[str, nn.Module]:
        """Return the image and the statistics."""
        return {"canvas": self.canvas, "texture": self.texture}

    def probed(self) -> Probed:
        """Return the statistics."""
        return Probed(self.texture, 1, self.texture.image_shape)

    def update(self, step: Step) -> dict[str, Tensor | float]:
        """Make one step of L-BFGS; the driver's learning rate plays no part in it."""
        if self._stepper is None:
            self._stepper = self._begin()
        self._stepper.step()
        self.canvas.pixels.copy_(self._stepper.image())
        names = (f"loss/{name}" for name in MetamerLosses._fields)
        return dict(zip(names, self._stepper.terms.mean(1), strict=True))

    def extra_state(self) -> dict[str, Any]:
        """Return what L-BFGS remembers."""
        return {} if self._stepper is None else self._stepper.state()

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Keep what L-BFGS remembered until the next update, when the device is known."""
        self._stepper, self._resumed = None, state

    def images(self) -> dict[str, Float[Tensor, "C H W"]]:
        """Return the image, and the picture beside it."""
        both = torch.cat([self.canvas.pixels[0], self.target[0].to(self.canvas.pixels)], dim=-1)
        return {"synthesis and picture": both.detach().clamp(0, 1)}

    def _begin(self) -> Stepper:
        pixels = self.canvas.pixels
        target = self.target.to(pixels)
        model = RelativeTexture(self.texture, target)
        metamer = Metamer(target, model.eval(), pixels, penalty_weight=self.penalty_weight)
        stepper = metamer.begin()
        if self._resumed:
            stepper.load_state(self._resumed)
        return stepper
