"""The staged training of CordsNet: its phases, what each teaches, and that it stops and goes on."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch.nn import functional

from calcarine import recipe
from calcarine.errors import InputError, UnknownNameError
from calcarine.models import CordsNet
from calcarine.stimuli import DigitsData, save_image
from calcarine.training import TrainingSettings, fit, read_log
from calcarine.training.checkpoint import read_checkpoint
from calcarine.training.cordsnet_task import PHASES, CordsNetTask, annealed

SMALL = [
    "data.size=12", "model.image_size=12", "batch_size=48", "trial_batch_size=4",
    "warmup_ms=8", "stimulus_ms=10", "off_ms=6", "readout_steps=3", "settle_steps=2",
]  # fmt: skip


def build(*overrides: str) -> CordsNetTask:
    torch.manual_seed(0)
    return recipe.load("cordsnet-digits", [*SMALL, *overrides]).build_task()


def settings(updates: int = 2, phases=PHASES, **changes) -> TrainingSettings:
    listed = [
        {"name": name, "updates": updates, "optimiser": "sgd" if name == "twin" else "adamw"}
        for name in phases
    ]
    common = {
        "phases": listed, "learning_rate": 1e-3, "schedule": "constant", "warmup_updates": 0,
        "log_every": 1, "checkpoint_every": 1, "keep_checkpoints": 40, "snapshots": (),
        "loggers": ("local",), "clip_norm": 1.0,
    }  # fmt: skip
    return TrainingSettings(**{**common, **changes})


def learn(folder, task, chosen, *, resume=False):
    return fit(task, chosen, folder, recipe={}, seed=3, resume=resume, progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short run through all phases: its folder, with a checkpoint after every update."""
    folder = tmp_path_factory.mktemp("cordsnet") / "run"
    learn(folder, build(), settings())
    return folder


def changed(before, after, module: str) -> set[str]:
    """Names of the module's tensors that differ between two checkpoints."""
    return {
        name.removeprefix(f"{module}.")
        for name, tensor in before.weights.items()
        if name.startswith(f"{module}.") and not torch.equal(tensor, after.weights[name])
    }


def test_every_phase_teaches_its_own_weights(run):
    held = [read_checkpoint(run, update) for update in range(13)]
    for first, last, module in ((0, 2, "twin"), (2, 10, "model"), (10, 12, "direct")):
        for other in {"twin", "model", "direct"} - {module}:
            assert not changed(held[first], held[last], other)
    # The first update of the inverse also folds; the second only teaches recurrence and bias.
    taught = changed(held[3], held[4], "model")
    assert taught
    assert all(".recurrent." in name or name.endswith(".bias") for name in taught)
    assert not any(name.startswith("readout") for name in taught)
    assert len(changed(held[4], held[6], "model")) > 14


def test_the_network_begins_as_its_twin_ends(run):
    task = build()
    held = read_checkpoint(run, 3).weights
    task.twin.load_state_dict(part(held, "twin"))
    task.model.load_state_dict(part(held, "model"))
    folded = task.twin.eval().folded()
    torch.testing.assert_close(task.model.stem.weight, folded.stem)
    torch.testing.assert_close(task.model.area2.feedforward.weight, folded.areas[1].feedforward)
    images = task.data.batch(0, 4, seed=1).images
    torch.testing.assert_close(folded.logits(images), task.twin(images), rtol=1e-4, atol=1e-4)


def part(weights, module):
    return {n.removeprefix(f"{module}."): t for n, t in weights.items() if n.startswith(module)}


@pytest.mark.parametrize("done", range(1, 12))
def test_a_run_goes_on_in_the_middle_of_every_phase_bit_by_bit(run, tmp_path, done):
    folder = tmp_path / "stopped"
    shutil.copytree(run, folder)
    for update in range(done + 1, 13):
        shutil.rmtree(folder / f"checkpoints/{update:08d}")
    torch.manual_seed(99)  # a task of its own, from other weights
    task = recipe.load("cordsnet-digits", SMALL).build_task()
    learn(folder, task, settings(), resume=True)
    straight, resumed = read_checkpoint(run, 12), read_checkpoint(folder, 12)
    assert straight.weights.keys() == resumed.weights.keys()
    for name, tensor in straight.weights.items():
        assert torch.equal(tensor, resumed.weights[name]), name


