"""Metamers: images that differ and that a model cannot tell apart.

    minimise  loss(f(x), f(image)) + w k penalty(x)    from any initial image

    k = mean curvature of the loss / curvature of the mean of squares, at the initial image

The factor k gives ``penalty_weight`` the same meaning for a model whose responses are hundredths
and for one whose are hundreds; both terms vanish at a metamer, whatever the weight.

Axes    B batch, matched one to one | C channel | H W rows down, columns right | N iterations
Source  freeman2011, feather2019 (metamers of models); portilla2000 (coarse to fine)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes._inputs import (
    check_images,
    check_loss,
    check_representation,
    check_same,
    check_weight,
    per_group,
    probing_generator,
)
from calcarine.probes.metrics import mse
from calcarine.probes.penalty import range_penalty
from calcarine.probes.precondition import (
    Curvature,
    Preconditioner,
    can_precondition,
    preconditioner,
)
from calcarine.probes.saving import read_result, write_result
from calcarine.probes.steppers import (
    Objective,
    Optimizer,
    Stepper,
    first_term_curvature,
    open_stepper,
)
from calcarine.probes.synthesis import Plan, Status, Synthesis, SynthesisProbe
from calcarine.progress import Progress

__all__ = ["Metamer", "MetamerLosses"]

Model = Callable[..., Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Penalty = Callable[[Tensor], Tensor]
Scales = Literal["together", "separate"] | Sequence[Sequence[Any]]

_KIND = "metamer"


class MetamerLosses(NamedTuple):
    """Losses after every iteration, the first before any; means over the batch.

    Attributes:
        representation: Distance of the representations.
        penalty: The penalty, without its weight.
    """

    representation: Float[Tensor, " N"]
    penalty: Float[Tensor, " N"]


class Metamer(SynthesisProbe):
    """Synthesise images with the representation of a given one.

    >>> metamer = Metamer(image, model).synthesize(max_iter=200)
    >>> metamer.status, metamer.metamer.shape
    ('converged', torch.Size([1, 1, 256, 256]))

    Args:
        image: The images to match, values in [0, 1] where the penalty is the default.
        model: Any ``image -> representation`` that :func:`check_model` accepts.
        initial: Where to begin, of the image's shape; uniform white noise by default. The metamer
            keeps of it what the model cannot see.
        loss: Distance of two representations: one value per image, or per image and channel, or
            one in all (then the batch is synthesised as one).
        penalty: What an image pays beside; ``None`` for nothing.
        penalty_weight: Its weight relative to the mean curvature of the loss, see the module. Ours.
        generator: CPU generator of the white noise; with a fixed seed by default.

    Attributes:
        metamer: The synthesised images (B, C, H, W); changed in place by ``synthesize``.
        target: Representation of the images.
        status: How the last call ended, see :mod:`calcarine.probes.synthesis`.
        scale_changes: When coarse-to-fine synthesis went on to further scales: pairs of iteration
            and scales.

    Raises:
        InputError: If the model cannot be probed, with what to change; or images do not fit.
    """

    def __init__(
        self,
        image: Float[Tensor, "B C H W"],
        model: Model,
        initial: Float[Tensor, "B C H W"] | None = None,
        loss: Loss = mse,
        penalty: Penalty | None = range_penalty,
        penalty_weight: float = 0.1,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.image = check_images("Metamer", image, model)
        self.model, self.loss, self.penalty = model, loss, penalty
        self.penalty_weight = check_weight("Metamer", penalty_weight)
        self._generator = probing_generator(generator)
        if initial is None:
            noise = torch.rand(image.shape, generator=self._generator, dtype=image.dtype)
            initial = noise.to(image.device)
        self.initial = check_same("Metamer", "initial", initial, image).detach().clone()
        with torch.no_grad():
            self.target = model(self.image)
        check_loss("Metamer", lambda x: loss(model(x), self.target), self.initial)
        self._synthesis = Synthesis(self.initial.clone())
        self._scale_factor: Float[Tensor, " G"] | None = None
        self.scale_changes: list[tuple[int, list[Any]]] = []

    def synthesize(
        self,
        max_iter: int = 1000,
        tolerance: float = 1e-10,
        optimizer: Optimizer = "lbfgs",
        store_every: int | None = None,
        *,
        scales: Scales | None = None,
        precondition: bool = True,
        progress: bool = True,
    ) -> Metamer:
        """Change the images until their representation is the target; again to go on.

        Args:
            max_iter: Most iterations of this call, each one evaluation of the model.
            tolerance: Loss below which, weighted penalty included, the images count as metamers.
            optimizer: ``"lbfgs"``; ``"adam"`` at rate 0.01, the published setting; an optimiser of
                PyTorch made for ``[metamer.metamer]``; or a function that makes one.
            store_every: Keep the image every so many iterations, for :attr:`history`.
            scales: Coarse to fine, for models with ``scales`` and ``forward(image, scales=)``:
                ``"together"`` adds the model's scales one by one in its order, ``"separate"``
                takes one after the other and then all; or the steps themselves.
            precondition: Whether L-BFGS works in the variables of
                :mod:`calcarine.probes.precondition`.
            progress: Whether to show how far it is, on standard error.

        Returns:
            This probe; see its attributes.

        Raises:
            InputError: If an argument cannot be used.
            NonFiniteError: If the loss becomes NaN or infinite, with the iteration.
        """
        plan = Plan(max_iter, tolerance, "zero", store_every, progress, MetamerLosses._fields)
        if scales is None:
            coarse = self._last_scales() is not None
            if coarse:
                self._go_on_to(list(self._all_scales()))
            self._run(plan, optimizer, None, precondition, fresh=coarse)
            return self
        steps = self._scale_steps(scales)
        if max_iter < len(steps):
            raise InputError(
                f"synthesize expected at least one iteration for each of the {len(steps)} steps "
                f"over scales, got max_iter={max_iter}."
            )
        with self._synthesis.progress(plan) as bar:
            self._coarse_to_fine(plan, optimizer, steps, precondition, bar)
        return self

    def _coarse_to_fine(
        self,
        plan: Plan,
        optimizer: Optimizer,
        steps: list[list[Any]],
        precondition: bool,
        bar: Progress,
    ) -> None:
        share, spent = max(1, plan.max_iter // (len(steps) + 1)), self.iterations
        for step in steps[:-1]:
            self._go_on_to(step)
            ended = self._run(plan.cut(share), optimizer, step, precondition, fresh=True, bar=bar)
            if ended in ("interrupted", "diverged"):
                return
        self._go_on_to(steps[-1])
        left = plan.max_iter - (self.iterations - spent)
        self._run(plan.cut(left), optimizer, None, precondition, fresh=True, bar=bar)

    def begin(self, optimizer: Optimizer = "lbfgs", *, precondition: bool = True) -> Stepper:
        """Return what changes the images step by step, for loops other than ``synthesize``.

        Args:
            optimizer: As for :meth:`synthesize`.
            precondition: As for :meth:`synthesize`.

        Raises:
            InputError: If the optimiser is none, or is made for other tensors.
        """
        objective = self._objective(None)
        change = self._change(objective) if optimizer == "lbfgs" and precondition else None
        return open_stepper(optimizer, self.metamer, objective, change)

    @property
    def metamer(self) -> Float[Tensor, "B C H W"]:
        """The synthesised images."""
        return self._synthesis.pixels

    @property
    def losses(self) -> MetamerLosses:
        """Losses after every iteration, means over the batch."""
        return MetamerLosses(*self._terms().mean(2))

    @property
    def item_losses(self) -> MetamerLosses:
        """Losses after every iteration for every image, axes (iteration, batch)."""
        return MetamerLosses(*self._terms())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything but the model and its loss to one .safetensors file.

        Raises:
            InputError: If the name ends otherwise.
            RunError: If the folder cannot be written.
        """
        tensors, facts = self._synthesis.save()
        tensors |= {"image": self.image, "initial": self.initial, "target": self.target}
        if self._scale_factor is not None:
            tensors["scale_factor"] = self._scale_factor
        facts |= {
            "penalty_weight": self.penalty_weight,
            "scale_changes": [[n, list(scales)] for n, scales in self.scale_changes],
        }
        return write_result(path, _KIND, tensors, facts)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Model,
        *,
        loss: Loss = mse,
        penalty: Penalty | None = range_penalty,
        device: torch.device | str = "cpu",
    ) -> Metamer:
        """Read what :meth:`save` wrote, ready to go on where it stopped.

        Args:
            path: The file.
            model: The model it was made with.
            loss: The loss it was made with.
            penalty: The penalty it was made with.
            device: Where to.

        Raises:
            FileFormatError: If the file cannot be read, or is that of another probe.
            InputError: If the model gives another representation than the one in the file.
        """
        tensors, facts = read_result(path, _KIND)
        made = cls(
            tensors["image"].to(device),
            model,
            tensors["initial"].to(device),
            loss,
            penalty,
            facts["penalty_weight"],
        )
        check_representation(path, made.target, tensors["target"].to(device))
        if "scale_factor" in tensors:
            made._scale_factor = tensors["scale_factor"].to(device)
        made.scale_changes = [(n, scales) for n, scales in facts["scale_changes"]]
        begun = made._scale_factor is not None
        objective = made._objective(made._last_scales()) if begun else None
        made._synthesis = Synthesis.load(tensors, facts, objective, torch.device(device))
        return made

    def _terms(self) -> Float[Tensor, "T N G"]:
        terms = self._synthesis.item_losses()
        return terms if terms.numel() else terms.new_zeros(2, 0, len(self.image))

    def _last_scales(self) -> list[Any] | None:
        last = self.scale_changes[-1][1] if self.scale_changes else None
        return None if last is None or last == list(self._all_scales()) else last

    def _respond(self, x: Tensor, scales: Sequence[Any] | None) -> Tensor:
        return self.model(x) if scales is None else self.model(x, scales=list(scales))

    def _objective(self, scales: Sequence[Any] | None) -> Objective:
        with torch.no_grad():
            target = self.target if scales is None else self._respond(self.image, scales)

        def terms(x: Float[Tensor, "B C H W"]) -> Float[Tensor, "T G"]:
            values = [self.loss(self._respond(x, scales), target)]
            penalty = x.new_zeros(len(x)) if self.penalty is None else self.penalty(x)
            # Nothing times a slope that is infinite would be no number.
            values.append(penalty if self.penalty_weight > 0 else penalty.detach())
            return per_group(values, len(x))

        if self._scale_factor is None:
            self._scale_factor = self._bend(terms).mean / 2
        weight = self.penalty_weight if self.penalty is not None else 0.0
        ones = torch.ones_like(self._scale_factor)
        return Objective(terms, torch.stack([ones, weight * self._scale_factor]))

    def _bend(self, terms: Callable[[Tensor], Tensor]) -> Curvature:
        """Measure how the representation loss alone bends at the present images."""
        return first_term_curvature(terms, self._synthesis.pixels, self._generator)

    def _run(
        self,
        plan: Plan,
        optimizer: Optimizer,
        scales: Sequence[Any] | None,
        precondition: bool,
        *,
        fresh: bool = False,
        bar: Progress | None = None,
    ) -> Status:
        objective = self._objective(scales)
        change = None
        again = self._synthesis.goes_on(optimizer) and not fresh
        if optimizer == "lbfgs" and precondition and not again:
            change = self._change(objective)
        return self._synthesis.run(objective, plan, optimizer, change, fresh=fresh, bar=bar)

    def _change(self, objective: Objective) -> Preconditioner | None:
        if not can_precondition(self._synthesis.pixels):
            return None
        curvature = self._bend(objective.terms)
        floor = 2 * objective.weights[1]
        return preconditioner(curvature, floor.expand(len(self.image)))

    def _all_scales(self) -> Sequence[Any]:
        scales = getattr(self.model, "scales", None)
        if not scales:
            raise InputError(
                "Coarse-to-fine synthesis expected a model with scales, and a forward that takes "
                f"scales=, as PortillaSimoncelli has; {type(self.model).__name__} has none. Leave "
                "scales out."
            )
        return list(scales)

    def _scale_steps(self, scales: Scales) -> list[list[Any]]:
        known = list(self._all_scales())
        if scales == "together":
            return [known[: i + 1] for i in range(len(known))]
        if scales == "separate":
            return [*([each] for each in known), known]
        if isinstance(scales, str):
            raise InputError(
                f"synthesize expected scales 'together', 'separate' or a list of steps, got "
                f"{scales!r}."
            )
        steps = [list(step) for step in scales]
        unknown = [each for step in steps for each in step if each not in known]
        if unknown or not steps:
            raise InputError(
                f"synthesize expected steps out of the model's scales {known}, got {scales!r}."
            )
        return [*steps, known] if steps[-1] != known else steps

    def _go_on_to(self, step: list[Any]) -> None:
        self.scale_changes.append((self.iterations, list(step)))
