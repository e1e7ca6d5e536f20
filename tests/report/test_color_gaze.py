"""The percept in the visual field, and the gaze: on the page of a foveated colour cortex."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from calcarine.errors import InputError, ShapeError
from calcarine.plot import fixation_path, movement_figure
from calcarine.report import unwarped
from calcarine.report.builder import Report
from calcarine.report.color_vision import likeness
from calcarine.report.gaze_section import add_gaze, follow_gaze
from calcarine.report.unwarped_section import add_unwarped
from calcarine.training.run import open_run


@pytest.fixture(scope="module")
def foveated(train, tmp_path_factory):
    """A run that is told where its cells are and has to find its eye's movements."""
    folder = train(
        tmp_path_factory.mktemp("runs") / "fovea", "retina.sampling=fovea",
        "retina.inhibition=true", "stimuli.size=40", "training.updates=1", "training.snapshots=[0]",
        "cortex.positions='true'", "cortex.inhibition='true'", "cortex.movement=estimated",
    )  # fmt: skip
    run = open_run(folder)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(0)
        run.task.percept_scope.readout.weight.normal_(0, 0.3, generator=draw)
        run.task.percept_scope.readout.bias.fill_(0.4)
    return run


@pytest.fixture
def picture(foveated):
    side = foveated.task.retina.window
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3))


class Turned(nn.Module):
    """The same belief in a field of its own: larger, turned, elsewhere."""

    def __init__(self, cells):
        super().__init__()
        self.cells, self.size = cells, cells.size
        self.turn = 1.7 * torch.tensor([[0.6, -0.8], [0.8, 0.6]])
        self.offset = torch.tensor([0.3, -0.2])[:, None, None]

    def positions(self, like):
        moved = torch.einsum("ij,njhw->nihw", self.turn, self.cells.positions(like))
        return moved + self.offset

    def to_lattice(self, points):
        back = torch.einsum("ij,njhw->nihw", self.turn.inverse(), points - self.offset)
        return self.cells.to_lattice(back)


def test_with_true_positions_the_percept_lies_where_the_cells_are(foveated, picture):
    laid = unwarped(foveated, picture)
    assert torch.equal(laid.scene, picture)
    assert laid.on_lattice.shape[-2:] == (16, 16)
    assert laid.known.double().mean() > 0.6
    inside = laid.known.expand_as(laid.in_field)
    near, far = laid.in_field[inside], laid.as_cells_lie[inside]
    assert torch.corrcoef(torch.stack([near, far]))[0, 1] > 0.8
    assert (laid.in_field[~inside] == 0.5).all()


def test_size_place_and_direction_of_its_field_do_not_matter(foveated, picture):
    task = copy.copy(foveated.task)
    task.cortex = copy.deepcopy(task.cortex)
    task.cortex.positions = Turned(task.cortex.positions)
    turned = unwarped(replace(foveated, task=task), picture)
    plain = unwarped(foveated, picture)
    same = (turned.in_field - plain.in_field).abs().amax(1)
    assert (same < 1e-3).double().mean() > 0.99  # border cells may fall to either side
    assert torch.equal(turned.as_cells_lie, plain.as_cells_lie)


def test_on_a_regular_lattice_there_is_nothing_to_unwarp(tiny_run):
    with pytest.raises(InputError, match="foveated eye"):
        unwarped(open_run(tiny_run), torch.rand(1, 3, 16, 16))


def test_the_gaze_starts_at_the_centre_and_stays_on_the_picture(foveated):
    gaze = follow_gaze(foveated, batches=2)
    height, width = gaze.picture.shape[-2:]
    window = foveated.task.retina.window
    assert gaze.path[0].tolist() == [0, 0]
    assert gaze.path.diff(dim=0).abs().amax() <= 2
    assert gaze.path.diff(dim=0).abs().amax() > 0
    assert (gaze.path[:, 0].abs() <= (width - window) // 2).all()
    assert (gaze.path[:, 1].abs() <= (height - window) // 2).all()
    assert gaze.told_path.shape == gaze.path.shape
    assert gaze.movements.shape == gaze.told_movements.shape == (4, 2)
    assert torch.equal(gaze.movements, gaze.movements.round())
    again = follow_gaze(foveated, batches=2)
    assert torch.equal(gaze.told_movements, again.told_movements)
    assert not foveated.task.retina.training


def test_the_page_shows_both(foveated, picture):
    page = Report("page")
    laid = unwarped(foveated, picture)
    add_unwarped(page, {"noise": laid})
    gaze = follow_gaze(foveated, batches=1)
    add_gaze(page, foveated, gaze)
    html = page.html()
    psnr = likeness(laid.in_field, laid.scene)["psnr_db"]
    for text in ("Where it sees it", f"{psnr:.1f} dB", "Where its eye looks", "told path", "exact"):
        assert text in html
    assert html.count("<img") == 3


def test_a_cortex_that_is_told_movements_is_not_asked(tiny_run):
    run = open_run(tiny_run)
    gaze = follow_gaze(run, batches=1)
    assert gaze.told_path is None
    assert gaze.told_movements is None
    page = Report("page")
    add_gaze(page, run, gaze)
    add_unwarped(page, {})
    assert "which this cortex is told" in page.html()
    assert page.html().count("<img") == 1


def test_movements_are_counted_where_they_are_exact():
    true = torch.tensor([[1.0, 2.0], [-3.0, 0.0], [4.0, 4.0], [0.0, 0.0]])
    told = true + torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, -3.0], [0.2, 0.2]])
    left, right = movement_figure(told, true).axes
    assert right.get_title() == "50 % exact"
    assert [bar.get_height() for bar in right.patches] == [2, 1, 0, 1]
    assert left.get_xlabel() == "true (px)"
    with pytest.raises(ShapeError, match="as many told as true"):
        movement_figure(told[:2], true)
    with pytest.raises(ShapeError, match="at least one"):
        movement_figure(told[:0], true[:0])


def test_a_told_path_is_drawn_beside_the_true_one():
    picture, path = torch.rand(1, 3, 40, 60), torch.tensor([[0, 0], [3, -2], [5, 5]])
    (ax,) = fixation_path(picture, path, 16, told_px=path + 0.5).axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["the eye", "as the cortex tells"]
    told = ax.lines[-1]
    assert list(told.get_xdata()) == [30.0, 33.0, 35.0]
    with pytest.raises(ShapeError, match="as many told fixations"):
        fixation_path(picture, path, 16, told_px=path[:2].double())
