"""The colour-vision task looks at every kind of scene, and old recipes mean what they meant."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from calcarine import recipe
from calcarine.errors import InputError, RecipeError
from calcarine.stimuli import ImagePatches, RgbSpectra, SpectralLeaves
from calcarine.training import fit, open_run

SMALL = [
    "retina.size=16",
    "cortex.size=16",
    "retina.max_shift_px=3",
    "cortex.widths=[4, 8]",
    "batch_size=3",
    "precision=fp32",
    "illuminant_spread=0",
    "training.loggers=[local]",
]
LEAVES = "stimuli={type: spectral_leaves, size: 22, tori: 1}"
PHOTOGRAPHS = "stimuli={type: rgb_spectra, size: 22, names: [astronaut]}"


@pytest.mark.parametrize(("stimuli", "kind"), [(LEAVES, SpectralLeaves), (PHOTOGRAPHS, RgbSpectra)])
@pytest.mark.parametrize(
    ("mosaic", "peaks"), [("LMS", (560, 530, 419)), ("LMSQ", (560, 530, 419, 545))]
)
def test_spectral_scenes_teach_every_eye(stimuli, kind, mosaic, peaks):
    overrides = [*SMALL, stimuli, f"retina.mosaic={mosaic}", f"retina.peaks_nm={list(peaks)}"]
    task = recipe.load("color-sandbox", overrides).build_task()
    assert isinstance(task.stimuli, kind)
    linear, cones = task.draw(torch.Generator().manual_seed(0))
    assert linear.shape == (3, 3, 22, 22)
    assert cones.shape == (3, len(peaks), 22, 22)
    losses = task.losses(torch.Generator().manual_seed(0))
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())


def test_hyperspectral_files_are_prepared_when_the_task_is_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CALCARINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    with h5py.File(tmp_path / "files" / "a.mat", "w", userblock_size=512) as file:
        file["cube"] = np.random.default_rng(0).random((31, 30, 24), dtype=np.float32)
        file["bands"] = np.arange(400.0, 701.0, 10.0)
    stimuli = f"stimuli={{type: hyperspectral_scenes, source: {tmp_path / 'files'}, size: 22}}"
    task = recipe.load("color-sandbox", [*SMALL, stimuli]).build_task()
    assert "file 1/1" in capsys.readouterr().err
    monkeypatch.setattr(task.stimuli, "prepare", None)
    linear, cones = task.draw(torch.Generator().manual_seed(0))
    assert linear.shape == cones.shape == (3, 3, 22, 22)
    assert task.losses(torch.Generator().manual_seed(0))["cortex"].isfinite()


def test_a_run_on_leaves_can_be_opened_again(tmp_path):
    made = recipe.load("color-sandbox", [*SMALL, LEAVES, "training.updates=3"])
    fit(made.build_task(), made.training, tmp_path, recipe=made.to_dict(), seed=0, progress=False)
    again = open_run(tmp_path)
    assert isinstance(again.task.stimuli, SpectralLeaves)


def test_recipes_without_a_type_mean_photographs():
    written = recipe.load("color-sandbox", [*SMALL, "stimuli={size: 22, names: [astronaut]}"])
    assert written.to_dict()["stimuli"]["type"] == "image_patches"
    task = written.build_task()
    assert isinstance(task.stimuli, ImagePatches)
    images = task.stimuli.draw(3, torch.Generator().manual_seed(4))
    linear, _ = task.draw(torch.Generator().manual_seed(4))
    assert torch.equal(linear, task.space.srgb_to_linear(images))
    data = {k: v for k, v in written.to_dict().items() if k != "stimuli"}
    data["retina"] = {**data["retina"], "max_shift_px": 5}
    assert recipe.load(data).config.stimuli.type == "image_patches"


def test_wrong_keys_are_explained_for_the_type_that_was_meant():
    with pytest.raises(RecipeError, match=r"sise: unknown key\. Did you mean 'size'.*split"):
        recipe.load("color-sandbox", ["stimuli.sise=3"])
    with pytest.raises(RecipeError, match=r"film: unknown key\. Did you mean 'films'"):
        recipe.load("color-sandbox", ["stimuli={type: spectral_leaves, film: 1}"])
    with pytest.raises(RecipeError, match="'hyperspectral_scenes', 'rgb_spectra'"):
        recipe.load("color-sandbox", ["stimuli={type: leaves}"])


def test_coloured_lamps_are_for_photographs_only():
    overrides = [*SMALL, LEAVES, "illuminant_spread=1"]
    with pytest.raises(InputError, match="SpectralLeaves bring light of their own"):
        recipe.load("color-sandbox", overrides).build_task()


def test_scenes_too_small_for_the_eye_are_refused():
    overrides = [*SMALL, "stimuli={type: spectral_leaves, size: 21, tori: 1}"]
    with pytest.raises(InputError, match=r"stimuli\.size=22"):
        recipe.load("color-sandbox", overrides).build_task()
