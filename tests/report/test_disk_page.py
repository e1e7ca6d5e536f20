"""The page of a network that learned to find disks."""

from __future__ import annotations

import re

import pytest

from calcarine import recipe
from calcarine.report import disk_page, write_report
from calcarine.training import fit


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A page, and what was said while it was made."""
    folder = tmp_path_factory.mktemp("disks") / "run"
    chosen = recipe.load(
        "disk-velocity",
        [
            "training.updates=2", "training.snapshots=[0, 2]", "training.loggers=[local]",
            "batch_size=1", "frames=12", "settle=2", "window=5",
        ],
    )  # fmt: skip
    fit(
        chosen.build_task(), chosen.training, folder, recipe=chosen.to_dict(), seed=0,
        progress=False,
    )  # fmt: skip
    said = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_page, "_SEEDS", range(1000, 1002))
        patch.setattr(disk_page, "_TUNING_SEEDS", range(2))
        patch.setattr(disk_page, "_FRAMES", 90)
        patch.setattr(disk_page, "_FILM_FRAMES", 60)
        page = write_report(folder, progress=said.append).read_text(encoding="utf-8")
    return page, said


def test_the_page_tells_what_is_found_and_what_was_learned(told):
    page, said = told
    assert said[:2] == ["measuring velocity tuning", "finding disks in new recordings"]
    for heading in ("Finding disks", "Velocity tuning", "Constants", "Learning", "Sources"):
        assert f"<h2>{heading}</h2>" in page
    text = " ".join(re.sub(r"<[^>]*>", " ", page.partition("</style>")[2]).split())
    assert "could not be measured" not in text
    share = float(re.search(r"precision ([\d.]+) ± [\d.]+ % ", text)[1])
    assert 60 < share <= 100
    assert "time constant of integrators (ms)" in text
    assert "@article{lagorce2017" in text


def test_the_page_holds_its_pictures(told):
    kinds = re.findall(r"data:image/(\w+);base64", told[0])
    assert kinds.count("webp") == 1  # the film
    assert kinds.count("png") == 4  # its still, detections, tuning, losses
