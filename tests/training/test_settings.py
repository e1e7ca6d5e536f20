from __future__ import annotations

import pytest
from pydantic import ValidationError

from calcarine.training import TrainingSettings, default_snapshots


def test_default_ages_grow_by_decades_and_end_with_the_last_update():
    assert default_snapshots(4000) == (0, 100, 200, 500, 1000, 2000, 4000)
    assert default_snapshots(500) == (0, 100, 200, 500)
    assert default_snapshots(30) == (0, 30)
    assert default_snapshots(0) == (0,)
    assert TrainingSettings(updates=250).snapshot_ages == (0, 100, 200, 250)


def test_given_ages_are_sorted_and_counted_once():
    assert TrainingSettings(snapshots=(500, 0, 500)).snapshot_ages == (0, 500)
    assert TrainingSettings(snapshots=()).snapshot_ages == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"update": 3}, "Extra inputs"),
        ({"updates": 0}, "greater than or equal to 1"),
        ({"learning_rate": 0.0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "finite number"),
        ({"schedule": "linear"}, "'constant', 'cosine' or 'step'"),
        ({"schedule": "step"}, "'step' expected rate_drops that rise from 1 to 3999"),
        ({"schedule": "step", "rate_drops": (9, 5)}, r"rise .* got \(9, 5\)"),
        ({"schedule": "step", "rate_drops": (9,), "updates": 9}, "from 1 to 8"),
        ({"rate_drops": (5,)}, "expected with the schedule 'step' only"),
        ({"optimiser": "lbfgs"}, "'adam', 'adamw', 'sgd' or 'muon'"),
        ({"momentum": 1.0}, "less than 1"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"accumulate": 0}, "greater than or equal to 1"),
        ({"betas": (0.9, 1.0)}, "expected in"),
        ({"loggers": ("local", "local")}, "expected once"),
        ({"loggers": ("mlflow",)}, "'local', 'tensorboard'"),
        ({"updates": 10, "snapshots": (5, 11)}, r"between 0 and updates=10, got \[11\]"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TrainingSettings(**settings)


def test_settings_are_frozen_described_and_survive_json():
    settings = TrainingSettings(updates=7, clip_norm=2.0, snapshots=(0, 7))
    with pytest.raises(ValidationError, match="frozen"):
        settings.updates = 8
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings
    assert all(field.description for field in TrainingSettings.model_fields.values())