def test_what_is_logged(run):
    lines = read_log(run / "log.jsonl")
    assert len(lines) == 12
    assert [line["slope"] for line in lines] == [0, 0, 1, 1, 1, 1, 0.95, 0.45, 0, 0, 0, 0]
    assert {"loss/twin", "twin_accuracy", "held_out_accuracy"} <= lines[1].keys()
    assert {"loss/area1", "loss/area2", "inverse_error/area2"} <= lines[3].keys()
    for line in lines[4:10]:
        assert {"loss/model", "answer", "distance", "model_accuracy"} <= line.keys()
        assert line["loss/model"] == pytest.approx(line["answer"] + 1e-3 * line["distance"])
    assert "direct_accuracy" in lines[11]
    # What the inverse has learned contracts, so little is left after 200 ms.
    assert 0 <= lines[11]["distance_after_offset"] < 0.01
    assert 0 <= lines[11]["distance_random_start"] < 0.01
    assert lines[5]["distance"] == 0  # nothing comes after the image in the linear phase


def test_the_annealing_ends_at_relu():
    slopes = [annealed(done, 60) for done in range(60)]
    assert slopes[:4] == [0.95, 0.95, 0.95, 0.9]
    assert slopes[-4:] == [0.05, 0.0, 0.0, 0.0]
    assert sorted(set(slopes)) == [round(0.05 * k, 10) for k in range(20)]
    assert annealed(999, 1000) == annealed(19, 20) == 0.0


def test_the_inverse_alone_makes_a_linear_network_that_reads_digits(tmp_path):
    """What the phases are for: the linear network in time reads as well as its twin."""
    common = ["data.size=16", "model.image_size=16", "control=false", "stimulus_ms=120"]
    task = build(*common, "batch_size=32")
    phases = [
        {"name": "twin", "updates": 60, "optimiser": "sgd", "learning_rate": 0.05},
        {"name": "inverse", "updates": 60, "optimiser": "adamw", "learning_rate": 3e-3},
    ]
    chosen = settings(phases=(), checkpoint_every=1000).model_dump() | {"phases": phases}
    chosen.pop("updates")
    learn(tmp_path / "run", task, TrainingSettings(**chosen))
    last = read_log(tmp_path / "run/log.jsonl")[-1]
    assert last["twin_accuracy"] > 0.75
    assert last["model_accuracy"] > last["twin_accuracy"] - 0.1
    assert last["inverse_error/area1"] < 0.1


def test_accuracy_is_the_share_of_held_out_digits():
    task = build()
    batches = list(task.data.held_out(100))
    answers = torch.cat([task.model.classify(b.images, 8.0, 10.0).argmax(1) for b in batches])
    truth = torch.cat([b.targets for b in batches])
    assert task.accuracy() == pytest.approx((answers == truth).double().mean().item())
    task.enter("twin", resumed=False)
    twin = torch.cat([task.twin.eval()(b.images).argmax(1) for b in batches])
    assert task.accuracy() == pytest.approx((twin == truth).double().mean().item())


def test_probes_get_pictures_to_logits():
    task = build()
    view, channels, size = task.probed()
    assert (channels, size) == (1, (12, 12))
    picture = torch.rand(2, 1, 12, 12)
    logits = view(picture)
    assert logits.shape == (2, 1, 10)
    torch.testing.assert_close(logits[:, 0], task.model.classify(task.data.prepare(picture), 8, 10))


def test_without_phases_the_network_learns_from_random_weights(tmp_path):
    task = build("control=false")
    assert set(task.modules()) == {"twin", "model"}
    chosen = settings(phases=(), updates=2).model_dump() | {"phases": (), "updates": 2}
    before = task.model.area1.recurrent.weight.clone()
    learn(tmp_path / "run", task, TrainingSettings(**chosen))
    assert not torch.equal(before, task.model.area1.recurrent.weight)
    last = read_log(tmp_path / "run/log.jsonl")[-1]
    assert {"loss/model", "model_accuracy", "distance_random_start"} <= last.keys()


def test_batches_are_those_of_the_stream():
    """Batches follow each other in the stream, whatever they are used for."""
    task = build()
    generator = torch.Generator().manual_seed(0)
    task.enter("twin", resumed=False)
    rows = [task._next(generator) for _ in range(2)]
    seed = task.extra_state()["seed"]
    assert task.extra_state()["drawn"] == 2
    for number, batch in enumerate(rows):
        expected = task.data.batch(number, 48, seed)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.targets, expected.targets)


