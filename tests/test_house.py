"""The rules of the house: imports point one way, names are stable, importing does nothing else."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import calcarine

PACKAGE = Path(calcarine.__file__).parent
ROOT = Path(__file__).parent.parent

RANKS = [
    {
        "constants",
        "devices",
        "distributed",
        "engines",
        "errors",
        "files",
        "interrupt",
        "native",
        "progress",
        "recipe",
        "registry",
        "simulate",
        "sources",
        "stage",
        "testing",
    },
    {"stimuli", "color"},
    {"retina"},
    {"lgn"},
    {"v1", "spiking", "cortex"},
    {"models"},
    {"probes"},
    {"training", "plot"},
    {"report"},
    {"cli", "commands", "__main__"},
]


def rank(room: str) -> int:
    return next(i for i, rooms in enumerate(RANKS) if room in rooms)


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms of calcarine that a file imports anywhere, inside functions too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
            if node.module == "calcarine":
                names = [f"calcarine.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("calcarine.")}
    return rooms - {"__version__", "cite"}


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    too_high = {other for other in imported_rooms(path) if rank(other) > rank(room)}
    assert not too_high, f"{room} must not import {sorted(too_high)}"


def public_modules() -> list[str]:
    return sorted(set(calcarine._ROOMS) | {"cli"})


def test_public_names_have_not_changed():
    """Adding or removing a public name is a decision: it changes the snapshot."""
    snapshot = json.loads((Path(__file__).parent / "data" / "public_names.json").read_text())
    found = {
        name: list(importlib.import_module(f"calcarine.{name}").__all__)
        for name in public_modules()
    }
    assert found == snapshot


def as_linted(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that the linter keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", public_modules())
def test_public_names_are_sorted_exist_and_are_documented(name):
    module = importlib.import_module(f"calcarine.{name}")
    assert module.__doc__
    assert list(module.__all__) == sorted(module.__all__, key=as_linted)
    for public in module.__all__:
        thing = getattr(module, public)
        if callable(thing) and getattr(thing, "__module__", "").startswith("calcarine"):
            assert thing.__doc__, f"{name}.{public} has no docstring"


def in_fresh_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_brings_nothing_heavy_and_changes_nothing():
    """What takes long to import or leaves traces stays out until it is used."""
    code = f"""
import json, logging, os, random, sys, warnings
import torch
before = (torch.get_default_dtype(), torch.random.get_rng_state().sum().item(), random.getstate(),
          torch.get_num_threads(), len(logging.root.handlers), list(warnings.filters))
loaded = set(sys.modules)
import calcarine
for room in {[r for r in public_modules() if r != "cli"]!r}:
    getattr(calcarine, room)
after = (torch.get_default_dtype(), torch.random.get_rng_state().sum().item(), random.getstate(),
         torch.get_num_threads(), len(logging.root.handlers), list(warnings.filters))
print(json.dumps([before == after, sorted({{m.split(".")[0] for m in set(sys.modules) - loaded}})]))
"""
    unchanged, brought = json.loads(in_fresh_python(code))
    assert unchanged
    heavy = {
        "matplotlib", "skimage", "sklearn", "scipy", "colour", "pandas", "datasets", "kornia",
        "tensorboard", "av", "PIL", "accelerate", "torchmetrics", "plotly", "wandb", "comet_ml",
    }  # fmt: skip
    assert not heavy & set(brought)


def test_nothing_pulls_torchvision():
    """Beside a CPU build of torch the registry's torchvision breaks every import."""
    pinned = (ROOT / "constraints.txt").read_text()
    assert "torchvision" not in pinned
    assert "torch==2.13.0" in pinned
    installed = {(d.metadata["Name"] or "").lower() for d in importlib.metadata.distributions()}
    assert "torchvision" not in installed


def test_every_pinned_extra_is_declared():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    extras = project["optional-dependencies"]
    assert {"train", "data", "spectral", "events", "viz", "test", "lint", "docs"} <= set(extras)
    assert not any("torchvision" in need for needs in extras.values() for need in needs)


def test_no_file_speaks_of_the_machine_it_was_written_on():
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    files = [ROOT / name for name in tracked if name and (ROOT / name).is_file()]
    files = files or [p for p in ROOT.rglob("*.py") if ".venv" not in p.parts]
    for path in files:
        if path.suffix in {".py", ".md", ".toml", ".yaml", ".txt", ".bib", ".cff", ""}:
            text = path.read_text(encoding="utf-8", errors="ignore")
            assert str(Path.home()) + "/" not in text or str(Path.home()) == "/", path
            assert str(ROOT.parent) + "/" not in text or len(ROOT.parent.parts) < 2, path
