from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from calcarine.errors import CalcarineWarning, InputError, MissingDependencyError
from calcarine.training import Logger, read_log
from calcarine.training.loggers import LocalLogger, Loggers, TensorBoardLogger


def points(folder) -> dict[str, list[tuple[int, float]]]:
    """Read TensorBoard's event files back."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_holds_what_the_log_holds_also_after_a_resume(toy, train, tmp_path):
    both = {"loggers": ("local", "tensorboard")}
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=38), **both)
    # Files of one second are read in the order of their names, the tenth before the ninth.
    time.sleep(1 - time.time() % 1)
    train(resume=True, **both)
    held = points(tmp_path / "run/tensorboard")
    lines = read_log(tmp_path / "run/log.jsonl")
    for name in ("loss/net", "learning_rate", "skipped"):
        assert [step for step, _ in held[name]] == [line["update"] for line in lines]
        assert [v for _, v in held[name]] == pytest.approx([line[name] for line in lines], rel=1e-6)


def test_the_local_log_drops_lines_after_the_checkpoint_and_a_torn_one(tmp_path):
    logger = LocalLogger(tmp_path)
    for update in (10, 20, 30):
        logger.log(update, {"loss": 1 / update})
    logger.close()
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"update": 40, "lo')
    assert [line["update"] for line in read_log(path)] == [10, 20, 30]
    logger = LocalLogger(tmp_path, update=20)
    logger.log(30, {"loss": 1 / 30})
    logger.flush()
    assert path.read_bytes() == whole
    logger.close()


def test_pictures_become_png_files(tmp_path):
    logger = LocalLogger(tmp_path)
    color = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    logger.image("percept", 7, color)
    logger.image("grey", 7, torch.tensor([[[0.0, 0.5, 2.0]]]))
    logger.close()
    seen = np.asarray(Image.open(tmp_path / "images/percept/00000007.png"))
    np.testing.assert_allclose(seen.transpose(2, 0, 1) / 255, color, atol=0.5 / 255 + 1e-6)
    assert np.asarray(Image.open(tmp_path / "images/grey/00000007.png")).tolist() == [[0, 128, 255]]
    with pytest.raises(InputError, match=r"\(channel, height, width\).*shape \(4, 5\)"):
        logger.image("odd", 7, color[0])


def test_tensorboard_takes_pictures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    logger.image("percept", 7, torch.rand(3, 4, 5))
    logger.flush()
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (event,) = events.Images("percept")
    assert (event.step, event.height, event.width) == (7, 4, 5)


class Failing(Logger):
    def __init__(self) -> None:
        self.calls = 0

    def log(self, update: int, scalars: Any) -> None:
        self.calls += 1
        raise ConnectionError("the tracker is down")

    def close(self) -> None:
        raise AssertionError("a dropped logger is not used again")


def test_a_failing_logger_is_dropped_and_the_others_go_on(tmp_path):
    failing, local = Failing(), LocalLogger(tmp_path)
    loggers = Loggers({"cloud": failing, "local": local})
    with pytest.warns(
        CalcarineWarning, match=r"'cloud' failed and is switched off.*tracker is down"
    ):
        loggers.log(1, {"loss": 1.0})
    loggers.log(2, {"loss": 0.5})
    loggers.close()
    assert failing.calls == 1
    assert loggers.names == ("local",)
    assert [line["update"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]


def test_training_survives_a_failing_logger(train, tmp_path, monkeypatch):
    monkeypatch.setattr(TensorBoardLogger, "log", Failing.log)
    monkeypatch.setattr(TensorBoardLogger, "calls", 0, raising=False)
    with pytest.warns(CalcarineWarning, match="'tensorboard' failed"):
        result = train(loggers=("local", "tensorboard"))
    assert result.status == "finished"
    assert len(read_log(tmp_path / "run/log.jsonl")) == 10


def test_without_tensorboard_the_default_warns_and_a_choice_is_an_error(train, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.warns(CalcarineWarning, match=r"calcarine\[train\].*log.jsonl only"):
        assert train(loggers=("local", "tensorboard")).status == "finished"
    with pytest.raises(MissingDependencyError, match="TensorBoard logger needs"):
        train("other", loggers=("tensorboard",))


class Recorded:
    """Stands for a tracker's run; notes every call."""

    def __init__(self, calls: list) -> None:
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


@pytest.fixture
def comet(monkeypatch):
    calls: list = []
    module = SimpleNamespace(
        calls=calls,
        key=None,
        get_config=lambda name: module.key if name == "comet.api_key" else None,
        ExperimentConfig=lambda **settings: settings,
        start=lambda **settings: calls.append(("start", (), settings)) or Recorded(calls),
    )
    monkeypatch.setitem(sys.modules, "comet_ml", module)
    return module


@pytest.fixture
def wandb(monkeypatch):
    calls: list = []
    module = SimpleNamespace(
        calls=calls,
        Image=lambda pixels: ("image", pixels.shape),
        init=lambda **settings: calls.append(("init", (), settings)) or Recorded(calls),
    )
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return module


def test_comet_gets_recipe_scalars_and_pictures_and_one_experiment_per_run(
    toy, train, comet, tmp_path
):
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=38), loggers=("local", "comet"))
    name, _, start = comet.calls[0]
    assert name == "start"
    assert (start["online"], start["mode"]) == (False, "create")
    assert start["experiment_config"]["offline_directory"] == str(tmp_path / "run/comet")
    assert comet.calls[1] == ("log_parameters", (toy.RECIPE,), {})
    metrics = [(a[0], k["step"]) for n, a, k in comet.calls if n == "log_metrics"]
    assert [step for _, step in metrics] == [1, 7, 14, 21, 28, 35]
    assert {"loss/net", "learning_rate"} <= set(metrics[0][0])
    images = [(a[0].shape, k) for n, a, k in comet.calls if n == "log_image"]
    assert images[0] == ((3, 4, 1), {"name": "weights", "step": 0})
    assert comet.calls[-1] == ("end", (), {})
    comet.calls.clear()
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=48), resume=True, loggers=("local", "comet"))
    assert comet.calls[0][2]["mode"] == "get"  # "create" would replace the first part
    comet.calls.clear()
    comet.key = "secret"
    train(resume=True, loggers=("local", "comet"))
    again = comet.calls[0][2]
    assert again["experiment_key"] == start["experiment_key"]
    assert (again["online"], again["mode"]) == (True, "get_or_create")


def test_wandb_gets_recipe_scalars_and_pictures_and_one_run(
    toy, train, wandb, tmp_path, monkeypatch
):
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=38), loggers=("local", "wandb"))
    init = wandb.calls[0][2]
    assert (init["mode"], init["resume"], init["config"]) == ("offline", "allow", toy.RECIPE)
    assert init["dir"] == str(tmp_path / "run")
    steps = [k["step"] for n, a, k in wandb.calls if n == "log" and "loss/net" in a[0]]
    assert steps == [1, 7, 14, 21, 28, 35]
    assert ("log", ({"weights": ("image", (3, 4, 1))},), {"step": 0}) in wandb.calls
    assert wandb.calls[-1] == ("finish", (), {})
    wandb.calls.clear()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    train(resume=True, loggers=("local", "wandb"))
    again = wandb.calls[0][2]
    assert (again["id"], again["mode"]) == (init["id"], None)


@pytest.mark.parametrize(("name", "module"), [("comet", "comet_ml"), ("wandb", "wandb")])
def test_a_chosen_tracker_that_is_not_installed_is_an_error(train, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'calcarine\[loggers\]'"):
        train(loggers=("local", name))
