"""Every eye that the recipes of the colour cortex speak of is built, and makes two updates."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine import recipe
from calcarine.training import fit, open_run
from calcarine.training.color_therapy import added_pigment

SPECTRAL = ("stimuli={type: spectral_leaves, size: 22, tori: 2}", "illuminant_spread=0")
TETRA = ("retina.mosaic=LMSQ", *SPECTRAL)
EYES = {
    "L": ("retina.mosaic=L",),
    "M": ("retina.mosaic=M",),
    "S": ("retina.mosaic=S",),
    "LM": ("retina.mosaic=LM",),
    "LS": ("retina.mosaic=LS",),
    "MS": ("retina.mosaic=MS",),
    "LMS": (),
    "anomalous": ("retina.peaks_nm=[560, 550, 419]",),
    "human tetrachromat": ("retina.peaks_nm=[560, 530, 419, 545]", *TETRA),
    "tetrachromat like pigeons": ("retina.peaks_nm=[560, 530, 419, 506]", *TETRA),
}
SANDBOX = (
    "retina.size=16", "cortex.size=16", "stimuli.size=22", "retina.max_shift_px=3",
    "cortex.widths=[4, 8]", "batch_size=2", "training.loggers=[local]", "training.updates=2",
    "training.snapshots=[0, 2]",
)  # fmt: skip
FULL = (
    "retina.size=16", "cortex.size=16", "stimuli.tori=2", "retina.max_shift_px=3", "batch_size=2",
    "cortex.widths=[4, 8]", "training.loggers=[local]", "training.updates=2",
    "training.snapshots=[0, 2]",
)  # fmt: skip


def two_updates(name, folder, *changes):
    made = recipe.load(name, changes)
    task = made.build_task()
    result = fit(task, made.training, folder, recipe=made.to_dict(), seed=0, progress=False)
    assert result.updates == 2
    assert result.skipped == 0
    assert all(math.isfinite(loss) and loss > 0 for loss in result.losses.values())
    return task


def pigments(task):
    return (task.retina.mosaic.flatten(1).sum(dim=1) > 0).tolist()


@pytest.mark.parametrize("eye", EYES)
def test_every_eye_of_the_sandbox(eye, tmp_path):
    sandbox = [c for c in SANDBOX if not (c.startswith("stimuli") and "tetra" in eye)]
    task = two_updates("color-sandbox", tmp_path, *sandbox, *EYES[eye])
    there = [letter for letter, has in zip("LMSQ", pigments(task), strict=False) if has]
    expected = {"anomalous": "LMS"}.get(eye, "LMSQ" if "tetra" in eye else eye)
    assert "".join(there) == expected
    if eye == "anomalous":
        assert task.space.peaks_nm[1] == 550


@pytest.mark.parametrize("eye", ["LMS", "human tetrachromat", "tetrachromat like pigeons"])
def test_eyes_for_scenes_with_spectra(eye, tmp_path):
    changes = [c for c in SANDBOX if not c.startswith("stimuli")]
    peaks = [c for c in EYES[eye] if c.startswith("retina.peaks_nm")]
    eye = peaks or ["retina.mosaic=LMS", "retina.peaks_nm=[560, 530, 419]"]
    scenes = ("stimuli.size=22", "stimuli.tori=2")
    task = two_updates("color-tetrachromat", tmp_path, *changes, *scenes, *eye)
    assert len(pigments(task)) == 3 + bool(peaks)


@pytest.mark.parametrize("name", ["color", "color-128"])
@pytest.mark.parametrize("eye", ["LM", "anomalous", "human tetrachromat"])
def test_eyes_of_the_full_cortex(name, eye, tmp_path):
    pytest.importorskip("zuko")
    changes = [c for c in EYES[eye] if not c.startswith(("stimuli", "illuminant"))]
    window = recipe.load(name, [*FULL, "stimuli.size=200"]).build_task().retina.window
    task = two_updates(name, tmp_path, *FULL, f"stimuli.size={window + 6}", *changes)
    assert sum(pigments(task)) == {"LM": 2, "anomalous": 3, "human tetrachromat": 4}[eye]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Finished runs to start from, by their mosaic."""
    folder = tmp_path_factory.mktemp("grown")
    for mosaic in ("MS", "LS", "LM"):
        two_updates("color-sandbox", folder / mosaic, *SANDBOX, f"retina.mosaic={mosaic}")
    sandbox = [c for c in SANDBOX if not c.startswith("stimuli")]
    two_updates("color-sandbox", folder / "LMS", *sandbox, *SPECTRAL)
    return folder


@pytest.mark.parametrize(
    "mosaic",
    ["MS+L_replace_M", "MS+L_coexpress_M", "MS+L_ratio_M", "LS+M_replace_L", "LM+S_replace_LM"],
)
def test_every_therapy(mosaic, grown, tmp_path):
    before = open_run(grown / mosaic[:2]).task.retina.mosaic
    changes = (*SANDBOX, f"start.run={grown / mosaic[:2]}", f"retina.mosaic={mosaic}")
    task = two_updates("color-therapy", tmp_path, *changes)
    added, gain = added_pigment(before, task.retina.mosaic)
    assert added == mosaic[3]
    share = (gain > 0).double().mean().item()
    assert 0.1 < share < 0.6
    shares = gain[gain > 0].unique()
    kind = {"replace": [1.0], "coexpress": [0.5]}.get(mosaic.split("_")[1])
    assert shares.tolist() == kind if kind else len(shares) > 10


@pytest.mark.parametrize("peak", [545, 506])
@pytest.mark.parametrize("how", ["replace", "coexpress", "ratio"])
def test_every_boost(how, peak, grown, tmp_path):
    sandbox = [c for c in SANDBOX if not c.startswith("stimuli")]
    changes = (
        f"start.run={grown / 'LMS'}", f"retina.mosaic=LMS+Q_{how}_L",
        f"retina.peaks_nm=[560, 530, 419, {peak}]", "stimuli.size=22", "stimuli.tori=2",
    )  # fmt: skip
    task = two_updates("color-boost", tmp_path, *sandbox, *changes)
    assert pigments(task) == [True] * 4
    origin = open_run(tmp_path)
    assert torch.equal(origin.task.retina.mosaic, task.retina.mosaic)
