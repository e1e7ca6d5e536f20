"""Cones: accuracy counts what it says, and every cell is drawn in its colour."""

from __future__ import annotations

import pytest
import torch

from calcarine.color import cone_fundamentals as sensitivities
from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot import (
    cone_fundamentals,
    cone_identities,
    figure_png,
    identity_accuracy,
    mosaic_picture,
)
from calcarine.retina import cone_mosaic


@pytest.fixture
def mosaic() -> torch.Tensor:
    """Six L, two M, one S: one column each of a 3 x 3 lattice but one."""
    kinds = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 2]])
    return torch.nn.functional.one_hot(kinds, 3).permute(2, 0, 1).float()


def test_accuracy_is_the_share_of_each_type(mosaic):
    shown = mosaic.clone()
    shown[:, 0, 0] = torch.tensor([0.1, 0.6, 0.0])  # one of six L called M
    shown[:, 2, 0] = torch.tensor([0.6, 0.1, 0.0])  # one of two M called L
    found = identity_accuracy(mosaic, shown)
    assert found == pytest.approx({"L": 5 / 6, "M": 1 / 2, "S": 1.0, "all": 7 / 9, "chance": 6 / 9})


def test_the_border_and_mixed_cells_are_not_counted(mosaic):
    assert identity_accuracy(mosaic, mosaic, border=1) == {"L": 1.0, "all": 1.0, "chance": 1.0}
    mixed = mosaic.clone()
    mixed[:, 2, 2] = torch.tensor([0.5, 0.0, 0.5])
    assert "S" not in identity_accuracy(mixed, mosaic)
    with pytest.raises(InputError, match="all are mixed"):
        identity_accuracy(torch.full((2, 3, 3), 0.5), torch.rand(2, 3, 3))
    with pytest.raises(ShapeError, match="border 2"):
        identity_accuracy(mosaic, mosaic, border=2)


def test_cells_have_the_colour_of_their_pigment(mosaic):
    picture = mosaic_picture(mosaic)
    long, middle, short = picture[:, 0, 0], picture[:, 2, 0], picture[:, 2, 2]
    assert long.argmax() == 0
    assert middle.argmax() == 1
    assert short.argmax() == 2
    half = mosaic_picture(torch.tensor([0.5, 0.5, 0.0])[:, None, None])[:, 0, 0]
    assert torch.allclose(half, (long + middle) / 2)
    assert mosaic_picture(-mosaic).max() == 0  # a read-out below zero knows nothing
    with pytest.raises(ShapeError):
        mosaic_picture(torch.rand(5, 2, 2))


@pytest.mark.parametrize("kind", ["L", "LM", "LMS", "LMSQ", "MS+L_coexpress_M"])
def test_any_mosaic_can_be_shown(kind):
    truth = cone_mosaic(kind, 12)
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(8, 12, 12, generator=draw)
    figure = cone_identities(truth, truth + 0.1, vectors, border=1)
    assert figure_png(figure)
    bars = {p.get_x(): p.get_height() for p in figure.axes[2].patches}
    assert all(height == pytest.approx(100) for height in bars.values())


def test_components_separate_what_is_separate():
    """Two clusters lie on the first component, which then carries all the variance."""
    truth = cone_mosaic("LM", 10)
    vectors = torch.zeros(3, 10, 10)
    vectors[1] = truth[0]
    figure = cone_identities(truth, truth, vectors)
    first = figure.axes[3]
    assert "100 %" in first.get_xlabel()
    long, middle = (c.get_offsets()[:, 0] for c in first.collections)
    assert abs(long.mean() - middle.mean()) == pytest.approx(1, abs=1e-6)
    assert {c.get_label() for c in first.collections} == {"L", "M"}


def test_before_learning_all_identities_are_alike():
    truth = cone_mosaic("LMS", 10)
    vectors = torch.zeros(8, 10, 10)
    vectors[0] = 1
    figure = cone_identities(truth, torch.zeros_like(truth), vectors)
    assert "the same identity" in figure.axes[3].texts[0].get_text()
    assert figure_png(figure)


def test_mosaics_and_vectors_that_do_not_fit_are_refused(mosaic):
    with pytest.raises(ShapeError, match="vectors"):
        cone_identities(mosaic, mosaic, torch.rand(8, 4, 4))
    with pytest.raises(NonFiniteError):
        cone_identities(mosaic, mosaic, torch.full((8, 3, 3), torch.nan))


def test_fundamentals_are_drawn_over_wavelength():
    wavelengths = torch.arange(400.0, 701.0, 5.0)
    values = sensitivities((560, 419), wavelengths)
    figure = cone_fundamentals(values, wavelengths, types="LS")
    (ax,) = figure.axes
    assert [line.get_label() for line in ax.get_lines()] == ["L, 565 nm", "S, 440 nm"]
    assert ax.get_lines()[0].get_ydata() == pytest.approx(values[:, 0].numpy())
    assert "nm" in ax.get_xlabel()
    with pytest.raises(ShapeError, match="as many rows as wavelengths"):
        cone_fundamentals(values)
    with pytest.raises(ShapeError, match="one letter per column"):
        cone_fundamentals(values, wavelengths, types="L")
