"""Every band of a pyramid has its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.plot import figure_png, pyramid_bands


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).parents[1] / "data" / "lgn.npz") as stored:
        return {name: stored[name] for name in stored.files if name.startswith(("pyr", "lapl"))}


def bands(reference, prefix: str) -> dict:
    found = {
        n.removeprefix(prefix): torch.from_numpy(v)
        for n, v in reference.items()
        if n.startswith(prefix)
    }
    return {int(name) if name.isdecimal() else name: band for name, band in found.items()}


def panels(figure):
    return [ax for ax in figure.axes if ax.get_images()]


def clim(ax):
    return ax.get_images()[0].get_clim()


def test_a_complex_steerable_pyramid(reference):
    found = bands(reference, "pyr_")
    figure = pyramid_bands(found)
    shown = panels(figure)
    assert len(shown) == 1 + 3 * 4 + 1
    assert [ax.get_title() for ax in shown[:2]] == ["residual highpass", "scale 0, orientation 0"]
    assert shown[-1].get_title() == "residual lowpass"
    assert np.allclose(shown[6].get_images()[0].get_array(), found[1][0, 0, 1].abs())
    for scale in range(3):
        (alike,) = {clim(ax) for ax in shown[1 + 4 * scale : 5 + 4 * scale]}
        assert alike == pytest.approx((0, float(found[scale].abs().max())))
    assert figure_png(figure)


def test_complex_parts_stand_next_to_each_other(reference):
    found = bands(reference, "pyr_")
    shown = panels(pyramid_bands(found, part="parts"))
    assert len(shown) == 1 + 3 * 8 + 1
    assert shown[1].get_title() == "scale 0, orientation 0,\nreal"
    assert np.allclose(shown[4].get_images()[0].get_array(), found[0][0, 0, 1].imag)
    low, high = clim(shown[1])
    assert low == -high


def test_a_real_pyramid_is_symmetric_about_zero(reference):
    shown = panels(pyramid_bands(bands(reference, "pyrreal_")))
    assert len(shown) == 1 + 2 * 3 + 1
    assert all(clim(ax)[0] == -clim(ax)[1] for ax in shown[:-1])
    low = reference["pyrreal_residual_lowpass"]
    assert clim(shown[-1]) == pytest.approx((low.min(), low.max()))


def test_levels_of_a_laplacian_pyramid_stand_in_a_row(reference):
    levels = list(bands(reference, "laplacian_").values())
    for given in (levels, dict(enumerate(levels))):
        figure = pyramid_bands(given)
        shown = panels(figure)
        assert [ax.get_title() for ax in shown] == [f"level {i}" for i in range(4)]
        assert len({ax.get_subplotspec().rowspan.start for ax in shown}) == 1
        assert len({clim(ax) for ax in shown}) == 4


def test_bands_keyed_by_scale_and_orientation_share_a_row():
    found = {(scale, side): torch.randn(1, 1, 8, 8) for scale in (0, 1) for side in (0, 1, 2)}
    shown = panels(pyramid_bands(found))
    rows = [ax.get_subplotspec().rowspan.start for ax in shown]
    assert rows == [0, 0, 0, 1, 1, 1]
    assert shown[4].get_title() == "scale 1, orientation 1"


def test_item_and_channel_are_chosen():
    band = torch.randn(2, 3, 4, 5)
    (shown,) = panels(pyramid_bands([band], item=1, channel=2))
    assert np.allclose(shown.get_images()[0].get_array(), band[1, 2])


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ([], {}, InputError, "at least one band"),
        ([torch.rand(4, 4)], {}, ShapeError, r"band 0 has shape \(4, 4\)"),
        ([torch.rand(1, 1, 4, 4)], {"item": 1}, InputError, "item below 1"),
        ([torch.rand(1, 1, 4, 4)], {"channel": 2}, InputError, "channel below 1"),
        ([torch.rand(1, 1, 4, 4)], {"part": "phase"}, InputError, "'magnitude' or 'parts'"),
    ],
)
def test_what_cannot_be_shown_is_refused(given, options, error, message):
    with pytest.raises(error, match=message):
        pyramid_bands(given, **options)
