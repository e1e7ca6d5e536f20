"""Maps that grow: a sheet model learns from one stimulus after another, by its own local rule.

    schedule entries that are due -> draw stimuli -> model.learn(stimuli)

The rates belong to the model, so the driver's learning rate plays no part. What a schedule changes
lies in the model's state, so a run that is resumed does not need to know about it.

Axes    B batch | H W retina | h w cortex, rows down, columns right
Units   ages of a schedule in stimuli
Source  miikkulainen2005, stevens2013
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from calcarine.errors import InputError
from calcarine.models import Gcal, Lissom
from calcarine.plot import map_picture
from calcarine.probes import orientation_map
from calcarine.stimuli import (
    Bars,
    NaturalPatches,
    OrientedGaussians,
    RandomGratings,
    ThreeDotFaces,
)
from calcarine.training.task import Probed, Step, Task

__all__ = ["MapTask", "MapView"]

Stimuli = OrientedGaussians | NaturalPatches | RandomGratings | Bars | ThreeDotFaces

_SIDE_PX = 192  # of the picture of a map in the logs


class MapView(nn.Module):
    """What probes see of a sheet model: one channel, the activity of V1.

    Args:
        model: The sheet model.
        settled: The settled response; the afferent response before settling if false.
    """

    def __init__(self, model: Gcal | Lissom, *, settled: bool = True) -> None:
        super().__init__()
        self.model, self.settled = model, settled

    def forward(self, image: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Return the response of V1."""
        response = self.model(image) if self.settled else self.model.afferent(image)
        return response[:, None]


