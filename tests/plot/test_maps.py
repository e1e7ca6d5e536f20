"""Figures of maps: colours that mean what they say, pinwheels in place, fields side by side."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calcarine.color import srgb_to_linear
from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot import (
    field_figure,
    figure_png,
    map_animation,
    map_development,
    map_picture,
    orientation_histogram,
    orientation_map_figure,
    stage_activity,
    weight_grid,
)
from calcarine.plot.cyclic import cyclic_colors, cyclic_map
from calcarine.probes import pinwheels
from calcarine.stimuli import Sheet


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wheel(size: tuple[int, int] = (12, 15)) -> torch.Tensor:
    """One pinwheel near the middle, in degrees."""
    y = 5.2 - torch.arange(size[0])[:, None]
    x = torch.arange(size[1]) - 7.1
    return torch.rad2deg(torch.atan2(y, x) / 2).remainder(180)


def oklab(srgb: torch.Tensor) -> torch.Tensor:
    """The published way from sRGB to OKLab, against which the way back is tried."""
    cones = srgb_to_linear(srgb) @ srgb.new_tensor(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376],
         [0.0514459929, 0.1073969566, 0.6299787005]]
    )  # fmt: skip
    return cones ** (1 / 3) @ srgb.new_tensor(
        [[0.2104542553, 1.9779984951, 0.0259040371], [0.7936177850, -2.4285922050, 0.7827717662],
         [-0.0040720468, 0.4505937099, -0.8086757660]]
    )  # fmt: skip


def images(figure) -> list:
    return [ax.get_images()[0] for ax in figure.axes if ax.get_images()]


def test_colours_are_cyclic_and_evenly_spaced():
    colours = cyclic_colors(72)
    assert ((colours > 0.01) & (colours < 0.995)).all()  # nothing was cut off
    lab = oklab(colours)
    steps = (lab - lab.roll(1, 0)).norm(dim=1)
    assert steps.max() / steps.min() < 1.01
    assert cyclic_map(64).N == 64


def test_colours_differ_for_readers_without_red_and_green():
    """Lightness and blue-yellow alone: the far side of the circle stays far from every colour."""
    seen = oklab(cyclic_colors(36))[:, [0, 2]]
    opposite = (seen - seen.roll(18, 0)).norm(dim=1)
    assert opposite.min() > 0.2
    away = torch.arange(36)
    turns = (away[:, None] - away).remainder(36)
    far = torch.minimum(turns, 36 - turns) >= 4  # 20 degrees of orientation apart
    assert torch.cdist(seen, seen)[far].min() > 0.05


@pytest.mark.parametrize("colors", ["fair", "hsv"])
def test_a_colour_is_an_orientation(colors):
    picture = map_picture(torch.tensor([[0.0, 90.0, 180.0, 270.0], [10.0, 190.0, -170.0, 11.0]]),
                          colors=colors)  # fmt: skip
    assert picture.shape == (3, 2, 4)
    top, below = picture.unbind(1)
    assert torch.equal(top[:, 0], top[:, 2])
    assert torch.equal(top[:, 1], top[:, 3])
    assert torch.equal(below[:, 0], below[:, 1])
    assert torch.equal(below[:, 0], below[:, 2])
    assert (top[:, 0] - top[:, 1]).abs().max() > 0.3
    assert 0 < (below[:, 0] - below[:, 3]).abs().max() < 0.1


def test_hsv_is_what_matplotlib_means():
    from matplotlib.colors import hsv_to_rgb

    angles = torch.arange(0, 180, 7.5).double()[None]
    hsv = np.stack([angles[0].numpy() / 180, np.ones(24), np.ones(24)], 1)
    assert np.allclose(map_picture(angles, colors="hsv")[:, 0].T, hsv_to_rgb(hsv), atol=1e-9)


def test_unknown_preferences_are_grey_or_black():
    z = torch.polar(torch.ones(2, 2), torch.ones(2, 2))
    z[0, 1] = 0
    assert torch.equal(map_picture(z)[:, 0, 1], torch.full((3,), 0.8, dtype=torch.double))
    dark = map_picture(z, torch.tensor([[0.4, 0.4], [0.0, 0.2]]))
    assert (dark[:, 0, 1] == 0).all()
    assert (dark[:, 1, 0] == 0).all()
    assert torch.allclose(dark[:, 1, 1] * 2, dark[:, 0, 0], atol=0.02)


def test_an_orientation_map_marks_its_pinwheels():
    preference = wheel()
    figure = orientation_map_figure(preference, selectivity=torch.rand(12, 15), title="t")
    shown = images(figure)
    assert len(shown) == 2
    assert np.allclose(shown[0].get_array(), map_picture(preference).permute(1, 2, 0))
    plus, minus = figure.axes[0].get_lines()
    found = pinwheels(preference)
    assert plus.get_xdata() == found.column.tolist()
    assert plus.get_ydata() == found.row.tolist()
    assert len(minus.get_xdata()) == 0
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["counter-clockwise (1)", "clockwise (0)"]
    assert plus.get_marker() != minus.get_marker()
    assert figure_png(figure)
    mirrored = orientation_map_figure(preference, pinwheels=pinwheels(preference.flip(1)))
    assert len(mirrored.axes[0].get_lines()[1].get_xdata()) == 1
    plain = orientation_map_figure(preference.numpy(), pinwheels=False)
    assert not plain.axes[0].get_lines()


def test_the_key_draws_orientations_as_they_look():
    """45 degrees rises to the right on screen, in the colour that a unit of 45 degrees has."""
    key = orientation_map_figure(wheel(), pinwheels=False).axes[-1]
    line = key.get_lines()[2]
    (x0, x1), (y0, y1) = line.get_xdata(), line.get_ydata()
    assert (y1 - y0) / (x1 - x0) == pytest.approx(1)
    assert key.get_ylim()[0] < key.get_ylim()[1]
    expected = map_picture(torch.tensor([[45.0]]))[:, 0, 0]
    assert np.allclose(line.get_color(), expected, atol=0.02)


def test_wedges_have_the_area_of_their_share():
    preference = torch.tensor([[0.0] * 6 + [90.0] * 2])
    figure = orientation_histogram(preference, bins=4)
    wedges = [p for p in figure.axes[0].patches if hasattr(p, "theta1")]
    assert len(wedges) == 8
    radii = {round((w.theta1 + w.theta2) / 2): w.r for w in wedges}
    assert radii[0] == radii[180] == pytest.approx(math.sqrt(0.75 * 4))
    assert radii[90] == radii[270] == pytest.approx(1)
    assert radii[45] == 0
    assert figure_png(figure)


def test_the_film_of_a_map(tmp_path):
    maps = torch.stack([wheel(), wheel() + 45])
    frames = map_animation(maps, tmp_path / "map.gif", captions=["0 stimuli", "10"], side_px=60)
    assert frames.shape == (2, 3, 22 + 48, 60)
    assert torch.equal(frames[1, :, 22::4, ::4], map_picture(wheel() + 45))
    assert (tmp_path / "map.gif").stat().st_size > 100
    dark = map_animation(list(maps), selectivities=torch.zeros(2, 12, 15), side_px=1)
    assert dark.shape == (2, 3, 12, 15)
    assert dark.max() == 0


def test_fields_stand_where_their_units_are():
    weights = torch.arange(6.0).reshape(2, 3, 1, 1) * torch.ones(2, 3, 4, 5)
    (shown,) = images(weight_grid(weights))
    mosaic = shown.get_array()
    assert mosaic.shape == (2 * 5 - 1, 3 * 6 - 1)
    assert (mosaic[5:, 6:11] == 4).all()
    assert np.ma.getmaskarray(np.ma.masked_invalid(mosaic))[4].all()
    assert shown.get_clim() == (0, 5)
    (own,) = images(weight_grid(weights, limits="each"))
    assert own.get_array()[5:, 6:11].max() == 1
    (signed,) = images(weight_grid(weights - 1))
    assert signed.get_clim() == (-4, 4)
    (thin,) = images(weight_grid(torch.rand(9, 9, 3, 3), every=4))
    assert thin.get_array().shape == (11, 11)
    (row,) = images(weight_grid(torch.rand(5, 3, 3)))
    assert row.get_array().shape == (7, 11)
    assert figure_png(weight_grid(weights - 1, limits="each"))


def test_one_field_on_the_retina():
    on, off = torch.rand(2, 12, 20, generator=seeded())
    sheet = Sheet(10, (0.6, 1.0))
    figure = field_figure(
        {"ON": on, "OFF": off}, sheet=sheet, difference=("ON", "OFF"), unit=(3, 4)
    )
    shown = images(figure)[:3]
    assert np.allclose(shown[2].get_array(), (on - off).double())
    assert {i.get_clim()[1] for i in shown} == {max(on.max(), off.max()).item()}
    assert shown[0].get_extent() == [-1.0, 1.0, 0.6, -0.6]
    assert figure.axes[0].get_title() == "ON, unit (3, 4)"
    assert figure_png(figure)
    assert figure_png(field_figure({"excitatory": on[None, None] - 0.5}))


def test_every_stage_has_its_own_scale():
    stages = {"retina": torch.rand(1, 9, 9), "LGN": 3 * torch.rand(7, 7), "V1": torch.zeros(5, 6)}
    figure = stage_activity(stages)
    shown = images(figure)[:3]
    assert [ax.get_title() for ax in figure.axes[:3]] == [
        "retina\n9 x 9",
        "LGN\n7 x 7",
        "V1\n5 x 6",
    ]
    assert shown[1].get_clim()[1] == pytest.approx(stages["LGN"].max().item())
    assert figure_png(figure)


def test_development_has_error_bars_and_a_line_at_pi():
    runs = torch.tensor([[math.nan, 3.0, 5.0], [math.nan, 5.0, 9.0], [math.nan, math.nan, 7.0]])
    figure = map_development(
        [0, 100, 200],
        {"pinwheel density": {"a": runs, "b": runs[:, [1, 1, 1]]}, "selectivity": torch.rand(3)},
    )
    above, below = figure.axes
    (line, _, (bars,)) = above.containers[0]
    assert np.allclose(line.get_ydata(), [math.nan, 4, 7], equal_nan=True)
    half = [(s[1, 1] - s[0, 1]) / 2 for s in bars.get_segments()[-2:]]
    assert half == pytest.approx([1.0, 2 / math.sqrt(3)])
    assert any(np.allclose(each.get_ydata(), math.pi) for each in above.get_lines())
    assert not any(np.allclose(each.get_ydata(), math.pi) for each in below.get_lines())
    assert [t.get_text() for t in above.get_legend().get_texts()] == ["a", "b"]
    assert below.get_xlabel() == "stimuli"
    assert figure_png(figure)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: map_picture(wheel(), colors="jet"), InputError, "'fair' or 'hsv'"),
        (lambda: map_picture(wheel(), torch.rand(3, 3)), ShapeError, "selectivity of the map's"),
        (lambda: map_picture(wheel() * math.nan), NonFiniteError, "NaN or infinite"),
        (lambda: orientation_map_figure(torch.rand(3)), ShapeError, "height, width"),
        (lambda: map_animation([]), InputError, "at least one map"),
        (lambda: map_animation([wheel()], captions=["a", "b"]), InputError, "one caption per map"),
        (lambda: map_animation([wheel(), wheel((4, 4))]), ShapeError, "maps of one size"),
        (lambda: weight_grid(torch.rand(3, 3)), ShapeError, "field height"),
        (lambda: weight_grid(torch.rand(2, 2, 3, 3), limits="all"), InputError, "'shared' or"),
        (lambda: weight_grid(torch.rand(2, 2, 3, 3) / 0), NonFiniteError, "finite weights"),
        (lambda: weight_grid(torch.zeros(90, 9, 50, 2)), InputError, "fewer units with every=2"),
        (lambda: field_figure({}), InputError, "fields by name"),
        (lambda: field_figure({"a": wheel()}, difference=("a", "b")), InputError, "difference"),
        (lambda: field_figure({"a": wheel()}, sheet=Sheet()), ShapeError, "one size"),
        (lambda: stage_activity({}), InputError, "at least one stage"),
        (lambda: stage_activity({"x": torch.rand(2, 3, 3)}), ShapeError, "expected 'x' with axes"),
        (lambda: map_development([1, 1], {"a": torch.rand(2)}), InputError, "ascending"),
        (lambda: map_development([1, 2], {"a": torch.rand(3)}), ShapeError, "for 2 ages"),
    ],
)
def test_what_cannot_be_shown_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
