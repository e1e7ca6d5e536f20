"""The page of a probe says what was found and holds every figure."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from PIL import Image

from calcarine.errors import InputError
from calcarine.lgn import CenterSurround
from calcarine.probes import Eigendistortion, MADCompetition, Metamer, mse, ssim
from calcarine.report import probe_page


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)  # seed 0 would draw the default start
    return torch.rand(1, 1, 24, 30, generator=draw, dtype=torch.double)


@pytest.fixture(scope="module")
def model() -> CenterSurround:
    return CenterSurround(7)


@pytest.fixture(scope="module")
def metamer(image, model) -> Metamer:
    return Metamer(image, model).synthesize(30, 0, "adam", 10, progress=False)


@pytest.fixture(scope="module")
def competition(image) -> list[MADCompetition]:
    def dissimilarity(x, y):
        return 1 - ssim(x, y)

    made = []
    for optimized, reference in ((mse, dissimilarity), (dissimilarity, mse)):
        for minmax in ("min", "max"):
            probe = MADCompetition(image, optimized, reference, minmax)
            made.append(probe.synthesize(5, progress=False))
    return made


def pictures(html: str, kind: str) -> list[Image.Image]:
    found = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def headings(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_the_page_of_a_metamer(metamer, tmp_path):
    page = probe_page(
        metamer,
        title="A metamer & more",
        subtitle="center_surround",
        settings={"seed": 3, "color": False, "layer": None, "overrides": ("a=1", "b=2")},
        command="calcarine metamer photo.jpg",
    )
    html = page.save(tmp_path / "page.html").read_text()
    assert headings(html) == ["At a glance", "How it went", "What differs", "Settings", "Sources"]
    assert f"<dt>iterations</dt><dd>{metamer.iterations}</dd>" in html
    loss = float(metamer.losses.representation[-1])
    assert f"<dt>representation loss</dt><dd>{loss:.3g}</dd>" in html
    assert len(pictures(html, "png")) == 5  # four figures and the still of the film
    (film,) = pictures(html, "webp")
    assert film.n_frames == len(metamer.history.iterations)
    assert "calcarine metamer photo.jpg" in html
    assert "A metamer &amp; more" in html
    assert "<td>no</td>" in html
    assert "<td>a=1, b=2</td>" in html
    assert "<td>layer</td>" not in html
    for key in ("berardino2017", "feather2019"):
        assert key in html


def test_without_stored_pictures_there_is_no_film(image, model):
    html = probe_page(Metamer(image, model).synthesize(2, 0, "adam", progress=False)).html()
    assert "data:image/webp" not in html
    assert "Not converged" in html
    assert "Settings" not in headings(html)


def test_the_page_of_eigendistortions(image, model):
    found = Eigendistortion(image, model).synthesize(2, "exact", progress=False)
    html = probe_page(found, scale=2.0).html()
    assert headings(html) == ["At a glance", "Spectra", "Sources"]
    for value in found.eigenvalues.tolist():
        assert f"{value:.6g}" in html
    assert "2 times each distortion" in html
    assert len(pictures(html, "png")) == 2


def test_the_page_of_a_competition(competition):
    html = probe_page(competition, names=("pixels", "structure")).html()
    assert "<h1>pixels against structure</h1>" in html
    rows = re.findall(r"<tr><td[^>]*>(pixels|structure)</td><td[^>]*>(\w+)</td>", html)
    assert rows == [(m, g) for m in ("pixels", "structure") for g in ("lowest", "highest")]
    assert len(pictures(html, "png")) == 5
    assert "wang2008" in html
    named = dict(enumerate(competition))
    assert probe_page(named).html().count("<figure") == 5


def test_models_behind_metrics_are_cited(competition, model):
    assert "berardino2017" not in probe_page(competition).html()
    assert "berardino2017" in probe_page(competition, models=[model]).html()


@pytest.mark.parametrize("result", [None, [], [3], torch.ones(2), {"a": None}])
def test_other_results_are_refused(result):
    with pytest.raises(InputError, match="expected a Metamer"):
        probe_page(result)
