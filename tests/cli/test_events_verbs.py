"""``events`` and ``detect``: what is in a recording, and the disks that move in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from calcarine.commands.recordings import film_frames, first_frame_ms
from calcarine.stimuli import EventStream, moving_disks, read_events


@pytest.fixture
def recording(tmp_path) -> Path:
    """Forty frames of disks, in the format of a tensor with axes (time, x, y)."""
    made = moving_disks(frames=40, generator=torch.Generator().manual_seed(0))
    dense = made.events.frames(1.0, steps=40)[:, 0].clamp(max=1).mT
    torch.save(dense.to_sparse(), tmp_path / "disks.dat")
    return Path("disks.dat")


def table(out: str) -> dict[str, str]:
    return {line[:13].strip(): line[13:].strip() for line in out.splitlines() if len(line) > 13}


def test_events_without_anything_describes_the_sample_and_writes_nothing(calcarine, tmp_path):
    done = calcarine("events")
    assert (done.code, done.err) == (0, "")
    made = moving_disks(generator=torch.Generator().manual_seed(0)).events
    assert table(done.out)["events"] == f"{len(made):,}"
    assert table(done.out)["sensor"].startswith("50 x 50 px")
    assert "calcarine detect sample:moving-disks --truth" in done.out
    assert list(tmp_path.iterdir()) == []


def test_events_writes_what_it_is_asked_for(calcarine, recording):
    done = calcarine(
        "events", recording, "--picture", "d.png", "--video", "d.webp", "--save", "d.npz",
        "--json", "d.json", "--start", 10, "--stop", 30, "--size", 50, 50,
    )  # fmt: skip
    assert done.code == 0
    assert "Wrote d.png, d.webp, d.npz, d.json" in done.out
    assert "frame 20/20" in done.err
    numbers = json.loads(Path("d.json").read_text())
    kept = read_events("d.npz")
    whole = read_events(recording, size=(50, 50))
    assert numbers["events"] == len(kept) == len(whole.between(10, 30)) > 300
    assert (numbers["first_ms"], numbers["last_ms"]) == (10, 29)
    x, y = numbers["busiest_pixel_xy"]
    assert int(((kept.x == x) & (kept.y == y)).sum()) == numbers["busiest_pixel_events"]
    with Image.open("d.webp") as film:
        assert film.n_frames == 20
    again = calcarine("events", recording, "--picture", "d.png")
    assert "d.png is there already" in again.error
    assert calcarine("events", recording, "--size", 50, 50, "--json", "d.json", "--force").code == 0


def test_events_names_files_in_a_folder_itself(calcarine, recording):
    assert calcarine("events", recording, "--size", 50, 50, "--picture", ".").code == 0
    assert Path("events-disks.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("gone.csv",), "There is no recording 'gone.csv'"),
        (("sample:disks",), "sample recording named 'disks'"),
        (("--dt", 0), "--dt expected a duration above 0"),
        (("--size", 4, 4), "the sample knows its own"),
        (("--start", 900), "no events between --start and --stop"),
    ],
)
def test_events_refuses_what_it_cannot_read(calcarine, words, message):
    assert message in calcarine("events", *words).error


def test_events_refuses_a_damaged_file(calcarine, tmp_path):
    (tmp_path / "bad.csv").write_text("t,x,y\n1,2,3\n2,oops,3\n")
    assert "line 3" in calcarine("events", "bad.csv").error


def test_a_clock_that_starts_late_is_cut_off_and_long_films_are_gathered(capsys):
    times = torch.arange(1_200) * 1000
    late = EventStream(times + 9_000_500, times * 0 + 3, times * 0 + 801, size=(900, 20))
    begin = first_frame_ms(late, 1.0, None)
    assert begin == 9000
    assert first_frame_ms(late, 1.0, 8000.0) == 8000
    frames, long_ms = film_frames(late, 1.0, begin)
    assert long_ms == 3.0
    assert frames.shape == (400, 1, 300, 7)  # pixels by threes, too
    assert frames.sum() == len(late)
    assert (frames[:, 0, 267, 1] == 3).all()
    assert "3 frames of 1 ms" in capsys.readouterr().err


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_detect_finds_the_disks_of_the_sample(calcarine):
    done = calcarine("detect", "--truth", "--video", "none")
    assert done.code == 0
    folder = Path("detect-moving-disks")
    numbers = json.loads((folder / "numbers.json").read_text())
    score = numbers["score"]
    assert min(score["precision"], score["recall"], score["speed_accuracy"]) > 0.9
    assert f"{score['recall']:.1%}" in done.out
    found = rows(folder / "detections.csv")
    assert list(found[0]) == ["frame", "x", "y", "speed_class", "confidence"]
    assert len(found) == sum(numbers["detections"].values())
    assert {row["speed_class"] for row in found} == {"slow", "medium", "fast"}
    truth = moving_disks(generator=torch.Generator().manual_seed(0)).truth
    fast = [row for row in found if row["speed_class"] == "fast" and int(row["frame"]) > 50]
    k = int((truth.speed_class == 2).nonzero())
    at = torch.tensor([[float(row["x"]), float(row["y"])] for row in fast]).double()
    where = truth.center_px[[int(row["frame"]) for row in fast], k]
    assert (at - where).norm(dim=1).median() < 3
    again = calcarine("detect")
    assert "already holds a result" in again.error


def test_detect_films_a_recording(calcarine, recording):
    words = ("detect", recording, "--size", 50, 50, "--out", "found")
    done = calcarine(*words)
    assert done.code == 0
    assert "calcarine train disk-velocity" in done.out
    with Image.open("found/detections.webp") as film:
        assert film.n_frames == 40
    assert calcarine(*words, "--force", "--quiet", "--video", "none").err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--truth", "--stop", 100), "--truth needs a whole sample"),
        (("--age", 5), "give its folder with --run"),
        (("--run", "runs/gone"), "runs/gone does not exist"),
        (("--run", "runs/gone", "--radius", 6), "those of the run"),
        (("--speeds", 2, 1, 3), "three rising speeds"),
        (("--dt", "-1"), "--dt expected a duration above 0"),
    ],
)
def test_detect_refuses_what_makes_no_sense(calcarine, words, message):
    assert message in calcarine("detect", *words).error


def test_detect_refuses_recordings_that_would_not_fit(calcarine):
    huge = EventStream(torch.tensor([0, 10_000_000]), [0, 1], [0, 1], size=(480, 640))
    huge.save("huge.npz")
    assert "10001 frames of 480 x 640 px" in calcarine("detect", "huge.npz").error


def test_detect_refuses_a_run_of_something_else(calcarine, run):
    assert "learned to find disks" in calcarine("detect", "--run", run).error
