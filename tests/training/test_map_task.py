"""Maps as training runs: they organise, resume bit for bit, and follow their schedule."""

from __future__ import annotations

import copy

import pytest
import torch

from calcarine import recipe
from calcarine.errors import CheckpointError, InputError
from calcarine.models.miikkulainen2005 import BOOK_SCHEDULE, book_settings
from calcarine.probes import orientation_map
from calcarine.stimuli import OrientedGaussians
from calcarine.training import TrainingSettings, fit, load_weights, open_run
from calcarine.training.map_task import MapTask, MapView
from calcarine.training.task import Step

GCAL = {
    "task": "map_task",
    "name": "small",
    "stimuli": {"type": "oriented_gaussians"},
    "model": {"type": "gcal", "cortex_density": 12, "lgn_density": 8, "settling": 4},
}
LISSOM = {
    "task": "map_task",
    "name": "small-lissom",
    "stimuli": {"type": "oriented_gaussians", "per_image": 2, "density": 12, "half_side": 0.5},
    "model": {
        "type": "lissom", "retina_shape": [12, 12], "lgn_shape": [12, 12],
        "cortex_shape": [14, 14], "excitatory_radius": 2.2, "settling": 3,
        "thresholds": [0.01, 0.1],
    },
    "least_excitation": 0.0,
    "schedule": {
        5: {"excitatory_radius": 0.09, "afferent_rate": 0.5},
        10: {"lower": 0.02, "upper": 0.12, "settling": 4, "prune": 1e-4},
    },
}  # fmt: skip


def learn(data, folder, updates, *, task=None, resume=False):
    chosen = recipe.load(data)
    settings = TrainingSettings(
        updates=updates, checkpoint_every=6, snapshots=(0, 4), loggers=("local",), log_every=5
    )
    task = chosen.build_task() if task is None else task
    fit(task, settings, folder, recipe={}, seed=1, resume=resume, progress=False)
    return task


def states(task):
    return task.model.state_dict()


@pytest.mark.parametrize("data", [GCAL, LISSOM], ids=["gcal", "lissom"])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(data, tmp_path, monkeypatch, same_run):
    begun = states(recipe.load(data).build_task())
    whole = states(learn(data, tmp_path / "whole", 20))

    class StopError(Exception):
        pass

    update, count = MapTask.update, [0]

    def stopping(self, step):
        count[0] += 1
        if count[0] == 14:
            raise StopError
        return update(self, step)

    monkeypatch.setattr(MapTask, "update", stopping)
    with pytest.raises(StopError):
        learn(data, tmp_path / "cut", 20)
    monkeypatch.setattr(MapTask, "update", update)
    resumed = states(learn(data, tmp_path / "cut", 20, resume=True))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not torch.equal(begun["v1.afferents.0.weight"], whole["v1.afferents.0.weight"])
    same_run(tmp_path / "whole", tmp_path / "cut")


def test_blobs_of_light_make_a_map():
    task = recipe.load(GCAL, ["model.cortex_density=24", "model.lgn_density=12"]).build_task()
    found = []
    draw = torch.Generator().manual_seed(3)
    for count in range(501):
        if count in (0, 500):
            found.append(orientation_map(MapView(task.model, settled=False), task.stimuli.sheet))
        scalars = task.update(Step(count, draw, torch.device("cpu"), 1.0, dict))
    assert scalars.keys() == {"activity", "active", "threshold"}
    assert found[1].selectivity.mean() > 2 * found[0].selectivity.mean()
    assert found[1].smoothness() > found[0].smoothness() + 0.3


def test_the_rate_of_the_driver_plays_no_part():
    tasks = [recipe.load(GCAL).build_task() for _ in range(2)]
    for task, rate in zip(tasks, (1e-3, 1.0), strict=True):
        task.update(Step(0, torch.Generator().manual_seed(0), torch.device("cpu"), rate, dict))
    assert torch.equal(tasks[0].model.v1.afferents[0].weight, tasks[1].model.v1.afferents[0].weight)


@pytest.mark.parametrize(("stretch", "batch", "due"), [(1.0, 1, 5), (2.0, 1, 10), (1.0, 2, 3)])
def test_a_schedule_takes_effect_when_it_is_due(stretch, batch, due):
    task = recipe.load({**LISSOM, "stretch": stretch, "batch_size": batch}).build_task()
    draw = torch.Generator().manual_seed(0)
    radii = []
    for done in range(due + 1):
        task.update(Step(done, draw, torch.device("cpu"), 1.0, dict))
        radii.append(task.model.v1.lateral.excitatory.current_radius)
    assert radii == [2.2] * due + [pytest.approx(0.09 * 14)]
    assert task.model.v1.afferent_rate == 0.5


@pytest.mark.parametrize(("least", "radius"), [(0.0, 0.7), (1.5, 1.5), (9.0, 2.2)])
def test_excitation_never_shrinks_below_the_nearest_neighbours(least, radius):
    shrinking = {0: {"excitatory_radius": 0.05}}
    task = recipe.load({**LISSOM, "schedule": shrinking, "least_excitation": least}).build_task()
    task.update(Step(0, torch.Generator(), torch.device("cpu"), 1.0, dict))
    assert task.model.v1.lateral.excitatory.current_radius == pytest.approx(radius)


