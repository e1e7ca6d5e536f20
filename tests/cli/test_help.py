"""Help: every verb explains itself by examples that can be typed."""

from __future__ import annotations

import inspect
import shlex
import subprocess
import sys

import pytest

from calcarine import __version__
from calcarine.cli import _VERBS, app

VERBS = [
    "train", "recipes", "retina", "see", "colour-match", "map", "events", "detect", "classify",
    "spectrum", "metamer", "eigendistortion", "mad", "report", "cite", "doctor",
]  # fmt: skip


def examples(text: str) -> list[str]:
    """Return the commands inside code blocks of a help text, without comments."""
    blocks = inspect.cleandoc(text).split("```")[1::2]
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_verbs_are_those_of_the_specification():
    assert list(_VERBS) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(calcarine, verb):
    done = calcarine(verb, "--help")
    assert done.code == 0
    assert done.err == ""
    shown = [line.strip() for line in done.out.splitlines()]
    given = examples(_VERBS[verb].__doc__ or "")
    assert given
    assert all(example in shown for example in given), "examples must fit into 80 columns"
    assert any(line.startswith(f"calcarine {verb}") for line in shown)


@pytest.mark.parametrize(
    "example", [e for verb in _VERBS.values() for e in examples(verb.__doc__ or "")]
)
def test_every_example_is_a_command_that_can_be_parsed(example):
    words = shlex.split(example.partition(">")[0])
    assert words[0] == "calcarine"
    command, bound, ignored = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert command is _VERBS[words[1]]
    assert not ignored
    assert bound is not None


def test_every_option_is_explained():
    for verb in _VERBS.values():
        documented = (verb.__doc__ or "").partition("Args:")[2]
        for name in inspect.signature(verb).parameters:
            assert f" {name}: " in documented


def test_no_verb_shows_the_overview(calcarine):
    alone, asked = calcarine(), calcarine("--help")
    assert alone.code == asked.code == 0
    assert alone.out == asked.out
    for verb in VERBS:
        assert f" {verb} " in alone.out


def test_version(calcarine):
    done = calcarine("--version")
    assert (done.code, done.out.strip()) == (0, __version__)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from calcarine.cli import main; code = main(['--help']);"
        "sys.exit(code or bool({'torch', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "colour-match" in done.stdout
