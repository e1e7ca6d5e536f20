"""What the cortex sees: the way of a picture through eye, cortex and scope."""

from __future__ import annotations

import math

import pytest
import torch

from calcarine.color import linear_to_srgb, srgb_to_linear
from calcarine.errors import InputError, ShapeError
from calcarine.report import other_eye, percepts, see
from calcarine.report.color_vision import likeness, moving_eye
from calcarine.report.other_eyes_section import seen_through_other_eyes
from calcarine.training.run import open_run


@pytest.fixture(scope="module")
def run(tiny_run):
    opened = open_run(tiny_run)
    with torch.no_grad():  # a read-out that shows something, which four updates do not make
        opened.task.percept_scope.readout.weight.normal_(
            0, 0.3, generator=torch.Generator().manual_seed(0)
        )
        opened.task.percept_scope.readout.bias.fill_(0.4)
    return opened


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(1, 3, 22, 35, generator=torch.Generator().manual_seed(3))


def test_one_field_of_view_is_what_the_parts_make_of_it(run, picture):
    """Without overlap there is nothing to average: stage by stage it is the same."""
    task, small = run.task, picture[..., :16, :16]
    shown = percepts(run, small)
    with torch.no_grad():
        nerve = task.retina.snapshot(task.space.linear_to_cones(srgb_to_linear(small)))
        linear = task.percept_scope(task.cortex.decode(nerve))
    assert torch.equal(shown["original"], small)
    assert torch.allclose(shown["optic_nerve"], linear_to_srgb(nerve).clamp(0, 1))
    assert torch.allclose(shown["percept"], linear_to_srgb(linear).clamp(0, 1), atol=1e-6)
    assert shown["percept"].std() > 1e-3  # faint at birth, but no plain field


def test_a_larger_picture_is_scanned_whole(run, picture):
    shown = percepts(run, picture)
    assert [tuple(shown[k].shape) for k in ("original", "optic_nerve", "percept")] == [
        (1, 3, 22, 35), (1, 1, 22, 35), (1, 3, 22, 35)
    ]  # fmt: skip
    assert all(v.min() >= 0 and v.max() <= 1 and v.isfinite().all() for v in shown.values())
    corner = percepts(run, picture[..., -16:, -16:])["optic_nerve"]
    assert torch.equal(shown["optic_nerve"][..., -16:, -16:], corner)


def test_seeing_changes_nothing(run, picture):
    before = picture.clone()
    first, second = percepts(run, picture), percepts(run, picture)
    assert torch.equal(picture, before)
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_any_picture_can_be_seen(run, picture):
    grey = see(run, picture[:, :1])
    assert torch.equal(grey["original"][:, 0], grey["original"][:, 2])
    small = see(run, picture[0, :, :8, :12])
    assert tuple(small["percept"].shape) == (1, 3, 16, 24)


def test_a_foveated_eye_looks_once(train, tmp_path, picture):
    folder = train(
        tmp_path / "fovea", "retina.sampling=fovea", "retina.inhibition=true", "stimuli.size=40",
        "training.updates=1", "training.snapshots=[0]",
    )  # fmt: skip
    run = open_run(folder)
    window = run.task.retina.window
    assert window > 16
    shown = percepts(run, torch.rand(1, 3, window + 5, window + 9))
    assert all(v.shape[-2:] == (window, window) for v in shown.values())
    assert shown["optic_nerve"].unique().numel() <= 16 * 16  # one value per cell
    assert shown["optic_nerve"].unique().numel() > 100
    film = moving_eye(run, torch.rand(1, 3, window + 9, window + 9), frames=3, panel_px=20)
    assert film.shape[-1] == 3 * 20 + 2 * 8


def test_a_moving_eye_moves(run, picture):
    film = moving_eye(run, picture, frames=4, panel_px=16)
    assert tuple(film.shape) == (4, 3, 16 + 22, 64)
    assert not torch.equal(film[0], film[3])
    assert torch.equal(film, moving_eye(run, picture, frames=4, panel_px=16))
    assert torch.equal(film[0, :, 22:, :16], picture[0, :, 3:19, 9:25])


def test_a_picture_is_like_itself(picture):
    found = likeness(picture, picture)
    assert found["psnr_db"] == math.inf
    assert all(found[k] == pytest.approx(1) for k in ("luminance", "red_green", "blue_yellow"))


