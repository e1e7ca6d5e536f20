"""Bad input: one readable message, the right exit code, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from calcarine import cli
from calcarine.errors import CalcarineWarning, MissingDependencyError, RunError
from calcarine.recipe import recipe_names

from .conftest import sets


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tran"], "Did you mean \"train\"?"),
        (["--frob"], "calcarine --help"),
        (["train", "--sett", "a=1"], "Did you mean --set?"),
        (["train", "a", "b"], "Unexpected: b"),
        (["train", "--device", "gpu"], "Choose from"),
        (["train", "--set"], "requires an argument"),
        (["train", "color-sandbocks"], "Did you mean 'color-sandbox'?"),
        (["train", "none.yaml"], "Cannot read none.yaml"),
        (["train", "color-sandbox", "-f", "x.yaml"], "not both"),
        (["train", "-f", "none.yaml"], "Cannot read none.yaml"),
        (["train", "--set", "nonsense"], "override like training.updates=2000"),
        (["train", "--set", "retina.mosaix=LM"], "has 1 mistake(s)"),
        (["train", "--set", "retina.mosaic=XYZ"], "no cone mosaic named 'XYZ'"),
        (["train", "--set", "retina.size=32"], "Set cortex.size=32"),
        (["train", "--set", "stimuli.source=/nowhere"], "nothing at /nowhere"),
        (["train", "--run", "/dev/null/x"], "/dev/null/x"),
        (["recipes", "nope"], "no recipe named 'nope'"),
        (["retina", "nope.png"], "no image file 'nope.png'"),
        (["retina", "astronaud"], "Did you mean 'astronaut'?"),
        (["retina", "sample:nope"], "no sample image named 'nope'"),
        (["retina", "--mosaics", "LMX"], "no cone mosaic named 'LMX'"),
        (["retina", "--mosaics", ","], "at least one eye"),
        (["retina", "--frames", "0"], "1 to 300"),
        (["retina", "--frames", "many"], "unable to convert"),
        (["retina", "--size", "4"], "8 to 512"),
        (["retina", "--max-shift", "-1"], "at least 0"),
        (["see", "--run", "runs/none"], "runs/none does not exist"),
        (["see"], "train one with: calcarine train"),
        (["colour-match", "runs/none"], "runs/none does not exist"),
        (["colour-match"], "train one with: calcarine train"),
        (["report", "runs/none"], "runs/none does not exist"),
        (["report"], "RUN requires an argument"),
        (["cite", "retinna"], "Did you mean 'retina'?"),
        (["doctor", "now"], "Unexpected: now"),
    ],
)  # fmt: skip
def test_bad_input_exits_with_2_and_one_message(calcarine, words, message):
    done = calcarine(*words)
    assert message in done.error
    assert done.code == 2
    assert done.out == ""


def test_the_runs_that_there_are_are_named(calcarine, run):
    assert (
        "Did you mean 'runs/tiny'? Runs here: runs/tiny." in calcarine("report", "runs/tin").error
    )
    assert "Runs here: runs/tiny." in calcarine("colour-match").error
    assert "holds no run" in calcarine("report", "runs").error
    assert "is a file" in calcarine("report", run / "recipe.yaml").error


def test_ages_that_a_run_does_not_have_are_refused(calcarine, run):
    done = calcarine("see", "--run", run, "--age", "3")
    assert "It has those after 0, 4, 6." in done.error
    assert "It has those after 0, 4, 6." in calcarine("colour-match", run, "--ages", "3").error
    assert "expected numbers of updates" in calcarine("colour-match", run, "--ages", "old").error


def test_a_damaged_picture_is_refused(calcarine, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 100)
    assert "broken.png" in calcarine("retina", "broken.png", "--size", 16).error


def test_a_yaml_file_that_is_none_is_refused(calcarine, tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    assert calcarine("train", "-f", "bad.yaml").code == 2
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    assert "expected a mapping" in calcarine("train", "-f", "list.yaml").error
    (tmp_path / "other.yaml").write_text("learning_rate: 1\n")
    assert "expected a key 'task'" in calcarine("train", "-f", "other.yaml").error


def replace_verb(monkeypatch, error: BaseException) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_call", fail)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("no room on the disk"), 1, "error: no room on the disk"),
        (MissingDependencyError("x is not installed"), 1, "error: x is not installed"),
        (PermissionError(13, "Permission denied", "a.png"), 1, "error: a.png: Permission denied"),
        (KeyError("surprise"), 1, "error: KeyError: 'surprise' (repeat with --debug"),
        (RuntimeError("first\nsecond"), 1, "error: RuntimeError: first (repeat"),
        (KeyboardInterrupt(), 130, "Aborted."),
    ],
)
def test_failures_end_with_their_exit_code(calcarine, monkeypatch, error, code, text):
    replace_verb(monkeypatch, error)
    done = calcarine("doctor")
    assert done.code == code
    assert text in done.err
    assert "Traceback" not in done.err


def test_debug_shows_where_an_error_came_from(calcarine, monkeypatch):
    for words in (["--debug", "cite", "nope"], ["cite", "nope", "--debug"]):
        done = calcarine(*words)
        assert done.code == 2
        assert "Traceback" in done.err
        assert "commands/cite.py" in done.err
        assert "error: There is no recipe, run or stage named 'nope'." in done.err
    monkeypatch.setenv("CALCARINE_DEBUG", "1")
    assert "Traceback" in calcarine("cite", "nope").err
    monkeypatch.setenv("CALCARINE_DEBUG", "0")
    assert "Traceback" not in calcarine("cite", "nope").err


def test_our_warnings_are_one_line(calcarine, monkeypatch):
    import warnings

    def warn(words: list[str]) -> int:
        warnings.warn("mind the step", CalcarineWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "_call", warn)
    assert calcarine("doctor").err == "warning: mind the step\n"


def test_a_reader_who_leaves_early_causes_no_complaint(environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "calcarine", "cite"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.close()
    errors = process.stderr.read().decode() if process.stderr else ""
    process.stderr.close()
    assert process.wait(60) == 141
    assert errors == ""


def test_errors_reach_the_shell(environment, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "calcarine", "train", "nope", *sets()],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    known = ", ".join(recipe_names())
    assert done.stderr == f"error: There is no recipe named 'nope'. Known: {known}.\n"
