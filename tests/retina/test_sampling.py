"""Sampling: identity, interpolation, anti-aliasing, resolution, caching."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.retina import FovealSampling, UniformSampling, sampling
from calcarine.retina.mipmap import mipmap_sample, resolution_for


@pytest.fixture
def forgetful(monkeypatch):
    """Start with nothing in memory, and count how often positions are computed."""
    calls = []
    compute = sampling.cone_positions

    def counted(*args, **kwargs):
        calls.append(args)
        return compute(*args, **kwargs)

    monkeypatch.setattr(sampling, "_in_memory", {})
    monkeypatch.setattr(sampling, "cone_positions", counted)
    return calls


def test_uniform_sampling_of_its_own_resolution_is_the_identity():
    stage = UniformSampling(24)
    image = torch.rand(2, 3, 24, 24)
    assert stage(image) is image
    assert stage.required_resolution == 24


def test_uniform_sampling_of_a_finer_image_averages():
    """Twice the resolution is read from the second level of the pyramid: means of 2 x 2."""
    image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    expected = torch.nn.functional.avg_pool2d(image, 2)
    assert torch.allclose(UniformSampling(16)(image), expected, atol=1e-6)


def test_levels_are_blended_linearly():
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    centre = torch.zeros(2, 1, 1, dtype=torch.float64)

    def sample(level):
        octaves = level - 4.0
        at = torch.full((1, 1), octaves, dtype=torch.float64)
        return mipmap_sample(image, centre, at, (octaves, octaves)).item()

    assert sample(0) == pytest.approx(image[0, 0, 7:9, 7:9].mean().item())
    assert sample(4) == pytest.approx(image.mean().item())
    assert sample(9) == sample(4)
    assert sample(1.25) == pytest.approx(0.75 * sample(1) + 0.25 * sample(2))


def test_a_linear_image_is_read_where_the_cones_are():
    stage = FovealSampling(48)
    axis = (2 * torch.arange(128.0) + 1) / 128 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    sampled = stage(torch.stack([x, y]))
    inside = stage.positions.abs().amax(0) < 0.9  # the border of coarse levels is held
    assert torch.allclose(sampled[:, inside], stage.positions[:, inside], atol=2e-3)
    assert sampled.std() > 0.3


def test_fine_detail_does_not_alias():
    """A checkerboard finer than the lattice is read as its mean where cones are far apart."""
    stage = FovealSampling(32, jitter=0)
    checks = (torch.arange(128)[:, None] + torch.arange(128)).remainder(2).float()
    response = stage(checks[None])[0] - 0.5
    assert response[stage.spacing * 128 >= 2].abs().max() < 1e-5
    naive = torch.nn.functional.grid_sample(
        checks[None, None], stage.positions.movedim(0, -1)[None], align_corners=False
    )
    assert (naive - 0.5).abs().max() > 0.2


def test_gradients_and_leading_axes():
    stage = FovealSampling(8).double()
    image = torch.rand(2, 2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    assert stage(image).shape == (2, 2, 3, 8, 8)
    assert torch.equal(stage(image)[1, 0], stage(image[1, 0]))
    assert torch.autograd.gradcheck(stage, image[:1, :1, :1], fast_mode=True)


@pytest.mark.parametrize("side", [45, 64])
def test_any_resolution_keeps_a_constant(side):
    image = torch.full((1, 2, side, side), 0.7)
    assert torch.allclose(FovealSampling(20)(image), torch.full((1, 2, 20, 20), 0.7), atol=1e-6)


def test_resolution_is_the_power_of_two_above_the_finest_spacing():
    assert [resolution_for(s) for s in (1 / 64, 1 / 65, 0.9 / 256, 1.0)] == [64, 128, 512, 1]
    stage = FovealSampling(64)
    assert stage.required_resolution == 128
    assert 64 < 1 / stage.spacing.min() < 128
    assert FovealSampling(64, layout="uniform", jitter=0).required_resolution == 64


@pytest.mark.slow
def test_full_size_fovea_needs_512_pixels():
    assert FovealSampling(256).required_resolution == 512


def test_own_density_function():
    stage = FovealSampling(32, layout=lambda x, y: torch.exp(-(x**2) - y**2))
    assert stage.spacing[16, 16] < 0.8 * stage.spacing[0, 0]
    other = FovealSampling(32, layout=lambda x, y: torch.exp(-(x**2) - 2 * y**2))
    assert not torch.equal(stage.positions, other.positions)


def test_checkpoint_carries_the_positions():
    saved, fresh = FovealSampling(16, seed=3), FovealSampling(16, layout="horizontal_streak")
    assert not torch.equal(saved.positions, fresh.positions)
    fresh.load_state_dict(saved.state_dict())
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(saved(image), fresh(image))
    assert saved.required_resolution == fresh.required_resolution


def test_positions_are_found_in_memory_and_on_disk(forgetful, monkeypatch, tmp_path):
    monkeypatch.setenv("CALCARINE_CACHE", str(tmp_path / "new"))
    first = FovealSampling(20, seed=7)
    FovealSampling(20, seed=7)
    assert len(forgetful) == 1
    assert len(list((tmp_path / "new").iterdir())) == 1
    sampling._in_memory.clear()
    assert torch.equal(FovealSampling(20, seed=7).positions, first.positions)
    assert len(forgetful) == 1
    FovealSampling(20, seed=8)
    FovealSampling(20, seed=7, jitter=0.1)
    assert len(forgetful) == 3


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 damaged", "object", "shape", "nan"], ids=str)
def test_a_damaged_cache_is_ignored_and_mended(forgetful, monkeypatch, tmp_path, content):
    monkeypatch.setenv("CALCARINE_CACHE", str(tmp_path))
    first = FovealSampling(12)
    (file,) = tmp_path.iterdir()
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        array = {
            "object": np.array([{}], dtype=object),
            "shape": np.zeros((2, 3, 3)),
            "nan": np.full((2, 12, 12), math.nan),
        }[content]
        np.savez(file, array=array)
    sampling._in_memory.clear()
    assert torch.equal(FovealSampling(12).positions, first.positions)
    assert len(forgetful) == 2
    sampling._in_memory.clear()
    FovealSampling(12)
    assert len(forgetful) == 2


@pytest.mark.parametrize("variable", ["CALCARINE_CACHE", "HOME"])
def test_an_unwritable_home_just_works(forgetful, monkeypatch, tmp_path, variable):
    file = tmp_path / "file"
    file.write_text("a folder below a file can never be made")
    monkeypatch.delenv("CALCARINE_CACHE", raising=False)
    monkeypatch.setenv(variable, str(file / "below"))
    assert FovealSampling(12).positions.isfinite().all()
    assert len(forgetful) == 1
    assert file.read_text().startswith("a folder")


def test_no_home_at_all(forgetful, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("CALCARINE_CACHE", raising=False)
    monkeypatch.setattr("pathlib.Path.home", nowhere)
    FovealSampling(12)
    assert len(forgetful) == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FovealSampling(1), InputError, "at least 2"),
        (lambda: UniformSampling(2.5), InputError, "whole number"),
        (lambda: FovealSampling(8, layout="two_fovea"), UnknownNameError, "two_foveas"),
        (lambda: UniformSampling(8)(torch.rand(1, 3, 8, 9)), ShapeError, "square"),
        (lambda: FovealSampling(8)(torch.rand(8, 8)), ShapeError, "channel"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
