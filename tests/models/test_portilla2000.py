"""Texture statistics: reference arrays, definitions in the space domain, symmetries, synthesis."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError
from calcarine.models import PortillaSimoncelli, RelativeTexture
from calcarine.testing import check_model
from calcarine.v1 import SteerablePyramid


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parents[1] / "data" / "lgn.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(a, b, tolerance):
    """Compare relative to the value, or to one thousandth where the value is smaller."""
    return bool(((a - b).abs() <= tolerance * b.abs().clamp_min(1e-3)).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matches_the_reference_arrays(reference, dtype):
    model = PortillaSimoncelli((64, 64), 2, 4, 7).to(dtype)
    vector = model(reference["image"].to(dtype))
    assert vector.dtype == dtype
    assert close(vector, reference["ps_vector"].to(dtype), 1e-3)
    arrays = model.to_dict(vector)
    expected = {n.removeprefix("ps_") for n in reference if n.startswith("ps_")} - {"vector"}
    assert set(arrays) == expected
    for name, array in arrays.items():
        wanted = reference[f"ps_{name}"].to(dtype)
        assert torch.equal(array.isnan(), wanted.isnan())
        assert close(array.nan_to_num(), wanted.nan_to_num(), 1e-3)


@pytest.mark.parametrize(("shape", "width"), [((48, 64), 5), ((51, 37), 7), ((40, 44), 6)])
def test_statistics_are_what_their_definitions_say(shape, width):
    """Bands from the pyramid, correlations as sums over shifted images."""
    image = torch.rand(1, 1, *shape, dtype=torch.float64)
    arrays = PortillaSimoncelli(shape, 2, 3, width).double().statistics(image)
    arrays = {name: array[0, 0] for name, array in arrays.items()}
    pyramid = SteerablePyramid(shape, 2, 2, is_complex=True).double()
    bands = pyramid(image)
    for scale in (0, 1):
        modulus = bands[scale][0, 0].abs()
        modulus = modulus - modulus.mean((-2, -1), keepdim=True)
        deviation = modulus.square().mean((-2, -1)).sqrt()
        assert torch.allclose(arrays["magnitude_std"][:, scale], deviation)
        across = torch.corrcoef(modulus.flatten(1)).tril(-1)
        found = arrays["cross_orientation_correlation_magnitude"][..., scale].nan_to_num()
        assert torch.allclose(found, across)
        for row in range(width):
            for column in range(width):
                lag = row - width // 2, column - width // 2
                shifted = modulus.roll(lag, (-2, -1))
                correlation = (modulus * shifted).mean((-2, -1)) / deviation**2
                entry = arrays["auto_correlation_magnitude"][row, column, :, scale]
                opposite = arrays["auto_correlation_magnitude"]
                if entry.isnan().any():
                    if lag == (0, 0):
                        continue
                    entry = opposite[width // 2 - lag[0], width // 2 - lag[1], :, scale]
                assert torch.allclose(entry, correlation)
    highpass = bands["residual_highpass"].square().mean()
    assert torch.allclose(arrays["var_highpass_residual"][0], highpass)
    assert torch.allclose(arrays["pixel_statistics"][:2], torch.stack([image.mean(), image.var()]))


def test_cross_scale_correlations_compare_with_the_phase_doubled_coarser_band():
    image = torch.rand(1, 1, 32, 48, dtype=torch.float64)
    arrays = PortillaSimoncelli((32, 48), 2, 4, 5).double().statistics(image)
    bands = SteerablePyramid((32, 48), 2, 3, is_complex=True).double()(image)
    # Zeros around the spectrum of the coarse band put it on the fine grid.
    spectrum = torch.fft.fftshift(torch.fft.fft2(bands[1][0, 0]), dim=(-2, -1))
    spectrum = torch.nn.functional.pad(spectrum, (12, 12, 8, 8))
    coarse = torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)))
    doubled = coarse**2 / coarse.abs()
    real = bands[0][0, 0].real.flatten(1)
    parts = torch.cat([doubled.real, doubled.imag]).flatten(1)
    expected = real @ parts.T / real.norm(dim=1)[:, None] / parts.norm(dim=1)
    assert torch.allclose(arrays["cross_scale_correlation_real"][0, 0, ..., 0], expected)
    moduli = torch.cat([bands[0][0, 0].abs(), coarse.abs()]).flatten(1)
    expected = torch.corrcoef(moduli)[:4, 4:]
    assert torch.allclose(arrays["cross_scale_correlation_magnitude"][0, 0, ..., 0], expected)


def test_low_pass_images_are_reconstructions_from_the_coarser_levels():
    shape = (64, 32)
    image = torch.rand(1, 1, *shape, dtype=torch.float64)
    arrays = PortillaSimoncelli(shape, 2, 4, 5).double().statistics(image)
    pyramid = SteerablePyramid(shape, 2, 3, is_complex=True).double()
    bands = pyramid(image)
    levels = ([0, 1, "residual_lowpass"], [1, "residual_lowpass"], ["residual_lowpass"])
    for i, kept in enumerate(levels):
        content = pyramid.reconstruct(bands, levels=kept)
        # Band-limited, so that every 2^i-th sample says all; amplitudes grow by 4 per scale.
        content = (content - content.mean())[..., :: 2**i, :: 2**i] * 4**i
        deviation = content.square().mean().sqrt()
        assert torch.allclose(arrays["std_reconstructed"][0, 0, i], deviation)
        skew = (content**3).mean() / deviation**3
        kurtosis = (content**4).mean() / deviation**4
        assert torch.allclose(arrays["skew_reconstructed"][0, 0, i], skew)
        assert torch.allclose(arrays["kurtosis_reconstructed"][0, 0, i], kurtosis)


def test_statistics_do_not_change_when_the_texture_is_shifted():
    model = PortillaSimoncelli((64, 80), 2, 4, 5).double()
    image = torch.rand(1, 1, 64, 80, dtype=torch.float64)
    # By whole samples of the coarsest grid: between them, products of bands are not band-limited.
    assert torch.allclose(model(image), model(image.roll((12, 28), (-2, -1))), atol=1e-10)
    assert not torch.allclose(model(image), model(image.mT.reshape(1, 1, 64, 80)), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(255, 301), (96, 80)])
def test_any_size_any_batch_channels_independent(shape, dtype):
    model = PortillaSimoncelli(shape, 3, spatial_corr_width=7).to(dtype)
    image = torch.rand(2, 3, *shape, dtype=dtype)
    vector = model(image)
    assert vector.shape == (2, 3, len(model.statistic_scales))
    assert torch.isfinite(vector).all()
    assert torch.allclose(vector[1:, 2:], model(image[1:, 2:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["zero", "grey", "white", "step", "grating"])
def test_images_without_content_have_neutral_statistics_and_finite_gradients(kind, dtype):
    image = torch.full((1, 1, 64, 64), {"zero": 0.0, "grey": 0.5}.get(kind, 1.0), dtype=dtype)
    if kind == "step":
        image[..., :32] = 0
    if kind == "grating":
        image[:] = torch.cos(torch.arange(64, dtype=dtype) * (2 * torch.pi / 8))
    image.requires_grad_()
    model = PortillaSimoncelli((64, 64), 2, 4, 7).to(dtype)
    vector = model(image)
    (gradient,) = torch.autograd.grad(vector.sum(), image)
    assert torch.isfinite(vector).all()
    assert torch.isfinite(gradient).all()
    if kind in ("zero", "grey", "white"):
        arrays = model.to_dict(vector)
        assert (arrays["kurtosis_reconstructed"] == 3).all()
        assert (arrays["magnitude_std"] == 0).all()
        assert (arrays["cross_scale_correlation_real"] == 0).all()


def test_gradients_run_both_ways():
    """Forward and reverse mode agree with each other and with differences."""
    model = PortillaSimoncelli((32, 25), 2, 4, 5).double()
    image = torch.rand(1, 1, 32, 25, dtype=torch.float64)
    direction = torch.randn_like(image)
    vector, moved = torch.func.jvp(model, (image,), (direction,))
    step = 1e-6 * direction
    differences = (model(image + step) - model(image - step)) / 2e-6
    assert torch.allclose(moved, differences, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(vector)
    (pulled,) = torch.func.vjp(model, image)[1](weights)
    assert (pulled * direction).sum().item() == pytest.approx((moved * weights).sum().item())


@pytest.mark.parametrize(("n_scales", "n_orientations", "width"), [(1, 2, 5), (2, 4, 6), (3, 3, 7)])
def test_vector_and_dict_hold_the_same(n_scales, n_orientations, width):
    model = PortillaSimoncelli((64, 64), n_scales, n_orientations, width)
    vector = model(torch.rand(2, 3, 64, 64))
    arrays = model.to_dict(vector)
    assert torch.equal(model.to_vector(arrays), vector)
    assert ("cross_scale_correlation_real" in arrays) == (n_scales > 1)
    kept = sum(int((~array[0, 0].isnan()).sum()) for array in arrays.values())
    assert kept == vector.shape[-1] == len(model.statistic_scales)


def test_scales_split_the_vector_coarse_to_fine():
    model = PortillaSimoncelli((64, 64), 2, 4, 7)
    image = torch.rand(1, 1, 64, 64)
    whole = model(image)
    assert model.scales == ("pixel_statistics", "residual_lowpass", 1, 0, "residual_highpass")
    sizes = [model(image, scales=[scale]).shape[-1] for scale in model.scales]
    assert sizes[0] == 6
    assert sizes[-1] == 1
    assert sum(sizes) == whole.shape[-1]
    assert torch.equal(model(image, scales=["pixel_statistics"]), whole[..., :6])
    assert torch.equal(model(image, scales=model.scales), whole)


def test_is_accepted_for_published_coarse_to_fine_synthesis():
    pytest.importorskip("plenoptic")
    from plenoptic.validate import validate_coarse_to_fine

    image = torch.rand(1, 1, 32, 32)
    model = PortillaSimoncelli((32, 32), 2, 4, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validate_coarse_to_fine(model, image_shape=image.shape)
        validate_coarse_to_fine(RelativeTexture(model, image), image_shape=image.shape)


def test_models_can_be_probed():
    image = torch.rand(1, 2, 40, 32)
    model = PortillaSimoncelli((40, 32), 2, 4, 5).eval()
    check_model(model, image).raise_if_failed()
    check_model(RelativeTexture(model, image).eval(), image).raise_if_failed()


def test_relative_statistics_are_one_where_they_measure_size():
    model = PortillaSimoncelli((64, 64), 2, 4, 7).double()
    image = torch.rand(2, 1, 64, 64, dtype=torch.float64)
    relative = RelativeTexture(model, image)
    arrays = model.to_dict(relative(image))
    for name in ("std_reconstructed", "magnitude_std", "var_highpass_residual"):
        assert torch.allclose(arrays[name], torch.ones_like(arrays[name]))
    assert (arrays["pixel_statistics"][..., 4:] == 0).all()
    plain = model.to_dict(model(image))["cross_scale_correlation_real"]
    assert torch.equal(arrays["cross_scale_correlation_real"], plain)
    some = relative(image, scales=[0, "residual_highpass"])
    assert torch.equal(some, model.keep(relative(image), [0, "residual_highpass"]))


def synthesize(model, texture, iterations):
    """Return noise driven to the statistics of a texture by a mean squared error."""
    target = model(texture).detach()
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(texture.shape, generator=generator, dtype=texture.dtype)
    image = (texture.mean() + 0.2 * (noise - 0.5)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [image], max_iter=iterations, line_search_fn="strong_wolfe", tolerance_change=0
    )

    def loss():
        optimizer.zero_grad()
        value = (model(image) - target).square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    return image.detach()


def test_relative_statistics_make_synthesis_reach_all_scales(reference):
    texture = reference["image"].double()
    model = PortillaSimoncelli((64, 64), 2, 4, 7).double()
    relative = RelativeTexture(model, texture)
    target = relative(texture)
    errors = {
        name: (relative(synthesize(kind, texture, 60)) - target).square().mean().sqrt().item()
        for name, kind in (("raw", model), ("relative", relative))
    }
    assert errors["relative"] < 0.01
    assert errors["raw"] > 3 * errors["relative"]


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((64, 64), {"n_scales": 0}, "n_scales to be a whole number of at least 1"),
        ((64, 64), {"n_orientations": 1}, "n_orientations to be a whole number of at least 2"),
        ((64, 64), {"spatial_corr_width": 0}, "spatial_corr_width"),
        ((64, 64), {"n_scales": 4}, "spatial_corr_width of at most 4"),
        ((64, 64), {"n_scales": 5}, "height between 0 and 4"),
        ((64,), {}, "image_shape"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(shape, settings, message):
    with pytest.raises(InputError, match=message):
        PortillaSimoncelli(shape, **settings)


def test_inputs_that_do_not_fit_are_refused():
    model = PortillaSimoncelli((64, 64), 2, 4, 7)
    image = torch.rand(1, 1, 64, 64)
    vector = model(image)
    arrays = model.to_dict(vector)
    with pytest.raises(ShapeError, match=r"axes \(batch, channel, height, width\)"):
        model(image[0])
    with pytest.raises(ShapeError, match="64 x 64 pixels, got 64 x 63"):
        model(image[..., 1:])
    with pytest.raises(InputError, match="sequence of scales among"):
        model(image, scales=[2])
    with pytest.raises(InputError, match="sequence of scales among"):
        model(image, scales="residual_lowpass")
    with pytest.raises(ShapeError, match=r"\(batch, channel, 348\)"):
        model.to_dict(vector[..., 1:])
    with pytest.raises(InputError, match="expected the statistics pixel_statistics"):
        model.to_vector({"pixel_statistics": arrays["pixel_statistics"]})
    with pytest.raises(ShapeError, match="magnitude_std with axes"):
        model.to_vector({**arrays, "magnitude_std": arrays["magnitude_std"][..., 0]})
    with pytest.raises(InputError, match="finite"):
        RelativeTexture(model, image * float("nan"))
