"""The codes of published figures mean what published figures mean by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calcarine.errors import InputError
from calcarine.plot import figure_png, image_grid
from calcarine.plot.ranges import picture_ranges


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, 9, 7, generator=draw, dtype=torch.double),
        3 * torch.randn(1, 5, 11, generator=draw, dtype=torch.double) - 2,
    ]


def expected(values: np.ndarray, code: str) -> tuple[float, float]:
    """The formulas, written with numpy."""
    if code.endswith("0"):
        return -np.abs(values).max(), np.abs(values).max()
    if code.endswith("2"):
        return values.mean() - 2 * values.std(), values.mean() + 2 * values.std()
    if code.endswith("3"):
        low, high = np.percentile(values, [10, 90])
        return low - (high - low) / 8, high + (high - low) / 8
    return values.min(), values.max()


@pytest.mark.parametrize("code", ["auto", "auto0", "auto1", "auto2", "auto3"])
def test_one_range_for_all(pictures, code):
    found = picture_ranges(pictures, code)
    together = np.concatenate([p.numpy().ravel() for p in pictures])
    assert found[0] == found[1] == pytest.approx(expected(together, code), rel=1e-12)


@pytest.mark.parametrize("code", ["indep0", "indep1", "indep2", "indep3"])
def test_one_range_each(pictures, code):
    found = picture_ranges(pictures, code)
    wanted = [expected(p.numpy().ravel(), code) for p in pictures]
    assert np.allclose(found, wanted, rtol=1e-12)
    assert found[0] != found[1]


def test_percentiles_come_to_lie_at_their_place():
    (pair,) = picture_ranges(
        [torch.linspace(3, 7, 101, dtype=torch.double).view(1, 1, -1)], "auto3"
    )
    low, high = pair
    assert (3.4 - low) / (high - low) == pytest.approx(0.1)
    assert (6.6 - low) / (high - low) == pytest.approx(0.9)


def test_colours_keep_their_values_and_differences_are_stretched(pictures):
    color = torch.rand(3, 4, 5, dtype=torch.double) * 0.4
    difference = color - 0.3
    found = picture_ranges([color, difference, 2 * difference, pictures[0]], "auto0")
    assert found[0] == (0, 1)
    most = float(2 * difference.abs().max())
    assert found[1] == found[2] == (-most, most)
    assert found[3] == pytest.approx(expected(pictures[0].numpy(), "auto0"))


@pytest.mark.parametrize("code", ["auto0", "auto1", "auto2", "auto3", "indep0", "indep3"])
def test_a_flat_picture_has_a_range_too(code):
    for value in (0.0, -5.0):
        ((low, high),) = picture_ranges([torch.full((1, 3, 3), value).double()], code)
        assert low < high
        assert low <= value <= high


def test_symmetric_ranges_are_red_and_blue_others_grey(pictures):
    maps = {
        code: image_grid(pictures, limits=code).axes[0].get_images()[0].get_cmap().name
        for code in ("auto0", "indep0", "auto1", "indep2")
    }
    assert maps == {"auto0": "RdBu_r", "indep0": "RdBu_r", "auto1": "gray", "indep2": "gray"}


def test_ranges_are_written_below_titles_when_asked(pictures):
    figure = image_grid(pictures, titles=["a", "b"], limits=(-1.5, 2), show_range=True)
    titles = [ax.get_title() for ax in figure.axes if ax.get_images()]
    assert titles == ["a\n[-1.5, 2]", "b\n[-1.5, 2]"]
    assert not [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    bare = image_grid(pictures, limits=(0, 1), show_range=True)
    assert bare.axes[0].get_title() == "[0, 1]"
    assert figure_png(figure)


def test_shared_codes_have_one_scale_and_the_others_one_each(pictures):
    for code, count in (("auto1", 1), ("indep1", 2)):
        figure = image_grid(pictures, limits=code)
        assert len([ax for ax in figure.axes if ax.get_label() == "<colorbar>"]) == count


@pytest.mark.parametrize("code", ["auto4", "indep", "atuo1", ""])
def test_unknown_codes_are_refused(pictures, code):
    with pytest.raises(InputError, match="auto3, indep0"):
        image_grid(pictures, limits=code)
