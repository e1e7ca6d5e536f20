"""Registry, sources, files and errors."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from torch import nn

import calcarine
from calcarine import registry, sources
from calcarine.errors import (
    FileFormatError,
    InputError,
    MissingDependencyError,
    RunError,
    UnknownNameError,
    require,
)
from calcarine.files import atomic_file, load_tensors, write_text


def test_every_registered_name_leads_to_a_class():
    for name in registry.names():
        cls = registry.get(name)
        assert registry.registered_name(cls) == name


def test_unknown_names_come_with_the_closest_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'retina'"):
        registry.get("retinna")


def test_a_name_is_taken_once(monkeypatch):
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    registry.register("mine", nn.ReLU, kind="stage")
    registry.register("mine", nn.ReLU, kind="stage")
    assert registry.get("mine") is nn.ReLU
    with pytest.raises(InputError, match="already names"):
        registry.register("mine", nn.Tanh)


def test_every_source_named_in_the_code_is_in_the_bibliography():
    for name in registry.names():
        text = sources.cite(registry.get(name))
        for key in sources.source_keys(registry.get(name)):
            assert f"{{{key}," in text


def test_cite_returns_exactly_the_stages_in_use():
    class Old(nn.Module):
        sources = ("maxwell1860",)

    class New(nn.Module):
        sources = ("field1987",)

    text = calcarine.cite(nn.Sequential(Old(), New(), Old()))
    assert text.count("@") == 2
    assert "Maxwell" in text
    assert "Field" in text
    assert calcarine.cite(nn.ReLU()) == ""


def test_a_missing_reference_is_named():
    class Lost(nn.Module):
        sources = ("maxwel1860",)

    with pytest.raises(UnknownNameError, match="Did you mean 'maxwell1860'"):
        calcarine.cite(Lost())


def test_bibliography_entries_are_complete():
    for key, entry in sources.bibliography().items():
        assert entry.endswith("}"), key
        assert all(f"{field} " in entry or f"{field}=" in entry for field in ("title", "year")), key


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "first")

    def fail() -> None:
        with atomic_file(path) as file:
            file.write(b"half")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_tensors_are_unpacked_and_nothing_that_runs_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    def refusal(reason: str) -> FileFormatError:
        assert "\n" not in reason
        return FileFormatError(f"No: {reason}")

    kept = {"w": torch.arange(3.0), "names": ["a"], "update": 7}
    torch.save(kept, tmp_path / "good.pt")
    whole = (tmp_path / "good.pt").read_bytes()
    for source in (tmp_path / "good.pt", io.BytesIO(whole)):
        found = load_tensors(source, refusal)
        assert torch.equal(found.pop("w"), kept["w"])
        assert found == {"names": ["a"], "update": 7}
    torch.save(Harmful(), tmp_path / "harmful.pt")
    (tmp_path / "short.pt").write_bytes(whole[:200])
    (tmp_path / "empty.pt").write_bytes(b"")
    for name in ("harmful.pt", "short.pt", "empty.pt", "gone.pt"):
        with pytest.raises(FileFormatError, match=r"No: \S"):
            load_tensors(tmp_path / name, refusal)
    assert not (tmp_path / "touched").exists()


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        write_text(tmp_path / "file" / "inner.txt", "x")


def test_every_public_writer_names_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "inner"
    writers = [
        lambda: calcarine.stimuli.save_image(torch.rand(1, 3, 4, 4), below / "a.png"),
        lambda: calcarine.plot.save_animation(torch.rand(2, 3, 4, 4), below / "a.webp"),
        lambda: calcarine.simulate.run(
            nn.ReLU(),
            torch.rand(2, 1, 3),
            record={"": calcarine.simulate.Recording(below / "a.npy")},
        ),
    ]
    for write in writers:
        with pytest.raises(RunError, match="Cannot write"):
            write()


def test_missing_parts_say_how_to_install_them():
    assert require("torch", extra="none", purpose="Everything") is torch
    with pytest.raises(MissingDependencyError, match=r"Flying needs.*calcarine\[wings\]"):
        require("no_such_wings", extra="wings", purpose="Flying")
