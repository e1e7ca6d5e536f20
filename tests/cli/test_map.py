"""``map``: tables, files and figures of a map that grew."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from calcarine.cli import main
from calcarine.probes import OrientationMap
from calcarine.stimuli import Digits, digits

TINY = (
    "model.cortex_density=12", "model.lgn_density=8", "model.settling=4", "training.updates=6",
    "training.snapshots=[0, 3]", "training.loggers=[local]",
)  # fmt: skip


@pytest.fixture(scope="session")
def grown(tmp_path_factory):
    """A tiny map after ``calcarine map``, and what that printed; to be copied."""
    folder = tmp_path_factory.mktemp("grown") / "tiny"
    sets = [word for change in TINY for word in ("--set", change)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main(["train", "gcal-orientation", *sets, "--run", str(folder)]) == 0
        trained = out.getvalue()
        assert main(["map", str(folder)]) == 0
    return folder, trained, out.getvalue().removeprefix(trained), err.getvalue()


@pytest.fixture
def measured(grown, tmp_path):
    shutil.copytree(grown[0], tmp_path / "runs" / "tiny")
    return Path("runs") / "tiny"


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are not drawn: the tests above look at them."""
    monkeypatch.setattr("calcarine.plot.save_figure", lambda figure, path: path)
    monkeypatch.setattr("calcarine.plot.save_animation", lambda frames, path, fps: path)


def test_training_says_how_to_go_on(grown):
    folder, trained, out, _ = grown
    assert f"calcarine map {folder}" in trained
    assert f"calcarine report {folder}" in out


def test_the_table_holds_the_numbers_that_were_kept(grown):
    folder, _, out, err = grown
    assert "measuring the map at age 3" in err
    kept = json.loads((folder / "results" / "orientation_map.json").read_text())["afferent"]
    assert list(kept) == ["0", "3", "6"]
    assert kept["6"]["stability"] == 1
    assert kept["0"]["stability"] < 0.9
    rows = {
        line.split()[0]: line.split() for line in out.splitlines() if line[:5].strip().isdigit()
    }
    for age, numbers in kept.items():
        assert rows[age][1] == f"{numbers['selectivity']:.3f}"
        assert rows[age][2] == f"{numbers['pinwheels']:.0f}"
        density = numbers["pinwheel_density"]
        assert rows[age][3] == ("-" if density is None else f"{density:.2f}")
        found = OrientationMap.load(
            folder / "results" / "orientation_maps" / f"afferent-{int(age):08d}.safetensors"
        )
        assert found.selectivity.mean().item() == numbers["selectivity"]


def test_figures_and_files_are_where_they_are_said_to_be(grown):
    folder, _, out, _ = grown
    (line,) = [line for line in out.splitlines() if line.startswith("Wrote ")]
    written = [Path(path) for path in line.removeprefix("Wrote ").split(", ")]
    assert [path.name for path in written] == [
        "orientation_map.json", "orientation_map.png", "orientation_histogram.png",
        "afferent_fields.png", "map_development.png", "map_development.webp",
    ]  # fmt: skip
    assert all(path.parent == folder / "results" for path in written)
    with Image.open(written[-1]) as film:
        assert film.n_frames == 3
    for path in written[1:-1]:
        with Image.open(path) as figure:
            low, high = figure.convert("L").getextrema()
            assert low < 50 < 250 < high


def test_what_was_measured_is_not_measured_again_unless_it_changed(calcarine, measured, undrawn):
    again = calcarine("map", measured, "--age", "0,final", "--json", "out/map.json")
    assert (again.code, again.err) == (0, "")
    data = json.loads(Path("out/map.json").read_text())
    assert data["stage"] == "afferent"
    assert list(data["ages"]) == ["0", "6"]
    stored = measured / "results" / "orientation_maps" / "afferent-00000003.safetensors"
    stored.write_bytes(b"damaged")
    assert calcarine("map", measured).err == "measuring the map at age 3\n"
    forced = calcarine("map", measured, "--ages", "final", "--force")
    assert forced.err == "measuring the map at age 6\n"


def test_settled_responses_are_kept_beside_the_others(calcarine, measured, undrawn):
    done = calcarine("map", measured, "--ages", "0", "--settled", "--quiet")
    assert (done.code, done.err) == (0, "")
    assert "settled response" in done.out
    assert "Wrote" not in done.out
    kept = json.loads((measured / "results" / "orientation_map.json").read_text())
    assert kept["settled"]["0"]["selectivity"] != kept["afferent"]["0"]["selectivity"]
    assert (measured / "results" / "orientation_map.png").is_file()


def test_digits_are_read_before_and_after_learning(calcarine, measured, undrawn, monkeypatch):
    few = Digits(*(values[:300] for values in digits()))
    monkeypatch.setattr(sys.modules["calcarine.probes.map_readout"], "digits", lambda: few)
    done = calcarine("map", measured, "--ages", "final", "--digits", "--json", "map.json")
    assert done.code == 0
    accuracy = json.loads(Path("map.json").read_text())["digits"]
    assert list(accuracy) == ["pixels", "V1 at age 0", "V1 at age 6"]
    assert 0.8 < accuracy["pixels"] < 1
    assert all(0.2 < value < 1 for value in accuracy.values())
    assert f"{100 * accuracy['V1 at age 6']:.1f} %" in done.out
    assert json.loads((measured / "results" / "digits.json").read_text()) == accuracy


def test_a_run_that_is_no_map_is_refused(calcarine, run):
    assert "expected to be the run of a map" in calcarine("map", run).error


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--ages", "5"), "no weights after 5 updates"), (("--ages", "soon"), "final or all")],
)
def test_ages_that_are_not_there_are_refused(calcarine, measured, words, message):
    assert message in calcarine("map", measured, *words).error
