"""Optimisers of pixels behind one interface: own L-BFGS, Adam, or any optimiser of PyTorch.

    stepper = open_stepper(optimizer, pixels, objective)    evaluates the objective once
    stepper.step()                                          changes the pixels, evaluates again

After every step ``terms`` belong to ``image()``. No step asks the device for a number.

Axes    B batch | C channel | H W rows down, columns right | G group | T terms of the objective
Source  nocedal1980 (L-BFGS), kingma2015 (Adam), reddi2018 (its AMSGrad variant)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from calcarine.errors import InputError
from calcarine.probes.lbfgs import LbfgsState, lbfgs_begin, lbfgs_step
from calcarine.probes.precondition import (
    Basis,
    Curvature,
    Preconditioner,
    measure_curvature,
)

__all__ = ["Objective", "Optimizer", "Stepper", "first_term_curvature", "open_stepper"]

Optimizer = (
    Literal["lbfgs", "adam"]
    | torch.optim.Optimizer
    | Callable[[list[Tensor]], torch.optim.Optimizer]
)
"""A name, an optimiser made for ``[probe.metamer]``, or a function that makes one for a list."""

_HOPELESS = 8  # trials in a row that are no numbers, each a tenth as far as the last; ours
_ADAM_RATE = 0.01  # the published setting for metamers


@dataclass(frozen=True)
class Objective:
    """What is made small.

    Args:
        terms: Pixels -> terms apart, one value per group: every image of a batch is a group where
            the terms can tell images apart, else the batch is one.
        weights: What the terms are multiplied with before they are added.
    """

    terms: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "T G"]]
    weights: Float[Tensor, "T G"]

    def total(self, terms: Float[Tensor, "T G"]) -> Float[Tensor, " G"]:
        """Return the weighted sum."""
        return self.weighted(terms).sum(0)

    def weighted(self, terms: Float[Tensor, "... T G"]) -> Float[Tensor, "... T G"]:
        """Return the terms by weight; one of weight 0 is left out even where it is infinite."""
        return torch.where(self.weights == 0, 0.0, terms * self.weights)

    def evaluate(
        self,
        variables: Float[Tensor, "*V"],
        to_image: Callable[[Tensor], Float[Tensor, "B C H W"]] | None = None,
    ) -> tuple[Float[Tensor, " G"], Float[Tensor, "T G"], Float[Tensor, "*V"]]:
        """Return the total, the terms, and the gradient of the total summed over groups.

        Args:
            variables: Where; the pixels, unless ``to_image`` makes them.
            to_image: Variables -> pixels.
        """
        x = variables.detach().requires_grad_()
        with torch.enable_grad():
            terms = self.terms(x if to_image is None else to_image(x))
            total = self.total(terms)
            (gradient,) = torch.autograd.grad(total.sum(), x)
        return total.detach(), terms.detach(), gradient


def first_term_curvature(
    terms: Callable[[Float[Tensor, "B C H W"]], Float[Tensor, "T G"]],
    pixels: Float[Tensor, "B C H W"],
    generator: torch.Generator,
) -> Curvature:
    """Measure how the first term alone bends, relative to a mean over the pixels of its group.

    Args:
        terms: As an objective has them.
        pixels: Where to measure.
        generator: CPU generator of the probing noise.

    Returns:
        The curvature; its mean has one value per group, and is 2, as for the mean of squares, where
        the term does not bend upwards or its gradient is no number.
    """
    with torch.no_grad():
        count, groups = terms(pixels).shape
    weights = pixels.new_zeros(count, groups)
    weights[0] = 1
    alone = Objective(terms, weights)
    size = pixels.numel() / groups
    found = measure_curvature(lambda x: alone.evaluate(x)[2] * size, pixels, generator)
    mean = found.mean.reshape(groups, -1).mean(1)
    return found._replace(mean=torch.where(mean > 0, mean, 2.0))


class Stepper(ABC):
    """Changes pixels step by step.

    Attributes:
        name: What is saved and compared to tell whether a call continues the one before.
        terms: Terms of the objective at the present pixels.
    """

    name: str
    terms: Float[Tensor, "T G"]

    @abstractmethod
    def step(self) -> None:
        """Make one step."""

    @abstractmethod
    def image(self) -> Float[Tensor, "B C H W"]:
        """Return the present pixels."""

    @abstractmethod
    def retreat(self) -> None:
        """Go back to the last pixels whose objective is a number."""

    @abstractmethod
    def stuck(self) -> Bool[Tensor, " G"]:
        """Return for which groups no step helps any more."""

    @abstractmethod
    def undefined(self) -> Int[Tensor, ""]:
        """Return for how many evaluations the objective was no number wherever it was tried."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step needs, to be saved."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""


