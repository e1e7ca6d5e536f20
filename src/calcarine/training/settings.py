"""How long, how fast and how often: the settings that every training run shares.

    without phases   updates 0 ... updates - 1 under one set of values
    with phases      phase after phase, each with values of its own; updates is the sum of theirs

They are data. A recipe holds them under ``training:``, the checkpoint repeats them, and a run may
only be continued with the same ones, apart from those that do not touch what is learned
(:data:`CHANGEABLE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

__all__ = ["CHANGEABLE", "Phase", "Span", "TrainingSettings", "default_snapshots"]

CHANGEABLE = frozenset(
    {"loggers", "log_every", "checkpoint_every", "keep_checkpoints", "snapshots"}
)
"""Settings that may differ when a run is resumed, since they do not touch what is learned."""

Optimiser = Literal["adam", "adamw", "sgd", "muon"]
Course = Literal["constant", "cosine", "step"]


def default_snapshots(updates: int) -> tuple[int, ...]:
    """Return the ages 0, 100, 200, 500, 1000, 2000, 5000, ... up to and including ``updates``.

    >>> default_snapshots(700)
    (0, 100, 200, 500, 700)
    """
    ages = [0]
    decade = 100
    while decade < updates:
        ages += [age for age in (decade, 2 * decade, 5 * decade) if age < updates]
        decade *= 10
    return tuple(ages) if updates == 0 else (*ages, updates)


class Span(NamedTuple):
    """Where in a run an update lies.

    Attributes:
        phase: Name of its phase; empty in a run without phases.
        done: Updates of that phase done before it.
        updates: Updates of the whole phase.
    """

    phase: str
    done: int
    updates: int


class Phase(BaseModel):
    """One part of a run, with its own optimiser and its own course of the learning rate.

    ``null`` takes the value of the settings around it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z_][\w-]*$", description="Name, by which the task knows it.")
    updates: int = Field(
        ge=0, description="Number of updates of this phase; 0 leaves the phase out."
    )
    optimiser: Optimiser | None = Field(default=None, description="Optimiser of this phase.")
    learning_rate: float | None = Field(default=None, gt=0, description="Its learning rate.")
    schedule: Course | None = Field(default=None, description="Course of the rate within it.")
    warmup_updates: int | None = Field(default=None, ge=0, description="Its warm-up in updates.")
    final_rate_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Its last rate as a fraction (cosine only)."
    )
    rate_drops: tuple[int, ...] | None = Field(
        default=None, description="Updates of this phase at which the rate falls tenfold (step)."
    )
    clip_norm: float | None = Field(default=None, gt=0, description="Its largest gradient norm.")
    weight_decay: float | None = Field(default=None, ge=0, description="Its weight decay.")
    momentum: float | None = Field(default=None, ge=0, lt=1, description="Momentum (sgd, muon).")
    betas: tuple[float, float] | None = Field(
        default=None, description="Decay rates of the running means (not for sgd)."
    )
    accumulate: int | None = Field(default=None, ge=1, description="Micro-batches per update.")

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float] | None) -> tuple[float, float] | None:
        return betas if betas is None else _below_one(betas)

    @model_serializer(mode="wrap")
    def _without_nulls(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what the settings around it say, so that a recipe stays readable."""
        return {name: value for name, value in handler(self).items() if value is not None}

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that this phase gives itself."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return {name: value for name, value in values.items() if value is not None}


class TrainingSettings(BaseModel):
    """Settings of the training driver, the same for every task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    updates: int = Field(
        default=4000,
        ge=1,
        description="Number of updates of the whole run; with phases the sum of theirs, and not to "
        "be given.",
    )
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Learning rate after the warm-up, before any decay."
    )
    schedule: Course = Field(
        default="cosine", description="Course of the learning rate after the warm-up."
    )
    warmup_updates: int = Field(
        default=100, ge=0, description="Updates over which the rate rises linearly from zero."
    )
    final_rate_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Rate of the last update as a fraction of learning_rate (cosine only).",
    )
    rate_drops: tuple[int, ...] = Field(
        default=(), description="Updates at which the learning rate falls tenfold (step only)."
    )
    optimiser: Optimiser = Field(
        default="adam",
        description="adam, adamw (weight decay apart from the gradient), sgd with momentum, or "
        "muon (kernels of convolutions: steps of equal size along all singular directions; "
        "everything else: adamw).",
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        description="Pull towards zero: added to the gradient as weight_decay times the weight "
        "(adam, sgd), or taken off the weight times the learning rate (adamw, muon).",
    )
    momentum: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="Share of the last step kept (sgd, and kernels of muon).",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), description="Decay rates of Adam's two running means, in [0, 1)."
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="Largest gradient norm per objective; larger gradients are scaled down to it. "
        "null: never scaled.",
    )
    accumulate: int = Field(
        default=1,
        ge=1,
        description="Batches whose mean gradient makes one update: a large batch in little memory.",
    )
    phases: tuple[Phase, ...] = Field(
        default=(),
        description="Parts of the run one after the other, each with settings of its own; change "
        "one by its name, as in training.phases.NAME.updates=50.",
    )
    log_every: int = Field(default=20, ge=1, description="Updates between two log lines.")
    checkpoint_every: int = Field(default=500, ge=1, description="Updates between two checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="How many checkpoints are kept.")
    snapshots: Literal["auto"] | tuple[int, ...] = Field(
        default="auto",
        description="Ages in updates at which the weights are saved for good; "
        "auto: 0, 100, 200, 500, 1000, ..., the last update, and the last of every phase.",
    )
    max_nonfinite_in_a_row: int = Field(
        default=20,
        ge=1,
        description="Training stops after this many skipped non-finite steps in a row.",
    )
    loggers: tuple[Literal["local", "tensorboard", "comet", "wandb"], ...] = Field(
        default=("local", "tensorboard"), description="Where the scalars are logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _updates_of_the_phases(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not data.get("phases"):
            return data
        lengths = [_length(phase) for phase in data["phases"]]
        if None in lengths:
            return data  # the fields say what is wrong with it
        total = sum(length for length in lengths if length is not None)
        if data.get("updates", total) != total:
            raise ValueError(
                f"with phases, updates is their sum ({total}), got {data['updates']}. Leave it "
                "out, and change a phase instead: training.phases.NAME.updates."
            )
        return {**data, "updates": total}

    @model_serializer(mode="wrap")
    def _without_the_sum(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the sum over phases, so that a phase of a written recipe can be changed."""
        data: dict[str, Any] = handler(self)
        return {n: v for n, v in data.items() if n != "updates" or not self.phases}

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        return _below_one(betas)

    @field_validator("loggers")
    @classmethod
    def _loggers_once(cls, loggers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(loggers)) < len(loggers):
            raise ValueError(f"every logger is expected once, got {loggers}.")
        return loggers

    @field_validator("phases")
    @classmethod
    def _phases_once(cls, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
        names = [phase.name for phase in phases]
        if len(set(names)) < len(names):
            raise ValueError(f"every phase is expected to have a name of its own, got {names}.")
        return phases

    @model_validator(mode="after")
    def _ages_reached(self) -> TrainingSettings:
        if self.snapshots != "auto":
            out = [age for age in self.snapshots if not 0 <= age <= self.updates]
            if out:
                raise ValueError(
                    f"snapshots are expected between 0 and updates={self.updates}, got {out}. "
                    "Leave them out, or train for more updates."
                )
        return self

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> TrainingSettings:
        if not self.phases:
            _check_course(self, "")
        for phase in self.phases:
            if phase.updates:
                _check_course(self.of(phase.name), f"phase {phase.name!r}: ")
                _check_optimiser(phase, phase.optimiser or self.optimiser)
        return self

    @property
    def snapshot_ages(self) -> tuple[int, ...]:
        """Ages in updates at which weights are saved for good, ascending."""
        if self.snapshots == "auto":
            return tuple(sorted({*default_snapshots(self.updates), *self.ends}))
        return tuple(sorted(set(self.snapshots)))

    @property
    def ends(self) -> tuple[int, ...]:
        """Ages in updates at which a phase ends, ascending; the end of the run without phases."""
        if not self.phases:
            return (self.updates,)
        ends: list[int] = []
        for phase in self.phases:
            if phase.updates:
                ends.append(phase.updates + (ends[-1] if ends else 0))
        return tuple(ends)

    def span(self, update: int) -> Span:
        """Return where the update that follows ``update`` finished ones lies.

        After the last update, this is the end of the last phase.
        """
        if not self.phases:
            return Span("", update, self.updates)
        made = [phase for phase in self.phases if phase.updates]
        first = 0
        for phase in made[:-1]:
            if update < first + phase.updates:
                return Span(phase.name, update - first, phase.updates)
            first += phase.updates
        return Span(made[-1].name, update - first, made[-1].updates)

    def of(self, phase: str) -> TrainingSettings:
        """Return the settings as they hold in one phase; ``updates`` is then its length."""
        if not self.phases:
            return self
        changes: dict[str, Any] = next(p.changes for p in self.phases if p.name == phase)
        if changes.get("schedule", self.schedule) != "step":
            changes = {"rate_drops": (), **changes}
        return self.model_copy(update={"phases": (), "snapshots": (), **changes})


def _length(phase: Any) -> int | None:
    """Updates of a phase that may not have been checked yet, or ``None``."""
    given = phase.updates if isinstance(phase, Phase) else None
    if isinstance(phase, Mapping):
        given = phase.get("updates")
    return given if isinstance(given, int) and not isinstance(given, bool) else None


def _below_one(betas: tuple[float, float]) -> tuple[float, float]:
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas are expected in [0, 1), got {betas}.")
    return betas


def _check_course(settings: TrainingSettings, where: str) -> None:
    """Drops of the rate belong to the step schedule, in order, before the last update."""
    drops = settings.rate_drops
    if settings.schedule != "step":
        if drops:
            raise ValueError(
                f"{where}rate_drops are expected with the schedule 'step' only, got {drops} with "
                f"{settings.schedule!r}. Set the schedule, or leave them out."
            )
        return
    within = all(0 < drop < settings.updates for drop in drops)
    if not drops or list(drops) != sorted(set(drops)) or not within:
        raise ValueError(
            f"{where}the schedule 'step' expected rate_drops that rise from 1 to "
            f"{settings.updates - 1} (updates={settings.updates}), got {drops}."
        )


def _check_optimiser(phase: Phase, optimiser: Optimiser) -> None:
    """A value that the phase's optimiser does not know would go unnoticed."""
    if phase.momentum is not None and optimiser not in {"sgd", "muon"}:
        raise ValueError(
            f"phase {phase.name!r}: momentum has no effect on {optimiser!r}. Leave it out, or "
            "choose the optimiser 'sgd' or 'muon'."
        )
    if phase.betas is not None and optimiser == "sgd":
        raise ValueError(
            f"phase {phase.name!r}: betas have no effect on 'sgd'. Leave them out, or choose the "
            "optimiser 'adam', 'adamw' or 'muon'."
        )
