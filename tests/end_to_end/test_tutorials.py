"""The tutorials run, shortened, from the first line to the last."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from PIL import Image

TUTORIALS = Path(__file__).parent.parent.parent / "tutorials"


def test_cortex_simulation(tmp_path, capsys):
    main = runpy.run_path(str(TUTORIALS / "cortex_simulation.py"))["main"]
    main(["--updates", "12", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "decode -> percept" in printed
    assert "12 updates, finished" in printed
    assert "colour has 1 dimension\n" in printed
    assert "kotani2024" in printed
    for name in ("percepts.png", "color_matching.png"):
        with Image.open(tmp_path / "run" / name) as figure:
            assert min(figure.size) > 200


def test_probing_models(tmp_path, capsys):
    main = runpy.run_path(str(TUTORIALS / "probing_models.py"))["main"]
    main(["--size", "64", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "FAILED  parameters_frozen" in printed  # the model made by hand, before it is frozen
    assert "stalled" not in printed
    assert "diverged" not in printed
    assert "has the same effect: 1.00 of the effect in place" in printed
    moved = float(re.search(r"the distortion is weaker: ([\d.]+)", printed)[1])
    darkness = float(re.search(r"where the picture is dark: ([\d.]+)", printed)[1])
    assert moved < 0.5
    assert darkness < 0.5
    assert "berardino2017" in printed
    for name in (
        "pictures", "gaussian_metamers", "gaussian_spectra", "luminance_gain_eigendistortions",
        "luminance_gain_places",
    ):  # fmt: skip
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
            assert min(figure.size) > 200
    assert (tmp_path / "run" / "gaussian_metamer.webp").stat().st_size > 10_000
