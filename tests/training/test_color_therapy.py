"""Starting from a finished run: what is taken over, what is refused, what stays with the run."""

from __future__ import annotations

import shutil

import pytest
import torch

from calcarine import recipe
from calcarine.errors import CheckpointError, InputError, RecipeError
from calcarine.retina import cone_mosaic
from calcarine.training import fit, open_run
from calcarine.training.color_therapy import added_pigment

TINY = (
    "stimuli.names=[astronaut]", "stimuli.size=20", "stimuli.scales=[0.25]", "retina.size=16",
    "retina.max_shift_px=2", "cortex.size=16", "cortex.widths=[4, 8]", "batch_size=2",
    "training.updates=3", "training.warmup_updates=0", "training.snapshots=[0, 2]",
    "training.loggers=[local]", "training.schedule=constant",
)  # fmt: skip


def train(folder, *changes, name="color-sandbox", resume=False):
    chosen = recipe.load(name, [*TINY, *changes])
    return fit(
        chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(), seed=chosen.seed,
        progress=False, resume=resume,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dichromat(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "color-ms"
    train(folder, "retina.mosaic=MS")
    return folder


def cortex(folder, update):
    return open_run(folder, update).task.cortex.state_dict()


@pytest.mark.parametrize(("update", "age"), [("null", 3), (2, 2)])
def test_the_cortex_goes_on_and_the_scopes_begin_anew(dichromat, tmp_path, update, age):
    folder = tmp_path / "therapy"
    train(folder, f"start.run={dichromat}", f"start.update={update}", name="color-therapy")
    before, now, later = cortex(dichromat, age), cortex(folder, 0), cortex(folder, 3)
    assert all(torch.equal(before[name], now[name]) for name in before)
    assert not all(torch.equal(before[name], later[name]) for name in before)
    begun = open_run(folder, 0).task
    assert begun.percept_scope.readout.weight.abs().max() == 0
    assert open_run(dichromat).task.percept_scope.readout.weight.abs().max() > 0
    old, new = open_run(dichromat).task.retina.mosaic, begun.retina.mosaic
    name, gain = added_pigment(old, new)
    assert name == "L"
    assert 0.3 < (gain > 0).double().mean() < 0.5  # half of the M cells
    assert torch.equal(old[2], new[2])


def test_a_fourth_pigment(tmp_path):
    trichromat, folder = tmp_path / "color-lms", tmp_path / "boost"
    train(trichromat)
    peaks = "retina.peaks_nm=[560, 530, 419, 545]"
    train(folder, f"start.run={trichromat}", "retina.mosaic=LMS+Q_replace_L", peaks)
    before, now = cortex(trichromat, 3), cortex(folder, 0)
    assert all(torch.equal(before[name], now[name]) for name in before)
    assert open_run(folder).task.mosaic_scope.readout.out_channels == 4
    # A therapy can start from a therapy.
    again = tmp_path / "again"
    train(again, f"start.run={folder}", "retina.mosaic=LMS+Q_replace_L", peaks)
    assert cortex(again, 0).keys() == before.keys()


def test_a_run_needs_the_one_it_started_from_no_more(dichromat, tmp_path):
    start, folder, whole = tmp_path / "start", tmp_path / "therapy", tmp_path / "whole"
    shutil.copytree(dichromat, start)
    changes = (f"start.run={start}",)
    train(whole, *changes, name="color-therapy")
    train(folder, *changes, "training.updates=2", name="color-therapy")
    shutil.rmtree(start)
    assert open_run(folder).update == 2
    result = train(folder, *changes, name="color-therapy", resume=True)
    assert (result.status, result.updates) == ("finished", 3)
    ended, expected = cortex(folder, 3), cortex(whole, 3)
    assert all(torch.equal(ended[name], expected[name]) for name in ended)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("start.run=nowhere", "is not the folder of a run"),
        ("start.update=1", "has no weights of update 1. It has those of updates 0, 2"),
        ("cortex.widths=[4, 4]", r"widths is \(4, 4\) here and \(4, 8\) there"),
        ("cortex.plasticity=2", "plasticity is 2.0 here and 5.0 there"),
        ("retina.sampling=fovea", "another size, sampling"),
        ("retina.inhibition=true", "another lateral inhibition"),
        ("retina.seed=1", "This is another eye: .* L, M, S have all become more"),
        ("retina.peaks_nm=[560, 545, 419]", "a pigment at 530 nm, which this one has at 545"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    dichromat, tmp_path, change, message
):
    folder = tmp_path / "therapy"
    changes = ["training.updates=1", "training.snapshots=[0]", f"start.run={dichromat}", change]
    if "fovea" in change:
        changes.append("stimuli.size=40")
    with pytest.raises(CheckpointError, match=message):
        train(folder, *changes, name="color-therapy")
    assert [path.name for path in folder.iterdir()] == []


def test_another_size_and_another_recipe_are_refused(dichromat, tmp_path):
    bigger = ("retina.size=18", "cortex.size=18", "stimuli.size=22")
    with pytest.raises(CheckpointError, match="size is 18 here and 16 there"):
        train(tmp_path / "a", f"start.run={dichromat}", *bigger, name="color-therapy")
    other = tmp_path / "digits"
    other.mkdir()
    recipe.load("gcal-natural").save(other / "recipe.yaml")
    with pytest.raises(CheckpointError, match=r"start from .*digits"):
        train(tmp_path / "b", f"start.run={other}", name="color-therapy")


def test_a_recipe_says_where_to_start():
    with pytest.raises(RecipeError, match=r"start.rum: unknown key. Did you mean 'run'"):
        recipe.load("color-therapy", ["start.rum=x"])
    with pytest.raises(RecipeError, match=r"start.update: .*greater than or equal to 0"):
        recipe.load("color-therapy", ["start.update=-1"])
    assert recipe.load("color-sandbox").config.start is None


def test_added_pigments():
    before = cone_mosaic("LMS", 20)
    assert added_pigment(before, before)[0] == ""
    name, gain = added_pigment(before, cone_mosaic("LMS+Q_coexpress_LM", 20))
    assert name == "Q"
    assert set(gain.unique().tolist()) == {0.0, 0.5}
    with pytest.raises(InputError, match="keeps its cells"):
        added_pigment(before, cone_mosaic("LMS", 18))
    with pytest.raises(InputError, match="keeps its cells, and pigments can only be added"):
        added_pigment(cone_mosaic("LMSQ", 20), before)
