"""What the documents show runs as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from calcarine import recipe
from calcarine.cli import main
from calcarine.training import fit

ROOT = Path(__file__).parent.parent.parent


def blocks(path: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def demo_run(tmp_path, monkeypatch):
    """A folder with a tiny ``runs/demo``, as the documents assume."""
    monkeypatch.chdir(tmp_path)
    made = recipe.load(
        "color-sandbox",
        ["retina.size=16", "cortex.size=16", "stimuli.size=22", "retina.max_shift_px=3",
         "cortex.widths=[4, 8]", "training.updates=2", "training.loggers=[local]"],
    )  # fmt: skip
    fit(
        made.build_task(), made.training, "runs/demo", recipe=made.to_dict(), seed=0, progress=False
    )


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("README.md", "colour has 1 dimension"),
        ("docs/grammar.md", "stop_and_resume"),
        ("docs/probing.md", "converged"),
        ("docs/maps.md", "every unit prefers 90 degrees, 0 pinwheels"),
        ("docs/cordsnet.md", "back at rest from every start: True"),
        ("docs/spiking.md", "bands end at 0.42 and 0.85 px per frame"),
    ],
)
def test_python_examples_run(path, expected, demo_run, capsys):
    namespace: dict[str, object] = {}
    examples = blocks(path)
    assert len(examples) >= 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for example in examples:
            exec(compile(example, path, "exec"), namespace)
    printed = capsys.readouterr().out
    assert expected in printed


def test_command_line_examples_are_understood(demo_run, capsys):
    """Every command that the README shows has a verb with help, and its options exist."""
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^ {4}calcarine (.*?)(?: {3,}.*)?$", text, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        words = shlex.split(command)
        assert main([words[0], "--help"]) == 0
        described = capsys.readouterr().out
        for option in (w for w in words if w.startswith("--")):
            assert option in described, command
