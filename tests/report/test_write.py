"""The page of a run: what it says, for finished, unfinished, foreign and damaged runs."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil

import pytest
import torch
from PIL import Image
from torch import nn

from calcarine.errors import FileFormatError, InputError
from calcarine.report import builder, color_page, write_report
from calcarine.stimuli import save_image
from calcarine.training import Task, TrainingSettings, fit


def text_of(html: str) -> str:
    """Return what a reader reads."""
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


@pytest.fixture
def copied(tiny_run, tmp_path, monkeypatch):
    """A copy of the finished run, whose figures are not drawn: the page above shows them."""
    monkeypatch.setattr(color_page, "_SIDE_PX", 20)
    monkeypatch.setattr(builder, "figure_png", lambda figure, dpi: b"drawn elsewhere")
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("report.html"))
    return folder


def test_the_page_of_a_colour_run_tells_everything(page, tiny_run):
    text = text_of(page)
    for heading in (
        "At a glance", "What it sees", "How many dimensions its colour has",
        "What it knows of its cones", "Where its eye looks", "What its eye sends", "Learning",
        "Recipe", "Sources",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    assert "updates made 4 of 4" in text
    assert "not finished" not in text
    stored = json.loads((tiny_run / "results" / "color_matching.json").read_text())
    outcome = stored["ages"]["4"]["outcome"]
    assert list(stored["ages"]) == ["0", "2", "4"]
    assert f"dimensions of colour {outcome['dimension']}" in text
    assert "dimensions that the cones allow 3" in text
    assert f"{outcome['observer_residual'][0]:.4f}" in text
    assert "retina: size: 16" in text
    assert "@inproceedings{kotani2024" in text
    assert "without colour" in text


def test_the_page_holds_its_pictures(page):
    kinds = re.findall(r"data:image/(\w+);base64,([A-Za-z0-9+/=]+)", page)
    pictures = {"png": [], "webp": []}
    for kind, text in kinds:
        picture = Image.open(io.BytesIO(base64.b64decode(text)))
        picture.load()
        pictures[kind].append(picture)
    # 2 photographs, 3 of colour matching, identities, read-outs, gaze, other eyes, losses; a still
    # for each animation
    assert len(pictures["png"]) == 10 + 2
    development, eye = pictures["webp"]
    assert development.n_frames == 3
    assert eye.n_frames > 10
    assert page.count(" alt=") == 10 + 2 * 2


def test_nothing_on_the_page_is_loaded_from_elsewhere(page):
    links = re.findall(r'(?:src|href|srcset)="([^"]{0,20})', page)
    assert len(links) > 10
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert "<script" not in page


def test_a_second_page_measures_nothing_again(page, copied, tmp_path):
    lines: list[str] = []
    path = write_report(copied, tmp_path / "elsewhere" / "page.html", progress=lines.append)
    assert path == tmp_path / "elsewhere" / "page.html"
    assert path.is_file()
    assert lines
    assert not any("matching" in line for line in lines)


def test_an_unfinished_run_says_so(page, copied):
    """Stopped after the snapshot of age 0 and before the first checkpoint."""
    shutil.rmtree(copied / "checkpoints")
    for age in (2, 4):
        (copied / "snapshots" / f"{age:08d}.safetensors").unlink()
    (copied / "log.jsonl").unlink()
    text = text_of(write_report(copied).read_text(encoding="utf-8"))
    assert "updates made 0 of 4" in text
    assert "Nothing has been learned yet" in text
    assert "--resume" in text
    assert "there is no log.jsonl" in text
    assert "percept at age" not in text  # that is inside the figure
    assert "dimensions of colour 1" in text


def test_a_run_without_weights_still_has_its_recipe(copied):
    shutil.rmtree(copied / "checkpoints")
    shutil.rmtree(copied / "snapshots")
    text = text_of(write_report(copied).read_text(encoding="utf-8"))
    assert "has no weights yet" in text
    assert "mosaic: LMS" in text
    assert "How many dimensions" not in text


def test_damaged_weights_are_told_and_older_ones_shown(page, copied):
    shutil.rmtree(copied / "checkpoints")
    (copied / "snapshots" / "00000004.safetensors").write_bytes(b"broken")
    text = text_of(write_report(copied).read_text(encoding="utf-8"))
    assert "00000004.safetensors" in text
    assert "updates made 2 of 4" in text


def test_a_broken_log_is_told(copied, monkeypatch):
    (copied / "log.jsonl").write_text("{not json\n{}\n")
    shutil.rmtree(copied / "checkpoints")
    shutil.rmtree(copied / "snapshots")
    text = text_of(write_report(copied).read_text(encoding="utf-8"))
    assert "no curves to show" in text


class Counting(Task):
    """A task by a local rule, unknown to the registry."""

    def __init__(self) -> None:
        self.net = nn.Linear(2, 2)

    def modules(self):
        return {"net": self.net}

    def update(self, step):
        return {"activity": 1.0 + step.done}

    def images(self):
        return {"sheet": torch.full((1, 4, 5), 0.5)}


def test_any_other_run_gets_curves_pictures_and_recipe(tmp_path):
    settings = TrainingSettings(
        updates=5, warmup_updates=0, log_every=1, loggers=("local",), snapshots=(0, 5)
    )
    folder = tmp_path / "map-7"
    fit(Counting(), settings, folder, recipe={"what": "a map <b>"}, seed=0, progress=False)
    html = write_report(folder).read_text(encoding="utf-8")
    text = text_of(html)
    assert "<h1>map-7</h1>" in html
    assert "what: a map &lt;b&gt;" in html
    assert "activity 1 5 1" in text  # first, last and smallest
    assert "Pictures named sheet, at age 0, age 5." in html
    assert "expected a key &#39;task&#39;" in html  # why it cannot be opened
    assert "How many dimensions" not in text


def test_a_picture_that_cannot_be_read_is_told(tmp_path):
    folder = tmp_path / "run"
    save_image(torch.rand(1, 4, 4), folder / "images" / "good" / "00000001.png")
    (folder / "images" / "bad").mkdir()
    (folder / "images" / "bad" / "00000001.png").write_bytes(b"no picture")
    (folder / "recipe.yaml").write_text("name: mine\n")
    html = write_report(folder).read_text(encoding="utf-8")
    assert "Pictures named good" in html
    assert "bad/00000001.png" in html


def test_what_is_no_run_is_refused(tmp_path, copied):
    with pytest.raises(FileFormatError, match=r"no recipe\.yaml"):
        write_report(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"\.html"):
        write_report(copied, tmp_path / "page.txt")
