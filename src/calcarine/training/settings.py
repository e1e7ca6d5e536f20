"""How long, how fast and how often: the settings that every training run shares.

They are data. A recipe holds them under ``training:``, the checkpoint repeats them, and a run may
only be continued with the same ones, apart from those that do not touch what is learned
(:data:`CHANGEABLE`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["CHANGEABLE", "TrainingSettings", "default_snapshots"]

CHANGEABLE = frozenset(
    {"loggers", "log_every", "checkpoint_every", "keep_checkpoints", "snapshots"}
)
"""Settings that may differ when a run is resumed, since they do not touch what is learned."""


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


class TrainingSettings(BaseModel):
    """Settings of the training driver, the same for every task."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    updates: int = Field(default=4000, ge=1, description="Number of updates of the whole run.")
    learning_rate: float = Field(
        default=1e-3, gt=0, description="Learning rate after the warm-up, before any decay."
    )
    schedule: Literal["constant", "cosine"] = Field(
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
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="Largest gradient norm per objective; larger gradients are scaled down to it. "
        "null: never scaled.",
    )
    betas: tuple[float, float] = Field(
        default=(0.9, 0.999), description="Decay rates of Adam's two running means, in [0, 1)."
    )
    log_every: int = Field(default=20, ge=1, description="Updates between two log lines.")
    checkpoint_every: int = Field(default=500, ge=1, description="Updates between two checkpoints.")
    keep_checkpoints: int = Field(default=2, ge=1, description="How many checkpoints are kept.")
    snapshots: Literal["auto"] | tuple[int, ...] = Field(
        default="auto",
        description="Ages in updates at which the weights are saved for good; "
        "auto: 0, 100, 200, 500, 1000, ... and the last update.",
    )
    max_nonfinite_in_a_row: int = Field(
        default=20,
        ge=1,
        description="Training stops after this many skipped non-finite steps in a row.",
    )
    loggers: tuple[Literal["local", "tensorboard", "comet", "wandb"], ...] = Field(
        default=("local", "tensorboard"), description="Where the scalars are logged."
    )

    @field_validator("betas")
    @classmethod
    def _betas_below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are expected in [0, 1), got {betas}.")
        return betas

    @field_validator("loggers")
    @classmethod
    def _loggers_once(cls, loggers: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(loggers)) < len(loggers):
            raise ValueError(f"every logger is expected once, got {loggers}.")
        return loggers

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

    @property
    def snapshot_ages(self) -> tuple[int, ...]:
        """Ages in updates at which weights are saved for good, ascending."""
        if self.snapshots == "auto":
            return default_snapshots(self.updates)
        return tuple(sorted(set(self.snapshots)))
