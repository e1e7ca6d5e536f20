"""Learning the constants of the disk network."""

from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.errors import InputError
from calcarine.models import DiskVelocityNet
from calcarine.training import TrainingSettings, fit, load_weights
from calcarine.training.disk_velocity import DiskVelocityTask


def task(**settings):
    net = DiskVelocityNet(learnable=True)
    return DiskVelocityTask(net=net, batch_size=1, frames=24, settle=10, window=7, **settings)


def test_a_run_moves_every_constant_and_its_weights_load_again(tmp_path):
    learning = task()
    before = {n: p.clone() for n, p in learning.net.named_parameters()}
    settings = TrainingSettings(
        updates=3, learning_rate=0.05, warmup_updates=0, snapshots=(), loggers=("local",)
    )
    fit(learning, settings, tmp_path / "run", recipe={}, seed=0, progress=False)
    moved = [n for n, p in learning.net.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) >= 4
    again = DiskVelocityNet(learnable=True)
    load_weights(tmp_path / "run", {"net": again})
    for name, value in learning.net.named_parameters():
        assert torch.equal(value, dict(again.named_parameters())[name])


def test_silence_costs_more_than_the_hand_set_constants():
    generator = torch.Generator().manual_seed(0)
    learning = task()
    movie, centers = learning.draw(generator)
    with torch.no_grad():
        good = learning.loss_on(movie, centers)
        silent = learning.loss_on(torch.zeros_like(movie), centers)
    assert good < 0.7 * silent


def test_the_shipped_recipe_builds():
    built = recipe.load("disk-velocity").build_task()
    assert built.net.learnable
    assert len(built.objectives()["net"]) == 5


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match="net that learns"):
        DiskVelocityTask(net=DiskVelocityNet())
    with pytest.raises(InputError, match=r"settle \+ window"):
        DiskVelocityTask(net=DiskVelocityNet(learnable=True), frames=10)
    with pytest.raises(InputError, match="event_probability"):
        task(event_probability=0.0)
