"""Figures of syntheses hold the numbers and pictures of the result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from calcarine.errors import InputError, ShapeError
from calcarine.plot import (
    eigendistortion_figure,
    figure_png,
    mad_figure,
    metamer_figure,
    representation_error,
    synthesis_loss,
)


def panels(figure):
    return [ax for ax in figure.axes if ax.get_images()]


def pixels(ax) -> np.ndarray:
    return np.asarray(ax.get_images()[0].get_array())


def test_every_loss_has_its_panel(metamer):
    first, second = synthesis_loss(metamer).axes
    assert first.get_title() == "representation: 0.000244"
    assert second.get_title() == "penalty: 0"
    assert first.get_yscale() == second.get_yscale() == "log"
    x, y = first.get_lines()[0].get_data()
    assert np.array_equal(x, np.arange(13))
    assert np.allclose(y, 0.5 ** np.arange(13))


def test_zeros_are_marked_on_a_logarithmic_axis(metamer):
    figure = synthesis_loss(metamer)
    curve, zeros = figure.axes[1].get_lines()
    assert np.isfinite(curve.get_ydata()).sum() == 3
    assert np.array_equal(zeros.get_xdata(), [0, 1, 2, *range(6, 13)])
    assert figure_png(figure)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, -1.0, 0.5], "linear"), ([0.0, 0.0], "linear"), ([2.0], "log"), ([1.0, np.nan], "log")],
)
def test_any_loss_can_be_drawn(values, scale):
    losses = NamedTuple("losses", [("energy", Tensor)])(torch.tensor(values))
    result = SimpleNamespace(losses=losses, status="converged", iterations=len(values) - 1)
    figure = synthesis_loss(result)
    assert figure.axes[0].get_yscale() == scale
    assert figure.get_suptitle() == f"converged after {len(values) - 1} iterations"
    assert figure_png(figure)


def test_losses_that_are_not_finite_say_so():
    losses = NamedTuple("losses", [("energy", Tensor)])(torch.tensor([torch.nan]))
    figure = synthesis_loss(SimpleNamespace(losses=losses, status="diverged", iterations=0))
    assert [text.get_text() for text in figure.axes[0].texts] == ["not finite"]


def test_losses_by_item_show_the_item():
    losses = NamedTuple("losses", [("energy", Tensor)])(torch.tensor([[1.0, 5.0], [0.5, 4.0]]))
    result = SimpleNamespace(losses=losses, status="converged", iterations=1)
    line = synthesis_loss(result, item=1).axes[0].get_lines()[0]
    assert list(line.get_ydata()) == [5, 4]


def test_without_losses_the_error_says_what_to_call():
    losses = NamedTuple("losses", [("energy", Tensor)])(torch.empty(0))
    with pytest.raises(InputError, match="synthesize"):
        synthesis_loss(SimpleNamespace(losses=losses, status="", iterations=0))


def test_the_error_of_a_map_is_a_signed_picture(metamer):
    figure = representation_error(metamer, item=1)
    (panel,) = panels(figure)
    wanted = (metamer.model(metamer.metamer) - metamer.target)[1, 0]
    assert np.allclose(pixels(panel), wanted)
    low, high = panel.get_images()[0].get_clim()
    assert high == -low == pytest.approx(float(wanted.abs().max()))
    relative = float(wanted.norm() / metamer.target[1].norm())
    assert figure.get_suptitle() == f"error of the representation: {relative:.2g} of its norm"


def test_every_channel_has_its_error(make_synthesis):
    figure = representation_error(make_synthesis("five"))
    assert [ax.get_title() for ax in panels(figure)] == [f"channel {i}" for i in range(5)]
    assert figure_png(figure)


def test_of_many_channels_those_with_the_largest_errors_are_shown(make_synthesis):
    result = make_synthesis("five")
    result.model.count = 20
    result.target = result.model(result.image)
    names = [ax.get_title() for ax in panels(representation_error(result))]
    assert names == [f"channel {i}" for i in range(8, 20)]


@pytest.mark.parametrize("kind", ["few", "many"])
def test_the_error_of_statistics_is_a_line(make_synthesis, kind):
    result = make_synthesis(kind)
    figure = representation_error(result)
    wanted = (result.model(result.metamer) - result.target)[0, 0]
    lines = figure.axes[0].get_lines()
    assert any(np.allclose(line.get_ydata(), wanted) for line in lines if len(line.get_ydata()) > 2)
    assert figure_png(figure)


def test_a_complex_error_is_shown_by_magnitude(make_synthesis):
    result = make_synthesis("complex")
    figure = representation_error(result)
    wanted = (result.model(result.metamer) - result.target)[0].abs()
    assert np.allclose(pixels(panels(figure)[1]), wanted[1])


def test_a_metamer_stands_beside_its_image_and_start(metamer):
    figure = metamer_figure(metamer, item=1)
    shown = panels(figure)
    assert [ax.get_title() for ax in shown[:3]] == ["image", "start", "metamer, not yet converged"]
    pictures = (metamer.image, metamer.initial, metamer.metamer)
    for top, bottom, picture in zip(shown[:3], shown[3:], pictures, strict=True):
        assert np.allclose(pixels(top), picture[1, 0])
        assert np.allclose(pixels(bottom), metamer.model(picture)[1, 0])
        assert top.get_images()[0].get_clim() == (0, 1)
    assert len({ax.get_images()[0].get_clim() for ax in shown[3:]}) == 1
    assert figure_png(figure)


@pytest.mark.parametrize(("kind", "pictures"), [("five", 12), ("complex", 9), ("few", 3)])
def test_any_representation_is_shown_with_the_metamer(make_synthesis, kind, pictures):
    figure = metamer_figure(make_synthesis(kind))
    assert len(panels(figure)) == pictures
    assert figure_png(figure)


@pytest.mark.parametrize("figure", [metamer_figure, representation_error])
def test_what_cannot_be_shown_is_refused(metamer, figure):
    with pytest.raises(InputError, match="0 to 1, got 2"):
        figure(metamer, item=2)
    metamer.model = torch.nn.Flatten()
    metamer.target = metamer.model(metamer.image)
    with pytest.raises(ShapeError, match="batch, channel, statistic"):
        figure(metamer)


@pytest.fixture
def distortions() -> SimpleNamespace:
    draw = torch.Generator().manual_seed(0)
    found = torch.randn(4, 1, 9, 12, generator=draw)
    found /= found.flatten(1).norm(dim=1)[:, None, None, None]
    return SimpleNamespace(
        image=torch.rand(1, 1, 9, 12, generator=draw),
        eigenvalues=torch.tensor([2.0, 1.0, 1e-3, 0.0]),
        eigendistortions=found,
        residuals=torch.tensor([1e-9, 2e-9, 3e-4, 4e-4]),
    )


def test_distortions_are_added_and_alone(distortions):
    figure = eigendistortion_figure(distortions, scale=0.5)
    shown = panels(figure)
    assert len(shown) == 9
    image, found = distortions.image[0, 0], distortions.eigendistortions
    assert np.allclose(pixels(shown[0]), image)
    for index in range(4):
        assert np.allclose(pixels(shown[1 + index]), image + 0.5 * found[index, 0])
        alone = shown[5 + index]
        assert np.allclose(pixels(alone), found[index, 0])
        most = float(found[index].abs().max())
        assert alone.get_images()[0].get_clim() == pytest.approx((-most, most))
    assert shown[5].get_title().startswith("eigenvalue 2\nresidual 1e-09")
    names = [ax.get_title().splitlines()[1] for ax in shown[1:5]]
    assert names == [
        "most noticeable", "2nd most noticeable", "2nd least noticeable", "least noticeable",
    ]  # fmt: skip
    assert figure_png(figure)


def test_distortions_in_colour_are_grey_where_they_are_zero():
    found = torch.zeros(2, 3, 4, 4)
    found[0, 0, 0, 0], found[1, 2, 3, 3] = 1, -1
    result = SimpleNamespace(
        image=torch.rand(1, 3, 4, 4), eigenvalues=torch.ones(2), eigendistortions=found,
        residuals=torch.zeros(2),
    )  # fmt: skip
    alone = pixels(panels(eigendistortion_figure(result))[3])
    assert np.allclose(alone[1, 1], 0.5)
    assert np.allclose(alone[0, 0], [1, 0.5, 0.5])


def test_distortions_that_do_not_fit_are_refused(distortions):
    with pytest.raises(ShapeError, match="Expected an image like the distortions"):
        eigendistortion_figure(distortions, torch.rand(1, 1, 9, 9))
    with pytest.raises(InputError, match="scale above 0"):
        eigendistortion_figure(distortions, scale=0)
    distortions.eigendistortions = None
    with pytest.raises(InputError, match="synthesize"):
        eigendistortion_figure(distortions)


class MADLosses(NamedTuple):
    optimized: Tensor
    reference: Tensor


def mse(a, b): ...


def ssim(a, b): ...


@pytest.fixture
def competition() -> dict[str, SimpleNamespace]:
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(1, 1, 6, 8, generator=draw)
    initial = torch.rand(1, 1, 6, 8, generator=draw)
    made = {}
    for optimized, reference in ((mse, ssim), (ssim, mse)):
        for minmax in ("min", "max"):
            made[f"{optimized.__name__} {minmax}"] = SimpleNamespace(
                image=image,
                initial=initial,
                mad_image=torch.rand(1, 1, 6, 8, generator=draw),
                optimized_metric=optimized,
                reference_metric=reference,
                minmax=minmax,
                losses=MADLosses(torch.tensor([0.5, 0.25]), torch.tensor([0.125, 0.125])),
            )
    return made


def test_a_competition_shows_four_pictures_in_their_places(competition):
    figure = mad_figure(competition)
    shown = panels(figure)
    wanted = [
        next(iter(competition.values())).image,
        competition["mse min"].mad_image,
        competition["mse max"].mad_image,
        next(iter(competition.values())).initial,
        competition["ssim min"].mad_image,
        competition["ssim max"].mad_image,
    ]
    for ax, picture in zip(shown, wanted, strict=True):
        assert np.allclose(pixels(ax), picture[0, 0])
    assert shown[1].get_title() == "lowest mse, same ssim\nmse 0.25, ssim 0.125"
    assert shown[5].get_title().startswith("highest ssim, same mse")
    assert figure_png(figure)


def test_the_order_of_a_competition_does_not_matter(competition):
    results = list(competition.values())
    straight, mixed = mad_figure(results), mad_figure([results[i] for i in (1, 3, 0, 2)])
    assert figure_png(straight) == figure_png(mixed)
    named = mad_figure(results, names=("pixels", "structure"))
    assert panels(named)[1].get_title().startswith("lowest pixels, same structure")


def test_half_a_competition_is_refused(competition):
    results = list(competition.values())
    with pytest.raises(InputError, match="four results, got none"):
        mad_figure([])
    with pytest.raises(InputError, match="got 3: mse min, mse max, ssim min"):
        mad_figure(results[:3])
    with pytest.raises(InputError, match="got 4: "):
        mad_figure([*results[:3], results[0]])
