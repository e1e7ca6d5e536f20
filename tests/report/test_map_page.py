"""The page of a map that grew."""

from __future__ import annotations

import json
import re

import pytest

from calcarine import recipe
from calcarine.report import builder, write_report
from calcarine.training import fit


def grow(folder, *overrides):
    chosen = recipe.load(
        "gcal-orientation",
        [
            "model.cortex_density=10", "model.lgn_density=8", "model.settling=3",
            "training.updates=4", "training.snapshots=[0, 4]", "training.loggers=[local]",
            *overrides,
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
    folder = grow(tmp_path_factory.mktemp("map") / "run")
    said = []
    page = write_report(folder, progress=said.append).read_text(encoding="utf-8")
    return page, folder, said


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are not drawn: the page above shows them."""
    monkeypatch.setattr(builder, "figure_png", lambda figure, dpi: b"drawn elsewhere")


def text_of(html):
    body = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_the_page_tells_everything_about_the_map(told):
    page, _, said = told
    for heading in (
        "At a glance", "The orientation map", "What its units look at", "How the map developed",
        "Learning", "Pictures", "Recipe", "Sources",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    text = text_of(page)
    assert "updates made 4 of 4" in text
    assert "mean orientation selectivity 0." in text
    assert "@article{stevens2013" in text
    assert "After 4 updates" in text
    assert said[:2] == ["measuring the map at age 0", "measuring the map at age 4"]


def test_the_page_holds_its_pictures(told):
    page, _, _ = told
    kinds = re.findall(r"data:image/(\w+);base64", page)
    assert kinds.count("webp") == 1  # the development
    # map, histogram, fields, development, its still, learning, pictures of the task
    assert kinds.count("png") == 7
    assert page.count(" alt=") == 8


def test_a_second_page_measures_nothing_again(told, undrawn):
    _, folder, _ = told
    said = []
    write_report(folder, folder / "again.html", progress=said.append)
    assert said == ["writing the page"]


def test_weights_that_changed_are_measured_again(told, tmp_path, undrawn):
    _, folder, _ = told
    other = grow(tmp_path / "run", "seed=1")
    place = other / "results" / "orientation_maps"
    place.mkdir(parents=True)
    for path in (folder / "results" / "orientation_maps").iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    said = []
    write_report(other, progress=said.append)
    assert said[:2] == ["measuring the map at age 0", "measuring the map at age 4"]


def test_a_sheet_too_small_for_a_spectrum_has_a_page_all_the_same(tmp_path, undrawn):
    folder = grow(tmp_path / "run", "model.cortex_density=7")
    text = text_of(write_report(folder).read_text(encoding="utf-8"))
    assert "no measurable hypercolumn" in text
    assert "could not be measured" not in text


def test_an_unfinished_map_says_so(tmp_path, undrawn):
    folder = grow(tmp_path / "run")
    data = recipe.parse_yaml((folder / "recipe.yaml").read_text(), "recipe")
    data["training"]["updates"] = 9
    (folder / "recipe.yaml").write_text(json.dumps(data))
    assert "not finished: 4 of 9 updates" in text_of(write_report(folder).read_text("utf-8"))
