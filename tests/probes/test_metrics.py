"""Metrics: reference numbers, closed forms, gradients where images are identical."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from calcarine.errors import CalcarineWarning, InputError, ShapeError, UnknownNameError
from calcarine.probes import l2_norm, model_metric, ms_ssim, mse, nlpd, ssim
from calcarine.probes.normalized_laplacian import normalized_laplacian
from calcarine.probes.structural_similarity import MS_SSIM_EXPONENTS

REFERENCE = Path(__file__).parent.parent / "data" / "lgn.npz"
IMAGE_METRICS = {"mse": mse, "l2_norm": l2_norm, "ssim": ssim, "ms_ssim": ms_ssim, "nlpd": nlpd}
PERCEPTUAL = [ssim, ms_ssim, nlpd]


def pair(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Two images in [0, 1], the second one the first with noise."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(shape, dtype=dtype, generator=generator)
    noise = torch.randn(shape, dtype=dtype, generator=generator)
    return x, (x + 0.1 * noise).clamp(0, 1)


@pytest.fixture(scope="module")
def reference() -> dict[str, Tensor]:
    with np.load(REFERENCE) as arrays:
        names = ("image", "noisy", "ssim", "nlpd", "ms_ssim_192")
        return {name: torch.from_numpy(arrays[name]) for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reference_numbers(reference, dtype):
    x, y = reference["image"].to(dtype), reference["noisy"].to(dtype)
    larger = [F.interpolate(i, (192, 192), mode="bilinear", align_corners=False) for i in (x, y)]
    assert ssim(x, y).dtype == dtype
    assert ssim(x, y).item() == pytest.approx(reference["ssim"].item(), abs=1e-5)
    assert ms_ssim(*larger).item() == pytest.approx(reference["ms_ssim_192"].item(), abs=1e-5)
    # The reference leaves sqrt(epsilon) = 1e-5 in the distance.
    assert nlpd(x, y).item() + 1e-5 == pytest.approx(reference["nlpd"].item(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 3, 255, 301), (1, 1, 192, 161)])
def test_equals_plenoptic(shape, dtype):
    peer = pytest.importorskip("plenoptic").metric
    x, y = pair(shape, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer warns about colour images
        expected = [peer.mse(x, y), peer.ssim(x, y), peer.ssim(x, y, weighted=True)]
        expected += [peer.ms_ssim(x, y), peer.nlpd(x, y) - 1e-5]
    found = [mse(x, y), ssim(x, y), ssim(x, y, weighted=True), ms_ssim(x, y), nlpd(x, y)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == shape[:2]
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_model_metric_equals_plenoptic():
    peer = pytest.importorskip("plenoptic").metric
    x, y = pair((1, 1, 20, 31))
    model = nn.Conv2d(1, 3, 5).double().requires_grad_(False)
    expected = peer.model_metric_factory(model)(x, y).item()
    assert model_metric(model)(x, y).shape == (1, 1)
    assert model_metric(model)(x, y).item() == pytest.approx(expected, abs=1.1e-5)


def test_squares_and_lengths_in_closed_form():
    x = torch.zeros(2, 3, 4, 5)
    y = torch.full_like(x, 0.5)
    assert torch.equal(mse(x, y), torch.full((2, 3), 0.25))
    assert torch.allclose(l2_norm(x, y), torch.full((2, 3), 0.5 * math.sqrt(20)))
    vector = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.allclose(mse(vector, 0 * vector), torch.tensor([[5 / 3, 50 / 3]]))
    assert torch.allclose(l2_norm(vector, 0 * vector), torch.tensor([[5.0, 50.0]]).sqrt())


def test_complex_representations_are_compared_by_modulus():
    x = torch.zeros(1, 2, 3, 3, dtype=torch.complex128)
    y = torch.full_like(x, 3 + 4j)
    assert torch.equal(mse(x, y), torch.full((1, 2), 25.0, dtype=torch.float64))
    assert torch.allclose(l2_norm(x, y), torch.full((1, 2), 15.0, dtype=torch.float64))
    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mse(x, z).sum() + l2_norm(x, z).sum(), z)
    assert torch.equal(slope, torch.zeros_like(slope))
    image = pair((1, 1, 8, 8))[0]
    spectrum = model_metric(torch.fft.fft2)
    change = torch.full_like(image, 0.1)
    # Parseval: the spectrum's mean square is the number of pixels times that of the image.
    assert spectrum(image, image + change).item() == pytest.approx(0.8, abs=1e-4)


def test_ssim_of_flat_images_is_the_luminance_term():
    """No contrast: cs = 1 and l = (2ab + C1) / (a^2 + b^2 + C1)."""
    x, y = torch.full((1, 1, 16, 20), 0.4), torch.full((1, 1, 16, 20), 0.6)
    expected = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)
    for weighted in (False, True):
        assert ssim(x, y, weighted=weighted).item() == pytest.approx(expected, abs=1e-4)


def test_ssim_of_opposite_contrast_is_negative_and_ms_ssim_zero():
    x, _ = pair((1, 1, 176, 176))
    assert ssim(x, 1 - x).item() < -0.5
    y = (1 - x).requires_grad_()
    value = ms_ssim(x, y)
    assert value.item() == 0
    (slope,) = torch.autograd.grad(value, y)
    assert torch.isfinite(slope).all()


def test_range_scales_with_the_values():
    x, y = pair((1, 1, 180, 180))
    for metric in (ssim, ms_ssim):
        scaled = metric(255 * x, 255 * y, data_range=255)
        torch.testing.assert_close(scaled, metric(x, y), rtol=1e-10, atol=1e-10)


def test_one_exponent_of_one_is_plain_ssim():
    x, y = pair((2, 1, 20, 30))
    assert torch.equal(ms_ssim(x, y, exponents=(1.0,)), ssim(x, y))
    assert sum(MS_SSIM_EXPONENTS) == pytest.approx(1, abs=1e-3)


def test_normalisation_cancels_contrast_far_above_sigma():
    """Gain: z / (sigma + w |z|): doubling a strong z changes little, a faint one doubles."""
    x = pair((1, 1, 64, 64))[0] - 0.5
    faint = normalized_laplacian(2e-4 * x)[0].norm() / normalized_laplacian(1e-4 * x)[0].norm()
    strong = normalized_laplacian(2e3 * x)[0].norm() / normalized_laplacian(1e3 * x)[0].norm()
    assert faint.item() == pytest.approx(2, abs=0.01)
    assert strong.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", IMAGE_METRICS)
@pytest.mark.parametrize("shape", [(2, 1, 161, 176), (1, 3, 255, 301)])
def test_identical_images_and_independent_channels(name, shape):
    metric = IMAGE_METRICS[name]
    x, y = pair(shape, torch.float32)
    best = torch.ones(shape[:2]) if "ssim" in name else torch.zeros(shape[:2])
    torch.testing.assert_close(metric(x, x.clone()), best, rtol=0, atol=1e-6)
    together = metric(x, y)
    assert together.shape == shape[:2]
    assert (together - best).abs().min() > 1e-3
    for b in range(shape[0]):
        for c in range(shape[1]):
            alone = metric(x[b, c][None, None], y[b, c][None, None])
            torch.testing.assert_close(alone[0, 0], together[b, c])


def distances() -> list[object]:
    conv = nn.Conv2d(1, 2, 3).double().requires_grad_(False)
    return [*IMAGE_METRICS.values(), model_metric(conv), lambda x, y: ssim(x, y, weighted=True)]


@pytest.mark.parametrize("metric", distances())
def test_gradients_are_finite_at_identical_images_and_right_beside_them(metric):
    x, y = pair((1, 1, 161, 163))
    same = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(metric(x, same).sum(), same)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() < 1e-6
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    y = (0.1 + 0.8 * y).requires_grad_()
    (slope,) = torch.autograd.grad(metric(x, y).sum(), y)
    with torch.no_grad():
        step = 1e-6 * direction
        difference = (metric(x, y + step) - metric(x, y - step)).sum() / 2e-6
    assert (slope * direction).sum().item() == pytest.approx(difference.item(), rel=1e-5)


def test_a_model_metric_grows_quadratically_at_first_and_linearly_then():
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    metric = model_metric(lambda image: image)
    assert metric(x, x).item() == 0
    tiny, small, plain = (metric(x, x + d).item() for d in (1e-8, 2e-8, 0.5))
    assert small / tiny == pytest.approx(4, rel=1e-4)
    assert plain == pytest.approx(0.5, abs=1.1e-5)


def test_model_metrics_take_other_distances():
    x, y = pair((2, 1, 12, 12))
    model = nn.Conv2d(1, 3, 3).double().requires_grad_(False)
    squares = model_metric(model, "mse")(x, y)
    assert squares.shape == (2, 1)
    torch.testing.assert_close(squares, mse(model(x), model(y)).mean(1, keepdim=True))
    torch.testing.assert_close(model_metric(model, mse)(x, y), squares)
    with pytest.raises(UnknownNameError, match="Did you mean 'rms'"):
        model_metric(model, "rmse")
    with pytest.raises(InputError, match="epsilon > 0"):
        model_metric(model, epsilon=0)
    with pytest.raises(ShapeError, match="batch first"):
        model_metric(lambda image: image.sum((1, 2, 3)))(x, y)


@pytest.mark.parametrize("metric", IMAGE_METRICS.values())
def test_arguments_that_cannot_be_compared_are_refused(metric):
    x = torch.rand(2, 1, 176, 176)
    with pytest.raises(ShapeError, match="expand_as"):
        metric(x[:1], x)
    with pytest.raises(InputError, match=r"y\.to\(x\)"):
        metric(x, x.double())
    with pytest.raises(InputError, match=r"y\.to\(x\)"):
        metric(x, x.to("meta"))
    with pytest.raises(InputError, match="floating-point"):
        metric(x.long(), x.long())
    with pytest.raises(ShapeError, match=r"image\[None, None\]"):
        metric(x[0, 0], x[0, 0])


def test_perceptual_metrics_want_images_that_are_large_enough():
    x = torch.rand(1, 1, 200, 10)
    with pytest.raises(ShapeError, match=r"at least 11 px.*width 10"):
        ssim(x, x)
    x = torch.rand(1, 1, 160, 200)
    with pytest.raises(ShapeError, match=r"at least 161 px.*fewer exponents"):
        ms_ssim(x, x)
    assert ms_ssim(x, x, exponents=(0.5, 0.5)).item() == pytest.approx(1)
    x = torch.rand(1, 1, 200, 32)
    with pytest.raises(ShapeError, match="at least 33 px"):
        nlpd(x, x)


def test_settings_that_make_no_sense_are_refused():
    x = torch.rand(1, 1, 40, 40)
    with pytest.raises(InputError, match="data_range > 0"):
        ssim(x, x, data_range=0)
    with pytest.raises(InputError, match="at least one exponent"):
        ms_ssim(x, x, exponents=())
    with pytest.raises(InputError, match="epsilon > 0"):
        nlpd(x, x, epsilon=0)
    for metric in PERCEPTUAL:
        with pytest.raises(InputError, match="real images"):
            metric(torch.complex(x, x), torch.complex(x, x))


@pytest.mark.parametrize("metric", PERCEPTUAL)
def test_values_out_of_range_warn_but_optimisations_are_left_alone(metric):
    x, y = pair((1, 1, 176, 176))
    with pytest.warns(CalcarineWarning, match=r"values in \[0, 1\]"):
        metric(255 * x, 255 * y)
    assert torch.isfinite(metric(x, (2 * y).requires_grad_())).all()


@pytest.mark.parametrize("metric", IMAGE_METRICS.values())
def test_metrics_work_under_vmap_and_on_an_unseen_device(metric):
    x, y = pair((3, 1, 161, 161))
    mapped = torch.vmap(lambda a, b: metric(a[None], b[None])[0])(x, y)
    torch.testing.assert_close(mapped, metric(x, y))
    assert metric(x.to("meta"), y.to("meta")).device.type == "meta"


@pytest.mark.parametrize("metric", IMAGE_METRICS.values())
def test_metrics_compile_whole(metric):
    x, y = pair((1, 2, 161, 161))
    torch._dynamo.reset()
    compiled = torch.compile(metric, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, y), metric(x, y))
