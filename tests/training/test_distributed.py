"""Two processes, started as a user would start them, against one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from calcarine.distributed import World
from calcarine.errors import InputError
from calcarine.training import read_log
from calcarine.training.checkpoint import checkpoint_updates, read_checkpoint

SCRIPT = Path(__file__).with_name("shared_toy.py")
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def launch(*words: str | Path) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "CALCARINE_DEBUG"}
    return subprocess.run(
        [*LAUNCH, *map(str, words)],
        env={**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def shared():
    spec = importlib.util.spec_from_file_location("training_shared_toy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(shared, tmp_path_factory):
    """Folder of the runs: one by a single process, and one that was killed after update 4."""
    folder = tmp_path_factory.mktemp("shared")
    shared.learn(folder / "one", shared.SharedTask())

    class Killed(shared.SharedTask):
        def update(self, step):
            if step.done == 4:
                raise KeyboardInterrupt
            return super().update(step)

    with pytest.raises(KeyboardInterrupt):
        shared.learn(folder / "halved", Killed())
    return folder


@pytest.fixture(scope="module")
def seen(runs):
    """What each of the two processes saw."""
    done = launch(SCRIPT, runs)
    assert done.returncode == 0, done.stderr
    return [torch.load(runs / f"{rank}.pt", weights_only=True) for rank in range(2)]


ENDS = {
    "a meeting": """
place.on_writer(lambda: None)
place.sum(torch.ones(3))
""",
    "the loss of the others": """
if place.rank == 1:
    distributed.leave()
    raise SystemExit
try:
    place.any(False)
except RunError:
    raise SystemExit
raise AssertionError("nobody was missed")
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_may_end_right_after(end, tmp_path):
    """A thread of gloo that still held the last tensor died with the interpreter (SIGABRT)."""
    script = tmp_path / "ends.py"
    script.write_text(
        "import sys\n"
        "import torch\n"
        "from calcarine import distributed\n"
        "from calcarine.errors import RunError\n"
        "place = distributed.join('cpu')\n"
        "place.barrier()\n"
        "sys.setswitchinterval(100)  # no other thread gets the interpreter any more\n" + ENDS[end]
    )
    for _ in range(3):
        done = launch(script)
        assert done.returncode == 0, done.stderr


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = read_checkpoint(one), read_checkpoint(other)
    assert first.update == second.update
    for name, value in first.weights.items():
        torch.testing.assert_close(second.weights[name], value, rtol=1e-5, atol=1e-5)


def test_two_processes_find_each_other_on_the_cpu(seen):
    assert [rank["world"] for rank in seen] == [[0, 2, "cpu"], [1, 2, "cpu"]]


