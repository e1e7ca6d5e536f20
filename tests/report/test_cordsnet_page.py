"""The page of a network that recognises images in time."""

from __future__ import annotations

import re

import pytest

from calcarine import recipe
from calcarine.report import cordsnet_measures, write_report
from calcarine.training import Run, fit

TINY = [
    "data.size=16", "model.image_size=16", "batch_size=8", "trial_batch_size=2", "warmup_ms=20",
    "stimulus_ms=20", "off_ms=20", "readout_steps=5", "settle_steps=2", "training.log_every=1",
    "training.loggers=[local]", "training.phases.twin.updates=12",
    "training.phases.inverse.updates=3", "training.phases.linear.updates=1",
    "training.phases.annealing.updates=2", "training.phases.finetune.updates=1",
]  # fmt: skip


def trained(folder, *changes):
    chosen = recipe.load("cordsnet-digits", [*TINY, *changes])
    fit(
        chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(), seed=0,
        progress=False,
    )  # fmt: skip
    return folder


@pytest.fixture
def short(monkeypatch):
    """Few images, short trials."""
    for name, value in {
        "MOST_IMAGES": 60, "NOISE_IMAGES": 12, "PATH_IMAGES": 12, "START_IMAGES": 2,
        "OFF_MS": 40.0, "NOISE": (0.0, 1.0), "MODES": 6,
    }.items():  # fmt: skip
        monkeypatch.setattr(cordsnet_measures, name, value)


def text_of(page):
    return " ".join(re.sub(r"<[^>]*>", " ", page.partition("</style>")[2]).split())


def test_the_page_of_a_whole_run(tmp_path, short):
    said = []
    folder = trained(tmp_path / "run", "training.phases.direct.updates=2")
    page = write_report(folder, progress=said.append).read_text(encoding="utf-8")
    assert said[0].startswith("recognising 6")
    assert "adding noise" in said
    for heading in (
        "Phases", "Recognition over time", "Return to baseline", "Noise", "Trajectories",
        "Eigenvalues", "Learning", "Recipe", "Sources",
    ):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    text = text_of(page)
    assert "could not be measured" not in text
    for name in ("staged network", "trained directly", "feed-forward twin"):
        share = float(re.search(rf"held-out, {name} ([\d.]+)%", text)[1])
        assert 0 <= share <= 100
    assert re.search(r"area 2 0\.\d+ \d+\.\d \d+\.\d \d+\.\d \de-\d+", text)
    assert re.search(r"area2 \d+ \d+ ", text)  # back within so many ms
    assert "one stable state was found" in text
    assert "each for 20 ms, then 40 ms of nothing" in text
    assert "@inproceedings{soo2024" in text
    assert page.count("data:image/png;base64") >= 6


def test_the_page_of_a_run_without_a_control(tmp_path, short):
    folder = trained(
        tmp_path / "run", "control=false", "training.phases.direct.updates=0",
        "training.phases.annealing.updates=0", "model.dt_ms=3", "warmup_ms=12", "stimulus_ms=21",
        "off_ms=21",
    )  # fmt: skip
    text = text_of(write_report(folder).read_text(encoding="utf-8"))
    assert "could not be measured" not in text
    assert "trained directly" not in text.partition("Phases A feed-forward")[0]
    assert "held-out, staged network" in text
    assert "each for 21 ms, then 39 ms of nothing" in text  # whole steps of 3 ms


def test_the_page_of_a_run_that_has_only_begun(tmp_path, short):
    folder = trained(tmp_path / "run", *(
        f"training.phases.{name}.updates=0"
        for name in ("inverse", "linear", "annealing", "finetune", "direct")
    ))  # fmt: skip
    text = text_of(write_report(folder).read_text(encoding="utf-8"))
    assert "After 12 updates the staged network has learned nothing yet" in text
    assert "held-out, trained directly" not in text


@pytest.mark.parametrize(
    ("update", "network", "remark"),
    [
        (0, "staged", "nothing yet"), (12, "staged", "nothing yet"), (13, "staged", "inverse"),
        (16, "staged", "linear"), (18, "staged", "annealing"), (19, "staged", ""),
        (20, "staged", ""), (19, "direct", "nothing yet"), (20, "direct", ""),
    ],
)  # fmt: skip
def test_a_network_that_is_not_what_it_will_be(update, network, remark):
    made = recipe.load("cordsnet-digits", [*TINY, "training.phases.direct.updates=2"])
    found = cordsnet_measures.reservation(Run(None, made, None, update), network)
    assert (remark in found) if remark else found == ""


def test_a_network_that_ends_with_an_earlier_phase_is_what_it_is():
    changes = [f"training.phases.{name}.updates=0" for name in ("annealing", "finetune", "direct")]
    made = recipe.load("cordsnet-digits", [*TINY, *changes])
    assert cordsnet_measures.reservation(Run(None, made, None, 16)) == ""
    assert "nothing yet" in cordsnet_measures.reservation(Run(None, made, None, 16), "direct")