class MapTask(Task):
    """Let a sheet model learn from endless patterns.

    Stimuli whose geometry is left at its defaults are made for the model's retina, so
    ``model.area=[1.5, 1.5]`` needs no second change; a geometry that is given has to fit.

    Args:
        stimuli: What the eye looks at.
        model: What learns.
        batch_size: Stimuli per update, learned from one after another. Ours.
        schedule: What changes after how many stimuli; each entry goes to ``Lissom.set_``.
        stretch: Factor on the ages of the schedule, to run through it in another time. Ours.
        least_excitation: The schedule shrinks lateral excitation down to this many units of the
            cortex and no further. Ours: the eight nearest neighbours; on coarse sheets the radii of
            miikkulainen2005 would end at less than one unit, and the map would fall to pieces.

    Raises:
        InputError: If the stimuli do not fit the retina, or the schedule cannot be used.
    """

    sources: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        stimuli: Stimuli,
        model: Gcal | Lissom,
        batch_size: int = 1,
        schedule: dict[int, dict[str, float]] | None = None,
        stretch: float = 1.0,
        least_excitation: float = 1.5,
    ) -> None:
        if batch_size < 1 or not stretch > 0 or not least_excitation >= 0:
            raise InputError(
                f"MapTask expected batch_size >= 1, stretch > 0 and least_excitation >= 0, got "
                f"{batch_size}, {stretch} and {least_excitation}."
            )
        self.model, self.stimuli = model, _fitted(stimuli, model)
        self.batch_size, self.stretch = batch_size, stretch
        self.least_excitation = least_excitation
        self.schedule = {int(age): dict(entry) for age, entry in (schedule or {}).items()}
        self._due = {round(age * stretch): entry for age, entry in sorted(self.schedule.items())}
        self._check_schedule()

    def _check_schedule(self) -> None:
        if self.schedule and not isinstance(self.model, Lissom):
            raise InputError(
                "MapTask expected no schedule for Gcal, which adapts by itself. Leave it out, or "
                "set model.type to lissom."
            )
        if len(self._due) < len(self.schedule) or any(age < 0 for age in self._due):
            raise InputError(
                "MapTask expected a schedule whose ages are at least 0 and differ after they were "
                f"stretched by {self.stretch}, got {sorted(self.schedule)}."
            )
        # A copy goes through all of it now, or a mistake would come to light hours into a run.
        rehearsal = copy.deepcopy(self.model) if self._due else None
        for age, entry in self._due.items():
            try:
                self._set(rehearsal, entry)
            except InputError as error:
                raise InputError(
                    f"The schedule cannot be followed at age {age}: {error}"
                ) from error

    def modules(self) -> dict[str, nn.Module]:
        """Return the model: weights, thresholds, averages and what the schedule has set."""
        return {"model": self.model}

    def probed(self) -> Probed:
        """Return the settled response of V1."""
        return Probed(MapView(self.model), 1, self.model.retina_shape)

    def update(self, step: Step) -> dict[str, Tensor | float]:
        """Follow the schedule and learn from the next stimuli."""
        shown = step.done * self.batch_size
        for age, entry in self._due.items():
            if shown - self.batch_size < age <= shown:
                self._set(self.model, entry)
        images = self.stimuli.draw(self.batch_size, step.generator, device=step.device)
        return {**self.model.learn(images)}

    def _set(self, model: object, entry: Mapping[str, float]) -> None:
        """Apply an entry of the schedule."""
        assert isinstance(model, Lissom)
        least = self.least_excitation / min(model.cortex_shape)
        present = model.v1.lateral.excitatory.current_radius / min(model.cortex_shape)
        radius = entry.get("excitatory_radius")
        if radius is not None:
            entry = {**entry, "excitatory_radius": max(radius, min(least, present))}
        model.set_(**entry)

    def images(self) -> dict[str, Float[Tensor, "C H W"]]:
        """Return the orientation map of the afferent response, measured with few gratings."""
        found = orientation_map(
            MapView(self.model, settled=False), self.stimuli.sheet, orientations=12, phases=6
        )
        picture = map_picture(found.direction, found.selectivity)
        factor = max(1, -(-_SIDE_PX // max(picture.shape[-2:])))
        enlarged = picture.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
        return {"orientation map": enlarged}


def _fitted(stimuli: Stimuli, model: Gcal | Lissom) -> Stimuli:
    """Return stimuli of the size of the model's retina."""
    settings = {name: getattr(stimuli, name) for name in _parameters(stimuli)}
    standard = {name: p.default for name, p in _parameters(stimuli).items()}
    wanted = _geometry(stimuli, model)
    free = {name for name in wanted if _same(settings[name], standard[name])}
    changed = {name: wanted[name] for name in free if not _same(settings[name], wanted[name])}
    if stimuli.size != model.retina_shape or "cortex_half_side" in changed:
        stimuli = type(stimuli)(**{**settings, **changed})
    if stimuli.size != model.retina_shape:
        needed = ", ".join(f"stimuli.{name}={value}" for name, value in wanted.items())
        raise InputError(
            f"The retina has {model.retina_shape[0]} x {model.retina_shape[1]} px, the stimuli "
            f"have {stimuli.size[0]} x {stimuli.size[1]}. Leave their geometry out, or set "
            f"{needed}."
        )
    return stimuli


def _geometry(stimuli: Stimuli, model: Gcal | Lissom) -> dict[str, Any]:
    """Return the arguments that put stimuli on the model's retina."""
    density = model.lgn_density if isinstance(model, Gcal) else stimuli.density
    height, width = model.retina_shape
    wanted: dict[str, Any] = {
        "density": float(density),
        "half_side": (height / (2 * density), width / (2 * density)),
    }
    if isinstance(stimuli, OrientedGaussians) and isinstance(model, Gcal):
        wanted["cortex_half_side"] = (model.area[0] / 2, model.area[1] / 2)
    return wanted


def _parameters(stimuli: Stimuli) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(type(stimuli)).parameters


def _same(one: Any, other: Any) -> bool:
    """Whether two lengths are alike, be they one number or a pair."""
    first, second = (tuple(v) if isinstance(v, tuple | list) else (v, v) for v in (one, other))
    return first == second