def test_likeness_tells_colour_from_brightness(picture):
    luminance = torch.einsum("bchw,c->bhw", srgb_to_linear(picture), torch.tensor([0.2, 0.7, 0.1]))
    grey = linear_to_srgb(luminance[:, None]).expand_as(picture)
    found = likeness(grey, picture)
    assert found["luminance"] > 0.98
    assert math.isnan(found["red_green"])
    assert math.isnan(found["blue_yellow"])
    swapped = likeness(picture.flip(1), picture)
    assert swapped["blue_yellow"] < 0.5


def test_psnr_is_that_of_code_values():
    black, grey = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
    assert likeness(grey, black)["psnr_db"] == pytest.approx(20, abs=1e-4)


def test_what_cannot_be_seen_is_refused(run, picture):
    with pytest.raises(ShapeError, match="one colour picture"):
        percepts(run, picture[:, :1])
    with pytest.raises(ShapeError):
        percepts(run, picture[..., :8, :8])
    with pytest.raises(ShapeError, match="see expected one picture"):
        see(run, picture.repeat(2, 1, 1, 1))
    other = type(run)(run.folder, run.recipe, torch.nn.Identity(), 4)
    with pytest.raises(InputError, match="colour cortex"):
        see(other, picture)


def test_another_eye_keeps_the_cells_in_their_places(run, picture):
    """The same positions, other pigments: only cells that carry another pigment report more."""
    small = picture[..., :16, :16]
    blind = other_eye(run, "MS")
    assert run.task.retina.cone_types == blind.task.retina.cone_types == "LMS"
    mosaic, other = run.task.retina.mosaic, blind.task.retina.mosaic
    assert mosaic[0].sum() > 0
    assert other[0].sum() == 0
    assert torch.equal(mosaic[2], other[2])
    before, now = (percepts(r, small) for r in (run, blind))
    same = (mosaic == other).all(dim=0)
    assert torch.equal(before["optic_nerve"][0, 0][same], now["optic_nerve"][0, 0][same])
    assert not torch.equal(before["optic_nerve"][0, 0][~same], now["optic_nerve"][0, 0][~same])
    assert not torch.equal(before["percept"], now["percept"])
    assert blind.task.cortex is run.task.cortex


def test_what_a_dichromat_confuses_is_the_same_in_the_percept(run):
    """Two lights that differ for L cones only."""
    for eye, differ in ((run, True), (other_eye(run, "MS"), False)):
        retina, cortex = eye.task.retina, eye.task.cortex
        lights = torch.tensor([[0.2, 0.3, 0.4], [0.6, 0.3, 0.4]])[:, :, None, None]
        with torch.no_grad():
            seen = cortex.decode(retina.snapshot(lights.expand(-1, -1, 16, 16)))
        assert torch.equal(seen[0], seen[1]) == (not differ)


@pytest.mark.parametrize(
    ("mosaic", "peaks", "types"),
    [
        (None, (560.0, 550.0, 419.0), "LMS"),
        ("LMSQ", None, "LMSQ"),
        ("LMS+Q_coexpress_M", (560.0, 530.0, 419.0, 506.0), "LMSQ"),
        ("L", None, "LMS"),
    ],
)
def test_eyes_of_all_kinds(run, picture, mosaic, peaks, types):
    eye = other_eye(run, mosaic, peaks)
    assert eye.task.retina.cone_types == types
    assert len(eye.task.space.peaks_nm) == len(types)
    if mosaic is None:
        assert torch.equal(eye.task.retina.mosaic, run.task.retina.mosaic)
    shown = percepts(eye, picture)
    assert shown["percept"].isfinite().all()
    assert run.task.retina.peaks_nm == (560.0, 530.0, 419.0)
    if peaks is not None or types == "LMSQ":
        assert not torch.equal(shown["optic_nerve"], percepts(run, picture)["optic_nerve"])


def test_eyes_that_do_not_fit_are_refused(run):
    with pytest.raises(InputError, match="Add the fourth"):
        other_eye(run, "LMSQ", (560.0, 530.0, 419.0))
    with pytest.raises(InputError, match="no cone mosaic named 'LMX'"):
        other_eye(run, "LMX")


def test_the_page_of_a_trichromat_shows_other_eyes(run, picture):
    seen = seen_through_other_eyes(run, picture)
    assert [name.partition(",")[0] for name in seen] == [
        "this eye", "anomalous trichromat", "tritanope", "deuteranope", "protanope"
    ]  # fmt: skip
    assert torch.equal(seen["this eye"]["percept"], see(run, picture)["percept"])
    assert len({float(shown["percept"].sum()) for shown in seen.values()}) == 5
    for lacking in (other_eye(run, "MS"), other_eye(run, "LMSQ")):
        assert seen_through_other_eyes(lacking, picture) == {}
