"""What a cortex knows of its eye: read from runs whose parts are given, learned, or wrong."""

from __future__ import annotations

import json
import math

import pytest
import torch

from calcarine.errors import InputError
from calcarine.plot import fixation_path, kernel_figure, positions_figure
from calcarine.plot import readouts_over_time as draw_over_time
from calcarine.probes import kernel_readout, position_readout
from calcarine.report import cortex_readouts, readouts_over_time
from calcarine.report.cortex_readouts import true_positions
from calcarine.training.run import open_run

FULL = (
    "retina.sampling=fovea", "retina.inhibition=true", "stimuli.size=40", "cortex.border=3",
    "cortex.positions=learned", "cortex.inhibition=learned", "cortex.movement=estimated",
    "cortex.kernel_size=5", "stimuli.source=samples", "stimuli.names=[astronaut]",
    "stimuli.scales=[0.25]",
)  # fmt: skip


@pytest.fixture(scope="module")
def full_run(train, tmp_path_factory):
    return open_run(train(tmp_path_factory.mktemp("runs") / "full", *FULL))


def test_the_sandbox_is_given_positions_and_movements(tiny_run, tmp_path):
    run = open_run(tiny_run)
    found = readouts_over_time(run, batches=1)
    assert list(found) == [0, 2, 4]
    first = found[0]
    assert first.learned == {
        "positions": "given", "kernel": "none", "cone types": "learned", "movement": "given"
    }  # fmt: skip
    assert first.position_error_cells < 1e-6
    assert (first.movement_exact, first.movement_error_px) == (1, 0)
    assert math.isnan(first.kernel_error)
    assert first.cone_accuracy == pytest.approx(first.cone_chance)
    assert first.prediction_error > 0
    assert first.percept_psnr_db > 3
    kept = json.loads((tiny_run / "results" / "cortex_readouts.json").read_text())["ages"]
    assert list(kept) == ["0", "2", "4"]
    assert kept["0"]["kernel_error"] is None
    figure = draw_over_time(list(found), list(found.values()))
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["positions (given)", "cone types (learned)", "movement (given)",
                      "prediction", "percept"]  # fmt: skip


def test_true_positions_of_a_lattice_are_the_centres_of_its_cells(tiny_run):
    retina = open_run(tiny_run).task.retina
    axis = (2 * torch.arange(16.0) + 1) / 16 - 1
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    torch.testing.assert_close(true_positions(retina), torch.stack([x, y]))


def test_every_learned_part_is_compared(full_run):
    found = cortex_readouts(full_run, batches=1)
    assert found.learned.pop("movement") == "estimated"
    assert set(found.learned.values()) == {"learned"}
    assert found.position_error_cells > 0.1  # a regular lattice is not a fovea
    assert found.position_error_px > 0.1
    assert 0 < found.kernel_error < 0.5
    assert 0 <= found.movement_exact <= 1
    assert found.prediction_error > 0
    cortex, retina = full_run.task.cortex, full_run.task.retina
    places = position_readout(
        cortex.positions.positions(retina.mosaic)[0], true_positions(retina),
        field_px=retina.window, border=3,
    )  # fmt: skip
    assert found.position_error_cells == places.error_cells
    assert len(positions_figure(places, true_positions(retina)).axes) == 3
    kernel = kernel_readout(cortex.inhibition.kernel, retina.inhibition.kernel)
    assert len(kernel_figure(kernel).axes) == 3


def test_measuring_changes_nothing_and_is_the_same_twice(full_run):
    before = {n: t.clone() for n, t in full_run.task.cortex.state_dict().items()}
    assert repr(cortex_readouts(full_run, batches=1)) == repr(cortex_readouts(full_run, batches=1))
    assert all(torch.equal(before[n], t) for n, t in full_run.task.cortex.state_dict().items())
    assert not full_run.task.retina.training


def test_bad_input_is_refused(full_run):
    with pytest.raises(InputError, match="batches >= 1"):
        cortex_readouts(full_run, batches=0)
    with pytest.raises(InputError, match="one read-out for each"):
        draw_over_time([0, 1], [])


def test_a_fixation_path_stays_on_the_picture():
    picture = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    path = torch.tensor([[0, 0], [3, -2], [-5, 4]])
    (ax,) = fixation_path(picture, path, 16).axes
    x, y = ax.lines[-1].get_data()
    assert list(x) == [29.5, 32.5, 24.5]
    assert list(y) == [19.5, 17.5, 23.5]
    assert [patch.get_width() for patch in ax.patches] == [16, 16]
    with pytest.raises(InputError, match="path"):
        fixation_path(picture, path[:, :1], 16)
