"""The film of a synthesis shows its stored pictures, and the curve up to each of them."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError
from calcarine.plot import synthesis_animation
from calcarine.plot.style import SERIES


def test_every_stored_picture_is_a_frame(metamer):
    frames = synthesis_animation(metamer, item=1)
    stored = metamer.history.images[:, 1]
    assert len(frames) == len(stored) == 7
    assert 0 <= frames.min() <= frames.max() <= 1
    zoom = 18  # 15 rows enlarged to at least 256
    picture = frames[:, :, 22:, : 18 * zoom]
    small = picture[:, :, zoom // 2 :: zoom, zoom // 2 :: zoom]
    assert torch.equal(small, stored.expand(-1, 3, -1, -1))


def of_color(frames: torch.Tensor, color: str) -> torch.Tensor:
    """Return where a frame has exactly a colour of the series, (T, H, W)."""
    code = torch.tensor([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return ((frames - code[:, None, None]).abs() < 0.01).all(dim=1)


def test_the_curve_grows_and_ends_in_a_dot(metamer):
    frames = synthesis_animation(metamer)
    drawn = of_color(frames, SERIES[0]).sum(dim=(1, 2))
    assert drawn[0] < 20
    assert (drawn.diff() > 10).all()
    dots = [mask.nonzero().double().mean(dim=0) for mask in of_color(frames, SERIES[1])]
    down, across = torch.stack(dots).diff(dim=0).T
    assert (across > 10).all()
    assert across.max() - across.min() < 1.5  # iterations are evenly spaced
    assert down.max() - down.min() < 1.5  # the loss halves each time: a line on a log axis
    assert (down > 5).all()


def test_long_films_are_thinned_out(metamer):
    whole, thin = synthesis_animation(metamer), synthesis_animation(metamer, most_frames=3)
    assert torch.equal(thin, whole[[0, 3, 6]])
    assert torch.equal(synthesis_animation(metamer, most_frames=1), whole[[6]])


@pytest.mark.parametrize("suffix", ["webp", "gif", "html"])
def test_a_film_is_written(metamer, tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    synthesis_animation(metamer, path, fps=5)
    assert path.stat().st_size > 1000


def test_pictures_larger_than_the_frame_keep_their_size(metamer):
    metamer.history = metamer.history._replace(images=torch.rand(7, 2, 3, 301, 255))
    frames = synthesis_animation(metamer)
    assert frames.shape[-2] == 22 + 301
    assert torch.equal(frames[:, :, 22:, :255], metamer.history.images[:, 0])


def test_what_was_not_stored_cannot_be_filmed(metamer):
    with pytest.raises(InputError, match="0 to 1, got 5"):
        synthesis_animation(metamer, item=5)
    with pytest.raises(InputError, match="most_frames"):
        synthesis_animation(metamer, most_frames=0)
    metamer.history = metamer.history._replace(iterations=())
    with pytest.raises(InputError, match="store_every"):
        synthesis_animation(metamer)
    metamer.history = None
    with pytest.raises(InputError, match="store_every"):
        synthesis_animation(metamer)
