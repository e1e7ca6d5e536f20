"""Digits by spikes: what is held out, what is penalised, that it learns, stops and goes on."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import recipe
from calcarine.commands.train import train
from calcarine.errors import InputError
from calcarine.models import SpikingClassifier
from calcarine.probes import Metamer
from calcarine.stimuli import digits
from calcarine.stimuli._jitter import jittered
from calcarine.training import TrainingSettings, fit, read_log
from calcarine.training.spiking_digits import SpikingDigitsTask

SMALL = ["model.hidden=24", "model.steps=16", "batch_size=16", "evaluate_every=5"]


def build(*overrides: str) -> SpikingDigitsTask:
    return recipe.load("spiking-digits", [*SMALL, *overrides]).build_task()


def learn(folder, updates, *overrides: str, resume=False):
    settings = TrainingSettings(
        updates=updates, learning_rate=1e-2, schedule="constant", warmup_updates=0,
        checkpoint_every=4, snapshots=(), loggers=("local",), log_every=1,
    )  # fmt: skip
    task = build(*overrides)
    fit(task, settings, folder, recipe={}, seed=0, resume=resume, progress=False)
    return task


def test_the_last_third_is_held_out():
    task, known = build(), digits()
    assert len(task.learned.labels) == 1198
    assert len(task.unseen.labels) == 599
    assert torch.equal(torch.cat([task.learned.images, task.unseen.images]), known.images)
    assert torch.equal(torch.cat([task.learned.labels, task.unseen.labels]), known.labels)


def test_held_out_counts_agree_with_the_answers():
    task = build()
    found = task.held_out()
    answers = task.model.eval()(task.unseen.images).argmax(1)
    assert found.confusion.sum() == 599
    assert torch.equal(found.confusion.sum(1), task.unseen.labels.bincount(minlength=10))
    assert found.confusion[3, 7] == ((task.unseen.labels == 3) & (answers == 7)).sum()
    assert found.accuracy.item() == pytest.approx(found.confusion.trace().item() / 599)


def test_a_small_network_learns_and_keeps_its_rates(tmp_path):
    task = learn(tmp_path / "run", 150, "model.hidden=48", "batch_size=32")
    found = task.held_out()
    assert found.accuracy > 0.8
    assert (found.rate_hz > 0).double().mean() > 0.95
    assert 5 < found.rate_hz.mean() < 150
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert lines[-1]["held_out_accuracy"] == pytest.approx(found.accuracy.item())
    assert lines[0]["held_out_accuracy"] < 0.4
    assert lines[-1]["held_out_rate_hz"] == pytest.approx(found.rate_hz.mean().item(), rel=1e-6)
    assert {"silent_units", "loss/digits"} <= lines[-1].keys()


def test_learned_time_constants_move_and_stay_within_bounds(tmp_path):
    before = build("model.learnable=true", "model.spread=0.3").model.time_constants_ms()
    task = learn(tmp_path / "run", 10, "model.learnable=true", "model.spread=0.3")
    for name, after in task.model.time_constants_ms().items():
        assert (after - before[name]).abs().max() > 0.05
        assert after.min() > 1


def test_the_penalty_is_that_of_its_formula():
    task = build("lowest_rate_hz=10", "highest_rate_hz=100")
    spikes = torch.zeros(20, 1, 3)  # 20 ms: one spike is 50 Hz
    spikes[0, 0, 1] = 1
    spikes[:4, 0, 2] = 1
    # silent: 1, fine: 0, 200 Hz: (200 / 100 - 1)^2 = 1
    assert task.rate_penalty(spikes).item() == pytest.approx(2 / 3)


def test_silent_units_are_woken_by_the_penalty_alone():
    torch.manual_seed(0)
    model = SpikingClassifier(hidden=12, steps=16)
    with torch.no_grad():
        model.w_in.weight.mul_(0.3)
    task = SpikingDigitsTask(model=model, batch_size=16)
    shown = task.learned.images[:64]
    before = model.respond(shown).hidden.mean((0, 1))
    descend = torch.optim.Adam([model.w_in.weight], 0.05)
    for _ in range(40):
        descend.zero_grad()
        task.rate_penalty(model.respond(shown).hidden).backward()
        descend.step()
    after = model.respond(shown).hidden.mean((0, 1))
    assert (before == 0).sum() >= 3
    assert (after > 0).all()


def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    whole = learn(tmp_path / "whole", 12, "model.encoding=poisson")

    class StopError(Exception):
        pass

    update, count = SpikingDigitsTask.update, [0]

    def stopping(self, step):
        count[0] += 1
        if count[0] == 8:
            raise StopError
        return update(self, step)

    monkeypatch.setattr(SpikingDigitsTask, "update", stopping)
    with pytest.raises(StopError):
        learn(tmp_path / "cut", 12, "model.encoding=poisson")
    monkeypatch.setattr(SpikingDigitsTask, "update", update)
    resumed = learn(tmp_path / "cut", 12, "model.encoding=poisson", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    logs = [read_log(tmp_path / run / "log.jsonl") for run in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_the_command_line_tells_the_held_out_accuracy(tmp_path, capsys):
    changes = ("training.updates=2", "training.snapshots=[]", "training.loggers=[local]")
    train("spiking-digits", overrides=(*SMALL, *changes), run=tmp_path / "run")
    seen = read_log(tmp_path / "run" / "log.jsonl")[-1]["held_out_accuracy"]
    assert f"Held-out accuracy: {seen:.1%}." in capsys.readouterr().out


def test_confusions_are_drawn():
    picture = build().images()["confusions"]
    assert picture.shape == (1, 160, 160)
    assert 0 <= picture.min() <= picture.max() <= 1
    assert picture[0, ::16, ::16].sum(1).allclose(torch.ones(10).double())


def test_a_metamer_of_its_logits_comes_closer():
    probed = build("model.hidden=48", "model.steps=30").probed()
    assert (probed.channels, probed.size) == (1, (8, 8))
    model = probed.model.eval().requires_grad_(False)
    target = digits().images[1500][None]
    start = torch.full_like(target, 0.5)
    metamer = Metamer(target, model, start).synthesize(40).metamer
    before, after = ((model(x) - model(target)).square().mean().item() for x in (start, metamer))
    assert after < 0.5 * before


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
def test_jitter_without_limits_leaves_pictures_alone(size):
    shown = torch.rand(3, 1, *size, dtype=torch.float64)
    same = jittered(
        shown, torch.Generator().manual_seed(0), rotation_deg=0, shear=0, stretch=0, shift_px=0
    )
    assert torch.allclose(same, shown, atol=1e-12)


def test_jitter_moves_no_further_than_it_says():
    shown = torch.zeros(200, 1, 15, 17, dtype=torch.float64)
    shown[..., 7, 8] = 1
    moved = jittered(
        shown, torch.Generator().manual_seed(0), rotation_deg=0, shear=0, stretch=0, shift_px=2.0
    )
    rows, columns = torch.arange(15) - 7.0, torch.arange(17) - 8.0
    assert torch.allclose(moved.sum((1, 2, 3)), torch.ones(200).double(), atol=1e-9)
    for axis, places in ((3, rows), (2, columns)):
        shift = (moved.sum((1, axis)) * places).sum(1)
        assert shift.abs().max() <= 2
        assert shift.std() == pytest.approx(2 / math.sqrt(3), rel=0.15)


def test_turning_keeps_ink():
    shown = torch.zeros(50, 1, 21, 21, dtype=torch.float64)
    shown[..., 10, 4:17] = 1
    turned = jittered(
        shown, torch.Generator().manual_seed(0), rotation_deg=90, shear=0, stretch=0, shift_px=0
    )
    assert torch.allclose(turned.sum((1, 2, 3)), torch.full((50,), 13.0).double(), rtol=0.2)
    assert (turned[..., 4:17, 10].sum((1, 2)) > 8).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.size=[7, 8]", "8 x 8 px"),
        ("model.classes=9", "10 classes"),
        ("batch_size=0", "batch_size >= 1"),
        ("evaluate_every=0", "evaluate_every >= 1"),
        ("rate_weight=-1", "rate_weight"),
        ("lowest_rate_hz=80", "lowest_rate_hz < highest_rate_hz"),
        ("stretch=1.0", "stretch in"),
        ("shift_px=-0.1", "shift_px"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        build(change)
