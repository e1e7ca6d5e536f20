"""Geodesics: how an image turns into another one as straight as a model can see it.

    minimise  n sum_k |f(x_{k+1}) - f(x_k)|^2 / |f(x_n) - f(x_0)|^2  + w k penalty

over the images between, start and end held. The first term is 1 where the representations lie on
a straight line at equal distances, and larger otherwise; so a geodesic is straight as far as images
allow it, and moves at constant speed.

Axes    n steps, n + 1 images | C channel | H W rows down, columns right | N iterations
Source  henaff2016 (geodesics of representations)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.probes._inputs import (
    check_images,
    check_representation,
    check_same,
    check_weight,
    probing_generator,
)
from calcarine.probes.penalty import range_penalty
from calcarine.probes.saving import read_result, write_result
from calcarine.probes.steppers import Objective, Optimizer, first_term_curvature
from calcarine.probes.synthesis import Plan, Synthesis, SynthesisProbe

__all__ = ["Geodesic", "GeodesicLosses"]

Model = Callable[[Tensor], Tensor]
Penalty = Callable[[Tensor], Tensor]

_KIND = "geodesic"


class GeodesicLosses(NamedTuple):
    """What is minimised, after every iteration, the first before any.

    Attributes:
        energy: Of the path in representation space, relative to the straight line's.
        penalty: The penalty, without its weight.
    """

    energy: Float[Tensor, " N"]
    penalty: Float[Tensor, " N"]


class Geodesic(SynthesisProbe):
    """Find the straightest path between two images in a model's representation space.

    >>> path = Geodesic(start, end, model, steps=10).synthesize().path

    Args:
        start: The first image (1, C, H, W), values in [0, 1] where the penalty is the default.
        end: The last image, likewise.
        model: Any ``image -> representation`` that :func:`check_model` accepts.
        steps: Number of steps n.
        initial: Path (n + 1, C, H, W) to begin with, whose ends are start and end; by default the
            straight line in pixels.
        penalty: What an image pays beside; ``None`` for nothing.
        penalty_weight: Its weight relative to the mean curvature of the energy. Ours.
        generator: CPU generator of the noise that measures curvature; with a fixed seed by default.

    Attributes:
        path: The images from start to end (n + 1, C, H, W).
        status: How the last call ended; ``"converged"`` when the energy has stopped falling.

    Raises:
        InputError: If the model cannot be probed, or sees no difference between the images.
        ShapeError: If images do not fit.
    """

    def __init__(
        self,
        start: Float[Tensor, "1 C H W"],
        end: Float[Tensor, "1 C H W"],
        model: Model,
        *,
        steps: int = 10,
        initial: Float[Tensor, "n C H W"] | None = None,
        penalty: Penalty | None = range_penalty,
        penalty_weight: float = 0.1,
        generator: torch.Generator | None = None,
    ) -> None:
        if not isinstance(steps, int) or steps < 2:
            raise InputError(f"Geodesic expected steps >= 2, got {steps!r}.")
        self.start = check_images("Geodesic", start, model)
        if len(start) != 1:
            raise ShapeError(
                f"Geodesic expected one image at each end, got a batch of {len(start)}. Find one "
                "path at a time."
            )
        self.end = check_same("Geodesic", "end", end, self.start).detach()
        self.model, self.steps, self.penalty = model, steps, penalty
        self.penalty_weight = check_weight("Geodesic", penalty_weight)
        self._generator = probing_generator(generator)
        if initial is None:
            share = torch.linspace(0, 1, steps + 1).to(self.start)[:, None, None, None]
            initial = self.start * (1 - share) + self.end * share
        expected = (steps + 1, *self.start.shape[1:])
        if initial.shape != expected:
            raise ShapeError(
                f"Geodesic expected an initial path of shape {expected}, from start to end in "
                f"{steps} steps, got {tuple(initial.shape)}."
            )
        line = torch.cat([self.start, initial[1:-1], self.end])
        self.initial = check_same("Geodesic", "initial", initial, line).detach().clone()
        with torch.no_grad():
            self._ends = _real(model(torch.cat([self.start, self.end])))
        self._unit = (self._ends[1] - self._ends[0]).square().sum()
        if not bool(self._unit > 0):
            raise InputError(
                "Geodesic expected images that the model can tell apart, got the same "
                "representation for both."
            )
        self._synthesis = Synthesis(self.initial[1:-1].clone())
        self._scale_factor: Float[Tensor, " 1"] | None = None

    def synthesize(
        self,
        max_iter: int = 500,
        tolerance: float = 1e-4,
        optimizer: Optimizer = "lbfgs",
        store_every: int | None = None,
        *,
        progress: bool = True,
    ) -> Geodesic:
        """Straighten the path; again to go on.

        Args:
            max_iter: Most iterations of this call, each one evaluation of the model on the path.
            tolerance: Relative fall of the energy over 60 iterations that counts as none.
            optimizer: As for :meth:`Metamer.synthesize`.
            store_every: Keep the images between every so many iterations, for :attr:`history`.
            progress: Whether to show how far it is, on standard error.

        Returns:
            This probe.

        Raises:
            InputError: If an argument cannot be used.
            NonFiniteError: If the energy becomes NaN or infinite, with the iteration.
        """
        names = GeodesicLosses._fields
        plan = Plan(max_iter, tolerance, "stationary", store_every, progress, names)
        self._synthesis.run(self._objective(), plan, optimizer)
        return self

    @property
    def path(self) -> Float[Tensor, "n C H W"]:
        """The images from start to end."""
        return torch.cat([self.start, self._synthesis.pixels, self.end])

    @property
    def losses(self) -> GeodesicLosses:
        """Energy and penalty after every iteration."""
        terms = self._synthesis.losses()
        return GeodesicLosses(*(terms if terms.numel() else terms.new_zeros(2, 0)))

    def deviation(
        self, path: Float[Tensor, "n C H W"] | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return how far along the straight line in representation space, and how far from it.

        Args:
            path: The images to place; by default the path. Compare with :attr:`initial`.

        Returns:
            Both relative to the distance of the ends: 0 to 1 along, and 0 beside for a straight
            path.
        """
        with torch.no_grad():
            points = _real(self.model(self.path if path is None else path))
        line, offset = self._ends[1] - self._ends[0], points - self._ends[0]
        along = (offset * line).sum(1) / self._unit
        beside = (offset - along[:, None] * line).norm(dim=1) / self._unit.sqrt()
        return along, beside

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything but the model to one .safetensors file.

        Raises:
            InputError: If the name ends otherwise.
            RunError: If the folder cannot be written.
        """
        tensors, facts = self._synthesis.save()
        tensors |= {"start": self.start, "end": self.end, "initial": self.initial}
        tensors["ends"] = self._ends
        if self._scale_factor is not None:
            tensors["scale_factor"] = self._scale_factor
        facts |= {"steps": self.steps, "penalty_weight": self.penalty_weight}
        return write_result(path, _KIND, tensors, facts)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Model,
        *,
        penalty: Penalty | None = range_penalty,
        device: torch.device | str = "cpu",
    ) -> Geodesic:
        """Read what :meth:`save` wrote, ready to go on where it stopped.

        Args:
            path: The file.
            model: The model it was made with.
            penalty: The penalty it was made with.
            device: Where to.

        Raises:
            FileFormatError: If the file cannot be read, or is that of another probe.
            InputError: If the model gives other representations than those in the file.
        """
        tensors, facts = read_result(path, _KIND)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        made = cls(
            tensors["start"],
            tensors["end"],
            model,
            steps=facts["steps"],
            initial=tensors["initial"],
            penalty=penalty,
            penalty_weight=facts["penalty_weight"],
        )
        check_representation(path, made._ends, tensors["ends"])
        made._scale_factor = tensors.get("scale_factor")
        begun = made._scale_factor is not None
        objective = made._objective() if begun else None
        made._synthesis = Synthesis.load(tensors, facts, objective, torch.device(device))
        return made

    def _objective(self) -> Objective:
        def terms(between: Float[Tensor, "n C H W"]) -> Float[Tensor, "2 1"]:
            points = torch.cat([self._ends[:1], _real(self.model(between)), self._ends[1:]])
            energy = self.steps * points.diff(dim=0).square().sum() / self._unit
            penalty = energy.new_zeros(()) if self.penalty is None else self.penalty(between).mean()
            return torch.stack([energy, penalty])[:, None]

        if self._scale_factor is None:
            pixels = self._synthesis.pixels
            self._scale_factor = first_term_curvature(terms, pixels, self._generator).mean / 2
        weight = self.penalty_weight if self.penalty is not None else 0.0
        ones = torch.ones_like(self._scale_factor)
        return Objective(terms, torch.stack([ones, weight * self._scale_factor]))


def _real(response: Tensor) -> Float[Tensor, "B P"]:
    """Return representations as rows of real numbers."""
    flat = torch.view_as_real(response) if response.is_complex() else response
    return flat.flatten(1)