class LbfgsStepper(Stepper):
    """Own L-BFGS, in the variables of a preconditioner where there is one."""

    name = "lbfgs"

    def __init__(
        self,
        pixels: Float[Tensor, "B C H W"],
        objective: Objective,
        change: Preconditioner | None = None,
    ) -> None:
        self._shape, self._groups = pixels.shape, objective.weights.shape[1]
        self._objective, self._change = objective, change
        start = pixels if change is None else change.from_image(pixels)
        self._state = lbfgs_begin(start.reshape(self._groups, -1), self._evaluate)

    @property
    def terms(self) -> Float[Tensor, "T G"]:  # type: ignore[override]
        """Terms of the objective at the present pixels."""
        return self._state.terms

    def step(self) -> None:
        """Make one evaluation, and a step where it suits."""
        self._state = lbfgs_step(self._state, self._evaluate)

    def image(self) -> Float[Tensor, "B C H W"]:
        """Return the present pixels."""
        return self._to_image(self._state.pixels)

    def retreat(self) -> None:
        """Stay: steps to where the objective is no number are not taken."""

    def stuck(self) -> Bool[Tensor, " G"]:
        """Return which images of the batch get no further."""
        return self._state.stuck

    def undefined(self) -> Int[Tensor, ""]:
        """Return how many trials in a row were not numbers, once there are eight."""
        count, slope = self._state.undefined, self._state.slope
        lost = torch.where(count >= _HOPELESS, count, 0)
        start = ~(self._state.value.isfinite() & slope.isfinite())
        return torch.maximum(lost, start.to(lost)).max()

    def state(self) -> dict[str, Tensor]:
        """Return the pairs remembered and everything else; see ``LbfgsState``."""
        saved = {f"lbfgs.{k}": v for k, v in self._state._asdict().items()}
        if self._change is None:
            return saved
        return {**saved, f"lbfgs.gain.{self._change.basis}": self._change.gain}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        device = self._state.pixels.device
        held = {k.removeprefix("lbfgs."): v.to(device) for k, v in state.items()}
        self._change = None
        for basis in get_args(Basis):
            gain = held.pop(f"gain.{basis}", None)
            self._change = self._change if gain is None else Preconditioner(gain, basis)
        self._state = LbfgsState(**held)

    def _to_image(self, variables: Float[Tensor, "G P"]) -> Float[Tensor, "B C H W"]:
        image = variables.reshape(self._shape)
        return image if self._change is None else self._change.to_image(image)

    def _evaluate(self, variables: Float[Tensor, "G P"]) -> tuple[Tensor, Tensor, Tensor]:
        return self._objective.evaluate(variables, self._to_image)


