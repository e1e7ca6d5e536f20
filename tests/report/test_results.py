"""Colour matching over time: measured once, never stale."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from calcarine.errors import CalcarineWarning, CheckpointError, InputError
from calcarine.probes import color_matching, perfect_observer
from calcarine.report import color_matching_over_time, results
from calcarine.report.results import select_ages
from calcarine.training.run import open_run


@pytest.fixture
def run(tiny_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("results", "report.html"))
    return open_run(folder)


@pytest.fixture
def measured(monkeypatch) -> list[int]:
    """Stand in for the experiment, and count how often it is made."""
    calls: list[int] = []

    def stand_in(retina, decode, *, most_primaries, **_):
        calls.append(most_primaries)
        return perfect_observer(most_primaries=most_primaries)

    monkeypatch.setattr(results, "color_matching", stand_in)
    return calls


def stored(run) -> dict:
    return json.loads((run.folder / "results" / "color_matching.json").read_text())


def test_it_is_the_experiment_on_the_weights_of_that_age(run):
    found = color_matching_over_time(run, [2], most_primaries=2)
    task = open_run(run.folder, 2).task
    metric = task.cortex.identity.metric(2)
    direct = color_matching(
        task.retina, task.cortex.decode, metric=metric, border=2, most_primaries=2
    )
    assert found == {2: direct}
    assert direct.mean_residual[0] > 0


def test_what_was_kept_equals_what_was_measured(run):
    first = color_matching_over_time(run, [4], most_primaries=2)
    assert color_matching_over_time(run, [4], most_primaries=2) == first


def test_nothing_is_measured_twice(run, measured):
    assert list(color_matching_over_time(run)) == [0, 2, 4]
    assert measured == [4, 4, 5]
    color_matching_over_time(run)
    color_matching_over_time(run, [0, 2])
    assert measured == [4, 4, 5, 5]  # age 2 as the last one: with one primary more
    color_matching_over_time(run, [4], force=True)
    assert len(measured) == 5


def test_other_weights_are_measured_again(run, measured):
    color_matching_over_time(run, [0, 4])
    place = run.folder / "snapshots"
    shutil.copy(place / "00000002.safetensors", place / "00000000.safetensors")
    color_matching_over_time(run, [0, 4])
    assert measured == [4, 5, 4]


def test_another_eye_is_measured_again(run, measured):
    color_matching_over_time(run, [4])
    path = run.folder / "recipe.yaml"
    changed = path.read_text().replace("- 530.0", "- 550.0")
    assert changed != path.read_text()
    path.write_text(changed)
    color_matching_over_time(open_run(run.folder), [4])
    assert len(measured) == 2


def test_a_run_that_goes_on_keeps_what_was_measured(run, measured):
    """The last age has five primaries, which serve where four are asked for later."""
    color_matching_over_time(run, [0, 2])
    color_matching_over_time(run, [0, 2, 4])
    assert measured == [4, 5, 5]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[1, 2]",
        b"\xff\xfe",
        b'{"format": 2, "ages": {"4": {"digest": "x"}}}',
        b'{"format": 2, "ages": {"4": {"digest": "x", "outcome": {"mean_residual": ["a"]}}}}',
        b'{"format": 2, "ages": {"four": {}}}',
        b'{"format": 2, "ages": 3}',
    ],
)
def test_a_damaged_file_is_measured_again_with_a_warning(run, measured, content):
    path = run.folder / "results" / "color_matching.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(CalcarineWarning, match="measured again") as caught:
        color_matching_over_time(run, [4])
    assert len(caught) == 1
    assert measured == [5]
    assert list(stored(run)["ages"]) == ["4"]
    color_matching_over_time(run, [4])  # whole again, and no warning
    assert measured == [5]


def test_a_file_of_another_version_is_replaced_quietly(run, measured):
    path = run.folder / "results" / "color_matching.json"
    path.parent.mkdir()
    path.write_text('{"format": 999, "ages": {}}')
    color_matching_over_time(run, [4])
    assert stored(run)["format"] == results.FORMAT


def test_an_outcome_is_kept_at_once(run, monkeypatch):
    """Ctrl-C in the middle loses nothing that was measured."""
    done = []

    def stand_in(*_, most_primaries, **__):
        if done:
            raise KeyboardInterrupt
        done.append(1)
        return perfect_observer(most_primaries=most_primaries)

    monkeypatch.setattr(results, "color_matching", stand_in)
    with pytest.raises(KeyboardInterrupt):
        color_matching_over_time(run)
    assert list(stored(run)["ages"]) == ["0"]


def test_a_folder_that_cannot_be_written_only_warns(run, measured):
    (run.folder / "results").write_text("a file where the folder should be")
    with pytest.warns(CalcarineWarning):
        found = color_matching_over_time(run, [4])
    assert found[4].dimension == 3


def test_progress_is_told(run, measured):
    lines: list[str] = []
    color_matching_over_time(run, [0, 4], progress=lines.append)
    assert lines == ["matching colours at age 0", "matching colours at age 4"]


def test_wrong_questions_are_refused(run):
    with pytest.raises(CheckpointError, match=r"no weights of update 3.*0, 2, 4"):
        color_matching_over_time(run, [3])
    with pytest.raises(InputError, match="at least one age"):
        color_matching_over_time(run, [])
    with pytest.raises(InputError, match="most_primaries"):
        color_matching_over_time(run, [4], most_primaries=0)
    other = type(run)(run.folder, run.recipe, torch.nn.Identity(), 4)
    with pytest.raises(InputError, match=r"colour cortex.*Identity"):
        color_matching_over_time(other, [4])


@pytest.mark.parametrize(
    ("ages", "count", "expected"),
    [
        ((0, 100, 200, 500, 1000, 2000, 5000), 5, (0, 100, 500, 1000, 5000)),
        ((0,), 8, (0,)),
        ((7, 3, 3), 8, (3, 7)),
        (tuple(range(0, 10001, 100)), 5, (0, 100, 500, 2200, 10000)),
        (tuple(range(100, 1001, 100)), 3, (100, 300, 1000)),
    ],
)
def test_ages_are_spread_on_a_logarithmic_axis(ages, count, expected):
    assert select_ages(ages, count) == expected
