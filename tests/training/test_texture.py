from __future__ import annotations

import pytest
import torch

from calcarine import recipe
from calcarine.errors import FileFormatError, InputError
from calcarine.models import PortillaSimoncelli, RelativeTexture
from calcarine.training import TrainingSettings, fit
from calcarine.training.texture import TextureTask

SMALL = {
    "task": "texture_task",
    "name": "small",
    "texture": {
        "image_shape": [48, 40],
        "n_scales": 2,
        "n_orientations": 2,
        "spatial_corr_width": 3,
    },
}


def learn(folder, updates, *, resume=False):
    settings = TrainingSettings(
        updates=updates, checkpoint_every=5, snapshots=(), loggers=("local",), log_every=5
    )
    chosen = recipe.load(SMALL)
    task = chosen.build_task()
    result = fit(task, settings, folder, recipe={}, seed=0, resume=resume, progress=False)
    return task, result


def test_noise_takes_on_the_statistics_of_the_picture(tmp_path):
    before = recipe.load(SMALL).build_task().canvas.pixels.clone()
    task, result = learn(tmp_path / "run", 60)
    again = TextureTask(PortillaSimoncelli((48, 40), 2, 2, 3))
    with torch.no_grad():
        wanted = task.texture(task.target)
        start, end = ((task.texture(x) - wanted).square().mean() for x in (before, _image(task)))
    assert end < 1e-2 * start
    relative = RelativeTexture(task.texture, task.target)
    with torch.no_grad():
        loss = (relative(_image(task)) - relative(task.target)).square().mean()
    assert result.losses["representation"] == pytest.approx(loss.item(), rel=1e-3)
    assert (_image(task) - task.target).std() > 0.02
    assert torch.equal(again.target, task.target)


def _image(task):
    return task.canvas.pixels


def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, monkeypatch):
    whole, _ = learn(tmp_path / "whole", 20)

    class StopError(Exception):
        pass

    update, count = TextureTask.update, [0]

    def stopping(self, step):
        count[0] += 1
        if count[0] == 13:
            raise StopError
        return update(self, step)

    monkeypatch.setattr(TextureTask, "update", stopping)
    with pytest.raises(StopError):
        learn(tmp_path / "cut", 20)
    monkeypatch.setattr(TextureTask, "update", update)
    resumed, result = learn(tmp_path / "cut", 20, resume=True)
    assert result.updates == 20
    assert torch.equal(_image(resumed), _image(whole))


def test_pictures_are_cut_to_the_shape_without_stretching():
    task = TextureTask(PortillaSimoncelli((48, 96), 2, 2, 3), "coffee")
    assert task.target.shape == (1, 1, 48, 96)
    assert task.images()["synthesis and picture"].shape == (1, 48, 192)


def test_bad_settings_are_refused(tmp_path):
    texture = PortillaSimoncelli((48, 40), 2, 2, 3)
    with pytest.raises(InputError, match="initial_std > 0"):
        TextureTask(texture, initial_std=0)
    with pytest.raises(FileFormatError, match=r"missing\.png"):
        TextureTask(texture, str(tmp_path / "missing.png"))


def test_the_recipe_that_comes_with_calcarine_can_be_built():
    task = recipe.load("texture-synthesis", ["texture.image_shape=[150, 160]"]).build_task()
    assert task.canvas.pixels.shape == (1, 1, 150, 160)
