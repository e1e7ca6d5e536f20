"""Power spectra have the values that theory gives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.plot import figure_png, power_spectrum
from calcarine.plot.spectra import radial_power, spectral_power

SIZES = [(64, 64), (51, 37), (40, 65)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", [False, True])
def test_white_noise_is_flat_at_its_variance(size, window):
    draw = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(40, *size, generator=draw, dtype=torch.double)
    frequency, power = radial_power(noise, window=window)
    assert frequency[0] == pytest.approx(1 / min(size))
    assert frequency[-1] <= 0.5
    assert (power / 0.09 - 1).abs().mean() < 0.08
    assert power.mean() == pytest.approx(0.09, rel=0.05)


@pytest.mark.parametrize("size", SIZES)
def test_power_adds_up_to_the_variance(size):
    draw = torch.Generator().manual_seed(1)
    picture = torch.rand(3, *size, generator=draw, dtype=torch.double)
    variance = picture.flatten(1).var(dim=1, correction=0).mean()
    assert spectral_power(picture).mean() == pytest.approx(float(variance), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_grating_has_its_power_at_its_frequency(dtype):
    x = torch.arange(64, dtype=dtype)
    picture = (0.5 + 0.2 * torch.cos(2 * math.pi * 10 / 64 * x)).expand(1, 64, 64)
    frequency, power = radial_power(picture)
    peak = int(power.argmax())
    assert frequency[peak] == pytest.approx(10 / 64)
    ring = sum(9.5 <= math.hypot(u, v) < 10.5 for u in range(-32, 32) for v in range(-32, 32))
    assert float(power[peak]) * ring == pytest.approx(0.2**2 / 2 * 64**2, rel=1e-5)
    assert (power.sum() - power[peak]) < 1e-5 * power[peak]


def test_a_window_removes_what_the_edges_add():
    ramp = torch.linspace(0, 1, 65, dtype=torch.double).expand(1, 64, 65)
    bare, windowed = radial_power(ramp)[1], radial_power(ramp, window=True)[1]
    assert windowed[20:].mean() < 1e-3 * bare[20:].mean()


def test_curves_are_drawn_on_logarithmic_axes():
    pictures = [torch.rand(1, 33, 40), torch.rand(3, 20, 20)]
    figure = power_spectrum(pictures, ["grey", "colour"])
    (ax,) = figure.axes
    assert ax.get_xscale() == ax.get_yscale() == "log"
    for line, picture in zip(ax.get_lines(), pictures, strict=True):
        frequency, power = radial_power(picture.double())
        assert np.allclose(line.get_xdata(), frequency)
        assert np.allclose(line.get_ydata(), power)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["grey", "colour"]
    assert figure_png(figure)


def test_planes_have_zero_in_the_centre():
    x = torch.arange(32, dtype=torch.double)
    picture = torch.cos(2 * math.pi * 8 / 32 * x).expand(1, 32, 32)  # vertical stripes
    figure = power_spectrum([picture, torch.rand(1, 16, 16)], ["a", "b"], kind="plane")
    shown = [ax for ax in figure.axes if ax.get_images()]
    plane = np.asarray(shown[0].get_images()[0].get_array())
    assert {tuple(p) for p in np.argwhere(plane > plane.max() - 1e-6)} == {(16, 8), (16, 24)}
    assert shown[0].get_images()[0].get_clim() == shown[1].get_images()[0].get_clim()
    assert figure_png(figure)


def test_a_flat_picture_has_no_power_and_is_drawn():
    assert figure_png(power_spectrum([torch.ones(8, 8)]))
    assert figure_png(power_spectrum([torch.ones(8, 8)], kind="plane"))


@pytest.mark.parametrize(
    ("images", "options", "error", "message"),
    [
        ([], {}, InputError, "at least one picture"),
        ([torch.rand(8, 8)], {"labels": []}, InputError, "0 labels"),
        ([torch.rand(8, 8)], {"kind": "ring"}, InputError, "'radial' or 'plane'"),
        ([torch.rand(3, 8)], {}, InputError, "at least 4 x 4"),
        ([torch.rand(2, 8, 8)], {}, ShapeError, "picture 0 has shape"),
        ([torch.full((8, 8), torch.nan)], {}, NonFiniteError, "NaN"),
    ],
)
def test_what_has_no_spectrum_is_refused(images, options, error, message):
    with pytest.raises(error, match=message):
        power_spectrum(images, **options)
