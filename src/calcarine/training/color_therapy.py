"""A new pigment in an eye that a cortex has grown up with.

    eye      that of a finished run, apart from one pigment more in some of its cells
    cortex   that of the finished run, as it was at some age; it goes on learning
    scopes   new, since they are ours and not the animal's

Whether colour gains a dimension is then up to the cortex, to which nobody tells what has changed.
Only what makes the question meaningful is checked: the same cells in the same places, one pigment
added, none of the others changed, and a cortex built in the same way.

Axes    T cone types | S cells along a side
Source  kotani2024 (therapy and boosting, in simulation); mancuso2009 (therapy, in monkeys)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from calcarine.errors import CheckpointError, InputError
from calcarine.training.run import Run, open_run

__all__ = ["StartingRun", "added_pigment", "inherit"]

_PLAIN = ("size", "latent", "widths", "plasticity", "inhibition_plasticity", "positions_plasticity")
_BUILT = ("inhibition", "positions")


class StartingRun(BaseModel):
    """The finished run whose cortex goes on learning, behind a changed eye."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(min_length=1, description="Folder of the finished run.")
    update: int | None = Field(
        default=None, ge=0, description="Age of its weights in updates; null: the latest."
    )


def inherit(task: Any, start: StartingRun) -> dict[str, Any]:
    """Give a task the cortex of a finished run.

    Args:
        task: A :class:`calcarine.training.ColorVisionTask`; nothing of it is changed unless the
            run fits.
        start: The finished run.

    Returns:
        Where the cortex came from, as plain data.

    Raises:
        FileFormatError: If the folder is not that of a run.
        CheckpointError: If there are no weights of that age, or they are damaged.
        InputError: If the run is of another task, another cortex, or another eye.
    """
    folder = Path(start.run)
    opened = open_run(folder, start.update)
    if type(opened.task) is not type(task):
        raise InputError(
            f"start.run expected the run of a colour cortex, but {folder} is one of the recipe "
            f"{opened.recipe.name!r} ({opened.recipe.config.task})."
        )
    _check_cortex(task.cortex, opened)
    _check_eye(task.retina, opened)
    task.cortex.load_state_dict(opened.task.cortex.state_dict())
    return {"run": str(folder), "update": opened.update}


def added_pigment(
    before: Float[Tensor, "T S S"], now: Float[Tensor, "U S S"]
) -> tuple[str, Float[Tensor, "S S"]]:
    """Return which pigment a mosaic has more of than before, and which cells got it.

    Args:
        before: Share of each pigment in each cell; planes L, M, S (, Q).
        now: The same afterwards, with as many planes or more.

    Returns:
        Letter of the pigment, empty if the mosaics are equal; by how much its share rose.

    Raises:
        InputError: If it is not the same mosaic apart from one pigment added.
    """
    if before.shape[1:] != now.shape[1:] or len(before) > len(now):
        raise InputError(
            f"The finished run has a mosaic of {_axes(before)}, this eye one of {_axes(now)}. An "
            "eye keeps its cells, and pigments can only be added."
        )
    known = torch.cat([before, before.new_zeros(len(now) - len(before), *before.shape[1:])])
    gain = now.double() - known.double()
    more = (gain > 1e-6).flatten(1).any(dim=1)
    gained = ["LMSQ"[index] for index in range(len(now)) if more[index]]
    if len(gained) > 1:
        share = float((gain.abs() > 1e-6).any(dim=0).double().mean())
        raise InputError(
            f"This is another eye: {share:.0%} of its cells carry other pigments than in the "
            f"finished run, and {', '.join(gained)} have all become more. Therapy adds one "
            "pigment; keep retina.seed, and name the mosaic after the run's, as in "
            "MS+L_replace_M after MS."
        )
    if not gained:
        return "", gain.new_zeros(gain.shape[1:])
    return gained[0], gain["LMSQ".index(gained[0])]


def _axes(mosaic: Tensor) -> str:
    types, height, width = mosaic.shape
    return f"{height} x {width} cells and {types} types"


def _check_cortex(cortex: Any, opened: Run) -> None:
    """A weight means the same only in a cortex that is built in the same way."""
    before = opened.task.cortex
    unlike = [
        f"{name} is {getattr(cortex, name)} here and {getattr(before, name)} there"
        for name in _PLAIN
        if getattr(cortex, name) != getattr(before, name)
    ]
    config = opened.recipe.config.cortex
    unlike += [
        f"{name} is another part than {getattr(config, name)!r}, which it is there"
        for name in _BUILT
        if type(getattr(cortex, name)) is not type(getattr(before, name))
    ]
    if unlike:
        raise InputError(
            f"The cortex of {opened.folder} does not fit the recipe: {'; '.join(unlike)}. Give the "
            "section cortex the values of that run's recipe.yaml."
        )


def _check_eye(retina: Any, opened: Run) -> None:
    before = opened.task.retina
    if retina.size != before.size or not _same_sampling(retina.sampling, before.sampling):
        raise InputError(
            f"The cells of this eye are not those of {opened.folder}: another size, sampling, "
            "layout or seed. Give the section retina the values of that run's recipe.yaml, apart "
            "from mosaic and, for a fourth pigment, peaks_nm."
        )
    kernels = [eye.inhibition and eye.inhibition.kernel for eye in (retina, before)]
    if (kernels[0] is None) != (kernels[1] is None) or not _equal(*kernels):
        raise InputError(
            f"The eye of {opened.folder} has another lateral inhibition. Set retina.inhibition to "
            "what that run's recipe.yaml says."
        )
    had = (before.mosaic.flatten(1).sum(dim=1) > 0).tolist()
    peaks = zip(before.peaks_nm, retina.peaks_nm, had, strict=False)
    moved = [(old, new) for old, new, there in peaks if there and old != new]
    if moved:
        raise InputError(
            f"The eye of {opened.folder} has a pigment at {moved[0][0]:g} nm, which this one has "
            f"at {moved[0][1]:g} nm. Only pigments that it lacks may be chosen: set "
            f"retina.peaks_nm to begin with {list(before.peaks_nm)}."
        )
    try:
        added_pigment(before.mosaic, retina.mosaic)
    except InputError as error:
        raise InputError(f"{error} The finished run is {opened.folder}.") from error


def _same_sampling(here: Any, there: Any) -> bool:
    """Whether two eyes have their cells in the same places."""
    if type(here) is not type(there):
        return False
    own, other = here.state_dict(), there.state_dict()
    return own.keys() == other.keys() and all(_equal(own[name], other[name]) for name in own)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=1e-6)


def refusal(start: StartingRun, error: Exception) -> CheckpointError:
    """Return the error with which a training that cannot begin from a run is refused."""
    return CheckpointError(f"Training cannot start from {start.run}: {error}")
