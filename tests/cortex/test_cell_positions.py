"""Positions of cells as the cortex believes in them: an invertible map, evaluated from tables."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from calcarine.cortex import CellPositions
from calcarine.errors import InputError, MissingDependencyError
from calcarine.retina.positions import jacobian, uniform_positions
from calcarine.retina.sampling import FovealSampling

pytest.importorskip("zuko")


def bent(size: int = 16, seed: int = 0, **settings: bool) -> CellPositions:
    """A map far from the identity."""
    cells = CellPositions(size, plasticity=2.0, **settings).double()
    generator = torch.Generator().manual_seed(seed)
    for coupling in cells.couplings:
        for layer in coupling.hyper:
            for parameter in getattr(layer, "parameters", list)():
                spread = 0.06 if layer is coupling.hyper[-1] else 0.6
                nn.init.normal_(parameter, std=spread, generator=generator)
    return cells


def some_points(dtype: torch.dtype = torch.double) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return 2.4 * torch.rand(3, 2, 11, 14, generator=generator, dtype=dtype) - 1.2


def by_zuko(cells: CellPositions, points: Tensor, *, inverse: bool = False) -> Tensor:
    """The same map, evaluated by the library that defines it."""
    mirror = torch.tensor([[1.0, 1.0], [1.0, -1.0]]).to(points) * 0.5**0.5

    def through(index: int, x: Tensor, *, back: bool = False) -> Tensor:
        transform = cells.couplings[index]()
        turn = mirror if index % 4 >= 2 and not cells.published else torch.eye(2).to(points)
        return (transform.inv(x @ turn) if back else transform(x @ turn)) @ turn

    centre = uniform_positions(32).flatten(1).T.to(points)
    for index in range(cells.blocks):
        centre = through(index, centre)
    x, centre = points.permute(0, 2, 3, 1), centre.mean(0)
    if inverse:
        x = x + centre
    for index in reversed(range(cells.blocks)) if inverse else range(cells.blocks):
        x = through(index, x, back=inverse)
    return (x if inverse else x - centre).permute(0, 3, 1, 2)


def test_it_starts_as_the_regular_lattice():
    cells = CellPositions(9)
    found = cells.positions(torch.zeros(()))
    assert torch.allclose(found[0], uniform_positions(9).float(), atol=1e-6)
    assert cells.log_jacobian(torch.zeros(())).abs().max() < 1e-6
    points = some_points(torch.float)
    assert torch.allclose(cells.to_lattice(points), points, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 5e-6)], ids=str
)
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_tables_give_the_numbers_of_the_library(dtype, tolerance, inverse, published):
    """Linear interpolation between 1024 knots: the error is (2.4 / 1024)^2 f'' / 8."""
    cells, points = bent(published=published).to(dtype), some_points(dtype)
    ours = cells.to_lattice(points) if inverse else cells.to_field(points)
    theirs = by_zuko(cells, points, inverse=inverse)
    assert ours.dtype == dtype
    assert (ours - theirs).abs().max() < tolerance * theirs.abs().max()
    assert (theirs - points).abs().max() > 0.2


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_are_those_of_the_library(inverse):
    cells = bent()
    points = some_points().requires_grad_()
    weights = torch.randn(points.shape, generator=torch.Generator().manual_seed(1)).double()
    ours = cells.to_lattice(points) if inverse else cells.to_field(points)
    theirs = by_zuko(cells, points, inverse=inverse)
    wanted = [points, *cells.parameters()]
    pairs = zip(
        torch.autograd.grad((ours * weights).sum(), wanted),
        torch.autograd.grad((theirs * weights).sum(), wanted),
        strict=True,
    )
    for a, b in pairs:
        assert (a - b).norm() < 3e-3 * b.norm()
        assert b.norm() > 0


def test_the_inverse_undoes_the_map_anywhere():
    cells, points = bent(), some_points()
    assert torch.allclose(cells.to_lattice(cells.to_field(points)), points, atol=1e-5)
    assert torch.allclose(cells.to_field(cells.to_lattice(points)), points, atol=1e-5)


def test_the_map_never_folds_and_its_jacobian_is_the_area_of_cells():
    size = 64
    cells = bent(size, seed=1)
    found = cells.positions(torch.zeros((), dtype=torch.double))[0]
    areas = jacobian(found)
    assert areas.min() > 0
    log_area = cells.log_jacobian(torch.zeros((), dtype=torch.double))[0]
    middle = (log_area[:-1, :-1] + log_area[1:, 1:] + log_area[:-1, 1:] + log_area[1:, :-1]) / 4
    assert torch.allclose(areas.mean(0).log(), middle, atol=0.02)
    assert log_area.std() > 0.1


def test_a_normalized_map_says_nothing_about_place_and_size_of_the_field():
    cells, free = bent(24, normalized=True), bent(24)
    like = torch.zeros((), dtype=torch.double)
    found = cells.positions(like)[0].flatten(1)
    sites = uniform_positions(24).flatten(1)
    slope = torch.linalg.lstsq(sites.T, found.T).solution
    assert found.mean(1).abs().max() < 0.01
    assert torch.allclose(slope, 0.87 * torch.eye(2, dtype=torch.double), atol=0.01)
    points = some_points()
    assert torch.allclose(cells.to_lattice(cells.to_field(points)), points, atol=1e-5)
    raw = free.positions(like)[0].flatten(1)
    ones = torch.ones(1, raw.shape[1], dtype=torch.double)
    best = torch.linalg.lstsq(torch.cat([raw, ones]).T, found.T).solution
    assert torch.allclose(torch.cat([raw, ones]).T @ best, found.T, atol=1e-6)
    ratio = cells.log_jacobian(like) - free.log_jacobian(like)
    assert ratio.std() < 1e-6
    assert ratio.mean().item() == pytest.approx(torch.linalg.det(best[:2]).log().item(), abs=1e-5)


def test_items_do_not_influence_each_other_beyond_rounding():
    cells, points = bent(), some_points()
    together = cells.to_lattice(points)
    assert torch.allclose(cells.to_lattice(points[1:2]), together[1:2], atol=1e-5)


def test_the_cones_of_a_fovea_can_be_learned():
    """Shown where the cones are, the map follows them to less than half a cell within 600 steps."""
    size = 24
    true = FovealSampling(size, jitter=0.0).positions[None]
    torch.manual_seed(0)
    cells = CellPositions(size, plasticity=2.0)
    optimiser = torch.optim.Adam(cells.parameters(), lr=1e-2)
    for _ in range(600):
        error = (cells.positions(true) - true).square().sum(1).mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    assert error.sqrt() * size / 2 < 0.35
    assert (uniform_positions(size) - true).square().sum(1).mean().sqrt() * size / 2 > 1


@pytest.mark.parametrize("seed", [0, 1])
def test_diagonals_lead_from_the_lattice_to_a_fovea_much_sooner(seed):
    """After 20 steps one cell is left of 3.4; the published map has hardly moved."""
    true = FovealSampling(96, jitter=0.0).positions[None].float()
    left = []
    for published in (False, True):
        torch.manual_seed(seed)
        cells = CellPositions(96, normalized=True, published=published)
        optimiser = torch.optim.Adam(cells.parameters(), lr=2e-3)
        for _ in range(20):
            error = (cells.positions(true) - true).square().sum(1).mean()
            optimiser.zero_grad()
            error.backward()
            optimiser.step()
        left.append(error.sqrt().item() * 48)
    assert left[0] < 1.2
    assert left[1] > 2.5


def test_a_saved_map_is_restored():
    first, second = bent(seed=1), bent(seed=2)
    second.load_state_dict(first.state_dict())
    points = some_points()
    assert torch.equal(first.to_field(points), second.to_field(points))


def test_bad_settings_are_refused(monkeypatch):
    with pytest.raises(InputError, match="at least 2 cells per side"):
        CellPositions(1)
    with pytest.raises(InputError, match="at least 2 cells per side"):
        CellPositions(8, hidden=())
    with pytest.raises(InputError, match="plasticity"):
        CellPositions(8, plasticity=0)
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[spectral\]"):
        CellPositions(8)
