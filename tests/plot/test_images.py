"""Pictures are shown with the limits that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calcarine.color import ConeSpace
from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot import figure_png, image_grid, retina_stages
from calcarine.retina import Retina


def shown(figure):
    return [ax.get_images()[0] for ax in figure.axes if ax.get_images()]


def scales(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


@pytest.fixture
def grey() -> list[torch.Tensor]:
    return [torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[-2.0, 4.0], [0.0, 1.0]]])]


def test_shared_limits_are_those_of_all(grey):
    figure = image_grid(grey, label="signal")
    assert [image.get_clim() for image in shown(figure)] == [(-2, 4), (-2, 4)]
    (scale,) = scales(figure)
    assert scale.get_ylabel() == "signal"


def test_each_picture_can_have_its_own(grey):
    figure = image_grid(grey, limits="each")
    assert [image.get_clim() for image in shown(figure)] == [(0, 1), (-2, 4)]
    assert len(scales(figure)) == 2


def test_given_limits_are_kept(grey):
    figure = image_grid(grey, limits=(0, 1))
    assert [image.get_clim() for image in shown(figure)] == [(0, 1), (0, 1)]
    assert not scales(figure)


def test_colours_are_not_stretched():
    picture = torch.rand(3, 4, 5) * 0.5
    figure = image_grid([picture, torch.rand(1, 4, 5)])
    assert np.allclose(shown(figure)[0].get_array(), picture.permute(1, 2, 0))
    assert np.allclose(
        shown(image_grid(picture[None], limits=(0, 0.5)))[0].get_array(),
        2 * picture.permute(1, 2, 0),
    )


def test_pictures_of_any_size_stand_in_rows():
    figure = image_grid(
        [torch.rand(3, 4), torch.rand(1, 1, 9, 2), torch.rand(3, 5, 5)],
        titles=["a", "b", "c"],
        columns=2,
    )
    titles = [ax.get_title() for ax in figure.axes if ax.get_images()]
    assert titles == ["a", "b", "c"]
    assert figure_png(figure)


def test_a_flat_picture_is_shown():
    assert figure_png(image_grid(torch.zeros(1, 1, 3, 3)))


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ([], {}, InputError, "at least one"),
        (torch.rand(2, 2, 3, 3), {}, ShapeError, "picture 0 has shape"),
        ([np.zeros((2, 2))], {}, InputError, "expected tensors"),
        ([torch.full((2, 2), torch.inf)], {}, NonFiniteError, "NaN or infinite"),
        ([torch.rand(2, 2)], {"titles": []}, InputError, "one title per picture"),
        ([torch.rand(2, 2)], {"limits": "all"}, InputError, "limits"),
        ([torch.rand(2, 2)], {"limits": (1, 0)}, InputError, "low, high"),
        ([torch.rand(2, 2)], {"columns": 0}, InputError, "columns"),
    ],
)
def test_what_cannot_be_shown_is_refused(images, options, error, message):
    with pytest.raises(error, match=message):
        image_grid(images, **options)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"inhibition": False}, ["cone activation", "optic nerve"]),
        ({}, ["cone activation", "bipolar cells", "optic nerve"]),
        ({"spikes": "lif"}, ["cone activation", "bipolar cells", "optic nerve"]),
        (
            {"spikes": "lif", "on_off": True},
            ["cone activation", "bipolar cells", "optic nerve, ON", "optic nerve, OFF"],
        ),
    ],
)
def test_every_stage_of_a_retina_has_its_panel(options, names):
    retina = Retina(8, sampling="uniform", max_shift_px=2, **options).eval()
    output = retina(torch.rand(2, 3, 12, 12))
    figure = retina_stages(output, mosaic=retina.mosaic, space=ConeSpace(), item=1, frame=1)
    found = [ax.get_title() for ax in figure.axes if ax.get_images()]
    light = [f"light for {cone} cones" for cone in "LMS"]
    assert found == ["light on the retina", "cone mosaic", *light, *names]
    at = found.index("cone activation")
    assert np.allclose(shown(figure)[at].get_array(), output.activation[1, 1])
    assert figure_png(figure)


def test_an_eye_with_four_types_is_shown_without_a_colour_picture():
    retina = Retina(8, sampling="uniform", mosaic="LMSQ", peaks_nm=(560, 530, 419, 545)).eval()
    output = retina(torch.rand(1, 4, 8, 8))
    figure = retina_stages(output, space=ConeSpace((560.0, 530.0, 419.0, 545.0)))
    titles = [ax.get_title() for ax in figure.axes if ax.get_images()]
    assert "light for Q cones" in titles
    assert "light on the retina" not in titles
    with pytest.raises(InputError, match="item below 1"):
        retina_stages(output, item=1)
