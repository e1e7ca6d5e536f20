from __future__ import annotations

import pytest

from calcarine.training import storage
from calcarine.training.storage import clean_up, digest, replace_folder


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "checkpoint"
    replace_folder(folder, {"a": b"1", "b": b"2"})
    replace_folder(folder, {"b": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"b": b"3"}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_folder_keeps_its_content_when_writing_fails(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint"
    replace_folder(folder, {"a": b"before"})

    def fail(path):
        path.write_bytes(b"aft")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "atomic_file", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_folder(folder, {"a": b"after"})
    assert (folder / "a").read_bytes() == b"before"
    clean_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_cleaning_an_absent_folder_does_nothing(tmp_path):
    clean_up(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_sha256():
    # SHA-256 of the empty message, FIPS 180-4.
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
