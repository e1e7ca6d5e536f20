"""What lies where in the visual field: known positions, warping and unwarping."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from calcarine.cortex import CellPositions, GivenPositions, LatticePositions, translate, warp
from calcarine.cortex.given_positions import cell_centres
from calcarine.cortex.visual_field import erode, lattice_of_field, look_up
from calcarine.errors import InputError, ShapeError
from calcarine.retina.sampling import FovealSampling


def fovea(size: int = 48) -> GivenPositions:
    cells = GivenPositions(size)
    cells.give(FovealSampling(size).positions)
    return cells


def waves(points: Tensor) -> Tensor:
    """Smooth pictures of the visual field, at points (N, 2, H, W)."""
    x, y = points.unbind(1)
    return torch.stack([(2 * x + y).sin(), (3 * y - x).cos(), x * y], dim=1)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_given_positions_are_inverted_closely(size):
    cells = fovea(size)
    where = cells.positions(torch.zeros(()))
    back = cells.to_lattice(where)
    assert (back - cell_centres(size, back)).abs().max() * size / 2 < 0.03
    assert (where - cell_centres(size, where)).abs().max() * size / 2 > 1


def test_what_moves_over_the_border_leaves_the_lattice():
    cells = fovea()
    outside = torch.tensor([[1.1, 0.0], [-1.3, 0.2], [0.0, 1.08], [5.0, 5.0]]).T[None, :, :, None]
    assert (cells.to_lattice(outside).abs().amax(1) > 1).all()


@pytest.mark.parametrize("name", ["lattice", "given", "free", "normalized", "published"])
def test_after_a_movement_cells_see_what_lay_there_before(name):
    """All maps answer in one step what positions and their inverse answer in two."""
    size, like = 20, torch.zeros((), dtype=torch.double)
    if name == "lattice":
        cells, tolerance = LatticePositions(size), 1e-12
    elif name == "given":
        cells, tolerance = fovea(size).double(), 1e-12
    else:
        pytest.importorskip("zuko")
        torch.manual_seed(0)
        settings = {"published": name == "published", "normalized": name == "normalized"}
        cells, tolerance = CellPositions(size, **settings).double(), 1e-5
        for coupling in cells.couplings:
            torch.nn.init.normal_(coupling.hyper[-1].weight, std=0.02)
    shift = torch.tensor([[0.1, -0.2], [0.0, 0.0], [-0.05, 0.15]], dtype=torch.double)
    found = cells.after_movement(shift, like)
    twice = cells.to_lattice(cells.positions(like) + shift[:, :, None, None])
    assert found.shape == (3, 2, size, size)
    assert (found - twice).abs().max() < tolerance
    assert (found[0] - cell_centres(size, like)[0]).abs().mean() > 0.05
    assert (found[1] - cell_centres(size, like)[0]).abs().max() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_on_a_lattice_warping_by_whole_cells_is_translating(dtype):
    generator = torch.Generator().manual_seed(0)
    percept = torch.rand(4, 3, 17, 17, generator=generator, dtype=dtype)
    shift = torch.tensor([[0, 0], [3, -2], [-5, 1], [20, 0]])
    moved, known = warp(percept, LatticePositions(17), shift.to(dtype) * (2 / 17))
    wanted, inside = translate(percept, shift)
    assert torch.equal(known, inside)
    assert torch.allclose(moved, wanted, atol=1e-5)
    assert 0 < known.mean() < 1


def test_behind_a_fovea_the_moved_percept_is_what_the_eye_sees_next():
    cells = fovea()
    where = cells.positions(torch.zeros(()))
    shift = torch.tensor([[0.11, -0.06], [0.0, 0.0], [-0.2, 0.15]])
    moved, known = warp(waves(where).expand(3, -1, -1, -1), cells, shift)
    truth = waves(where + shift[:, :, None, None])
    assert ((moved - truth) * known).abs().max() < 0.01
    assert (moved * (1 - known)).abs().max() == 0
    assert known[1].all()
    assert 0.6 < known[0].mean() < 0.95


def test_warping_teaches_positions_and_movement():
    """The gradient with respect to the shift is the slope of the picture."""
    cells = fovea()
    percept = waves(cells.positions(torch.zeros(()))).double()
    cells = cells.double()
    shift = torch.tensor([[0.05, 0.02]], dtype=torch.double, requires_grad=True)

    def total(s: Tensor) -> Tensor:
        moved, known = warp(percept, cells, s)
        return (moved * known)[..., 12:-12, 12:-12].sum()

    (slope,) = torch.autograd.grad(total(shift), shift)
    step = torch.tensor([[1e-4, 0.0]], dtype=torch.double)
    numeric = (total(shift + step) - total(shift - step)) / 2e-4
    assert slope[0, 0].item() == pytest.approx(numeric.item(), rel=0.05)


@pytest.mark.parametrize("side", [40, 97])
def test_unwarping_lays_the_percept_out_in_the_field(side):
    cells = fovea()
    percept = waves(cells.positions(torch.zeros(())))
    picture, known = look_up(percept, lattice_of_field(cells, side, percept))
    truth = waves(cell_centres(side, percept))
    assert picture.shape == (1, 3, side, side)
    assert ((picture - truth) * known).abs().max() < 0.01
    assert known.float().mean() > 0.9


def test_unknown_cells_spread_by_half_the_kernel():
    known = torch.ones(1, 1, 9, 11)
    known[0, 0, 4, 5] = 0
    eroded = erode(known, 5)
    assert eroded.sum() == 99 - 25
    assert eroded[0, 0, 2:7, 3:8].sum() == 0
    assert torch.equal(erode(torch.ones(1, 1, 9, 11), 5), torch.ones(1, 1, 9, 11))
    reached = F.conv2d(1 - known, torch.ones(1, 1, 5, 5), padding=2) > 0
    assert torch.equal(eroded, (~reached).float())


@pytest.mark.parametrize(("size", "kernel_size"), [((31, 25), 7), ((12, 40), 1), ((3, 9), 9)])
def test_eroding_is_a_sliding_minimum(size, kernel_size):
    known = (torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(1)) > 0.02).double()
    pooled = -F.max_pool2d(-known, kernel_size, 1, kernel_size // 2)
    assert torch.equal(erode(known, kernel_size), pooled)
    assert 0 < known.mean() < 1


def test_positions_travel_with_the_state():
    first, second = fovea(16), GivenPositions(16)
    with pytest.raises(InputError, match="does not know them yet"):
        second.positions(torch.zeros(()))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.positions(torch.zeros(())), second.positions(torch.zeros(())))
    points = torch.rand(1, 2, 5, 6)
    assert torch.equal(first.to_lattice(points), second.to_lattice(points))


def test_bad_input_is_refused():
    cells = GivenPositions(8)
    with pytest.raises(ShapeError, match="x before"):
        cells.give(torch.zeros(2, 8, 9))
    with pytest.raises(InputError, match="finite"):
        cells.give(torch.full((2, 8, 8), torch.nan))
    with pytest.raises(InputError, match="take_facts"):
        cells.to_lattice(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ShapeError, match="one \\(dx, dy\\) per item"):
        warp(torch.rand(2, 3, 8, 8), LatticePositions(8), torch.zeros(3, 2))
    with pytest.raises(ShapeError, match="look_up expected"):
        look_up(torch.rand(2, 3, 8, 8), torch.zeros(3, 2, 4, 4))
