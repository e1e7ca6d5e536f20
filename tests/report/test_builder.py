"""The page builder: everything embedded, everything escaped, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.report import Report


def embedded(html: str, kind: str) -> list[Image.Image]:
    """Decode every embedded picture of a kind."""
    found = re.findall(rf"data:image/{kind};base64,([A-Za-z0-9+/=]+)", html)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def a_figure() -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2], [3, 4])
    return figure


@pytest.fixture
def page() -> Report:
    report = Report("A run", subtitle="below")
    report.section("First section", "One.\n\nTwo.")
    return report


def test_pictures_are_embedded_as_they_are(page):
    picture = torch.rand(3, 5, 7)
    page.image(picture, alt="noise", caption="what it is")
    page.figure(a_figure(), alt="a line")
    exact, figure = embedded(page.html(), "png")
    codes = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(np.asarray(exact), codes)
    assert figure.size[0] > 200
    assert "what it is" in page.html()


def test_an_animation_moves_and_has_a_still_for_those_who_want_none(page):
    frames = torch.linspace(0, 1, 4)[:, None, None, None].expand(4, 3, 6, 8)
    page.animation(frames, fps=5, alt="it gets brighter")
    html = page.html()
    (film,), (still,) = embedded(html, "webp"), embedded(html, "png")
    assert film.n_frames == 4
    assert np.asarray(still).min() == 255
    assert "prefers-reduced-motion" in html


class Tags(HTMLParser):
    """Collect opening tags and their attributes, and check that all are closed."""

    VOID = frozenset({"meta", "img", "source", "br", "hr", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_picture_has_an_alt_text_and_every_link_a_target(page):
    page.image(torch.rand(1, 5, 7), alt="first")
    page.section("Zweiter Abschnitt – größer")
    page.figure(a_figure(), alt="second")
    tags = Tags(page.html()).found
    assert [a["alt"] for tag, a in tags if tag == "img"] == ["first", "second"]
    anchors = {a.get("id") for _, a in tags}
    links = [a["href"] for tag, a in tags if tag == "a"]
    assert len(links) == 2
    assert all(link.startswith("#") and link[1:] in anchors for link in links)


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs(page):
    page.image(torch.rand(1, 5, 7), alt="x")
    page.animation(torch.rand(2, 1, 4, 4), fps=1, alt="y")
    html = page.html()
    for tag, attributes in Tags(html).found:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    assert "url(" not in html
    assert "@import" not in html


def test_text_is_escaped_everywhere():
    evil = '<script>alert("x")</script>'
    page = Report(evil, subtitle=evil)
    page.section(f"Heading {evil}", evil)
    page.note(evil)
    page.code(evil)
    page.numbers({evil: evil})
    page.table([evil], [[evil]], caption=evil)
    page.image(torch.rand(1, 2, 2), alt=evil, caption=evil)
    html = page.html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10


def test_a_table_sets_numbers_flush_right(page):
    page.table(
        ["name", "value"], [["a", "−1.5"], ["b", "< 0.1"], ["c", "–"], ["d", "3 dB"]], caption="t"
    )
    html = page.html()
    assert html.count('<td class="right">') == 4
    assert '<th scope="col" class="right">value' in html
    assert '<th scope="col">name' in html


def test_key_numbers_stand_with_their_names(page):
    page.numbers({"dimensions of colour": "3"})
    assert "<dt>dimensions of colour</dt><dd>3</dd>" in page.html()


def test_saving_makes_folders_and_leaves_no_scraps(page, tmp_path):
    path = page.save(tmp_path / "deep" / "page.html")
    assert path.read_text(encoding="utf-8") == page.html()
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_what_cannot_be_shown_is_refused(page, tmp_path):
    with pytest.raises(InputError, match="Begin a section"):
        Report("x").text("too early")
    with pytest.raises(InputError, match="title"):
        Report(" ")
    with pytest.raises(InputError, match="new heading"):
        page.section("First section")
    with pytest.raises(InputError, match="alt text"):
        page.image(torch.rand(1, 2, 2), alt=" ")
    with pytest.raises(ShapeError, match="channel, height, width"):
        page.image(torch.rand(2, 2, 2), alt="x")
    with pytest.raises(NonFiniteError):
        page.image(torch.full((1, 2, 2), torch.nan), alt="x")
    with pytest.raises(InputError, match="cells per row"):
        page.table(["a", "b"], [["1"]])
    with pytest.raises(InputError, match=r"\.html"):
        page.save(tmp_path / "page.pdf")
