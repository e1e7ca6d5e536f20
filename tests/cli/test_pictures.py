"""``retina`` and ``see``: what they show is what is in the eye and in the cortex."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from calcarine.cli import main
from calcarine.commands.retina import _eye, _gaze
from calcarine.commands.retina_movie import compose
from calcarine.commands.shared import open_picture
from calcarine.stimuli import load_image, sample_image, save_image

SMALL = ("--size", 16, "--sampling", "uniform", "--frames", 4, "--max-shift", 4)


def frames_of(path: Path) -> int:
    with Image.open(path) as image:
        image.load()
        return getattr(image, "n_frames", 1)


def test_a_movie_and_a_still_land_where_they_say(calcarine):
    done = calcarine("retina", *SMALL, "--motion", "shifts")
    assert done.code == 0
    folder = Path("retina-astronaut")
    assert sorted(p.name for p in folder.iterdir()) == ["path.png", "retina.png", "retina.webp"]
    assert (
        "Wrote retina-astronaut/retina.webp (4 frames) and retina-astronaut/retina.png" in done.out
    )
    assert frames_of(folder / "retina.webp") == 4
    with Image.open(folder / "retina.webp") as movie, Image.open(folder / "retina.png") as still:
        assert movie.size == still.size
        assert movie.size[0] > 5 * 190  # the scene and four eyes


def test_the_command_that_is_suggested_works(calcarine):
    out = calcarine("retina", *SMALL, "--mosaics", "LMS,MS+L_replace_M").out
    (line,) = [line for line in out.splitlines() if line.startswith("  calcarine train")]
    assert "--set retina.mosaic=MS+L_replace_M" in line


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_other_formats(calcarine, kind):
    done = calcarine("retina", "coffee", *SMALL, "--format", kind, "--out", "deep/eyes")
    assert done.code == 0
    assert (Path("deep/eyes") / f"retina.{kind}").stat().st_size > 1000
    assert Path("deep/eyes/retina.png").is_file()


def test_a_picture_of_your_own(calcarine, tmp_path):
    save_image(torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0)), "mine.png")
    assert calcarine("retina", "mine.png", *SMALL, "--spikes", "--mosaics", "LMSQ,L").code == 0
    assert Path("retina-mine/retina.webp").is_file()


def film(kinds: list[str], *, spikes: bool = False, size: int = 20) -> tuple:
    """Return eyes, path, movie and picture; a cell takes 10 x 10 pixels of a panel of 200."""
    eyes = {
        kind: _eye(kind, size=size, sampling="uniform", max_shift_px=8, spikes=spikes, seed=3)
        for kind in kinds
    }
    first = eyes[kinds[0]]
    picture = open_picture("sample:astronaut", first.scene_size)
    path = _gaze(picture, first.window, "shifts", 3, 8, seed=1)
    return eyes, path, compose(picture, eyes, path, spikes=spikes), picture


def panel(movie: torch.Tensor, row: int, column: int, side: int = 200) -> torch.Tensor:
    top, left = 28 + 22 + row * (22 + side), 12 + column * (side + 12)
    return movie[..., top : top + side, left : left + side].float()


def test_the_panels_show_the_signals_of_each_eye():
    from calcarine.color import ConeSpace, srgb_to_linear

    eyes, path, movie, picture = film(["LMS", "L"])
    scene = ConeSpace().linear_to_cones(srgb_to_linear(picture))
    for column, eye in enumerate(eyes.values(), 1):
        output = eye(scene, path=path)
        shown = panel(movie, 1, column)[:, 0, ::10, ::10]
        assert rank_correlation(shown, output.activation[0]) > 0.999
        nerve = panel(movie, 2, column)[:, 0, ::10, ::10]
        assert rank_correlation(nerve, output.optic_nerve[0]) > 0.98  # the ends are cut off
    assert path.unique(dim=0).shape[0] > 1
    assert not torch.equal(movie[0], movie[-1])


def rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    ranks = torch.stack([v.flatten().argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def test_cones_are_painted_by_type():
    _, _, movie, _ = film(["L", "S"])
    reds, blues = panel(movie, 0, 1), panel(movie, 0, 2)
    assert (reds[:, 0] >= reds[:, 2]).all()
    assert (blues[:, 2] >= blues[:, 0]).all()
    assert reds.amax() > 0.5


def test_spikes_are_all_or_none():
    _, _, movie, _ = film(["LMS"], spikes=True)
    spikes = panel(movie, 3, 1)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_eyes_with_the_same_seed_see_the_same_again():
    assert torch.equal(film(["LMS"])[2], film(["LMS"])[2])


def test_see_writes_picture_nerve_and_percept(calcarine, run):
    done = calcarine("see", "--run", run)
    assert done.code == 0
    assert "Wrote see-coffee.png" in done.out
    assert "After 6 updates the percept matches the picture with " in done.out
    shown = load_image("see-coffee.png")
    height, width = shown.shape[-2:]
    side = (width - 16) // 3
    nerve = shown[..., side + 8 : 2 * side + 8]
    assert torch.equal(nerve[:, 0], nerve[:, 1])
    left = shown[..., :side]
    original = sample_image("coffee", channels="rgb")
    assert height / side == pytest.approx(original.shape[-2] / original.shape[-1], rel=0.02)
    assert left.std() > 0.1


def test_see_takes_ages_and_names(calcarine, run):
    early = calcarine("see", "sample:cat", "--run", run, "--age", 0, "--out", "out/early.png")
    late = calcarine("see", "sample:cat", "--run", run, "--out", "out/late.png")
    assert early.code == late.code == 0
    assert "After 0 updates" in early.out
    assert sorted(p.name for p in Path("out").iterdir()) == ["early.png", "late.png"]
    # An untrained read-out is zero: black, and worse than after a few updates.
    assert psnr(early.out) < psnr(late.out)


def psnr(out: str) -> float:
    return float(out.partition("with ")[2].partition(" dB")[0])


def test_a_suffix_that_is_no_picture_is_refused(calcarine, run):
    assert (
        "expected a file name ending in" in calcarine("see", "--run", run, "--out", "x.txt").error
    )


def test_main_is_the_console_script():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="calcarine")
    assert script.load() is main
