"""A settling sheet equals the reference arrays and the published equation on dense matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine import simulate
from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.testing import check_stage
from calcarine.v1 import (
    LateralInteraction,
    LocalConnection,
    PiecewiseSigmoid,
    SettlingSheet,
)


def sheet(source=(9, 8), target=(7, 10), channels=2, **settings):
    lateral = LateralInteraction(
        LocalConnection(target, target, 1.5, 1.0),
        LocalConnection(target, target, 3.0, 3.0),
        PiecewiseSigmoid(0.1, 0.6),
        excitatory_strength=0.8,
        inhibitory_strength=0.7,
    )
    fields = [LocalConnection(source, target, 2.5, 2.0) for _ in range(channels)]
    return SettlingSheet(fields, lateral, **settings)


def put(connection, dense):
    columns = connection.tables.columns(connection.source[1]).long()
    connection.weight.copy_(dense[connection.tables.units(), columns])
    assert torch.equal(connection.dense(), dense)


@pytest.fixture(scope="module")
def reference():
    with np.load(Path(__file__).parent.parent / "data" / "lissom.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture
def published(reference):
    """Return the sheet whose responses were recorded."""
    lateral = LateralInteraction(
        LocalConnection((12, 12), (12, 12), 2.0),
        LocalConnection((12, 12), (12, 12), 4.0),
        PiecewiseSigmoid(0.083, 0.633),
    )
    v1 = SettlingSheet([LocalConnection((16, 16), (12, 12), 5.0)], lateral, settling=9)
    put(v1.afferents[0], reference["aff"])
    put(lateral.excitatory, reference["exc"])
    put(lateral.inhibitory, reference["inh"])
    return v1


def test_initial_fields_have_the_reference_s_mask_and_normalisation(reference, published):
    """Putting the reference weights in would fail if one lay outside the fields."""
    for field, name in (
        (published.afferents[0], "aff"),
        (published.lateral.excitatory, "exc"),
        (published.lateral.inhibitory, "inh"),
    ):
        field.reset_(torch.Generator().manual_seed(0))
        assert torch.equal(field.dense() > 0, reference[name] > 0)
        torch.testing.assert_close(field.dense().sum(dim=1), reference[name].sum(dim=1))


def test_responses_match_the_reference(reference, published):
    stimulus = 2.33 * reference["stimulus"].reshape(1, 1, 16, 16)
    torch.testing.assert_close(
        published(stimulus).flatten(1), reference["v1"], rtol=1e-5, atol=1e-5
    )
    relayed = (reference["lgn_on"] + reference["lgn_off"]).reshape(1, 1, 16, 16)
    torch.testing.assert_close(
        published(relayed).flatten(1), reference["lissom"], rtol=1e-5, atol=1e-5
    )


def test_a_hebbian_step_matches_the_reference(reference, published):
    field = published.afferents[0]
    pre = 2.33 * reference["stimulus"].reshape(1, 16, 16)
    field.hebbian_(pre, reference["v1"].reshape(1, 12, 12), 0.1)
    found = reference["hebb_mask_w_gt0"]
    assert (found - reference["aff"]).abs().max() > 1e-3
    torch.testing.assert_close(field.dense(), found, rtol=1e-5, atol=1e-7)


def test_settling_follows_the_equation_and_every_step_can_be_seen():
    v1 = sheet(settling=4, afferent_strength=1.3).double()
    x = torch.rand(3, 2, 9, 8, dtype=torch.float64)
    lateral = v1.lateral
    excite, inhibit = lateral.excitatory.dense(), lateral.inhibitory.dense()
    drive = 1.3 * sum(x[:, c].flatten(1) @ v1.afferents[c].dense().T for c in range(2))
    torch.testing.assert_close(v1.drive(x).flatten(1), drive)
    course = [lateral.activation(drive)]
    for _ in range(4):
        total = drive + 0.8 * course[-1] @ excite.T - 0.7 * course[-1] @ inhibit.T
        course.append(lateral.activation(total))
    assert (course[0] - course[-1]).abs().max() > 0.01
    torch.testing.assert_close(v1(x).flatten(1), course[-1])
    torch.testing.assert_close(v1.course(v1.drive(x)).flatten(2), torch.stack(course))


def test_settling_can_be_recorded_by_the_one_loop_over_time():
    v1 = sheet()
    drive = v1.drive(torch.rand(1, 2, 9, 8))
    excitation = simulate.Recording()
    outputs, state = simulate.run(
        v1.lateral, drive.expand(5, *drive.shape), record={"excitatory": excitation}
    )
    torch.testing.assert_close(excitation.values[1], v1.lateral.excitatory(outputs[0]))
    assert state.activity.equal(outputs[-1])


@pytest.mark.parametrize("part", ["sheet", "lateral"])
def test_sheets_keep_the_contract_of_a_stage(part):
    v1 = sheet(settling=3)
    stage, example = (
        (v1, torch.rand(2, 2, 9, 8)) if part == "sheet" else (v1.lateral, torch.rand(2, 7, 10))
    )
    check_stage(stage, example).raise_if_failed()


def test_channels_share_one_sum_and_learn_with_their_rates():
    v1 = sheet(afferent_rate=5.0, inhibitory_rate=2.0).double()
    total = sum(field.dense().sum(dim=1) for field in v1.afferents)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-6, atol=1e-6)
    x = torch.rand(1, 2, 9, 8, dtype=torch.float64)
    y = v1(x)
    fields = [*v1.afferents, v1.lateral.excitatory, v1.lateral.inhibitory]
    before = [field.dense() for field in fields]
    v1.hebbian_(x, y)
    grown = [
        (before[c] + 5.0 / 21 * y.flatten(1).T @ x[:, c].flatten(1)) * (before[c] != 0)
        for c in range(2)
    ]
    assert v1.afferents[0].field_size == 21
    total = grown[0].sum(dim=1, keepdim=True) + grown[1].sum(dim=1, keepdim=True)
    for c in range(2):
        torch.testing.assert_close(fields[c].dense(), grown[c] / total, rtol=1e-6, atol=1e-7)
    assert fields[2].dense().equal(before[2])
    assert (fields[3].dense() - before[3]).abs().max() > 1e-3


def test_settings_of_a_schedule_travel_with_the_weights():
    v1 = sheet(afferent_rate=1.0)
    v1.set_(settling=3, afferent_rate=0.25)
    v1.lateral.excitatory.shrink_(1.0)
    v1.lateral.activation.move_(0.2, 0.5)
    again = sheet()
    again.load_state_dict(v1.state_dict())
    assert (again.settling, again.afferent_rate) == (3, 0.25)
    x = torch.rand(2, 2, 9, 8)
    assert again(x).equal(v1(x))


def test_sheets_refuse_what_does_not_fit():
    v1 = sheet()
    with pytest.raises(ShapeError, match="2 channels"):
        v1(torch.rand(1, 1, 9, 8))
    with pytest.raises(ShapeError, match="sheet of 9 x 8"):
        v1(torch.rand(1, 2, 8, 9))
    with pytest.raises(InputError, match="settling >= 0, a whole number"):
        v1.set_(settling=2.5)
    with pytest.raises(InputError, match="inhibitory_rate >= 0"):
        sheet(inhibitory_rate=-1.0)
    with pytest.raises(UnknownNameError, match="Did you mean 'settling'"):
        v1.set_(setling=3)
    with pytest.raises(InputError, match="afferents from one source sheet"):
        SettlingSheet([], v1.lateral)
    with pytest.raises(InputError, match="from one sheet to itself"):
        LateralInteraction(
            LocalConnection((4, 4), (4, 4), 1.0),
            LocalConnection((5, 4), (4, 4), 1.0),
            PiecewiseSigmoid(),
        )
