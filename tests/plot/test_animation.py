"""Animations hold the frames that were given, in every format."""

from __future__ import annotations

import base64
import io
import re
import sys

import av
import numpy as np
import pytest
import torch
from PIL import Image

from calcarine.errors import InputError, MissingDependencyError, NonFiniteError, ShapeError
from calcarine.plot import animation_bytes, caption_frames, save_animation


@pytest.fixture
def frames() -> torch.Tensor:
    """Five frames of odd size: a coloured bar moves over a ramp."""
    movie = torch.linspace(0, 1, 35).expand(5, 3, 27, 35).clone()
    for index, frame in enumerate(movie):
        frame[:, :, 5 * index : 5 * index + 5] = torch.tensor([0.9, 0.3, 0.1])[:, None, None]
    return movie


def decoded(path) -> tuple[np.ndarray, list[float]]:
    """Return frames (T, H, W, 3) in [0, 1] and their durations in ms."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
            rate = float(container.streams.video[0].average_rate)
        arrays = [p.to_ndarray(format="rgb24") for p in pictures]
        return np.stack(arrays) / 255, [1000 / rate] * len(arrays)
    arrays, durations = [], []
    with Image.open(path) as film:
        for index in range(film.n_frames):
            film.seek(index)
            arrays.append(np.asarray(film.convert("RGB")))
            durations.append(film.info["duration"])
    return np.stack(arrays) / 255, durations


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".png", 0.003), (".webp", 0.05), (".gif", 0.03), (".mp4", 0.06)]
)
def test_frames_come_back(frames, tmp_path, suffix, tolerance):
    path = save_animation(frames, tmp_path / "new" / f"film{suffix}", fps=8)
    assert [p.name for p in path.parent.iterdir()] == [f"film{suffix}"]
    found, durations = decoded(path)
    wanted = frames.permute(0, 2, 3, 1).numpy()
    assert len(found) == 5
    error = np.abs(found[:, :27, :35] - wanted).mean(axis=(1, 2))
    assert error.max() < tolerance
    assert sum(durations) / 5 == pytest.approx(125, abs=5)


def test_colours_of_a_video_are_those_of_the_frames(tmp_path):
    """Flat fields survive compression, so that what differs would be the colour conversion."""
    colors = torch.tensor([[0.8, 0.2, 0.1], [0.1, 0.6, 0.2], [0.2, 0.3, 0.9], [0.5, 0.5, 0.5]])
    movie = colors[:, :, None, None].expand(-1, -1, 32, 32)
    path = save_animation(movie, tmp_path / "film.mp4", fps=5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.color_range, stream.codec_context.colorspace) == (1, 1)
        for picture, color in zip(container.decode(video=0), colors, strict=True):
            planes = picture.reformat(
                format="rgb24", src_colorspace="ITU709", src_color_range="MPEG",
                dst_color_range="JPEG",
            ).to_ndarray()  # fmt: skip
            assert np.abs(planes / 255 - color.numpy()).max() < 0.03


def test_odd_sides_of_a_video_are_extended(frames, tmp_path):
    found, _ = decoded(save_animation(frames, tmp_path / "film.mp4"))
    assert found.shape[1:3] == (28, 36)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".mp4"])
def test_one_grey_frame_is_an_animation_too(tmp_path, suffix):
    path = save_animation(torch.rand(1, 1, 16, 16), tmp_path / f"film{suffix}", fps=2)
    assert path.stat().st_size > 50
    with Image.open(path) if suffix != ".mp4" else av.open(str(path)) as film:
        assert film


def test_rounding_of_durations_does_not_add_up(tmp_path):
    """At 30 frames per second a frame lasts 33.3 ms, which files hold as whole numbers."""
    movie = torch.rand(30, 1, 6, 6)
    _, durations = decoded(save_animation(movie, tmp_path / "film.webp", fps=30))
    assert sum(durations) == 1000
    _, durations = decoded(save_animation(movie, tmp_path / "film.gif", fps=30))
    assert sum(durations) == 1000


def test_a_page_holds_the_animation_and_a_still_and_nothing_else(frames, tmp_path):
    path = save_animation(frames, tmp_path / "film.html", fps=4, title="bars & <ramps>")
    page = path.read_text()
    found = {
        kind: Image.open(io.BytesIO(base64.b64decode(text)))
        for kind, text in re.findall(r'src="data:image/(\w+);base64,([A-Za-z0-9+/=]+)"', page)
    }
    assert (found["webp"].n_frames, found["webp"].size) == (5, (35, 27))
    last = (frames[-1] * 255).permute(1, 2, 0)
    assert np.abs(np.asarray(found["png"].convert("RGB")) - last.numpy()).max() <= 0.51
    assert page.count("src=") == 2
    assert "<script" not in page
    assert "bars &amp; &lt;ramps&gt;" in page
    assert "prefers-reduced-motion" in page


def test_bytes_are_a_webp(frames):
    film = Image.open(io.BytesIO(animation_bytes(frames, fps=4)))
    assert (film.format, film.n_frames, film.size) == ("WEBP", 5, (35, 27))


def test_an_animation_leaves_its_frames_alone(frames, tmp_path):
    before = frames.clone()
    save_animation(frames, tmp_path / "film.gif")
    assert torch.equal(before, frames)


@pytest.mark.parametrize(
    ("movie", "name", "fps", "error", "message"),
    [
        (torch.rand(2, 3, 4, 4), "film.avi", 5, InputError, r"\.webp"),
        (torch.rand(2, 3, 4, 4), "film", 5, InputError, r"\.webp"),
        (torch.rand(3, 4, 4), "film.gif", 5, ShapeError, "time, channel"),
        (torch.rand(2, 2, 4, 4), "film.gif", 5, ShapeError, "1 or 3 channels"),
        (torch.rand(0, 3, 4, 4), "film.gif", 5, ShapeError, "shape"),
        (torch.rand(2, 3, 4, 4) * 255, "film.gif", 5, InputError, r"values in \[0, 1\]"),
        (torch.full((1, 1, 4, 4), torch.nan), "film.gif", 5, NonFiniteError, "16 that are"),
        (torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "film.gif", 5, InputError, "/ 255"),
        (torch.rand(2, 3, 4, 4), "film.webp", 0, InputError, "fps"),
        (torch.rand(2, 3, 4, 4), "film.gif", 60, InputError, "at most 50"),
    ],
)
def test_what_cannot_be_animated_is_refused(tmp_path, movie, name, fps, error, message):
    with pytest.raises(error, match=message):
        save_animation(movie, tmp_path / name, fps=fps)
    assert not list(tmp_path.iterdir())


def test_without_pyav_the_error_says_what_to_install(frames, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[viz\]"):
        save_animation(frames, tmp_path / "film.mp4")


def test_a_caption_stands_above_every_frame(frames):
    labelled = caption_frames(frames, [f"age {i}" for i in range(5)])
    assert torch.equal(labelled[:, :, 22:], frames)
    strips = labelled[:, :, :22]
    assert strips.min() < 0.4
    assert strips.max() == 1
    assert not torch.equal(strips[0], strips[1])
    with pytest.raises(InputError, match="one caption per frame"):
        caption_frames(frames, ["only one"])