class TorchStepper(Stepper):
    """Any optimiser of PyTorch, on the mean of the objective over groups."""

    def __init__(
        self,
        pixels: Float[Tensor, "B C H W"],
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        name: str,
    ) -> None:
        self.name = name
        self._pixels, self._objective, self._optimizer = pixels, objective, optimizer
        self._before = pixels.clone()
        self._evaluation = objective.evaluate(pixels)
        self._undefined = (~self._finite()).long()

    @property
    def terms(self) -> Float[Tensor, "T G"]:  # type: ignore[override]
        """Terms of the objective at the present pixels."""
        return self._evaluation[1]

    def step(self) -> None:
        """Make one step, with the gradient that is already known where the optimiser asks once."""
        self._before.copy_(torch.where(self._finite(), self._pixels, self._before))
        known: list[Any] = [self._evaluation]

        def closure() -> Tensor:
            total, _, gradient = known.pop() if known else self._objective.evaluate(self._pixels)
            self._pixels.grad = gradient / len(total)
            return total.mean()

        self._optimizer.step(closure)  # type: ignore[arg-type] # PyTorch annotates floats
        self._pixels.grad = None
        self._evaluation = self._objective.evaluate(self._pixels)
        self._undefined = torch.where(self._finite(), 0, self._undefined + 1)

    def image(self) -> Float[Tensor, "B C H W"]:
        """Return the present pixels."""
        return self._pixels

    def retreat(self) -> None:
        """Go back to the last pixels whose objective is a number."""
        self._pixels.copy_(self._before)

    def stuck(self) -> Bool[Tensor, " G"]:
        """Return false: these optimisers do not know."""
        return torch.zeros_like(self._evaluation[0], dtype=torch.bool)

    def undefined(self) -> Int[Tensor, ""]:
        """Return for how many steps the objective has been no number."""
        return self._undefined

    def _finite(self) -> Bool[Tensor, ""]:
        return self._evaluation[0].isfinite().all()

    def state(self) -> dict[str, Tensor]:
        """Return the state that the optimiser keeps for the pixels, if it is all tensors."""
        held = self._optimizer.state.get(self._pixels, {})
        if self.name != "adam":
            return {}
        return {f"adam.{key}": value for key, value in held.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        own = {k.removeprefix("adam."): v for k, v in state.items()}
        for key, value in own.items():
            # PyTorch keeps the count of steps on the CPU.
            own[key] = value if key == "step" else value.to(self._pixels.device)
        if own:
            self._optimizer.state[self._pixels] = own


def open_stepper(
    optimizer: Optimizer,
    pixels: Float[Tensor, "B C H W"],
    objective: Objective,
    change: Preconditioner | None = None,
) -> Stepper:
    """Choose how the pixels are changed.

    Args:
        optimizer: See :data:`Optimizer`.
        pixels: The pixels; optimisers of PyTorch change them in place.
        objective: What is made small.
        change: Variables for L-BFGS.

    Raises:
        InputError: If the optimiser is none, or is made for other tensors.
    """
    if optimizer == "lbfgs":
        return LbfgsStepper(pixels, objective, change)
    if optimizer == "adam":
        adam = torch.optim.Adam([pixels], lr=_ADAM_RATE, amsgrad=True)
        return TorchStepper(pixels, objective, adam, "adam")
    if isinstance(optimizer, str) or not (
        isinstance(optimizer, torch.optim.Optimizer) or callable(optimizer)
    ):
        raise InputError(
            f"Expected optimizer 'lbfgs', 'adam', an optimiser of PyTorch or a function that makes "
            f"one, got {optimizer!r}."
        )
    made = optimizer if isinstance(optimizer, torch.optim.Optimizer) else optimizer([pixels])
    if not isinstance(made, torch.optim.Optimizer):
        raise InputError(
            f"Expected a function that makes an optimiser of PyTorch, it made {made!r}. Return one."
        )
    held = [p for group in made.param_groups for p in group["params"]]
    if len(held) != 1 or held[0] is not pixels:
        raise InputError(
            "Expected an optimiser of exactly the pixels that are synthesised, got one of other "
            "tensors. Make it with [probe.metamer] (or the probe's own pixels), or pass a "
            "function: optimizer=lambda pixels: torch.optim.Adam(pixels, lr=0.01)."
        )
    return TorchStepper(pixels, objective, made, type(made).__name__)
