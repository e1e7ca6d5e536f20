from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from calcarine.errors import CheckpointError, InputError
from calcarine.training.lock import LOCK_NAME, only_training_in


def test_a_second_training_in_the_same_folder_is_refused(toy, train, tmp_path, same_run):
    intruder = toy.ToyTask()  # made here, since its weights are drawn from the global generator

    class Intruded(toy.ToyTask):
        def losses(self, generator):
            if self.count == 20:
                for resume in (False, True):
                    with pytest.raises(InputError, match="another training is writing to it"):
                        train("run", intruder, resume=resume)
            return super().losses(generator)

    train("run", Intruded())
    train("straight")
    same_run(tmp_path / "run", tmp_path / "straight")
    assert not (tmp_path / "run" / LOCK_NAME).exists()


def test_the_folder_is_free_again_after_an_error(toy, train, tmp_path):
    with pytest.raises(toy.Killed):
        train(task=toy.ToyTask(crash_at=25))
    assert not (tmp_path / "run" / LOCK_NAME).exists()
    assert train(resume=True).status == "finished"


def test_a_killed_process_leaves_no_lock(train, tmp_path):
    """SIGKILL leaves the file behind but frees the lock; a new run may begin beside the file."""
    folder = tmp_path / "run"
    code = f"""
        import pathlib, time
        from calcarine.training.lock import only_training_in
        with only_training_in(pathlib.Path({str(folder)!r}), make=True):
            print("held", flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(InputError, match="another training"):
        train()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert (folder / LOCK_NAME).exists()
    assert train().status == "finished"


def test_a_missing_folder_is_not_made_for_a_run_to_resume(train, tmp_path):
    with pytest.raises(CheckpointError, match="the folder does not exist"):
        train("nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    with only_training_in(tmp_path / "new", make=True):
        assert (tmp_path / "new" / LOCK_NAME).exists()
    assert not any((tmp_path / "new").iterdir())
