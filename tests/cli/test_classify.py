"""``classify``: what a network in time takes pictures for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from calcarine.models import CordsNet
from calcarine.training import open_run

PUBLISHED = {
    "stem": "inp_conv", "skip2": "inp_skip", "readout": "out_fc", "area1.bias": "conv_bias.0",
    "area2.bias": "conv_bias.1", "area1.feedforward": "area_area.0",
    "area2.feedforward": "area_area.1", "area1.recurrent": "area_conv.0",
    "area2.recurrent": "area_conv.1",
}  # fmt: skip


def published(model: CordsNet) -> dict[str, torch.Tensor]:
    """Return the weights of a network of two areas under their published names."""
    found = {}
    for name, tensor in model.named_parameters():
        for ours, theirs in PUBLISHED.items():
            if name == ours or name.startswith(f"{ours}."):
                found[f"module.{theirs}{name[len(ours) :]}"] = tensor.detach()
    return found


@pytest.fixture
def network(tmp_path) -> CordsNet:
    """A network of two areas that tells red from blue, as published.pth in the current folder."""
    torch.manual_seed(0)
    model = CordsNet(depth=2, classes=3, image_size=32)
    model.requires_grad_(False)
    pictures = torch.zeros(2, 3, 32, 32)
    pictures[0, 0] = pictures[1, 2] = 2.0
    weights = model.folded()
    rest = model.baseline(pictures)
    for rates in model.trial(pictures, 0.0, 100.0, state=rest):
        last = rates
    seen = (torch.relu(last[0]) + torch.relu(last[1])).mean((2, 3))
    empty = torch.relu(rest.areas[0].r).mean((2, 3)) + torch.relu(rest.areas[1].r).mean((2, 3))
    assert weights.logits(last).shape == (2, 3)
    difference = seen[0] - seen[1]
    rows = torch.stack([difference, -difference, 1e-3 * difference])
    scale = 6 / difference.square().sum()
    model.readout.weight = rows * scale
    middle = (seen.mean(0) @ rows.T) * scale
    model.readout.bias.copy_(-middle)
    at_rest = (empty[0] @ rows.T) * scale - middle
    model.readout.bias[2] += at_rest.max() + 1  # the third class is that of nothing
    torch.save(published(model), tmp_path / "published.pth")
    return model


def colored(path: str, color: tuple[int, int, int]) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (50, 40), color).save(path)
    return path


RED, BLUE = (255, 0, 0), (0, 0, 255)


def rows(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "probabilities.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_answer_forms_after_onset_and_goes_after_offset(calcarine, network):
    Path("names.txt").write_text("red\nblue\nnothing\n")
    for name, color in (("a", RED), ("b", BLUE)):
        colored(f"pictures/{'red' if color == RED else 'blue'}/{name}.png", color)
    done = calcarine(
        "classify", "pictures", "--checkpoint", "published.pth", "--names", "names.txt"
    )
    assert done.code == 0, done.err
    assert "2 of 2 right" in done.out
    folder = Path("classify-published")
    numbers = json.loads((folder / "numbers.json").read_text())
    assert (numbers["known"], numbers["right"]) == (2, 2)
    assert "calcarine classify pictures --checkpoint published.pth" in numbers["command"]
    for found, answer in zip(numbers["pictures"], ("blue", "red"), strict=True):
        assert found["answer"] == found["shown"] == answer
        assert 0 < found["stays_from_ms"] < 100
        assert found["probabilities"][answer] == max(found["probabilities"].values())
    for name, answer in (("a", "red"), ("b", "blue")):
        lines = [row for row in rows(str(folder)) if row["picture"] == name]
        assert [float(row["time_ms"]) for row in lines] == [2.0 * k for k in range(201)]
        answers = [row["answer"] for row in lines]
        (began,) = (n["stays_from_ms"] for n in numbers["pictures"] if n["name"] == name)
        first = int(began / 2)
        assert answers[0] == answers[first - 1] == answers[-1] == "nothing"
        assert set(answers[first:101]) == {answer}
        total = [sum(float(row[k]) for k in ("red", "blue", "nothing")) for row in lines]
        assert total == pytest.approx([1.0] * 201, abs=1e-4)
        with Image.open(folder / f"{name}.png") as figure:
            assert min(figure.size) > 200


def test_csv_holds_what_the_model_says(calcarine, network):
    picture = colored("red.png", RED)
    words = ("classify", picture, "--checkpoint", "published.pth", "--stimulus", 60, "--off", 0)
    assert calcarine(*words, "--quiet").err == ""
    lines = rows("classify-published")
    assert len(lines) == 31
    prepared = torch.tensor([1.0, 0.0, 0.0]) - torch.tensor([0.485, 0.456, 0.406])
    prepared = (prepared / torch.tensor([0.229, 0.224, 0.225]))[None, :, None, None]
    logits = network.eval().classify(prepared.expand(1, 3, 32, 32), 200.0, 60.0)
    assert [float(lines[-1][k]) for k in "012"] == pytest.approx(
        logits.softmax(-1)[0].tolist(), abs=1e-4
    )
    again = calcarine(*words)
    assert "already holds a result" in again.error


def test_movies_change_the_answer(calcarine, network):
    frames = [Image.new("RGB", (40, 40), color) for color in (RED, BLUE)]
    frames[0].save(
        "film.webp", save_all=True, append_images=frames[1:], duration=120, lossless=True
    )
    words = (
        "classify",
        "film.webp",
        "--checkpoint",
        "published.pth",
        "--off",
        100,
        "--out",
        "film",
    )
    assert calcarine(*words).code == 0
    lines = rows("film")
    answers = {float(row["time_ms"]): row["answer"] for row in lines}
    assert (answers[0.0], answers[120.0], answers[240.0], answers[340.0]) == ("2", "0", "1", "2")
    (found,) = json.loads(Path("film/numbers.json").read_text())["pictures"]
    assert 120 < found["stays_from_ms"] < 240
    assert found["offset_ms"] == 240


def test_noise_is_drawn_anew_or_frozen(calcarine, network):
    colored("red.png", RED)
    courses = {}
    for name, words in {
        "none": (),
        "fresh": ("--noise", 1),
        "again": ("--noise", 1),
        "other": ("--noise", 1, "--seed", 3),
        "frozen": ("--noise", 1, "--frozen"),
    }.items():
        done = calcarine(
            "classify",
            "red.png",
            "--checkpoint",
            "published.pth",
            "--out",
            name,
            "--off",
            0,
            *words,
        )
        assert done.code == 0
        courses[name] = torch.tensor([float(row["0"]) for row in rows(name)])
    assert torch.equal(courses["fresh"], courses["again"])
    assert not torch.equal(courses["fresh"], courses["other"])
    assert not torch.equal(courses["frozen"], courses["none"])
    restless = {name: float(course[60:].diff().abs().mean()) for name, course in courses.items()}
    assert restless["fresh"] > 10 * max(restless["none"], restless["frozen"], 1e-7)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --run FOLDER or --checkpoint FILE"),
        (("--run", "runs/gone"), "runs/gone does not exist"),
        (("--run", "runs/gone", "--checkpoint", "a.pth"), "either --run FOLDER or"),
        (("--checkpoint", "gone.pth"), "There is no checkpoint 'gone.pth'"),
        (("--checkpoint", "published.pth", "--age", 3), "those of a run"),
        (("--checkpoint", "published.pth", "--noise", -1), "--noise expected at least 0"),
        (("--checkpoint", "published.pth", "--top", 0), "--top expected at least 1"),
        (("--checkpoint", "published.pth", "--stimulus", 3), "multiple of"),
        (("gone.jpg", "--checkpoint", "published.pth"), "There is no image file 'gone.jpg'"),
        (("sample:held-out", "--checkpoint", "published.pth"), "a checkpoint has none"),
        (("empty", "--checkpoint", "published.pth"), "holds no pictures"),
        (("half.gif", "--checkpoint", "published.pth"), "half.gif is incomplete or damaged"),
        (("--checkpoint", "published.pth", "--names", "empty/n.txt"), "Cannot read names"),
    ],
)
def test_bad_input_is_refused(calcarine, network, words, message):
    Path("empty").mkdir()
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (2, 40, 40, 3), generator=draw, dtype=torch.uint8).numpy()
    frames = [Image.fromarray(one) for one in pixels]
    frames[0].save("whole.gif", save_all=True, append_images=frames[1:])
    Path("half.gif").write_bytes(Path("whole.gif").read_bytes()[:-700])
    assert message in calcarine("classify", *words).error
    assert not list(Path().glob("classify-*"))


def test_a_checkpoint_of_something_else_is_refused(calcarine, network):
    weights = torch.load("published.pth", weights_only=True)
    torch.save({"fc.weight": torch.zeros(3)}, "other.pth")
    assert "under their published names" in calcarine("classify", "--checkpoint", "other.pth").error
    torch.save({n: t for n, t in weights.items() if "area_conv.1" not in n}, "part.pth")
    assert "it has 1" in calcarine("classify", "--checkpoint", "part.pth").error
    torch.save({n: t for n, t in weights.items() if "skip" not in n}, "part.pth")
    assert "Missing: inp_skip" in calcarine("classify", "--checkpoint", "part.pth").error
    Path("text.pth").write_text("no weights")
    assert "damaged, or holds more than" in calcarine("classify", "--checkpoint", "text.pth").error
    Path("three.txt").write_text("one\ntwo\n")
    words = ("classify", "--checkpoint", "published.pth", "--names", "three.txt")
    assert "expected to name 3 classes" in calcarine(*words).error


def test_answers_that_are_not_finite_are_told(calcarine, network):
    with torch.no_grad():
        network.readout.parametrizations.weight.original1[1] = 0  # no direction to normalise
    torch.save(published(network), "broken.pth")
    assert "NaN or infinity" in calcarine("classify", "--checkpoint", "broken.pth").error


def test_a_checkpoint_that_wants_to_run_code_is_refused(calcarine):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (Path("touched"),))

    torch.save({"module.inp_conv.parametrizations.weight.original1": Harmful()}, "harmful.pth")
    done = calcarine("classify", "--checkpoint", "harmful.pth")
    assert "more than tensors" in done.error
    assert not Path("touched").exists()


def test_held_out_images_of_a_run_and_what_they_are(calcarine, digits):
    done = calcarine("classify", "--run", digits, "--stimulus", 60, "--off", 40)
    assert done.code == 0, done.err
    numbers = json.loads(Path("classify-digits/numbers.json").read_text())
    task = open_run(digits).task
    images, labels = next(task.data.held_out(8))
    answers = task.model.classify(images, 200.0, 60.0).argmax(1)
    assert [p["name"] for p in numbers["pictures"]] == [f"held-out-{k}" for k in range(8)]
    assert [p["shown"] for p in numbers["pictures"]] == [str(int(k)) for k in labels]
    assert [p["answer"] for p in numbers["pictures"]] == [str(int(k)) for k in answers]
    assert numbers["right"] == int((answers == labels).sum())
    assert "staged" in numbers["network"]


def test_one_held_out_image_and_a_file_of_it_give_the_same(calcarine, digits):
    task = open_run(digits).task
    images, labels = next(task.data.held_out(70))
    codes = (task.data.display(images[66])[0] * 255).round().byte().numpy()
    folder = Path("mine") / str(int(labels[66]))
    folder.mkdir(parents=True)
    Image.fromarray(255 - codes).save(folder / "ink.png")
    words = ("--run", digits, "--network", "direct", "--stimulus", 40, "--off", 0, "--top", 10)
    first = calcarine("classify", "sample:held-out-66", *words, "--out", "a")
    second = calcarine("classify", "mine", "--invert", *words, "--out", "b")
    assert (first.code, second.code) == (0, 0), (first.err, second.err)
    kept, mine = (
        json.loads((Path(name) / "numbers.json").read_text())["pictures"][0] for name in "ab"
    )
    assert kept["shown"] == mine["shown"] == str(int(labels[66]))
    assert kept["probabilities"] == pytest.approx(mine["probabilities"], abs=2e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sample:held-out-599",), "the run has 599 held-out images"),
        (("sample:held-out-x",), "to end in a number"),
        (("--age", 3), "no weights after 3 updates"),
        (("--network", "other"), "other"),
    ],
)
def test_what_a_run_does_not_have_is_refused(calcarine, digits, words, message):
    assert message in calcarine("classify", *words, "--run", digits).error


def test_a_network_that_has_not_begun_is_told(calcarine, digits):
    done = calcarine("classify", "--run", digits, "--age", 0, "--stimulus", 20, "--off", 0)
    assert done.code == 0
    assert "warning: After 0 updates the staged network" in done.err
    done = calcarine("classify", "--run", digits, "--stimulus", 20, "--off", 0, "--force")
    assert "warning" not in done.err


def test_a_run_of_something_else_is_refused(calcarine, run):
    assert "a run of a CordsNet" in calcarine("classify", "--run", run).error
