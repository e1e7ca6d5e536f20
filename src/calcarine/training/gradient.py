"""One gradient step on several objectives at once.

    g = d(sum of losses) / d(parameters)      one backward pass, since objectives share no parameter
    g <- mean of g over the batches of the update and over processes
    every objective: skip if its loss or |g| is not finite, scale g to clip_norm, optimiser

The host waits once per step, for losses and norms together. Processes exchange gradients and losses
after the backward pass, and judge the same means, so they skip and clip alike.

On a GPU of its own the step is judged there, by the same rule, and the host does not wait: it reads
what happened one update later, when the GPU is busy with the next one. The guard then counts, and
gives up, one update late; checkpoints and logs ask it first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from calcarine.distributed import World
from calcarine.errors import CheckpointError, InputError, ShapeError
from calcarine.training.guard import Guard
from calcarine.training.optimisers import load_optimiser, make_optimiser
from calcarine.training.settings import TrainingSettings
from calcarine.training.verdict import Verdict, judge

__all__ = ["GradientLearner"]


class GradientLearner:
    """The optimisers of a task's objectives behind one guard.

    Args:
        objectives: Parameters by objective; no parameter belongs to two.
        modules: The task's modules; every parameter must be part of one, or it would not be saved.
        settings: Optimiser, clipping, and how many non-finite steps are borne; of one phase.
        guard: Counts to go on with; new ones by default.
        place: The processes that learn together.
        ahead: Whether steps are judged where they are made, and the host goes on; by default on a
            GPU, with an optimiser that can leave out a step there.

    Attributes:
        rate: Learning rate of the next step, set by the driver.
    """

    def __init__(
        self,
        objectives: Mapping[str, list[nn.Parameter]],
        modules: Mapping[str, nn.Module],
        settings: TrainingSettings,
        *,
        guard: Guard | None = None,
        place: World | None = None,
        ahead: bool | None = None,
    ) -> None:
        self._objectives = {name: list(parameters) for name, parameters in objectives.items()}
        self._names = {
            id(parameter): f"{module}.{name}"
            for module, part in modules.items()
            for name, parameter in part.named_parameters()
        }
        self._check_ownership()
        self._parameters = [p for group in self._objectives.values() for p in group]
        self._optimisers = {
            name: make_optimiser(parameters, settings)
            for name, parameters in self._objectives.items()
        }
        self._settings = settings
        self._place = World() if place is None else place
        self._reach_checked = False
        self._ahead = self._can_go_ahead() if ahead is None else ahead
        self._pending: Verdict | None = None
        self.rate = settings.learning_rate
        self._guard = Guard([]) if guard is None else guard
        self._guard.begin(self._objectives, limit=settings.max_nonfinite_in_a_row)

    @property
    def guard(self) -> Guard:
        """Counts of skipped steps, of all that were made.

        Raises:
            NonFiniteError: If non-finite steps persist.
        """
        self._settle()
        return self._guard

    def _settle(self) -> None:
        """Count what became of the last step, if that has not been read yet."""
        if self._pending is not None:
            verdict, self._pending = self._pending, None
            for name, (loss, norm) in verdict.numbers().items():
                self._guard.admits(name, loss=loss, norm=norm)

    def _can_go_ahead(self) -> bool:
        # The fused SGD of torch would keep running means that a skipped first step never filled.
        skips = self._settings.optimiser != "sgd"
        on_gpu = all(p.is_cuda and p.is_floating_point() for p in self._parameters)
        return skips and on_gpu and self._place.size == 1 and bool(self._parameters)

    def descend(
        self, losses: Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]]
    ) -> dict[str, float | Tensor]:
        """Make one step on every objective whose loss and gradient are finite.

        Args:
            losses: One scalar per objective, by name; or those of every batch of the update, one
                after the other.

        Returns:
            ``loss/<objective>`` and ``grad_norm/<objective>`` (before clipping), on a GPU as
            tensors that need not be there yet.

        Raises:
            InputError: If losses and objectives do not fit together.
            NonFiniteError: If non-finite steps persist.
        """
        sums = self._backward([losses] if isinstance(losses, Mapping) else losses)
        if self._place.size > 1:
            sums = self._average(sums)
        gradients = {
            name: [p.grad for p in parameters if p.grad is not None]
            for name, parameters in self._objectives.items()
        }
        if self._ahead:
            return self._step_ahead(sums, gradients)
        values, norms = _on_host(sums, gradients)
        clip_norm = self._settings.clip_norm
        for name, optimiser in self._optimisers.items():
            if not self._guard.admits(name, loss=values[name], norm=norms[name]):
                continue
            if clip_norm is not None and norms[name] > clip_norm:
                torch._foreach_mul_(gradients[name], clip_norm / norms[name])
            for group in optimiser.param_groups:
                group["lr"] = self.rate
            optimiser.step()
        return {
            **{f"loss/{name}": value for name, value in values.items()},
            **{f"grad_norm/{name}": norm for name, norm in norms.items()},
        }

    def _step_ahead(
        self, sums: dict[str, Tensor], gradients: dict[str, list[Tensor]]
    ) -> dict[str, float | Tensor]:
        verdict = judge(sums, gradients, self._settings.clip_norm)
        self._settle()  # asks about the update before, while this one is computed
        for name, optimiser in self._optimisers.items():
            if self._settings.clip_norm is not None and gradients[name]:
                torch._foreach_mul_(gradients[name], verdict.scales[name])
            for group in optimiser.param_groups:
                group["lr"] = self.rate
            optimiser.found_inf = verdict.refused[name]  # type: ignore[attr-defined]
            optimiser.step()
        self._pending = verdict
        return {
            **{f"loss/{name}": loss for name, loss in verdict.losses.items()},
            **{f"grad_norm/{name}": norm for name, norm in verdict.norms.items()},
        }

    def _backward(self, batches: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Leave the mean gradient of the batches with the parameters; return the mean losses."""
        accumulate = self._settings.accumulate
        for parameter in self._parameters:
            parameter.grad = None
        sums: dict[str, Tensor] = {}
        count = 0
        for losses in batches:
            self._check_losses(losses)
            parts = {name: losses[name] for name in self._objectives}
            if accumulate > 1:
                parts = {name: loss / accumulate for name, loss in parts.items()}
            torch.autograd.backward(list(parts.values()))
            count += 1
            sums = {n: part.detach() + sums.get(n, 0) for n, part in parts.items()}
        if count != accumulate:
            raise InputError(
                f"Training expected {accumulate} batches per update (training.accumulate), got "
                f"losses of {count}. Give step.descend the losses of step.accumulate batches."
            )
        return sums

    @torch.no_grad()
    def _average(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average gradients and losses over processes; a gradient that one has, all have."""
        values = list(losses.values())
        wide = torch.float32
        for value in values:
            wide = torch.promote_types(wide, value.dtype)
        has = torch.tensor(
            [p.grad is not None for p in self._parameters], dtype=wide, device=values[0].device
        )
        numbers = torch.cat([torch.stack([value.to(wide) for value in values]), has])
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        self._place.mean_([numbers, *gradients])
        present = (numbers[len(values) :] > 0).tolist()
        for parameter, somewhere in zip(self._parameters, present, strict=True):
            if not somewhere:
                parameter.grad = None  # or weight decay would move what nothing teaches
        return dict(zip(losses, numbers, strict=False))

    def state(self) -> dict[str, Any]:
        """Return the optimisers' running means and the guard's counts, for a checkpoint."""
        return {
            "optimisers": {n: o.state_dict()["state"] for n, o in self._optimisers.items()},
            "guard": self.guard.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned; tensors move to their parameters' device.

        Raises:
            CheckpointError: If it belongs to other objectives or parameters.
        """
        # Versions that knew Adam only wrote its means under its name.
        means = state["optimisers"] if "optimisers" in state else state["adam"]
        if means.keys() != self._optimisers.keys():
            raise CheckpointError(
                f"The checkpoint expected the objectives {', '.join(means) or 'none'}, but "
                f"the task has {', '.join(self._optimisers) or 'none'}. Resume with the task that "
                "wrote it."
            )
        for name, optimiser in self._optimisers.items():
            load_optimiser(optimiser, means[name], label=name)
        self._pending = None
        self._guard.load_state(state["guard"])

    def _check_ownership(self) -> None:
        """Every parameter belongs to one objective and to a module that is saved."""
        owner: dict[int, str] = {}
        for objective, parameters in self._objectives.items():
            if not parameters:
                raise InputError(
                    f"Objective {objective!r} expected at least one parameter, got none. Leave the "
                    "objective out if nothing in it learns."
                )
            for parameter in parameters:
                if id(parameter) not in self._names:
                    raise InputError(
                        f"Objective {objective!r} holds a parameter of shape "
                        f"{tuple(parameter.shape)} that no module in modules() has, so it would "
                        "not be saved. Add its module to modules()."
                    )
                if id(parameter) in owner:
                    raise InputError(
                        f"Parameter {self._names[id(parameter)]!r} is listed under objective "
                        f"{owner[id(parameter)]!r} and again under {objective!r}. Every parameter "
                        "is expected once; add the losses instead."
                    )
                owner[id(parameter)] = objective

    def _check_losses(self, losses: Mapping[str, Tensor]) -> None:
        if losses.keys() != self._objectives.keys():
            raise InputError(
                f"Training expected one loss per objective ({', '.join(self._objectives) or 'none'}"
                f"), got losses for {', '.join(losses) or 'none'}. Use the same names in "
                "objectives() and losses()."
            )
        for name, loss in losses.items():
            if loss.ndim or not loss.requires_grad:
                raise ShapeError(
                    f"The loss of objective {name!r} is expected to be a scalar that depends on "
                    f"its parameters, got shape {tuple(loss.shape)} with "
                    f"requires_grad={loss.requires_grad}. Reduce it with .mean() or .sum(), and "
                    "compute it with gradients enabled."
                )
        if not self._reach_checked:
            self._check_reach(losses)
            self._reach_checked = True

    def _check_reach(self, losses: Mapping[str, Tensor]) -> None:
        """Once per run: a loss that reached another objective's parameters would teach them."""
        for name, loss in losses.items():
            others = [
                p for other, group in self._objectives.items() if other != name for p in group
            ]
            others = [p for p in others if p.requires_grad]
            if not others:
                continue
            reached = torch.autograd.grad(loss, others, retain_graph=True, allow_unused=True)
            for parameter, gradient in zip(others, reached, strict=True):
                if gradient is not None:
                    raise InputError(
                        f"The loss of objective {name!r} reaches parameter "
                        f"{self._names[id(parameter)]!r}, which another objective learns. Detach "
                        "what the loss reads from there."
                    )


def _on_host(
    losses: Mapping[str, Tensor], gradients: Mapping[str, list[Tensor]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Losses and gradient norms as numbers, in a single transfer."""
    values = [losses[name].detach() for name in gradients]
    flat = [gradient for group in gradients.values() for gradient in group]
    # Half precision would overflow in the squares, long before the gradient itself is too large.
    wide = torch.float32 if any(g.dtype.itemsize < 4 for g in flat) else None
    norms = torch._foreach_norm(flat, 2, wide) if flat else []
    numbers = torch.stack([*values, *norms]).tolist()
    parts = iter(numbers[len(values) :])
    return dict(zip(gradients, numbers, strict=False)), {
        name: math.hypot(*itertools.islice(parts, len(group))) for name, group in gradients.items()
    }
