"""Results on disk: everything comes back, and nothing else is read."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from calcarine.errors import FileFormatError, InputError, RunError
from calcarine.probes.saving import FORMAT, read_result, result_kind, write_result

FACTS = {"n": 3, "x": 0.1, "text": "a", "none": None, "flag": True, "list": [1, [2, "b"]]}


def test_tensors_and_facts_come_back_as_they_were(tmp_path):
    history = torch.randn(4, 2, 3)
    tensors = {
        "double": torch.randn(3, 5, dtype=torch.float64),
        "long": torch.arange(4),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 2, 3),
        "number": torch.tensor(2.5),
        "single complex": torch.randn(2, 3, dtype=torch.complex64),
        "double complex": torch.randn(2, 3, dtype=torch.complex128),
        "conjugate": torch.randn(3, dtype=torch.complex128).conj(),
        "view": history[1],
        "overlapping": history[1:3],
        "expanded": torch.ones(1).expand(5),
        "transposed": history.mT,
        "tracked": torch.ones(2, requires_grad=True),
    }
    path = write_result(tmp_path / "new" / "a.safetensors", "metamer", tensors, FACTS)
    read, facts = read_result(path, "metamer")
    assert facts == FACTS
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
    assert result_kind(path) == "metamer"


def test_what_is_read_can_be_written_over(tmp_path):
    path = write_result(tmp_path / "a.safetensors", "k", {"x": torch.zeros(3)}, {})
    write_result(path, "k", {"x": read_result(path, "k")[0]["x"] + 1}, {})
    assert read_result(path, "k")[0]["x"].tolist() == [1, 1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("name", ["a.pt", "a", "a.safetensors.part"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"ending in \.safetensors"):
        write_result(tmp_path / name, "k", {}, {})


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="Cannot write"):
        write_result(tmp_path / "file" / "a.safetensors", "k", {}, {})


def test_facts_that_are_no_json_leave_the_file_before_untouched(tmp_path):
    path = write_result(tmp_path / "a.safetensors", "k", {"x": torch.ones(1)}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_result(path, "k", {"x": torch.zeros(1)}, {"model": object()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, share):
    path = write_result(tmp_path / "a.safetensors", "k", {"x": torch.randn(100)}, FACTS)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(FileFormatError, match="damaged"):
        read_result(path, "k")


class Harmful:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_a_pickle_is_refused_and_not_run(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(FileFormatError, match=r"damaged or not a \.safetensors"):
        read_result(path, "k")
    torch.save({"x": torch.ones(3)}, path)
    with pytest.raises(FileFormatError, match=r"damaged or not a \.safetensors"):
        read_result(path, "k")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileFormatError, match="There is no file"):
        read_result(tmp_path / "none.safetensors", "k")
    with pytest.raises(FileFormatError, match="There is no file"):
        read_result(tmp_path, "k")


def test_another_probe_is_refused(tmp_path):
    path = write_result(tmp_path / "a.safetensors", "geodesic", {}, {})
    with pytest.raises(FileFormatError, match="'geodesic', expected one of 'metamer'"):
        read_result(path, "metamer")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "no result of a probe"),
        ("no json", "no result of a probe"),
        ("[1, 2]", "no result of a probe"),
        ({"kind": "k", "facts": {}}, "no result of a probe"),
        ({"kind": "k", "facts": {}, "format": "1"}, "no result of a probe"),
        ({"kind": 3, "facts": {}, "format": 1}, "no result of a probe"),
        ({"kind": "k", "facts": {}, "format": FORMAT + 1}, "Update calcarine"),
        ({"kind": "k", "facts": {}, "format": 1, "complex": ["gone"]}, "no result of a probe"),
        ({"kind": "k", "facts": {}, "format": 1, "complex": ["x"]}, "no result of a probe"),
    ],
)
def test_other_headers_are_refused(tmp_path, header, message):
    text = header if isinstance(header, str) else json.dumps(header)
    metadata = None if header is None else {"calcarine": text}
    save_file({"x": torch.ones(3)}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(FileFormatError, match=message):
        read_result(tmp_path / "a.safetensors", "k")


def test_a_file_that_lacks_something_is_refused(tmp_path):
    path = write_result(tmp_path / "poor.safetensors", "k", {"x": torch.zeros(1)}, {"a": 1})
    tensors, facts = read_result(path, "k")
    assert (tensors["x"].item(), facts["a"]) == (0, 1)
    assert tensors.get("y") is None
    with pytest.raises(FileFormatError, match=r"poor\.safetensors lacks 'y'"):
        tensors["y"]
    with pytest.raises(FileFormatError, match="lacks 'b'"):
        facts["b"]
