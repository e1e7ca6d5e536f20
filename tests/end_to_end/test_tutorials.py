"""The tutorials run, shortened, from the first line to the last."""

from __future__ import annotations

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
