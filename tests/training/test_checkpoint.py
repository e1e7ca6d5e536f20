from __future__ import annotations

import io
import json
import shutil

import pytest
import torch

from calcarine import __version__, files
from calcarine.errors import CheckpointError, InputError, RunError
from calcarine.training import storage
from calcarine.training.checkpoint import FORMAT, checkpoint_updates, read_checkpoint
from calcarine.training.storage import digest


def test_a_checkpoint_says_what_it_is(train, tmp_path, toy):
    train()
    path = tmp_path / "run/checkpoints/00000060"
    label = json.loads((path / "checkpoint.json").read_text())
    assert label["format"] == FORMAT
    assert label["calcarine"] == __version__
    assert label["update"] == 60
    assert label["identity"]["recipe"] == toy.RECIPE
    for name in ("weights.safetensors", "training.pt"):
        assert label["sha256"][name] == digest((path / name).read_bytes())
    assert checkpoint_updates(tmp_path / "run") == (50, 60)


@pytest.mark.parametrize("name", ["weights.safetensors", "training.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "missing"])
def test_a_damaged_checkpoint_is_refused_and_the_previous_one_named(train, tmp_path, name, damage):
    train()
    file = tmp_path / "run/checkpoints/00000060" / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        file.write_bytes({"cut": content[:-20], "empty": b"", "flipped": flipped}[damage])
    with pytest.raises(CheckpointError) as caught:
        train(resume=True)
    message = str(caught.value)
    assert name in message
    assert "previous good checkpoint is" in message
    assert "checkpoints/00000050" in message
    assert "delete checkpoints/00000060" in message


def test_deleting_the_damaged_checkpoint_continues_from_the_one_before(train, tmp_path, same_run):
    train("straight")
    train()
    (tmp_path / "run/checkpoints/00000060/training.pt").write_bytes(b"cut")
    shutil.rmtree(tmp_path / "run/checkpoints/00000060")
    train(resume=True)
    same_run(tmp_path / "straight", tmp_path / "run")


def test_when_all_are_damaged_the_message_promises_nothing(train, tmp_path):
    train()
    for update in (50, 60):
        (tmp_path / f"run/checkpoints/{update:08d}/training.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="There is no earlier checkpoint"):
        train(resume=True)


def test_a_newer_format_says_what_to_install(train, tmp_path, relabel):
    train()
    relabel(tmp_path / "run/checkpoints/00000060", format=FORMAT + 1, calcarine="9.1.0")
    with pytest.raises(CheckpointError, match=r"format 2 .* pip install 'calcarine>=9.1.0'"):
        train(resume=True)


def test_a_foreign_checkpoint_is_refused(train, tmp_path, relabel):
    train()
    relabel(tmp_path / "run/checkpoints/00000060", kind="something else")
    with pytest.raises(CheckpointError, match="not written by calcarine's training"):
        train(resume=True)


def test_a_foreign_or_absent_folder_is_not_resumed(train, tmp_path):
    with pytest.raises(CheckpointError, match="the folder does not exist"):
        train(resume=True)
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/holiday.jpg").write_bytes(b"1")
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(resume=True)


def test_a_run_of_a_version_that_knew_only_adam_goes_on(toy, train, tmp_path, relabel, same_run):
    """Its running means stand under another name, and settings that came later are missing."""
    train("straight")
    with pytest.raises(toy.Killed):
        train("run", toy.ToyTask(crash_at=25))
    for update in checkpoint_updates(tmp_path / "run"):
        checkpoint = read_checkpoint(tmp_path / "run", update)
        learner = dict(checkpoint.training["learner"])
        learner["adam"] = learner.pop("optimisers")
        stream = io.BytesIO()
        torch.save({**checkpoint.training, "learner": learner}, stream)
        (checkpoint.path / "training.pt").write_bytes(stream.getvalue())
        label = json.loads((checkpoint.path / "checkpoint.json").read_text())
        for name in ("optimiser", "weight_decay", "momentum", "accumulate", "rate_drops", "phases"):
            del label["identity"]["training"][name]
        sums = {**label["sha256"], "training.pt": digest(stream.getvalue())}
        relabel(checkpoint, sha256=sums, identity=label["identity"])
    assert train("run", resume=True).status == "finished"
    same_run(tmp_path / "straight", tmp_path / "run")


def test_pickled_code_in_a_checkpoint_is_not_run(train, tmp_path, relabel):
    train()
    path = tmp_path / "run/checkpoints/00000060"
    stream = io.BytesIO()
    torch.save({"f": print}, stream)
    (path / "training.pt").write_bytes(stream.getvalue())
    label = json.loads((path / "checkpoint.json").read_text())
    sums = {**label["sha256"], "training.pt": digest(stream.getvalue())}
    relabel(path, sha256=sums)
    with pytest.raises(CheckpointError, match="cannot be read as plain tensors"):
        train(resume=True)


@pytest.mark.parametrize("stage", range(8))
def test_dying_at_any_moment_of_writing_leaves_whole_checkpoints_only(
    toy, train, tmp_path, monkeypatch, same_run, stage
):
    """The process dies at the ``stage``-th file operation of the checkpoint after update 30."""
    operations = [0]

    def dying(function):
        def call(*args, **kwargs):
            if task.count >= 30:
                operations[0] += 1
                if operations[0] == stage + 1:
                    raise toy.Killed
            return function(*args, **kwargs)

        return call

    task = toy.ToyTask()
    with monkeypatch.context() as patch:
        for module, name in (
            (storage, "atomic_file"),
            (storage, "sync_folder"),
            (storage, "remove_folder"),
            (files, "atomic_file"),
            (files, "sync_folder"),
        ):
            patch.setattr(module, name, dying(getattr(module, name)))
        with pytest.raises(toy.Killed):
            train(task=task)
    assert operations[0] == stage + 1
    held = checkpoint_updates(tmp_path / "run")
    assert held[-1] in (20, 30)
    for update in held:
        read_checkpoint(tmp_path / "run", update)
    train(resume=True)
    train("straight")
    same_run(tmp_path / "straight", tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_full_disk_in_the_middle_names_the_checkpoint_to_resume_from(
    toy, train, tmp_path, monkeypatch, same_run
):
    opened = files.atomic_file
    task = toy.ToyTask()

    def full(path):
        if task.count >= 25:
            raise OSError(28, "No space left on device")
        return opened(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "atomic_file", full)
        with pytest.raises(
            CheckpointError, match=r"snapshot of update 25 .* No space left.*00000020"
        ):
            train(task=task)
    train(resume=True)
    train("straight")
    same_run(tmp_path / "straight", tmp_path / "run")


def test_too_small_a_disk_is_noticed_before_training(train, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(RunError, match=r"needs about 16 MiB in .* has 1 MiB left"):
        train()


def test_a_folder_that_cannot_be_written_is_noticed_before_training(train, tmp_path):
    (tmp_path / "run").write_text("a file in the way")
    with pytest.raises(InputError, match="expected a folder to write to"):
        train()
    assert (tmp_path / "run").read_text() == "a file in the way"


def test_a_new_run_never_overwrites(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"holds thesis.tex. Nothing was overwritten.*--resume"):
        train()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    train("other")
    log = (tmp_path / "other/log.jsonl").read_bytes()
    with pytest.raises(InputError, match="Nothing was overwritten"):
        train("other")
    assert (tmp_path / "other/log.jsonl").read_bytes() == log


def test_a_run_killed_before_its_first_checkpoint_is_simply_started_again(train, tmp_path):
    part = tmp_path / "run/checkpoints/.00000000.part"
    part.mkdir(parents=True)
    (part / "training.pt").write_bytes(b"cut")
    (tmp_path / "run/recipe.yaml").write_text(
        "# the caller's own\nnote: größer\n", encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="Start without resuming"):
        train(resume=True)
    assert train().status == "finished"
    assert (
        (tmp_path / "run/recipe.yaml").read_text(encoding="utf-8").startswith("# the caller's own")
    )
    assert not part.exists()