def test_the_loss_of_the_twin_is_a_cross_entropy():
    task = build("label_smoothing=0.1")
    task.enter("twin", resumed=False)
    loss = task.losses(torch.Generator().manual_seed(0))["twin"]
    batch = task.data.batch(0, 48, task.extra_state()["seed"])
    logits = task.twin.train()(batch.images)
    expected = functional.cross_entropy(logits, batch.targets, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.classes=7"], r"model.classes=10"),
        (["model.image_size=14"], r"model.image_size=\[12, 12\]"),
        (["batch_size=0"], "batch_size of at least 1, got 0"),
        (["checkpoint_steps=-1"], "checkpoint_steps of at least 0"),
        (["settle_weight=-1"], "settle_weight and remainder_weight of at least 0"),
        (["label_smoothing=1.0"], r"label_smoothing in \[0, 1\)"),
        (["stimulus_ms=9"], "multiple of dt_ms=2"),
        (["stimulus_ms=0"], "stimulus_ms above 0"),
    ],
)
def test_bad_settings(overrides, message):
    with pytest.raises(InputError, match=message):
        build(*overrides)


def test_bad_phases():
    task = CordsNetTask(
        data=DigitsData(size=12),
        model=CordsNet(depth=2, classes=10, channels=1, image_size=12),
        control=False,
    )
    with pytest.raises(UnknownNameError, match="finetune"):
        task.enter("finetun", resumed=False)
    with pytest.raises(InputError, match="control=true"):
        task.enter("direct", resumed=False)


@pytest.mark.parametrize(
    ("name", "depth", "counts"),
    [("cordsnet-cifar10", 4, (3, 4, 10)), ("cordsnet-imagenet", 8, (3, 8, 1000))],
)
def test_the_large_recipes_say_what_was_published(name, depth, counts):
    found = recipe.load(name)
    model = found.config.model
    assert (model.depth, model.classes) == (depth, counts[2])
    phases = {phase.name: phase for phase in found.training.phases}
    twin, epoch = phases["twin"], phases["twin"].updates // 300
    assert (twin.optimiser, twin.learning_rate, twin.weight_decay) == ("sgd", 0.1, 1e-4)
    assert twin.rate_drops == (100 * epoch, 200 * epoch)
    assert (phases["inverse"].learning_rate, phases["inverse"].clip_norm) == (1e-4, 1e-3)
    assert (phases["linear"].learning_rate, phases["linear"].clip_norm) == (1e-5, 1e-4)
    # Twenty epochs, one for each slope.
    rows = found.config.trial_batch_size * phases["annealing"].accumulate
    assert rows == found.config.batch_size == 256
    assert phases["annealing"].updates == 20 * epoch


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of twelve pictures in three classes, to learn from and held out."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "validation"):
        for label in ("bark", "moss", "sand"):
            place = folder / split / label
            place.mkdir(parents=True)
            for number in range(4):
                pixels = torch.rand(3, 44, 48, generator=generator)
                save_image(pixels, place / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("cordsnet-cifar10", ["data.split_held_out=validation", "model.image_size=33"]),
        ("cordsnet-imagenet", ["data.mix=cutmix", "model.image_size=[40, 33]", "control=true"]),
    ],
)
def test_the_large_recipes_learn_on_a_small_folder(pictures, tmp_path, name, overrides):
    size = next(o for o in overrides if "image_size" in o).split("=")[1]
    small = [
        f"data.name={pictures}", "data.workers=0", f"data.size={size}", "model.classes=3",
        "batch_size=4", "trial_batch_size=2", "warmup_ms=4", "stimulus_ms=8", "off_ms=4",
        "readout_steps=2", "settle_steps=1", "checkpoint_steps=2", "training.loggers=[local]",
        "training.log_every=1", "training.snapshots=[]", "training.phases.twin.rate_drops=[1]",
        "model.depth=2",
        *(f"training.phases.{phase}.updates=2" for phase in PHASES),
    ]  # fmt: skip
    found = recipe.load(name, [*overrides, *small])
    torch.manual_seed(0)
    result = learn(tmp_path / "run", found.build_task(), found.training)
    assert (result.status, result.updates, result.skipped) == ("finished", 12, 0)
    lines = read_log(tmp_path / "run/log.jsonl")
    assert {"twin_accuracy", "model_accuracy", "direct_accuracy"} <= lines[-1].keys()
    assert lines[8]["loss/model"] == pytest.approx(
        lines[8]["answer"] + 1e-3 * lines[8]["distance"], rel=0.5
    )
