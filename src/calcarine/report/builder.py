"""A page made of sections, written as one self-contained HTML file.

    page = Report("color-sandbox")
    page.section("Learning", "How the losses fell.")
    page.figure(loss_curve(lines), alt="Losses over updates", caption="...")
    page.save("report.html")

Pictures are embedded, nothing is loaded from elsewhere, and no script runs: the page reads the same
offline, printed, and in ten years. All text is plain text; what looks like HTML in it is shown as
it is written.

Axes    T frames | C channel, 1 grey or 3 sRGB | H W rows down, columns right
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine import __version__
from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.files import write_text
from calcarine.plot import animation_bytes, figure_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Report"]

_DPI = 144  # twice what a browser takes for an inch at the size figures are shown in


@dataclass
class _Section:
    heading: str
    blocks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "-".join("".join(c if c.isalnum() else " " for c in self.heading.lower()).split())


class Report:
    """A page; what is added goes to the section begun last.

    Args:
        title: Title of the page.
        subtitle: One line below it.
    """

    def __init__(self, title: str, *, subtitle: str = "") -> None:
        if not title.strip():
            raise InputError("Report expected a title, got an empty one.")
        self.title, self.subtitle = title, subtitle
        self._sections: list[_Section] = []

    def section(self, heading: str, text: str = "") -> None:
        """Begin a section.

        Raises:
            InputError: If the heading is empty or there is such a section already.
        """
        new = _Section(heading)
        if not new.anchor or new.anchor in {s.anchor for s in self._sections}:
            raise InputError(f"Report expected a new heading, got {heading!r}.")
        self._sections.append(new)
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """Add paragraphs, which empty lines divide."""
        self._add("text", paragraphs=[p.strip() for p in text.split("\n\n") if p.strip()])

    def note(self, text: str) -> None:
        """Add a remark that stands out: something is missing, or to be read with care."""
        self._add("note", text=text)

    def code(self, text: str) -> None:
        """Add text in which every space counts."""
        self._add("code", text=text)

    def numbers(self, numbers: Mapping[str, str]) -> None:
        """Add key numbers, each with what it is: ``{"dimensions of colour": "3"}``."""
        self._add("numbers", items=[(str(v), str(k)) for k, v in numbers.items()])

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, caption: str = ""
    ) -> None:
        """Add a table; columns in which all are numbers, or missing, are set flush right.

        Args:
            columns: Headings.
            rows: Cells; numbers are best given as text, with the digits that mean something.
            caption: What the table shows.

        Raises:
            InputError: If a row has not one cell per column.
        """
        cells = [[str(cell) for cell in row] for row in rows]
        wrong = [len(row) for row in cells if len(row) != len(columns)]
        if wrong or not columns:
            raise InputError(
                f"table expected {len(columns)} cells per row and at least one column, got "
                f"{wrong[:1] or 'no column'}."
            )
        flush = [
            bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))
        ]
        self._add("table", columns=list(columns), rows=cells, flush=flush, caption=caption)

    def figure(self, figure: Figure, *, alt: str, caption: str = "") -> None:
        """Add a figure.

        Args:
            figure: The figure.
            alt: What it shows, for those who cannot see it.
            caption: What it shows, and how to read it.
        """
        png = figure_png(figure, dpi=_DPI)
        width = round(figure.get_figwidth() * 96)
        self._picture("figure", alt, caption, source=_embedded("png", png), width=width)

    def image(self, image: Float[Tensor, "C H W"], *, alt: str, caption: str = "") -> None:
        """Add a picture, shown pixel by pixel.

        Args:
            image: sRGB code values in [0, 1].
            alt: What it shows, for those who cannot see it.
            caption: What it shows.

        Raises:
            ShapeError: If the tensor is no picture.
            NonFiniteError: If a value is NaN or infinite.
        """
        source = _embedded("png", _png(image))
        self._picture("picture", alt, caption, source=source, width=image.shape[-1])

    def animation(
        self, frames: Float[Tensor, "T C H W"], *, fps: float, alt: str, caption: str = ""
    ) -> None:
        """Add an animation that repeats; readers who want no motion get its last frame.

        Args:
            frames: sRGB code values in [0, 1].
            fps: Frames per second.
            alt: What it shows, for those who cannot see it.
            caption: What it shows.
        """
        source = _embedded("webp", animation_bytes(frames, fps=fps))
        still = _embedded("png", _png(frames[-1]))
        self._picture("animation", alt, caption, source=source, still=still, width=frames.shape[-1])

    def html(self) -> str:
        """Return the page."""
        import jinja2

        text = (resources.files("calcarine.report") / "template.html").read_text(encoding="utf-8")
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        return environment.from_string(text).render(
            title=self.title,
            subtitle=self.subtitle,
            sections=self._sections,
            version=__version__,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page; the file appears when it is complete, and missing folders are made.

        Raises:
            InputError: If the name does not end in .html.
        """
        return write_text(check_name(path), self.html())

    def _picture(self, kind: str, alt: str, caption: str, **details: Any) -> None:
        if not alt.strip():
            raise InputError(
                f"Every {kind} expected an alt text that says what it shows, got none."
            )
        self._add(kind, alt=alt, caption=caption, **details)

    def _add(self, kind: str, **details: Any) -> None:
        if not self._sections:
            raise InputError("Begin a section first: report.section('Results').")
        self._sections[-1].blocks.append({"kind": kind, **details})


def check_name(path: str | os.PathLike[str]) -> Path:
    """Return the path if it is one for a page.

    Raises:
        InputError: If the name does not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"A report expected a file name ending in .html, got {path.name!r}.")
    return path


def _is_number(text: str) -> bool:
    if text.strip() in ("", "–"):
        return True
    try:
        float(text.lstrip("<>≤≥ ").replace("−", "-").split(" ")[0])
    except ValueError:
        return False
    return True


def _embedded(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _png(image: Tensor) -> bytes:
    """Return a picture as the content of a PNG file."""
    from PIL import Image

    if image.ndim != 3 or image.shape[0] not in (1, 3) or image.numel() == 0:
        raise ShapeError(
            "A report expected a picture with axes (channel, height, width) and 1 or 3 channels, "
            f"got shape {tuple(image.shape)}."
        )
    if not image.isfinite().all():
        raise NonFiniteError("A report expected a picture of finite values, got NaN or infinity.")
    codes = (image.detach().double().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    pixels = codes.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(buffer, format="PNG")
    return buffer.getvalue()
