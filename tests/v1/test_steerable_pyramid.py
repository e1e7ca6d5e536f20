"""Steerable pyramid: reference arrays, exact inverse, frame bounds, orientation, contracts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.testing import check_model
from calcarine.v1 import SteerablePyramid

TOLERANCE = {torch.float32: 3e-6, torch.float64: 1e-13}


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "data" / "lgn.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def grating(shape, frequency, orientation_deg, phase=0.0, dtype=torch.float64):
    """Return a grating whose contours have the given orientation, counter-clockwise on screen."""
    angle = math.radians(orientation_deg)
    rows = torch.arange(shape[0], dtype=dtype)[:, None]
    columns = torch.arange(shape[1], dtype=dtype)[None]
    across = columns * math.sin(angle) + rows * math.cos(angle)
    return torch.cos(2 * math.pi * frequency * across + phase)[None, None]


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        ("pyr", {"height": 3, "order": 3, "is_complex": True}),
        ("pyrreal", {"height": 2, "order": 2, "downsample": False}),
    ],
)
def test_matches_the_reference_arrays(reference, prefix, settings):
    bands = SteerablePyramid((64, 64), **settings)(reference["image"])
    expected = [name for name in reference if name.startswith(f"{prefix}_")]
    assert sorted(f"{prefix}_{level}" for level in bands) == sorted(expected)
    for level, band in bands.items():
        array = reference[f"{prefix}_{level}"]
        assert band.dtype == array.dtype
        assert torch.allclose(band, array, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tight_frame", [False, True])
@pytest.mark.parametrize("downsample", [False, True])
@pytest.mark.parametrize(("order", "is_complex"), [(0, False), (2, False), (3, True), (4, True)])
@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (45, 27)])
def test_gives_the_image_back(shape, order, is_complex, downsample, tight_frame, dtype):
    pyramid = SteerablePyramid(
        shape,
        order=order,
        is_complex=is_complex,
        downsample=downsample,
        tight_frame=tight_frame,
    ).to(dtype)
    image = torch.rand(2, 3, *shape, dtype=dtype)
    bands = pyramid(image)
    assert bands[0].dtype == (dtype.to_complex() if is_complex else dtype)
    assert bands[0].shape == (2, 3, order + 1, *shape)
    assert torch.allclose(pyramid.reconstruct(bands), image, atol=TOLERANCE[dtype], rtol=0)
    if tight_frame:
        energy = sum(band.abs().square().sum() for band in bands.values())
        assert energy.item() == pytest.approx(image.square().sum().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(255, 301), (256, 192)])
def test_large_and_odd_images_keep_their_values_in_single_precision(shape):
    image = torch.rand(1, 1, *shape)
    pyramid = SteerablePyramid(shape, is_complex=True)
    assert pyramid.height == math.floor(math.log2(min(shape))) - 2
    assert torch.allclose(pyramid.reconstruct(pyramid(image)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("downsample", "growth"), [(True, 4.0), (False, 2.0)])
def test_a_constant_grows_by_scale_and_leaves_the_bands_empty(downsample, growth):
    pyramid = SteerablePyramid((32, 48), height=2, downsample=downsample).double()
    bands = pyramid(torch.full((1, 1, 32, 48), 0.5, dtype=torch.float64))
    lowpass = bands.pop("residual_lowpass")
    assert torch.allclose(lowpass, torch.full_like(lowpass, 0.5 * growth**2))
    assert all(band.abs().max() < 1e-12 for band in bands.values())


def test_bands_of_a_smaller_grid_are_samples_of_the_large_ones():
    image = torch.rand(1, 1, 64, 32, dtype=torch.float64)
    fine = SteerablePyramid((64, 32), height=2, downsample=False).double()(image)
    coarse = SteerablePyramid((64, 32), height=2).double()(image)
    assert torch.allclose(coarse[1], 2 * fine[1][..., ::2, ::2])
    assert torch.allclose(coarse["residual_lowpass"], 4 * fine["residual_lowpass"][..., ::4, ::4])


@pytest.mark.parametrize("order", [1, 3, 5])
def test_every_orientation_answers_best_to_its_contour_and_the_next_ones_by_the_cosine_power(order):
    shape = (64, 64)
    pyramid = SteerablePyramid(shape, height=1, order=order, is_complex=True).double()
    for own, orientation in enumerate(pyramid.orientations_deg):
        bands = pyramid(grating(shape, 0.25, orientation))[0]
        middle = bands[0, 0, :, 20:44, 20:44].abs().amax((-2, -1))
        assert middle.argmax() == own
        for other, angle in enumerate(pyramid.orientations_deg):
            expected = abs(math.cos(math.radians(angle - orientation))) ** order
            assert (middle[other] / middle[own]).item() == pytest.approx(expected, abs=0.02)


def test_the_modulus_of_a_complex_band_does_not_depend_on_phase():
    pyramid = SteerablePyramid((32, 32), height=1, is_complex=True).double()
    moduli = [pyramid(grating((32, 32), 0.25, 0.0, phase))[0].abs() for phase in (0.0, 1.0, 2.0)]
    assert moduli[0].max() > 0.3
    assert torch.allclose(moduli[0], moduli[1], atol=1e-12)
    assert torch.allclose(moduli[0], moduli[2], atol=1e-12)


def test_the_real_part_of_a_complex_band_is_the_real_band():
    image = torch.rand(1, 2, 33, 40, dtype=torch.float64)
    real = SteerablePyramid((33, 40), order=2).double()(image)
    pair = SteerablePyramid((33, 40), order=2, is_complex=True).double()(image)
    for level, band in real.items():
        part = pair[level].real if pair[level].is_complex() else pair[level]
        assert torch.allclose(part, band, atol=1e-12)


def test_reconstructs_from_some_levels_and_orientations_and_the_parts_add_up():
    pyramid = SteerablePyramid((40, 40), height=2).double()
    image = torch.rand(1, 1, 40, 40, dtype=torch.float64)
    bands = pyramid(image)
    residuals = pyramid.reconstruct(bands, levels=["residual_highpass", "residual_lowpass"])
    oriented = [pyramid.reconstruct(bands, levels=[0, 1], orientations=[b]) for b in range(4)]
    assert torch.allclose(residuals + sum(oriented), image, atol=1e-12)
    assert all(part.std() > 0.01 for part in oriented)


def test_wanted_levels_only_come_fine_to_coarse():
    pyramid = SteerablePyramid((32, 32), height=2)
    image = torch.rand(1, 1, 32, 32)
    some = pyramid(image, scales=["residual_lowpass", 0])
    assert list(some) == [0, "residual_lowpass"]
    assert list(pyramid(image)) == ["residual_highpass", 0, 1, "residual_lowpass"]
    assert torch.equal(some[0], pyramid(image)[0])


@pytest.mark.parametrize("is_complex", [False, True])
def test_packing_lays_bands_side_by_side_and_back(is_complex):
    pyramid = SteerablePyramid((24, 31), height=2, is_complex=is_complex, downsample=False)
    image = torch.rand(2, 3, 24, 31)
    bands = pyramid(image)
    packed = pyramid.pack(bands)
    assert packed.shape == (2, 3 * (2 + 2 * 4 * (2 if is_complex else 1)), 24, 31)
    assert torch.equal(packed[:, 0], bands["residual_highpass"][:, 0])
    again = pyramid.unpack(packed)
    assert list(again) == list(bands)
    assert all(torch.equal(again[level], bands[level]) for level in bands)
    some = pyramid(image, scales=[0, 1])
    unpacked = pyramid.unpack(pyramid.pack(some), scales=[0, 1])
    assert all(torch.equal(unpacked[level], some[level]) for level in some)
    model = torch.nn.Module.eval(pyramid)
    check_model(lambda x: model.pack(model(x)), image).raise_if_failed()


@pytest.mark.parametrize("is_complex", [False, True])
def test_gradients_are_those_of_a_linear_map(is_complex):
    """For a linear map A and its gradient A': <A x, y> = <x, A' y>, and A moves along A x."""
    pyramid = SteerablePyramid((16, 19), height=1, is_complex=is_complex, downsample=False)
    pyramid = pyramid.double()

    def model(image):
        return pyramid.pack(pyramid(image))

    image, direction = torch.rand(2, 2, 1, 16, 19, dtype=torch.float64)
    packed, moved = torch.func.jvp(model, (image,), (direction,))
    assert torch.allclose(moved, model(direction), atol=1e-12)
    weights = torch.rand_like(packed)
    (pulled,) = torch.func.vjp(model, image)[1](weights)
    assert (pulled * image).sum().item() == pytest.approx((weights * packed).sum().item())

    back, pull = torch.func.vjp(lambda p: pyramid.reconstruct(pyramid.unpack(p)), packed)
    weights = torch.rand_like(back)
    assert (pull(weights)[0] * packed).sum().item() == pytest.approx((weights * back).sum().item())


def test_compiles_and_follows_a_change_of_precision_both_ways():
    pyramid = SteerablePyramid((16, 20), height=1, is_complex=True)
    image = torch.rand(1, 1, 16, 20)
    compiled = torch.compile(pyramid, backend="aot_eager", fullgraph=True)(image)
    for level, band in pyramid(image).items():
        assert torch.allclose(compiled[level], band, atol=1e-6)
    double = pyramid.double()
    exact = double.reconstruct(double(image.double()))
    assert torch.allclose(exact, image.double(), atol=1e-14, rtol=0)
    assert not double.state_dict()


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((64,), {}, "image_shape"),
        ((64.5, 64), {}, "whole pixels"),
        ((6, 64), {}, "at least 8 x 8"),
        ((64, 64), {"height": 5}, "height between 0 and 4"),
        ((64, 64), {"height": -1}, "height between 0 and 4"),
        ((64, 64), {"order": 16}, "order between 0 and 15"),
        ((64, 64), {"order": 0, "is_complex": True}, "order >= 1"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(shape, settings, message):
    with pytest.raises(InputError, match=message):
        SteerablePyramid(shape, **settings)


def test_inputs_that_do_not_fit_are_refused():
    pyramid = SteerablePyramid((32, 32), height=2)
    image = torch.rand(1, 1, 32, 32)
    bands = pyramid(image)
    with pytest.raises(ShapeError, match=r"axes \(batch, channel, height, width\)"):
        pyramid(image[0])
    with pytest.raises(ShapeError, match="floating-point"):
        pyramid(image.to(torch.uint8))
    with pytest.raises(ShapeError, match="32 x 32 pixels, got 32 x 33"):
        pyramid(torch.rand(1, 1, 32, 33))
    with pytest.raises(InputError, match="sequence of levels"):
        pyramid(image, scales=[2])
    with pytest.raises(InputError, match="sequence of levels"):
        pyramid(image, scales="residual_lowpass")
    with pytest.raises(InputError, match="expected the level 'residual_highpass' among"):
        pyramid.reconstruct({"residual_lowpass": bands["residual_lowpass"]})
    with pytest.raises(InputError, match="at least one level"):
        pyramid.reconstruct(bands, levels=[])
    with pytest.raises(InputError, match="orientations between 0 and 3"):
        pyramid.reconstruct(bands, orientations=[4])
    with pytest.raises(ShapeError, match="the level 1 with axes"):
        pyramid.reconstruct({**bands, 1: bands[0]})
    with pytest.raises(ShapeError, match="bands of one size, got 8 x 8, 16 x 16, 32 x 32"):
        pyramid.pack(bands)
    with pytest.raises(ShapeError, match="a multiple of 10 channels"):
        pyramid.unpack(torch.rand(1, 11, 32, 32))
