"""``spectrum``: how fast a recurrent network forgets, and whether it is stable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from calcarine.models import CordsNet
from calcarine.probes.spectrum import stability

PUBLISHED = {
    "stem": "inp_conv", "skip2": "inp_skip", "readout": "out_fc", "area1.bias": "conv_bias.0",
    "area2.bias": "conv_bias.1", "area1.feedforward": "area_area.0",
    "area2.feedforward": "area_area.1", "area1.recurrent": "area_conv.0",
    "area2.recurrent": "area_conv.1",
}  # fmt: skip


def save(model: CordsNet, path: str) -> None:
    """Write the weights of a network of two areas under their published names."""
    found = {}
    for name, tensor in model.named_parameters():
        for ours, theirs in PUBLISHED.items():
            if name == ours or name.startswith(f"{ours}."):
                found[f"{theirs}{name[len(ours) :]}"] = tensor.detach()
    torch.save(found, path)


@pytest.fixture
def network(tmp_path) -> CordsNet:
    """A network of two small areas, as published.pth in the current folder."""
    torch.manual_seed(0)
    model = CordsNet(depth=2, classes=3, image_size=16).eval().requires_grad_(False)
    for area in model.areas:
        area.bias.normal_(std=0.3)
    save(model, str(tmp_path / "published.pth"))
    return model


def numbers(folder: str) -> dict:
    return json.loads((Path(folder) / "numbers.json").read_text())


def test_recurrences_and_the_modes_of_linear_areas(calcarine, network):
    done = calcarine("spectrum", "published.pth", "--what", "recurrent", "--k", 8)
    assert done.code == 0, done.err
    assert "stable: every mode found decays" in done.out
    found = numbers("spectrum-published")
    assert found["command"] == "calcarine spectrum published.pth --what recurrent --k 8"
    assert list(found["spectra"]) == ["area 1", "area 2"]
    weight = network.area1.recurrent.weight
    columns = torch.eye(64 * 16).reshape(-1, 64, 4, 4)
    dense = torch.nn.functional.conv2d(columns, weight, padding=1).flatten(1)
    exact = torch.linalg.eigvals(dense.double())
    pairs = found["spectra"]["area 1"]["eigenvalues"]
    values = torch.tensor([complex(*v) for v in pairs]).to(exact)
    expected = exact.abs().sort(descending=True).values[:8]
    torch.testing.assert_close(values.abs(), expected, rtol=0, atol=1e-4)
    # Linear areas: lambda = 0.8 + 0.2 w, and the slowest need not be those of largest |w|.
    slow = (0.8 + 0.2 * exact).abs().max()
    assert found["spectra"]["area 1"]["time_constants_ms"][0] == pytest.approx(
        -2 / float(slow.log()), rel=1e-3
    )
    for name in ("eigenvalues", "modes"):
        with Image.open(f"spectrum-published/{name}.png") as figure:
            assert min(figure.size) > 200


def test_the_network_has_the_modes_of_its_areas(calcarine, network):
    words = ("spectrum", "published.pth", "--image", "sample:coffee", "--k", 6)
    assert calcarine(*words, "--out", "areas").code == 0
    assert calcarine(*words, "--what", "network", "--out", "whole", "--quiet").err == ""
    areas, whole = numbers("areas")["spectra"], numbers("whole")["spectra"]
    assert list(whole) == ["area 1", "area 2", "network"]
    moduli = [abs(complex(*v)) for each in areas.values() for v in each["step_values"]]
    of_whole = [abs(complex(*v)) for v in whole["network"]["step_values"]]
    assert of_whole == pytest.approx(sorted(moduli, reverse=True)[:6], abs=1e-5)
    frame = torch.zeros(1, 3, 16, 16)
    resting = numbers_at_rest(calcarine)
    direct = stability(network, frame, network.baseline(frame, 2000.0), k=6)
    assert max(resting) == pytest.approx(float(direct.step_values.abs().max()), abs=1e-4)
    assert max(resting) != pytest.approx(max(of_whole), abs=1e-6)


def numbers_at_rest(calcarine) -> list[float]:
    assert calcarine("spectrum", "published.pth", "--k", 6, "--out", "rest").code == 0
    found = numbers("rest")["spectra"].values()
    return [abs(complex(*each["step_values"][0])) for each in found]


def test_a_network_that_grows_is_called_unstable(calcarine, network):
    network.area2.recurrent.parametrizations.weight.original0.mul_(8)
    save(network, "wild.pth")
    done = calcarine("spectrum", "wild.pth", "--what", "recurrent", "--k", 4)
    assert done.code == 0
    assert "unstable: area 2" in done.out
    assert "grows" in done.out
    found = numbers("spectrum-wild")
    assert "unstable" in found["verdict"]
    assert not found["spectra"]["area 2"]["stable"]
    assert found["spectra"]["area 1"]["stable"]
    part = calcarine("spectrum", "wild.pth", "--what", "recurrent", "--area", 1, "--out", "one")
    assert "what was looked at is stable" in part.out
    assert list(numbers("one")["spectra"]) == ["area 1"]


def test_a_run_and_its_control(calcarine, digits):
    words = ("spectrum", digits, "--image", "sample:held-out-3", "--k", 4)
    done = calcarine(*words)
    assert done.code == 0, done.err
    assert f"calcarine classify --run {digits}" in done.out
    staged = numbers("spectrum-digits")["spectra"]["area 1"]["step_values"]
    assert calcarine(*words, "--network", "direct", "--out", "direct").code == 0
    assert numbers("direct")["spectra"]["area 1"]["step_values"] != staged
    assert "already holds a result" in calcarine(*words).error
    assert calcarine(*words, "--force", "--quiet").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("runs/gone",), "runs/gone does not exist"),
        (("published.pth", "--area", 3), "There is no area named '3'"),
        (("published.pth", "--k", 0), "--k expected at least 1"),
        (("published.pth", "--k", 2000), "--k expected at most 1000"),
        (("published.pth", "--age", 3), "those of a run"),
        (("published.pth", "--what", "recurrent", "--image", "a.png"), "leave out --image"),
        (("published.pth", "--what", "network", "--area", 1), "leave it out"),
        (("published.pth", "--image", "gone.png"), "There is no image file 'gone.png'"),
        (("published.pth", "--image", "sample:held-out-1"), "a checkpoint has none"),
    ],
)
def test_bad_input_is_refused(calcarine, network, words, message):
    assert message in calcarine("spectrum", *words).error
    assert not list(Path().glob("spectrum-*"))