def test_sums_and_means_over_processes(seen):
    """The gradient of 1 y + 2 y, y the sum of all, is 3 for what a process holds."""
    for rank, found in enumerate(entry["sums"] for entry in seen):
        assert found["total"] == 0 + 1 + 2 + 3
        expected = torch.zeros(4, 1, dtype=torch.float64)
        expected[2 * rank : 2 * rank + 2] = 3
        assert torch.equal(found["gradient"], expected)
        assert torch.equal(found["means"][0], torch.full((2, 2), 0.5))
        assert torch.equal(found["means"][1], torch.tensor([2.0], dtype=torch.float64))
        assert found["any"] == [False, True, True]
        assert "multiple of 2 rows, got 5" in found["uneven"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_normalisation_sees_the_whole_batch(shared, seen, dtype, momentum):
    whole = shared.normalise(shared.World(), dtype, momentum)
    halves = [rank["norm"][f"{dtype} {momentum}"] for rank in seen]
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
    for name in ("y", "x", "eval"):
        torch.testing.assert_close(torch.cat([h[name] for h in halves]), whole[name], **close)
    torch.testing.assert_close(halves[0]["weight"] + halves[1]["weight"], whole["weight"], **close)
    for half in halves:
        assert list(half["state"]) == list(whole["state"])
        for name, value in whole["state"].items():
            torch.testing.assert_close(half["state"][name], value, **close)
    alone = whole["y"][:3]
    assert alone.abs().mean() > 0.9  # a process on its own would have had mean 0, variance 1
    assert alone.mean() > 0.9


def test_two_processes_learn_what_one_learns(runs, seen):
    """Also where their weights differed at first, and where a phase draws new ones."""
    assert_same_weights(runs / "one", runs / "two")
    for module in seen[0]["two"]:
        for name, value in seen[0]["two"][module].items():
            assert torch.equal(value, seen[1]["two"][module][name])
    lines = [read_log(runs / name / "log.jsonl") for name in ("one", "two")]
    assert len(lines[0]) == len(lines[1]) == 10
    for one, two in zip(*lines, strict=True):
        assert one["rows"] == 2 * two["rows"] == 8
        assert {**two, "rows": 8} == pytest.approx(one, rel=1e-4)
    assert seen[0]["result"][:3] == seen[1]["result"][:3] == ["finished", 10, 0]
    assert seen[0]["result"][3] == seen[1]["result"][3]
    assert seen[0]["result"][3]["loss/net"] == lines[1][-1]["loss/net"]


def test_the_first_process_alone_writes(runs, seen):
    for name in ("one", "two"):
        assert not list((runs / name).glob(".*"))
    held = [sorted(p.relative_to(runs / n) for p in (runs / n).rglob("*")) for n in ("one", "two")]
    assert held[0] == held[1]


def test_an_interrupt_in_one_process_stops_all_after_the_same_update(shared, runs, seen):
    """And one process goes on where two have stopped."""
    assert [rank["paused"] for rank in seen] == [["interrupted", 6]] * 2
    assert checkpoint_updates(runs / "paused")[-1] == 6
    assert shared.learn(runs / "paused", shared.SharedTask(), resume=True).status == "finished"
    assert_same_weights(runs / "one", runs / "paused")


def test_two_processes_go_on_where_one_was_killed(runs, seen):
    assert [rank["continued"] for rank in seen] == [["finished", 10]] * 2
    assert_same_weights(runs / "one", runs / "halved")


def test_a_non_finite_loss_in_one_process_is_skipped_by_all(runs, seen):
    """Update 3 is one batch, update 7 two; one objective each time."""
    assert [rank["poisoned"] for rank in seen] == [2, 2]
    lines = read_log(runs / "poisoned/log.jsonl")
    assert [line["update"] for line in lines if line["loss/net"] is None] == [3, 7]


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("own", "UnknownNameError", "no recipe named 'a'"),
        ("again", "InputError", "expected a new or empty folder"),
        ("nothing", "CheckpointError", "the folder does not exist"),
        ("alone", "InputError", "Alone learns in one process, but 2 were started"),
        ("disk", "CheckpointError", "The disk is full."),
    ],
)
def test_what_the_writer_cannot_do_stops_all_with_the_same_error(seen, name, kind, text):
    first, second = (rank["errors"][name] for rank in seen)
    assert first.startswith(f"{kind} False: ")
    assert second == first.replace("False", "True", 1)
    assert text in first


def test_an_error_that_is_not_ours_reaches_the_others_as_one_of_ours(seen):
    assert seen[0]["errors"]["foreign"] == "OSError False: no luck"
    assert seen[1]["errors"]["foreign"] == "RunError True: no luck"


def test_a_process_that_is_left_alone_says_so(seen):
    assert seen[0]["lost"].startswith("RunError False: This process lost the others.")


def test_the_command_says_once_that_a_task_cannot_be_shared(tmp_path):
    words = ("train", "texture-synthesis", "--run", tmp_path / "run")
    done = launch("-m", "--", "calcarine", *words)  # or torchrun takes --run for its own
    assert done.returncode != 0
    assert done.stderr.count("error: TextureTask learns in one process, but 2 were started") == 1
    assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_rows_that_cannot_be_shared_are_refused():
    with pytest.raises(InputError, match="multiple of 3 rows, got 4"):
        World(0, 3).part(torch.zeros(4))
    assert World(2, 3).part(torch.arange(6)).tolist() == [4, 5]
