"""Cone mosaics: fractions, spacing, therapy, and seeds."""

from __future__ import annotations

import pytest
import torch

from calcarine.errors import InputError, ShapeError, UnknownNameError
from calcarine.retina import MOSAIC_KINDS, cone_fractions, cone_mosaic

THERAPIES = (
    "MS+L_replace_M",
    "LMS+Q_coexpress_L",
    "LM+S_ratio_LM",
    "M+L_replace_M",
    "S+Q_ratio_S",
    "LS+M_coexpress_LS",
    "LMSQ+M_replace_SQ",
)


@pytest.mark.parametrize("kind", MOSAIC_KINDS + THERAPIES)
@pytest.mark.parametrize("size", [33, (20, 41)])
def test_every_cell_holds_one_cone(kind, size):
    mosaic = cone_mosaic(kind, size)
    shape = (size, size) if isinstance(size, int) else size
    assert mosaic.shape == (4 if "Q" in kind else 3, *shape)
    assert mosaic.dtype == torch.get_default_dtype()
    assert mosaic.min() >= 0
    assert torch.allclose(mosaic.sum(0), torch.ones(shape))
    present = {name for name, share in cone_fractions(mosaic).items() if share > 0}
    assert present == set(kind.split("_")[0].replace("+", ""))
    if "coexpress" not in kind and "ratio" not in kind:
        assert set(mosaic.unique().tolist()) <= {0.0, 1.0}


def test_fractions_of_the_human_mosaic():
    shares = cone_fractions(cone_mosaic("LMS", 256))
    assert shares["L"] == pytest.approx(0.624, abs=0.006)
    assert shares["M"] == pytest.approx(0.321, abs=0.006)
    assert shares["S"] == pytest.approx(0.055, abs=0.001)
    assert shares["L"] / shares["M"] == pytest.approx(1.92, rel=0.03)


def test_s_cones_keep_their_distance_and_leave_no_gap():
    """No S cone has another in its 6 x 6 neighbourhood on both visits, and no more would fit."""
    short = cone_mosaic("LMS", (70, 90), seed=4)[2]
    rows, columns = short.nonzero().T
    down = rows[:, None] - rows
    right = columns[:, None] - columns
    # The later of two cones found the earlier one outside rows and columns -3 .. 2 of its own.
    near = (down.abs() <= 2) & (right.abs() <= 2)
    assert near.sum() == rows.numel()  # each only near itself
    padded = torch.nn.functional.pad(short, (3, 2, 3, 2))
    neighbours = padded.unfold(0, 6, 1).unfold(1, 6, 1).sum((-1, -2))
    assert neighbours.shape == short.shape
    assert neighbours.min() >= 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("LM", {"L": 0.65, "M": 0.35, "S": 0.0}),
        ("LS", {"L": 0.945, "M": 0.0, "S": 0.055}),
        ("MS", {"L": 0.0, "M": 0.945, "S": 0.055}),
        ("LMSQ", {"L": 0.311, "M": 0.323, "S": 0.055, "Q": 0.311}),
        ("MS+L_replace_M", {"L": 0.4725, "M": 0.4725, "S": 0.055}),
        ("M+L_replace_M", {"L": 0.5, "M": 0.5, "S": 0.0}),
        ("MS+L_coexpress_M", {"L": 0.236, "M": 0.709, "S": 0.055}),
        ("MS+L_ratio_M", {"L": 0.236, "M": 0.709, "S": 0.055}),
        ("LM+S_replace_LM", {"L": 0.325, "M": 0.175, "S": 0.5}),
    ],
)
def test_fractions_of_the_other_kinds(kind, expected):
    assert cone_fractions(cone_mosaic(kind, 256)) == pytest.approx(expected, abs=0.006)


def test_therapy_touches_half_of_the_treated_cells_and_nothing_else():
    before = cone_mosaic("MS", 64, seed=2)
    for how in ("replace", "coexpress", "ratio"):
        after = cone_mosaic(f"MS+L_{how}_M", 64, seed=2)
        touched = (after != before).any(0)
        treated = before[1] == 1
        assert not (touched & ~treated).any()
        assert touched.sum().item() == pytest.approx(treated.sum().item() / 2, abs=1)
        added = after[0][touched]
        assert torch.allclose(added + after[1][touched], torch.ones_like(added))
        if how == "ratio":
            assert added.mean().item() == pytest.approx(0.5, abs=0.03)
            assert added.var().item() == pytest.approx(1 / 12, rel=0.1)
        else:
            assert set(added.tolist()) == {1.0 if how == "replace" else 0.5}


def test_dichromats_share_the_s_cones_of_the_trichromat():
    full = cone_mosaic("LMS", 40, seed=5)
    assert torch.equal(cone_mosaic("MS", 40, seed=5)[2], full[2])
    assert torch.equal(cone_mosaic("LS", 40, seed=5)[0], full[0] + full[1])


def test_planes_and_seeds():
    assert cone_mosaic("LM", 16, types="LMSQ").shape[0] == 4
    assert torch.equal(cone_mosaic(seed=1), cone_mosaic("LMS", 64, seed=1))
    assert not torch.equal(cone_mosaic(seed=1), cone_mosaic(seed=2))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(cone_mosaic(generator=generator), cone_mosaic(seed=1))
    assert not torch.equal(cone_mosaic(generator=generator), cone_mosaic(seed=1))
    state = torch.random.get_rng_state()
    cone_mosaic("LMSQ", 16)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cone_mosaic("LSM"), UnknownNameError, "Did you mean"),
        (lambda: cone_mosaic("XS+L_replace_M"), UnknownNameError, "cone mosaic"),
        (lambda: cone_mosaic("MS+L_replaces_M"), UnknownNameError, "'replace'"),
        (lambda: cone_mosaic("MS+L_replace"), InputError, "MOSAIC\\+NEW_how_TREATED"),
        (lambda: cone_mosaic("MS+LQ_replace_M"), InputError, "exactly one"),
        (lambda: cone_mosaic("MS+L_replace_L"), InputError, "treat types"),
        (lambda: cone_mosaic("MS+L_replace_"), InputError, "treat types"),
        (lambda: cone_mosaic("MS+M_replace_MS"), InputError, "changes nothing"),
        (lambda: cone_mosaic("LMSQ", types="LMS"), InputError, "types='LMSQ'"),
        (lambda: cone_mosaic("LMS", types="LM"), UnknownNameError, "LMSQ"),
        (lambda: cone_mosaic(3), InputError, "name"),
        (lambda: cone_mosaic("LMS", 0), InputError, "size"),
        (lambda: cone_mosaic("LMS", (3, 4, 5)), InputError, "height, width"),
        (lambda: cone_fractions(torch.rand(2, 4, 4)), ShapeError, "planes L, M, S"),
    ],
)
def test_bad_input_is_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
