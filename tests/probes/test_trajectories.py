"""Principal components are those of a singular value decomposition, however large the area."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from calcarine.errors import InputError, NonFiniteError, ShapeError
from calcarine.probes import principal_trajectories, trajectories


def activity(frames: int, batch: int, *area: int) -> torch.Tensor:
    """Activity of a spectrum that falls, so that components are well told apart."""
    draw = torch.Generator().manual_seed(0)
    units = math.prod(area)
    rank = min(frames * batch, units, 12)
    left = torch.randn(frames * batch, rank, generator=draw, dtype=torch.double)
    right = torch.randn(rank, units, generator=draw, dtype=torch.double)
    x = left @ (2.0 ** -torch.arange(rank)[:, None] * right) + 3
    return x.reshape(frames, batch, *area)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(7, 3, 255), (31, 2, 5), (40, 6, 3, 4, 5), (9, 1, 64, 3, 7)], ids=str
)
@pytest.mark.parametrize("exact", [2048, 4], ids=["exact", "iterated"])
def test_components_are_those_of_the_svd(shape, dtype, exact, monkeypatch):
    monkeypatch.setattr(trajectories, "_EXACT", exact)
    monkeypatch.setattr(trajectories, "_SLAB_NUMBERS", 500)  # many slabs
    x = activity(*shape).to(dtype)
    found = principal_trajectories(x, 3, dt_ms=2, start_ms=-4)
    flat = x.double().reshape(shape[0] * shape[1], -1)
    centred = flat - flat.mean(0)
    u, s, vh = torch.linalg.svd(centred, full_matrices=False)
    assert torch.allclose(found.explained, s[:3] ** 2 / (s**2).sum(), rtol=1e-9)
    turned = found.components.reshape(3, -1) @ vh[:3].T
    assert torch.allclose(turned.abs(), torch.eye(3).double(), atol=1e-7)
    assert torch.allclose(
        found.scores.reshape(-1, 3), (u * s)[:, :3] * turned.diagonal(), atol=1e-5
    )
    assert (found.components.reshape(3, -1).max(1).values > 0).all()
    assert found.components.shape == (3, *shape[2:])
    assert found.time_ms[:3].tolist() == [-4, -2, 0]


def test_all_components_together_lose_nothing():
    x = activity(5, 4, 7)
    found = principal_trajectories(x, 7)
    assert found.explained.sum().item() == pytest.approx(1)
    assert torch.allclose(found.mean + found.scores @ found.components, x)
    assert torch.allclose(found.project(x), found.scores)
    assert found.project(x[0, 0]).shape == (7,)
    with pytest.raises(ShapeError, match="last axes"):
        found.project(torch.ones(5, 6))


def test_an_array_on_disk_is_read_slab_by_slab(tmp_path, monkeypatch):
    x = activity(20, 3, 4, 5).float()
    np.save(tmp_path / "x.npy", x.numpy())
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(trajectories, "_SLAB_NUMBERS", 100)
    found, expected = principal_trajectories(on_disk, 2), principal_trajectories(x, 2)
    assert torch.equal(found.scores, expected.scores)


def test_batches_count_together(monkeypatch):
    x = activity(20, 7, 4, 5)
    monkeypatch.setattr(trajectories, "_SLAB_NUMBERS", 100)
    found = principal_trajectories(list(x.split([2, 4, 1], 1)), 2)
    assert torch.allclose(found.scores, principal_trajectories(x, 2).scores)
    with pytest.raises(ShapeError, match="same times and area"):
        principal_trajectories([x, x[:-1]], 2)
    with pytest.raises(ShapeError, match="list of such batches"):
        principal_trajectories([], 2)


def test_a_trajectory_of_a_class_is_the_mean_of_its_images():
    found = principal_trajectories(activity(6, 4, 5), 2)
    means = found.by_class(torch.tensor([0, 2, 2, 0]))
    assert means.shape == (6, 3, 2)
    assert torch.allclose(means[:, 0], (found.scores[:, 0] + found.scores[:, 3]) / 2)
    assert torch.allclose(means[:, 2], found.scores[:, 1:3].mean(1))
    assert means[:, 1].isnan().all()
    with pytest.raises(ShapeError, match="one class number for each of 4"):
        found.by_class(torch.tensor([0, 1]))


def test_activity_of_cordsnet_leaves_its_baseline_and_returns(cordsnet):
    rates = cordsnet.trace(torch.rand(4, 1, 17, 21), areas=[2], stimulus_ms=60, off_ms=200)[2]
    found = principal_trajectories(rates[99:], 3, dt_ms=2)
    away = (found.scores - found.scores[:1]).norm(dim=2)
    assert (away[30] > 20 * away[-1]).all()
    assert found.explained[0] > found.explained[1] > found.explained[2] > 0
    assert found.explained.sum() > 0.5


def test_constant_activity_explains_nothing():
    found = principal_trajectories(torch.ones(4, 2, 3), 2)
    assert (found.explained == 0).all()


@pytest.mark.parametrize(
    ("x", "components", "error", "match"),
    [
        (torch.ones(3, 4), 1, ShapeError, "time, batch"),
        (torch.ones(3, 0, 4), 1, ShapeError, "time, batch"),
        (torch.rand(3, 2, 4), 0, InputError, r"1\.\.4"),
        (torch.rand(3, 2, 4), 5, InputError, r"1\.\.4"),
        (torch.rand(3, 1, 4), 3, InputError, r"1\.\.2"),
        (torch.full((3, 2, 4), math.nan), 1, NonFiniteError, "NaN"),
    ],
)
def test_bad_inputs_are_refused(x, components, error, match):
    with pytest.raises(error, match=match):
        principal_trajectories(x, components)
