"""The tutorials run, shortened, from the first line to the last."""

from __future__ import annotations

import importlib
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

TUTORIALS = Path(__file__).parent.parent.parent / "tutorials"


def test_cortex_simulation(tmp_path, capsys):
    pytest.importorskip("zuko")
    main = runpy.run_path(str(TUTORIALS / "cortex_simulation.py"))["main"]
    main(["--updates", "12", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "decode -> percept" in printed
    assert "sandbox: 12 updates, finished" in printed
    assert printed.count("colour has 1 dimension\n") == 4
    assert float(re.search(r"differs from s by ([\d.e+-]+)", printed)[1]) < 1e-5
    assert float(re.search(r"there and back differs by ([\d.e+-]+)", printed)[1]) < 1e-5
    assert printed.count("the eye moved by") == 8
    rows = re.findall(r"^ +(\d+) +[\d.]+ cells +\d+ % +\d+ % +\d+ % +[\d.]+$", printed, re.M)
    assert rows == ["0", "12"]
    share = int(re.search(r"cells that got the pigment L: (\d+)%", printed)[1])
    assert 40 < share < 55
    assert "kotani2024" in printed
    assert "dinh2017" in printed
    for name in (
        "percepts", "color_matching", "readouts", "positions", "kernel", "unwarped_full",
        "tetrachromat",
        "unwarped_told",
    ):  # fmt: skip
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
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


def test_lissom(tmp_path, capsys):
    main = runpy.run_path(str(TUTORIALS / "lissom.py"))["main"]
    main(["--stimuli", "60", "--density", "16", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "sums of the fields 1.000000 to 1.000000" in printed
    first = int(re.search(r"respond to the spot at first: (\d+) of 1296", printed)[1])
    settled = int(re.search(r"when V1 has settled: (\d+) of 1296", printed)[1])
    seen = int(re.search(r"LISSOM's V1 that respond to the spot: (\d+) of 1296", printed)[1])
    assert 50 < settled < first < 1296 / 3
    assert 20 < seen < 1296 / 4
    for claim in ("the same weights", "put together by hand, differs by", "uniform light"):
        assert float(re.search(rf"{claim}.* ([\d.]+e[-+]\d+)", printed)[1]) < 1e-5
    rows = re.findall(r"^ +(\d+) +([-\d.]+) +[\d.]+ +\d+ +([-\d.]+)$", printed, re.MULTILINE)
    assert [int(age) for age, _, _ in rows] == [0, 6, 15, 30, 45, 60]
    assert float(rows[-1][1]) > float(rows[0][1]) + 0.1  # neighbours have become alike
    assert "stevens2013" in printed
    for name in ("local_weights", "lgn_response", "v1_stages", "lissom_stages", "map_last"):
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
            assert min(figure.size) > 200


@pytest.mark.filterwarnings("ignore:torch.compile failed")  # where there is no compiler
def test_time_surfaces(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(TUTORIALS)  # what compiles a neuron looks for its module
    main = importlib.import_module("time_surfaces").main
    main(["--frames", "80", "--seeds", "2", "--out", str(tmp_path / "run")])
    printed = capsys.readouterr().out
    assert "sparse: shape (80, 50, 50)" in printed
    shares = {}
    for name in ("three channels", "with inhibition", "with a second layer"):
        line = re.search(rf"^{name}: .*$", printed, re.MULTILINE)
        shares[name] = [int(share) for share in re.findall(r"outside its band (\d+)%", line[0])]
    assert shares["three channels"][0] > 150  # the slow channel answers most to what is fast
    assert max(shares["with inhibition"]) < 50
    assert max(shares["with a second layer"]) < 30
    assert "compiled and plain agree: True" in printed
    assert "lagorce2017" in printed
    for name in ("recording", "time_surfaces", "kernel", "three_channels_tuning", "detections"):
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
            assert min(figure.size) > 200
    with Image.open(tmp_path / "run" / "with_inhibition.webp") as film:
        assert film.n_frames == 80


def test_cordsnet(tmp_path, capsys):
    main = runpy.run_path(str(TUTORIALS / "cordsnet.py"))["main"]
    small = [
        "data.size=16", "model.image_size=16", "batch_size=8", "trial_batch_size=2",
        "stimulus_ms=40", "off_ms=20", "readout_steps=5", "settle_steps=2",
    ]  # fmt: skip
    words = [word for change in small for word in ("--set", change)]
    main(["--share", "0.008", "--images", "20", "--out", str(tmp_path / "run"), *words])
    printed = capsys.readouterr().out
    assert float(re.search(r"at once differ by ([\d.e+-]+)", printed)[1]) < 1e-5
    assert re.search(r"2\d held-out digits: twin [\d.]+%, staged network [\d.]+%", printed)
    assert "16 starts, back within" in printed
    assert "one stable state" in printed
    assert re.search(
        r"area 2: recurrent weights, spectral radius 0\.\d+, residual \de-\d+", printed
    )
    assert re.search(r"at rest: stable, slowest mode \d+\.\d ms", printed)
    assert float(re.search(r"steps of 1 ms probabilities change by ([\d.e+-]+)", printed)[1]) < 1e-3
    assert re.search(r"a fixed point after \d+ steps; gradient through it [\d.]+e[+-]\d+", printed)
    assert "soo2024" in printed
    for name in ("trial", "accuracy", "return", "trajectories", "eigenvalues"):
        with Image.open(tmp_path / "run" / f"{name}.png") as figure:
            assert min(figure.size) > 200
