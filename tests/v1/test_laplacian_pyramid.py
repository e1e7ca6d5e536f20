"""The Laplacian pyramid: exact inversion, reference bands, closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import calcarine
from calcarine.errors import InputError, ShapeError
from calcarine.v1 import LaplacianPyramid

REFERENCE = Path(__file__).parent.parent / "data" / "lgn.npz"


def images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def test_bands_are_those_of_the_reference():
    with np.load(REFERENCE) as arrays:
        image = torch.from_numpy(arrays["image"])
        expected = [torch.from_numpy(arrays[f"laplacian_{k}"]) for k in range(4)]
    bands = LaplacianPyramid(n_scales=4)(image)
    assert len(bands) == 4
    for band, reference in zip(bands, expected, strict=True):
        torch.testing.assert_close(band, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep_mean", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("shape", [(2, 3, 255, 301), (1, 1, 64, 64), (3, 1, 17, 40)])
def test_putting_the_bands_together_gives_the_image(shape, dtype, tolerance, keep_mean):
    image = images(shape, dtype)
    pyramid = LaplacianPyramid(keep_mean=keep_mean)
    bands = pyramid(image)
    sizes = [tuple(band.shape[-2:]) for band in bands]
    assert sizes == [tuple(-(-n // 2**k) for n in shape[-2:]) for k in range(5)]
    assert all(band.dtype == dtype for band in bands)
    assert (pyramid.reconstruct(bands) - image).abs().max() <= tolerance
    assert min(band.abs().max().item() for band in bands) > 0.01


@pytest.mark.parametrize(("keep_mean", "growth"), [(True, 1.0), (False, 2.0)])
def test_a_constant_is_low_pass_only(keep_mean, growth):
    image = torch.full((1, 1, 33, 50), 0.3, dtype=torch.float64)
    *bands, rest = LaplacianPyramid(4, keep_mean=keep_mean)(image)
    for band in bands:
        assert band.abs().max() < 1e-14
    torch.testing.assert_close(rest, torch.full_like(rest, 0.3 * growth**3))


@pytest.mark.parametrize("frequency", [1 / 16, 1 / 8, 1 / 4])
def test_a_grating_loses_what_the_blurred_scale_holds(frequency):
    """Down and up multiply a frequency by h(f)^2, h = cos(pi f)^4, and add its alias at 1/2 - f."""
    x = torch.arange(128, dtype=torch.float64)
    image = torch.cos(2 * torch.pi * frequency * x).expand(1, 1, 64, 128)
    fine = LaplacianPyramid(2, keep_mean=True)(image)[0][0, 0, 32, 32:96]
    spectrum = torch.fft.rfft(fine).abs() / 32
    h, alias = np.cos(np.pi * frequency) ** 4, np.cos(np.pi * (0.5 - frequency)) ** 4
    if frequency == 1 / 4:  # signal and alias fall together
        assert spectrum[16].item() == pytest.approx(1 - h * (h + alias), abs=1e-12)
    else:
        assert spectrum[round(64 * frequency)].item() == pytest.approx(1 - h**2, abs=1e-12)
        assert spectrum[round(64 * (0.5 - frequency))].item() == pytest.approx(h * alias, abs=1e-12)


def test_images_and_channels_are_independent():
    image = images((2, 3, 31, 20))
    whole = LaplacianPyramid(4)(image)
    for b in range(2):
        for c in range(3):
            for part, band in zip(LaplacianPyramid(4)(image[b, c][None, None]), whole, strict=True):
                assert torch.equal(part[0, 0], band[b, c])


@pytest.mark.parametrize("keep_mean", [False, True])
def test_equals_plenoptic(keep_mean):
    peer = pytest.importorskip("plenoptic")
    image = images((2, 2, 255, 301))
    expected = peer.process.LaplacianPyramid(6, scale_filter=keep_mean)(image)
    found = LaplacianPyramid(6, keep_mean=keep_mean)(image)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gradient_is_that_of_differences():
    image = images((1, 1, 9, 12)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: tuple(LaplacianPyramid(3)(x)), image)


def test_one_scale_is_the_image_itself_and_papers_are_named():
    image = images((1, 1, 2, 1))
    assert torch.equal(LaplacianPyramid(1)(image)[0], image)
    assert "Burt" in calcarine.cite(LaplacianPyramid())
    assert "n_scales=5" in repr(LaplacianPyramid())


def test_what_cannot_be_taken_apart_is_refused():
    with pytest.raises(InputError, match="at least 1, got 0"):
        LaplacianPyramid(0)
    with pytest.raises(ShapeError, match=r"image\[None, None\]"):
        LaplacianPyramid()(torch.rand(32, 32))
    with pytest.raises(ShapeError, match="floating-point"):
        LaplacianPyramid()(torch.ones(1, 1, 32, 32, dtype=torch.uint8))
    pyramid = LaplacianPyramid(4)
    assert pyramid.smallest_size == 9
    pyramid(torch.rand(1, 1, 9, 30))
    with pytest.raises(ShapeError, match="at least 9 px, got height 8"):
        pyramid(torch.rand(1, 1, 8, 30))


def test_bands_that_do_not_fit_are_refused():
    pyramid = LaplacianPyramid(3)
    bands = pyramid(torch.rand(1, 1, 20, 21))
    with pytest.raises(ShapeError, match="expected 3 bands"):
        pyramid.reconstruct(bands[:2])
    with pytest.raises(ShapeError, match=r"\(1, 1, 3, 3\)"):
        pyramid.reconstruct([bands[0], bands[2], bands[2]])
