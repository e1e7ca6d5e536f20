"""Observers, pooled runs and other eyes on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

OBSERVERS = {
    ("LM", None): [0.337, 0],
    ("LS", None): [0.296, 0],
    ("MS", None): [0.273, 0],
    ("LMS", None): [0.503, 0.267, 0],
    ("MS+L_replace_M", None): [0.503, 0.267, 0],
    ("LMS", "560,550,419"): [0.385, 0.124, 0],
    ("LMSQ", None): [0.494, 0.265, 0.0375, 0],
    ("LMSQ", "560,530,419,506"): [0.549, 0.298, 0.0738, 0],
}


@pytest.mark.parametrize(("mosaic", "peaks"), OBSERVERS, ids=str)
def test_the_perfect_observer_of_a_mosaic(calcarine, mosaic, peaks):
    options = [] if peaks is None else ["--peaks", peaks]
    done = calcarine("colour-match", "--observer", mosaic, *options, "--json", "observer.json")
    assert done.code == 0
    expected = OBSERVERS[mosaic, peaks]
    count = len(expected)
    assert f"colour has {count} dimensions" in done.out.splitlines()
    data = json.loads(Path("observer.json").read_text())[mosaic]
    for n, mean in enumerate(expected):
        assert data["mean_residual"][n] == pytest.approx(mean, abs=0.01)
    rows = [line.split() for line in done.out.splitlines() if line.strip()[:1].isdigit()]
    assert [float(row[1]) for row in rows[:count]] == pytest.approx(expected, abs=0.01)


def test_several_runs_are_pooled(calcarine, measured):
    other = Path("runs") / "again"
    shutil.copytree(measured, other)
    done = calcarine("colour-match", measured, other, "--json", "both.json")
    assert done.code == 0
    lines = done.out.splitlines()
    assert any(line.startswith("tiny: colour has") for line in lines)
    (pooled,) = [line for line in lines if line.startswith("together: ")]
    assert "2 runs" in pooled
    assert list(json.loads(Path("both.json").read_text())) == [str(measured), str(other)]
    alone = calcarine("colour-match", measured).out
    assert "dimension" in alone
    assert "of the resamplings of 31 lights" in alone
    assert "a light differs from itself, seen twice, by:" in alone


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--observer", "LMX"], "no cone mosaic named 'LMX'"),
        (["--observer", "LMSQ", "--peaks", "560,530,419"], "expected as many numbers, got 3"),
        (["--observer", "LMS", "--peaks", "green"], "three or four wavelengths"),
        (["runs/tiny", "--observer", "LMS"], "not both"),
        (["runs/tiny", "--peaks", "560,550,419"], "no effect on runs"),
    ],
)
def test_what_does_not_go_together_is_refused(calcarine, run, words, message):
    assert message in calcarine("colour-match", *words).error


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_a_second_row_shows_another_eye(calcarine, run):
    one = calcarine("see", "sample:coffee", "--run", run, "--out", "one.png")
    two = calcarine("see", "sample:coffee", "--run", run, "--out", "two.png", "--eye", "MS")
    assert (one.code, two.code) == (0, 0)
    width, height = size_of("one.png")
    assert size_of("two.png") == (width, 2 * height + 8)
    assert "Second row" in two.out
    anomalous = calcarine("see", "--run", run, "--out", "three.png", "--peaks", "560,550,419")
    assert anomalous.code == 0
    assert size_of("three.png") == size_of("two.png")
    assert "no cone mosaic" in calcarine("see", "--run", run, "--eye", "LMX").error


MOSAICS = "L,M,S,LM,LS,MS,LMS,LMSQ,MS+L_replace_M,MS+L_coexpress_M,MS+L_ratio_M,LMS+Q_replace_L"


@pytest.mark.parametrize("peaks", [None, "560,550,419,506"])
def test_every_eye_can_be_filmed(calcarine, peaks):
    options = [] if peaks is None else ["--peaks", peaks]
    done = calcarine(
        "retina", "sample:coffee", "--mosaics", MOSAICS, "--size", "16", "--frames", "2",
        "--sampling", "uniform", "--max-shift", "3", "--out", "eyes", *options,
    )  # fmt: skip
    assert done.code == 0
    assert {path.name for path in Path("eyes").iterdir()} == {
        "retina.webp", "retina.png", "path.png"
    }  # fmt: skip
    three = ["retina", "--mosaics", "LMSQ", "--peaks", "560,530,419", "--size", "16"]
    assert "expected its peak, too" in calcarine(*three).error
