"""``metamer``, ``eigendistortion`` and ``mad``: one folder with pictures, numbers and a page."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calcarine.commands.probe_metrics import find_metric
from calcarine.commands.probe_models import find_model, model_names
from calcarine.errors import InputError
from calcarine.stimuli import load_image

SMALL = ("sample:astronaut", "--size", "32")
BLUR = ("--model", "gaussian", "--set", "kernel_size=5", "--set", "std=1.0")

MODELS = """
import os
import signal

import torch
from torch import nn
from typing import NamedTuple
from calcarine.stage import DynamicStage


class State(NamedTuple):
    v: torch.Tensor


class Blur(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Conv2d(1, 2, width, padding=width // 2)
        self.second = nn.Conv2d(2, 3, width, padding=width // 2)
        with torch.no_grad():
            for i, p in enumerate(self.parameters()):
                p.copy_(torch.linspace(-0.4, 0.6, p.numel()).view(p.shape).cos() / (i + 2))

    def forward(self, x):
        return self.second(self.first(x).tanh())


def ready():
    return Blur().eval().requires_grad_(False)


def needs(width):
    return Blur(width)


def noisy():
    return lambda x: x + torch.rand_like(x)


def broken():
    raise ZeroDivisionError("on purpose")


class Leaky(DynamicStage):
    dt_ms = 2.0

    def initial_state(self, like):
        return State(torch.zeros_like(like))

    def forward(self, x, state):
        v = state.v + (x - state.v) / 2
        return v, State(v)


class Interrupting(nn.Module):  # somebody presses Ctrl-C after a while
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 60:
            os.kill(os.getpid(), signal.SIGINT)
        return x.tanh()


def memory():
    return Leaky().eval()


def number():
    return 3


instance = ready()
constant = 7
"""


@pytest.fixture
def own_models(tmp_path, request) -> str:
    """Write a module beside the command, under a name of its own for each test."""
    name = f"own_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(MODELS)
    return name


def numbers(folder: str | Path) -> dict:
    return json.loads((Path(folder) / "numbers.json").read_text())


def same_picture(path: Path, picture: torch.Tensor) -> bool:
    return bool((load_image(path) - picture.clamp(0, 1)).abs().max() < 0.5 / 255 + 1e-6)


def test_a_metamer_leaves_pictures_figures_numbers_and_a_page(calcarine):
    done = calcarine("metamer", *SMALL, *BLUR, "--max-iter", "300", "--tolerance", "1e-7")
    assert done.code == 0, done.err
    folder = Path("metamer-astronaut-gaussian")
    figures = ("responses", "losses", "error", "spectra")
    assert {path.name for path in folder.iterdir()} == {
        "metamer.safetensors", "numbers.json", "report.html",
        *(f"{name}.png" for name in ("image", "initial", "metamer", *figures)),
    }  # fmt: skip
    found = numbers(folder)
    assert found["status"] == "converged"
    assert found["losses"]["representation"][-1] < 1e-7 < found["losses"]["representation"][0]
    assert len(found["losses"]["penalty"]) == found["iterations"] + 1
    image, start = (load_image(folder / f"{name}.png") for name in ("image", "metamer"))
    assert found["difference_rms"] == pytest.approx(
        float((image - start).square().mean().sqrt()), rel=0.05
    )
    assert found["difference_rms"] > 0.05
    assert done.out.startswith("Converged after")
    assert "Now try: calcarine eigendistortion sample:astronaut --model gaussian" in done.out
    page = (folder / "report.html").read_text()
    assert "berardino2017" in page
    assert found["command"] in page


def test_the_command_in_the_numbers_does_the_same_again(calcarine):
    calcarine("metamer", *SMALL, *BLUR, "--max-iter", "5", "--seed", "3", "--out", "a", "--quiet")
    words = shlex.split(numbers("a")["command"])
    assert words[:2] == ["calcarine", "metamer"]
    assert "--quiet" not in words
    words[words.index("--out") + 1] = "b"
    done = calcarine(*words[1:])
    assert done.code == 0
    assert numbers("a")["losses"] == numbers("b")["losses"]
    assert Path("a/metamer.png").read_bytes() == Path("b/metamer.png").read_bytes()


def test_seeds_differ_and_quiet_prints_nothing(calcarine):
    for seed in (0, 1):
        done = calcarine(
            "metamer", *SMALL, *BLUR, "--max-iter", 2, "--seed", seed, "--out", seed, "--quiet"
        )
        assert (done.code, done.out, done.err) == (0, "", "")
    assert Path("0/initial.png").read_bytes() != Path("1/initial.png").read_bytes()


@pytest.mark.parametrize("initial", ["pink", "sample:coffee"])
def test_a_synthesis_begins_where_it_is_told(calcarine, initial):
    done = calcarine(
        "metamer", *SMALL, *BLUR, "--initial", initial, "--max-iter", 2, "--out", "o", "--quiet"
    )
    assert done.code == 0, done.err
    start = load_image("o/initial.png")[0, 0]
    assert start.shape == load_image("o/image.png").shape[-2:]
    roughness = float(start.diff(dim=0).std() / start.std())
    assert 0.05 < roughness < 1.0  # 1.41 for white noise


def test_results_are_not_written_over_unless_asked(calcarine):
    words = ("metamer", *SMALL, *BLUR, "--max-iter", 3, "--out", "o")
    assert calcarine(*words).code == 0
    before = numbers("o")
    again = calcarine(*words)
    assert again.code == 2
    assert "already holds a result (metamer.safetensors)" in again.error
    assert calcarine(*words, "--force", "--seed", 1).code == 0
    assert numbers("o")["losses"] != before["losses"]
    Path("file").write_text("x")
    assert "is a file" in calcarine(*words[:-1], "file").error


def test_resume_goes_on_with_the_same_synthesis(calcarine):
    words = ("metamer", *SMALL, *BLUR, "--tolerance", 0, "--optimizer", "adam", "--quiet")
    assert calcarine(*words, "--max-iter", 8, "--out", "whole").code == 0
    assert calcarine(*words, "--max-iter", 5, "--out", "parts").code == 0
    done = calcarine(*words, "--max-iter", 3, "--out", "parts", "--resume")
    assert done.code == 0, done.err
    whole, parts = numbers("whole"), numbers("parts")
    assert parts["iterations"] == whole["iterations"] == 8
    assert np.allclose(
        parts["losses"]["representation"], whole["losses"]["representation"], rtol=1e-4
    )


def test_what_cannot_be_resumed_is_refused(calcarine):
    words = ("metamer", *SMALL, *BLUR, "--max-iter", 2, "--quiet")
    assert "no result to resume" in calcarine(*words, "--out", "o", "--resume").error
    assert calcarine(*words, "--out", "o").code == 0
    other = calcarine("metamer", "sample:coffee", *words[2:], "--out", "o", "--resume")
    assert "another picture" in other.error
    assert "not both" in calcarine(*words, "--out", "o", "--resume", "--force").error


@pytest.mark.parametrize("kind", ["gif", "html"])
def test_a_synthesis_is_filmed_on_request(calcarine, kind):
    words = ("--animation", kind, "--max-iter", 4, "--tolerance", 0, "--out", "o", "--quiet")
    done = calcarine("metamer", *SMALL, *BLUR, *words)
    assert done.code == 0, done.err
    if kind == "gif":
        with Image.open("o/synthesis.gif") as film:
            assert film.n_frames == 5
    else:
        assert "data:image/webp" in Path("o/synthesis.html").read_text()
    assert "data:image/webp" in Path("o/report.html").read_text()


def test_colour_is_taken_when_asked(calcarine):
    for words, channels in (((), 1), (("--color",), 3)):
        out = f"o{channels}"
        done = calcarine("metamer", *SMALL, *BLUR, "--max-iter", 2, "--out", out, "--quiet", *words)
        assert done.code == 0, done.err
        assert load_image(f"{out}/image.png").shape[1] == channels


def test_adam_and_scales_are_passed_on(calcarine):
    done = calcarine(
        "metamer", "sample:astronaut", "--size", 64, "--model", "PortillaSimoncelli", "--set",
        "n_scales=2", "--set", "spatial_corr_width=5", "--scales", "together", "--max-iter", 12,
        "--optimizer", "adam", "--quiet", "--out", "o",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert numbers("o")["iterations"] == 12
    assert numbers("o")["settings"]["scales"] == "together"
    refused = calcarine("metamer", *SMALL, *BLUR, "--scales", "together", "--out", "p")
    assert "has none" in refused.error


def test_eigendistortions_leave_pictures_numbers_and_a_page(calcarine):
    done = calcarine("eigendistortion", *SMALL, *BLUR, "--k", 2, "--method", "exact")
    assert done.code == 0, done.err
    folder = Path("eigendistortion-astronaut-gaussian")
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "image.png", "eigendistortions.png", "eigendistortion.safetensors", "numbers.json",
        "report.html", *(f"{n}-{i}.png" for n in ("distorted", "distortion") for i in range(1, 5)),
    }  # fmt: skip
    found = numbers(folder)
    assert len(found["eigenvalues"]) == len(found["residuals"]) == 4
    assert found["eigenvalues"] == sorted(found["eigenvalues"], reverse=True)
    assert found["eigenvalues"][0] == pytest.approx(1, abs=0.2)  # blur keeps the mean
    assert max(found["residuals"]) < 1e-3
    assert f"{found['eigenvalues'][0]:.6g}" in done.out
    assert "Now try: calcarine metamer" in done.out
    assert "Eigendistortions of gaussian" in (folder / "report.html").read_text()
    again = calcarine("eigendistortion", *SMALL, *BLUR)
    assert "--force" in again.error


def test_a_competition_leaves_four_pictures_numbers_and_a_page(calcarine):
    done = calcarine("mad", *SMALL, "--max-iter", 24)
    assert done.code == 0, done.err
    folder = Path("mad-astronaut-mse-1-ssim")
    labels = ["lowest-mse", "highest-mse", "lowest-1-ssim", "highest-1-ssim"]
    assert {path.name for path in folder.iterdir()} == {
        "image.png", "start.png", "mad.png", "numbers.json", "report.html",
        *(f"{label}.{kind}" for label in labels for kind in ("png", "safetensors")),
    }  # fmt: skip
    found = numbers(folder)
    assert list(found["results"]) == labels
    for label, result in found["results"].items():
        first, last = (result["losses"]["optimized"][i] for i in (0, -1))
        assert (last < first) if label.startswith("lowest") else (last > first)
        held = result["losses"]["reference"]
        assert held[-1] == pytest.approx(held[0], rel=0.5)
    starts = [r["losses"]["optimized"][0] for r in found["results"].values()]
    assert starts[0] == starts[1]
    assert starts[2] == starts[3]
    image, start = load_image(folder / "image.png"), load_image(folder / "start.png")
    assert float((image - start).square().mean()) == pytest.approx(starts[0], rel=0.05)
    assert "wang2008" in (folder / "report.html").read_text()
    assert len([line for line in done.out.splitlines() if "1-ssim" in line]) >= 4
    assert "--force" in calcarine("mad", *SMALL).error


def test_models_compete_as_metrics(calcarine, own_models):
    done = calcarine(
        "mad", *SMALL, "--model", "center_surround", "--set", "kernel_size=5", "--against",
        f"{own_models}:Blur", "--max-iter", 8, "--noise", 0.05, "--out", "o",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert numbers("o")["metrics"] == ["center_surround", "Blur"]
    assert "Blur: put into eval() and 4 parameters frozen." in done.out
    assert "berardino2017" in Path("o/report.html").read_text()


def test_metrics_are_distances():
    x = torch.rand(1, 1, 40, 40)
    for name in ("mse", "l2_norm", "nlpd", "ssim"):
        choice = find_metric(name)
        distance = choice.distance(None)
        assert distance(x, x).abs().max() < 1e-6
        assert distance(x, 1 - x).min() > 1e-3
    assert find_metric("ms_ssim").name == "1-ms_ssim"


def test_every_model_of_ours_can_be_found_by_both_names():
    names = model_names()
    assert {"gaussian", "center_surround", "on_off", "steerable_pyramid"} <= set(names)
    assert {"simple_cells", "complex_cells", "luminance_gain_control"} <= set(names)
    for text, name in (
        ("CenterSurround", "center_surround"),
        ("luminancegaincontrol", "luminance_gain_control"),
        ("on-off", "on_off"),
    ):
        assert find_model(text).name == name
    assert find_model("portilla_simoncelli").name == find_model("PortillaSimoncelli").name


@pytest.mark.parametrize("name", ["gaussian", "on_off", "luminance_contrast_gain_control"])
def test_fitted_values_are_taken_unless_others_are_asked_for(name):
    model = find_model(name).build((40, 50))
    assert model.kernel_size == 31
    if name != "gaussian":
        assert model.pretrained
        assert not find_model(name, ["center_std=2.0"]).build((40, 50)).pretrained
        assert not find_model(name, ["kernel_size=7"]).build((40, 50)).pretrained
        assert find_model(name, ["pad_mode=circular"]).build((40, 50)).pretrained


@pytest.mark.parametrize(
    ("name", "overrides", "ndim"),
    [
        ("steerable_pyramid", [], 4),
        ("steerable_pyramid", ["is_complex=true"], 4),
        ("steerable_pyramid", ["downsample=true"], 3),
        ("laplacian_pyramid", [], 3),
    ],
)
def test_pyramids_answer_with_all_their_bands(name, overrides, ndim):
    model = find_model(name, overrides).build((32, 40))
    image = torch.rand(2, 1, 32, 40, dtype=torch.double)
    answer = model(image)
    assert answer.ndim == ndim
    assert answer.shape[0] == 2
    bands = model.pyramid(image)
    bands = list(bands.values()) if isinstance(bands, dict) else list(bands)
    assert answer.numel() == sum(b.numel() * (2 if b.is_complex() else 1) for b in bands)
    assert torch.allclose(answer[0], model(image[:1])[0])


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("gausian", [], "Did you mean 'gaussian'"),
        ("CentreSurround", [], "Did you mean 'center_surround'"),
        ("quite something else", [], "Known: center_surround"),
        ("gaussian", ["kernel_siz=3"], "Did you mean 'kernel_size'"),
        ("gaussian", ["kernel_size"], "like kernel_size=31"),
        ("gaussian", ["pad_mode=mirror"], "pad_mode"),
        ("some.module:thing", ["kernel_size=3"], "--set changes stages of calcarine"),
        ("no.such.module:thing", [], "Cannot import"),
        ("json:no_such_thing", [], "Cannot import"),
        ("runs/none", [], "does not exist"),
    ],
)
def test_what_is_no_model_is_refused(text, overrides, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_model(text, overrides)


def test_code_of_ones_own_is_made_ready_and_said_so(calcarine, own_models):
    words = ("metamer", *SMALL, "--max-iter", 2)
    done = calcarine(*words, "--model", f"{own_models}:Blur", "--out", "a")
    assert done.code == 0, done.err
    assert "Blur: put into eval() and 4 parameters frozen." in done.out
    for factory in ("ready", "instance"):
        done = calcarine(*words, "--model", f"{own_models}:{factory}", "--out", factory)
        assert done.code == 0, done.err
        assert "frozen" not in done.out
        assert numbers(factory)["origin"] == f"{own_models}:{factory}"
        assert numbers(factory)["losses"] == numbers("a")["losses"]


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("needs", "function without arguments"),
        ("broken", "ZeroDivisionError: on purpose"),
        ("number", "returned a int"),
        ("constant", "is a int"),
        ("missing", "Cannot import"),
    ],
)
def test_code_that_makes_no_model_is_refused(calcarine, own_models, factory, message):
    done = calcarine("metamer", *SMALL, "--model", f"{own_models}:{factory}")
    assert message in done.error


def test_what_fails_the_checks_is_listed(calcarine, own_models):
    done = calcarine("metamer", *SMALL, "--model", f"{own_models}:noisy")
    assert done.code == 2
    assert "noisy cannot be probed. repeatable: two calls on the same image differ" in done.error
    assert "ok      output" in done.err
    assert not Path("metamer-astronaut-noisy").exists()


def test_an_inner_layer_can_be_probed(calcarine, own_models):
    words = ("--model", f"{own_models}:ready", "--max-iter", 3, "--quiet")
    assert calcarine("metamer", *SMALL, *words, "--layer", "first").code == 0
    found = numbers("metamer-astronaut-ready-first")
    assert found["model"] == "ready-first"
    wrong = calcarine("metamer", *SMALL, *words, "--layer", "frist")
    assert "'first'" in wrong.error
    for more in ((), ("--layer", "first")):
        assert "no memory" in calcarine("metamer", *SMALL, *words, "--time-ms", 10, *more).error


def test_a_model_with_memory_is_read_when_it_is_said(calcarine, own_models):
    words = ("--model", f"{own_models}:memory", "--max-iter", 3, "--quiet")
    untimed = calcarine("metamer", *SMALL, *words)
    assert untimed.code == 2
    ends = []
    for time_ms in (2, 6):
        done = calcarine("metamer", *SMALL, *words, "--time-ms", time_ms)
        assert done.code == 0, done.err
        found = numbers(f"metamer-astronaut-memory-{time_ms}ms")
        ends.append(found["losses"]["representation"][0])
    # A leaky integrator with half the input per step of 2 ms: 1/2 after one, 7/8 after three.
    assert ends[1] / ends[0] == pytest.approx((7 / 4) ** 2, rel=1e-4)


def test_an_interrupt_writes_what_there_is_and_can_be_resumed(calcarine, own_models):
    words = ("--model", f"{own_models}:Interrupting", "--optimizer", "adam", "--tolerance", 0)
    done = calcarine("metamer", *SMALL, *words, "--max-iter", 500, "--out", "o")
    assert done.code == 130
    assert "--resume --out o" in done.out
    found = numbers("o")
    assert found["status"] == "interrupted"
    assert 0 < found["iterations"] < 60
    assert "Interrupted" in Path("o/report.html").read_text()
    more = calcarine("metamer", *SMALL, *words, "--max-iter", 3, "--out", "o", "--resume")
    assert more.code == 0, more.err
    assert numbers("o")["iterations"] == found["iterations"] + 3


def test_a_run_is_probed_by_its_percept(calcarine, run):
    done = calcarine("metamer", "sample:coffee", "--model", run, "--max-iter", 3)
    assert done.code == 0, done.err
    folder = Path("metamer-coffee-tiny")
    assert load_image(folder / "image.png").shape == (1, 3, 16, 16)
    assert numbers(folder)["origin"] == str(run)
    assert "kotani2024" in (folder / "report.html").read_text()
    inner = calcarine(
        "eigendistortion", "--model", run, "--layer", "cortex.demosaicing", "--method", "lanczos",
        "--max-iter", 2,
        "--quiet",
    )  # fmt: skip
    assert inner.code == 0, inner.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("metamer", "--max-iter", 0), "--max-iter expected at least 1"),
        (("metamer", "--tolerance", -1), "--tolerance expected at least 0"),
        (("metamer", "--penalty-weight", -1), "--penalty-weight expected"),
        (("metamer", "--seed", -1), "--seed expected"),
        (("metamer", "--size", 4), "--size expected 8 to 2048"),
        (("metamer", "--optimizer", "sgd"), "optimizer"),
        (("metamer", "--initial", "blue"), "no image file 'blue'"),
        (("metamer", "--animation", "avi"), "animation"),
        (("eigendistortion", "--k", 0), "--k expected at least 1"),
        (("eigendistortion", "--scale", 0), "--scale expected"),
        (("eigendistortion", "--method", "guess"), "method"),
        (("metamer", "nowhere.png"), "no image file"),
        (("mad", "--noise", 0), "--noise expected"),
        (("mad", "--metric", "ssim", "--against", "ssim"), "two different metrics"),
        (("mad", "--against", "nothing"), "Metrics are l2_norm, ms_ssim, mse, nlpd, ssim"),
        (("mad", "--set", "kernel_size=3"), "mse is none"),
        (("mad", "--max-iter", 0), "--max-iter expected"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(calcarine, words, message):
    done = calcarine(*words, *(() if "--size" in words else ("--size", 16)))
    assert done.code == 2
    assert message in done.error
    assert not list(Path().glob("*-*"))
