"""The page of a spiking network that reads digits."""

from __future__ import annotations

import re

import pytest
import torch

from calcarine import recipe
from calcarine.report import builder, write_report
from calcarine.report.spiking_page import _worst
from calcarine.training import fit, open_run


def learn(folder, *overrides):
    chosen = recipe.load(
        "spiking-digits",
        [
            "model.hidden=12", "model.steps=12", "batch_size=8", "evaluate_every=2",
            "training.updates=4", "training.snapshots=[0, 4]", "training.loggers=[local]",
            "training.log_every=1", *overrides,
        ],
    )  # fmt: skip
    fit(
        chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(), seed=0,
        progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A page, its folder, and what was said while it was made."""
    folder = learn(tmp_path_factory.mktemp("digits") / "run", "model.learnable=true")
    said = []
    return write_report(folder, progress=said.append).read_text(encoding="utf-8"), folder, said


def text_of(html):
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_page_tells_what_it_reads_and_how(told):
    page, folder, said = told
    for heading in (
        "At a glance", "Reading digits", "One digit inside", "Time constants", "Learning",
        "Pictures", "Recipe", "Sources",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    text = text_of(page)
    found = open_run(folder).task.held_out()
    assert f"held-out digits read right {found.accuracy:.1%}" in text
    assert "last 599 digits" in text
    assert "@article{zenke2018" in text
    assert said == ["reading the held-out digits", "writing the page"]


def test_the_page_holds_its_pictures(told):
    page, _, _ = told
    # accuracy, confusions, digit, raster, membranes, time constants, losses, pictures of the task
    assert re.findall(r"data:image/(\w+);base64", page) == ["png"] * 8


def test_equal_fixed_time_constants_need_no_section(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "figure_png", lambda figure, dpi: b"drawn elsewhere")
    page = write_report(learn(tmp_path / "run")).read_text(encoding="utf-8")
    assert "<h2>Reading digits</h2>" in page
    assert "Time constants" not in page


def test_the_commonest_mistakes_come_first():
    counts = torch.tensor([[9, 1, 0], [4, 9, 0], [0, 2, 9]])
    assert _worst(counts) == [["1", "0", "4"], ["2", "1", "2"], ["0", "1", "1"]]
    assert _worst(torch.eye(3).long()) == []
