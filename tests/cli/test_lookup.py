"""``recipes``, ``cite`` and ``doctor``: commands that only tell."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from calcarine import recipe
from calcarine.commands import doctor


def test_recipes_lists_all_with_their_description(calcarine):
    done = calcarine("recipes")
    assert done.code == 0
    for name in recipe.recipe_names():
        line = next(line for line in done.out.splitlines() if line.startswith(name))
        assert recipe.load(name).config.description in line


@pytest.mark.parametrize("name", recipe.recipe_names())
def test_a_recipe_is_shown_with_its_comments(calcarine, name):
    out = calcarine("recipes", name).out
    assert out.startswith("#")
    assert recipe.load(yaml.safe_load(out)).config == recipe.load(name).config


def test_options_explain_every_key(calcarine):
    out = calcarine("recipes", "--options").out
    rows = {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}

    def check(section: dict, prefix: str = "") -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                check(value, f"{prefix}{key}.")
            elif key != "type":
                assert f"{prefix}{key}" in rows

    check(recipe.load("color-sandbox").to_dict())
    assert rows["training.updates"].startswith("training.updates int ≥ 1 4000 Number of updates")
    assert rows["retina.sampling"].startswith("retina.sampling fovea | uniform fovea")
    assert rows["stimuli.size"].startswith("stimuli.size int | [int, int] 64")
    assert rows["training.clip_norm"].startswith("training.clip_norm float | null > 0 null")
    assert rows["name"].startswith("name text (required)")
    assert "``" not in out
    assert ":func:" not in out


def keys(bibtex: str) -> set[str]:
    return {line.partition("{")[2].rstrip(",") for line in bibtex.splitlines() if line[:1] == "@"}


def test_cite_prints_what_a_recipe_uses(calcarine):
    done = calcarine("cite")
    assert done.code == 0
    found = keys(done.out)
    # Model, U-Net and colorimetry are used; a fovea is not.
    assert {"kotani2024", "ronneberger2015", "stockman1999", "iec61966"} <= found
    assert "curcio1990" not in found
    assert calcarine("cite", "color-sandbox").out == done.out


def test_cite_follows_what_a_run_uses(calcarine, run):
    assert keys(calcarine("cite", run).out) == keys(calcarine("cite").out)


def test_cite_takes_single_stages(calcarine):
    assert keys(calcarine("cite", "lateral_inhibition").out) == {"kotani2024"}
    assert "curcio1990" in keys(calcarine("cite", "retina").out)


def test_cite_says_when_there_is_nothing_to_cite(calcarine):
    done = calcarine("cite", "training")
    assert (done.code, done.out) == (0, "")
    assert "nothing to cite" in done.err


def test_doctor_tells_versions_and_hardware(calcarine):
    done = calcarine("doctor")
    assert done.code == 0
    assert torch.__version__ in done.out
    assert "precision" in done.out
    facts = json.loads(calcarine("doctor", "--json").out)
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["hardware"]["threads"] == torch.get_num_threads()
    assert facts["hardware"]["precision"] in ("fp32", "bf16")
    assert facts["extras"]["viz"]["missing"] == []


@pytest.mark.parametrize(("load", "told"), [(7.5, True), (0.1, False), (None, False)])
def test_doctor_tells_when_threads_wait_for_each_other(calcarine, monkeypatch, load, told):
    monkeypatch.setattr(doctor, "_load", lambda: load)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    out = calcarine("doctor").out
    assert ("OMP_NUM_THREADS=1 may be many times faster" in out) == told
    assert "map kernel    compiled kernel" in out or "map kernel    torch operations" in out


def test_doctor_names_missing_parts_and_how_to_get_them(calcarine, monkeypatch):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda n: None if n == "matplotlib" else version(n))
    out = calcarine("doctor").out
    line = next(line for line in out.splitlines() if line.strip().startswith("viz"))
    assert "missing matplotlib" in line
    assert "`report`" in line
    command = out.splitlines()[-1]
    assert command.startswith("To add them: pip install 'calcarine[")
    assert "viz" in command


def test_doctor_sees_a_cache_that_cannot_be_written(calcarine, monkeypatch):
    monkeypatch.setenv("CALCARINE_CACHE", "/dev/null/cache")
    done = calcarine("doctor")
    assert done.code == 0
    assert "NOT writable" in done.out
    assert json.loads(calcarine("doctor", "--json").out)["cache"]["writable"] is False


def test_doctor_leaves_nothing_behind(calcarine, monkeypatch, tmp_path):
    monkeypatch.setenv("CALCARINE_CACHE", str(tmp_path / "cache"))
    assert "cache, writable" in calcarine("doctor").out
    assert list(tmp_path.iterdir()) == []