def test_snapshots_from_before_and_after_a_shrink_can_both_be_opened(tmp_path):
    chosen = recipe.load(LISSOM, ["training.updates=8", "training.snapshots=[0, 8]"])
    folder = tmp_path / "run"
    fit(
        chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(), seed=0,
        progress=False,
    )  # fmt: skip
    sizes = [open_run(folder, age).task.model.v1.lateral.excitatory.count for age in (0, 8)]
    assert sizes[0] > sizes[1]


def test_weights_of_another_sheet_are_still_refused_and_nothing_is_changed(tmp_path):
    learn(LISSOM, tmp_path / "run", 4)
    other = copy.deepcopy(LISSOM)
    other["model"]["cortex_shape"] = [13, 14]
    task = recipe.load(other).build_task()
    before = {name: value.clone() for name, value in states(task).items()}
    with pytest.raises(CheckpointError, match=r"model\.v1.*in the file"):
        load_weights(tmp_path / "run", task.modules(), 4)
    assert all(torch.equal(before[name], value) for name, value in states(task).items())


def test_the_recipes_seed_decides_the_weights():
    one, same, other = (recipe.load({**GCAL, "seed": s}).build_task() for s in (0, 0, 1))
    weights = [task.model.v1.afferents[0].weight for task in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("data", [GCAL, LISSOM], ids=["gcal", "lissom"])
def test_probes_and_pictures_see_the_sheet(data):
    task = recipe.load(data).build_task()
    probed = task.probed()
    image = task.stimuli.draw(2, torch.Generator().manual_seed(0))
    assert image.shape[-2:] == probed.size
    response = probed.model(image)
    assert response.shape == (2, 1, *task.model.cortex_shape)
    assert torch.equal(response[:, 0], task.model(image))
    before, random = copy.deepcopy(states(task)), torch.get_rng_state()
    (picture,) = task.images().values()
    assert picture.shape[0] == 3
    assert 0 <= picture.min() < picture.max() <= 1
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in states(task).items())


@pytest.mark.parametrize(
    "area", [[1.0, 1.0], [1.5, 1.5], [0.7, 1.2]], ids=["square", "paper", "rectangle"]
)
def test_stimuli_follow_the_size_of_the_model(area):
    task = recipe.load(GCAL, [f"model.area={area}"]).build_task()
    assert task.stimuli.size == task.model.retina_shape
    assert task.stimuli.density == 8
    assert task.stimuli.cortex_half_side == pytest.approx((area[0] / 2, area[1] / 2))
    again = recipe.load(recipe.load(GCAL, [f"model.area={area}"]).to_dict()).build_task()
    assert again.stimuli.size == task.stimuli.size


def test_a_geometry_that_was_given_is_kept_or_refused():
    given = OrientedGaussians(density=8, half_side=1.646, cortex_half_side=0.4)
    model = recipe.load(GCAL).build_task().model
    assert MapTask(stimuli=given, model=model).stimuli.cortex_half_side == (0.4, 0.4)
    with pytest.raises(InputError, match=r"retina has 26 x 26 px.*set stimuli\.density"):
        MapTask(stimuli=OrientedGaussians(density=8, half_side=1.0), model=model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"stretch": 0.0}, "stretch > 0"),
        ({"least_excitation": -1.0}, "least_excitation >= 0"),
        ({"schedule": {-1: {}}}, "at least 0"),
        ({"stretch": 0.01}, "differ"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        recipe.load({**LISSOM, **change}).build_task()


def test_gcal_takes_no_schedule_and_lissom_knows_its_entries():
    with pytest.raises(InputError, match="no schedule for Gcal"):
        recipe.load({**GCAL, "schedule": {1: {"settling": 3}}}).build_task()
    for entry, message in (
        ({"excitatory_raduis": 0.1}, "excitatory_radius"),
        ({"excitatory_radius": 0.5}, r"age 3: shrink_ expected"),
    ):
        with pytest.raises(InputError, match=message):
            recipe.load({**LISSOM, "schedule": {3: entry}}).build_task()


@pytest.mark.parametrize(
    "name", ["gcal-orientation", "gcal-natural", "lissom-orientation", "lissom-faces"]
)
def test_the_recipes_that_come_with_calcarine_learn(name):
    chosen = recipe.load(name)
    task = chosen.build_task()
    scalars = task.update(Step(0, torch.Generator(), torch.device("cpu"), 1.0, dict))
    assert scalars["activity"] > 0
    assert recipe.load(chosen.to_dict()).to_dict() == chosen.to_dict()


def test_lissom_recipes_hold_the_values_of_the_book():
    for name in ("lissom-orientation", "lissom-faces"):
        chosen = recipe.load(name)
        assert chosen.build_task().schedule == BOOK_SCHEDULE
        for key, value in book_settings().items():
            assert getattr(chosen.config.model, key) == pytest.approx(value, rel=1e-5), key
