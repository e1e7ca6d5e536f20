from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from calcarine.errors import CalcarineWarning, FileFormatError, InputError, RunError
from calcarine.stimuli import EventStream, read_events

START_US = 5_000
CAMERAS = [
    ("r.es", None),
    ("r.dat", "dat1"),
    ("r.dat", "dat2"),
    ("r.raw", "evt2"),
    ("r.raw", "evt3"),
    ("r.aedat4", None),
]


def random_stream(events: int = 3000, size: tuple[int, int] = (48, 64)) -> EventStream:
    generator = torch.Generator().manual_seed(3)

    def draw(end: int) -> torch.Tensor:
        return torch.randint(0, end, (events,), generator=generator)

    time = draw(200_000).sort().values + START_US
    return EventStream(time, draw(size[1]), draw(size[0]), draw(2), size=size)


def assert_same(found: EventStream, expected: EventStream) -> None:
    assert found.size == expected.size
    for name in ("t_us", "x", "y", "polarity"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def camera_file(folder: Path, name: str, version: str | None, stream: EventStream) -> Path:
    faery = pytest.importorskip("faery")
    events = np.zeros(len(stream), dtype=faery.EVENTS_DTYPE)
    events["t"], events["x"], events["y"] = stream.t_us, stream.x, stream.y
    events["on"] = stream.polarity
    height, width = stream.size
    path = folder / name
    faery.events_stream_from_array(events, (width, height)).to_file(
        path, version=version, zero_t0=False
    )
    return path


@pytest.mark.parametrize("name", ["s.npz", "s.csv", "s.h5", "s.HDF5", "deep/er/s.npz"])
@pytest.mark.parametrize("events", [0, 1, 3000])
def test_saving_and_reading_gives_the_same_events(tmp_path, name, events):
    if name.lower().endswith(("h5", "hdf5")):
        pytest.importorskip("h5py")
    stream = random_stream(events)
    assert stream.save(tmp_path / name) == tmp_path / name
    assert_same(read_events(tmp_path / name), stream)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_negative_times_and_all_sizes_of_numbers_survive(tmp_path, suffix):
    times = [-(2**61), -1, 0, 9, 10, 999_999_999, 10**10, 2**61]
    pixels = [0, 9, 10, 99, 100, 999, 1000, 32766]
    stream = EventStream(times, pixels, pixels[::-1], [0, 1] * 4, size=(32767, 32767))
    assert_same(read_events(stream.save(tmp_path / f"s{suffix}")), stream)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    with pytest.raises(InputError, match=r"ending in .npz, .csv or .h5, got 's.mat'"):
        random_stream(3).save(tmp_path / "s.mat")
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunError, match="Cannot write"):
        random_stream(3).save(tmp_path / "file" / "s.csv")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(("name", "version"), CAMERAS)
def test_camera_formats(tmp_path, name, version):
    stream = random_stream()
    assert_same(read_events(camera_file(tmp_path, name, version, stream)), stream)


@pytest.mark.parametrize(("name", "version"), CAMERAS[:-1])
def test_camera_files_that_end_inside_an_event_are_refused(tmp_path, name, version):
    path = camera_file(tmp_path, name, version, random_stream())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FileFormatError, match=r"incomplete.*inside an event.* at byte \d+"):
        read_events(path)


@pytest.mark.parametrize(("name", "version"), CAMERAS)
@pytest.mark.parametrize("share", [0.001, 0.3, 0.6])
def test_a_cut_file_never_crashes_and_never_invents_events(tmp_path, name, version, share):
    """At the edge of an event nothing can tell; what is read is then the beginning, unchanged."""
    stream = random_stream()
    path = camera_file(tmp_path, name, version, stream)
    content = path.read_bytes()
    outcomes = []
    for cut in range(int(share * len(content)), int(share * len(content)) + 9):
        path.write_bytes(content[:cut])
        try:
            found = read_events(path, size=stream.size)
        except FileFormatError:
            outcomes.append("refused")
        else:
            assert_same(found, stream[: len(found)])
    assert "refused" in outcomes


@pytest.mark.parametrize(("name", "version"), CAMERAS)
def test_damaged_bytes_are_refused_or_harmless(tmp_path, name, version):
    path = camera_file(tmp_path, name, version, random_stream())
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(15):
        bad = bytearray(content)
        for at in generator.integers(0, len(content), 20):
            bad[at] = generator.integers(256)
        path.write_bytes(bad)
        try:
            found = read_events(path, size=(4096, 4096), sort=True)
        except FileFormatError:
            continue
        assert (found.t_us.diff() >= 0).all()


def test_dat_times_that_fall_are_refused_with_their_byte(tmp_path):
    pytest.importorskip("faery")
    words = np.array([[10, 0], [30, 1], [20, 2]], "<u4")
    header = b"% Version 2\n% Width 4\n% Height 4\n\x0c\x08"
    path = tmp_path / "r.dat"
    path.write_bytes(header + words.tobytes())
    at = len(header) + 16
    with pytest.raises(FileFormatError, match=f"event at byte {at} is at 20 us, after 30 us"):
        read_events(path)
    path.write_bytes(header + words[:2].tobytes())
    assert read_events(path).t_us.tolist() == [10, 30]


def test_a_camera_file_without_a_size_warns_or_takes_the_one_given(tmp_path):
    pytest.importorskip("faery")
    path = tmp_path / "r.dat"
    path.write_bytes(b"% Version 2\n\x0c\x08" + np.array([[10, 5 | 7 << 14]], "<u4").tobytes())
    with pytest.warns(CalcarineWarning, match="height 8 and width 6 just hold"):
        assert read_events(path).size == (8, 6)
    assert read_events(path, size=(480, 640)).size == (480, 640)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.dat", b"hello world, this is no recording", "neither of the two kinds"),
        ("r.raw", b"hello world", "starts with b'%', but byte 0 starts b'h'"),
        ("r.raw", b"% evt 9.0\n% end\n\x00\x00", "header that names EVT2 or EVT3"),
        ("r.es", b"Event Streak", "starts with b'Event Stream'"),
        ("r.aedat4", b"#!AER-DAT3.1\r\n", "byte 0 starts"),
        ("r.aedat4", b"#!AER-DAT4.0\r\n" + b"\xff" * 99, "no complete .aedat4 recording"),
        ("r.npz", b"PK\x03\x04 but nothing else", "no complete .npz archive"),
        ("r.npz", b"something else", "no archive of arrays"),
        ("r.h5", b"\x89HDF\r\n\x1a\n", "no complete HDF5 file"),
        ("r.pt", b"PK\x03\x04", "Cannot read .* as a tensor"),
        ("r.csv", b"\x00\x01\x02\xff\xfe", "line 1"),
        ("r.mp4", b"x", "ending in .csv, .txt"),
    ],
)
def test_files_of_another_kind(tmp_path, name, content, message):
    if name.endswith("h5"):
        pytest.importorskip("h5py")
    if name.endswith(".aedat4") and len(content) > 20:
        pytest.importorskip("faery")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read_events(tmp_path / name)


@pytest.mark.parametrize(
    "suffix", [".csv", ".npz", ".h5", ".es", ".dat", ".raw", ".aedat4", ".pt", ".txt"]
)
def test_empty_missing_and_folders(tmp_path, suffix):
    path = tmp_path / f"recording{suffix}"
    with pytest.raises(FileFormatError, match="Cannot read"):
        read_events(path)
    path.touch()
    with pytest.raises(FileFormatError, match=r"empty \(0 bytes\)"):
        read_events(path)
    with pytest.raises(FileFormatError, match=f"Did you mean 'recording{suffix}'"):
        read_events(tmp_path / f"recordin{suffix}")
    path.unlink()
    path.mkdir()
    with pytest.raises(FileFormatError, match="is a folder"):
        read_events(path)


# text


def text_file(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


EVENTS = [(-5, 3, 0, 1), (10, 0, 2, 0), (10, 12, 1, 1), (123456789012, 5, 5, 0)]


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", ", "   "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["", "txyp", "xypt"])
@pytest.mark.parametrize("last", [True, False])
def test_text_in_its_many_forms(tmp_path, separator, end, header, last):
    order = header or "txyp"
    lines = [separator.join(header)] if header else []
    lines += [separator.join(str(row["txyp".index(k)]) for k in order) for row in EVENTS]
    path = text_file(tmp_path, end.join(lines) + (end if last else ""))
    expected = EventStream(*map(list, zip(*EVENTS, strict=True)), size=(9, 20))
    assert_same(read_events(path, size=(9, 20)), expected)


@pytest.mark.parametrize(
    "text",
    [
        "Timestamp [us],X,Y,Polarity\n1,2,3,1\n",
        "# made by hand\n\n1,2,3,1\n",
        "% t x y p\n1 2 3 1",
        '"t","x","y","on"\n1,2,3,True\n',
        "\ufefft,x,y,p\n1,2,3,1\n\n\n",
        "1.0,2,3.000,1\n",
        "t;x;y\n1;2;3\n# the end",
        "1,2,3",
        "+1,+2,+3,ON",
    ],
)
def test_text_that_people_write(tmp_path, text):
    stream = read_events(text_file(tmp_path, text, "t.txt"), size=(4, 4))
    assert (stream.t_us[0], stream.x[0], stream.y[0], stream.polarity[0]) == (1, 2, 3, True)
    assert len(stream) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,x,y,p\n1,2,3,1\n4,5\n", "4 columns .* but line 3 has 2: '4,5'. Is the file complete"),
        ("1,2,3,1\n4,5,6,1,7\n", "line 2 has 5"),
        ("1,2\n", "lines of t,x,y or t,x,y,p, but line 1 has 2 columns"),
        ("1,2,3,1\n\n# note\nnan,2,3,1\n", "t as a whole number of microseconds, but line 4 has"),
        ("nan,2,3,1\n", "line 1 has 'nan'"),
        ("1,2,3,1\n5,inf,3,1\n", "x as a whole number, but line 2 has 'inf'"),
        ("0.0038,2,3,1\n", "line 1 has '0.0038'. Times in seconds must be multiplied by 1e6"),
        ("5,2,3,1\n4,2,3,1\n", "line 2 is at 4 us, after 5 us"),
        ("# a\n\n5,2,3,1\n# b\n4,2,3,1\n", "line 5 is at 4 us, after 5 us"),
        ("5,2,3,1\n6,70000,3,1\n", "x from 0 to 32767, but line 2 has 70000"),
        ("5,2,3,1\n\n6,-1,3,1\n", "x from 0 to 32767, but line 3 has -1"),
        ("5,2,3,1\n6,2,8,1\n", "0 <= y < height 8, but line 2 has y = 8"),
        ("5,2,3,1\n6,2,7,4\n", "polarities of 0 and 1.* line 2 has 4"),
        ("5,2,3,1\n6,2,7,300\n", "line 2 has 300"),
        ("99999999999999999999,2,3,1\n", "line 1 has '99999999999999999999'"),
        ("t,x,p\n1,2,1\n", "columns t, x, y and perhaps p, but line 1 reads 't,x,p'"),
        ("t,x,y,time\n1,2,1,1\n", "but line 1 reads"),
        ("t_s,x,y\n1,2,1\n", "Known names are t: t, t_us"),
        ("# nothing\n", "got 1 lines of comment"),
        ("1,2,3,1\n1,2,\xff,1\n".encode("latin-1"), "line 2 holds the byte 0xff"),
        ("1,,3,1\n", "line 1 has ''"),
        ("1,2,3,1\n-,2,3,1\n", "line 2 has '-'"),
        ("1,2,3,1\n1-1,2,3,1\n", "line 2 has '1-1'"),
        ("1,2,3,1\n1\x002,2,3,1\n", "line 2 has"),
    ],
)
def test_text_that_is_wrong_is_refused_by_line(tmp_path, text, message):
    with pytest.raises(FileFormatError, match=message):
        read_events(text_file(tmp_path, text), size=(8, 8))


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_text_parsed_in_blocks(tmp_path, monkeypatch, block):
    from calcarine.stimuli import _event_text

    stream = random_stream(400)
    path = stream.save(tmp_path / "s.csv")
    bad = path.read_text().splitlines()
    bad[300] = "# a comment"
    with_comment = text_file(tmp_path, "\n".join(bad), "c.csv")
    bad[350] = bad[350].replace(",", ",x", 1)
    with_error = text_file(tmp_path, "\n".join(bad), "e.csv")
    monkeypatch.setattr(_event_text, "BLOCK", block)
    assert_same(read_events(path), stream)
    with pytest.raises(FileFormatError, match="line 351 has 'x"):
        read_events(with_error)
    with pytest.raises(FileFormatError, match="should hold 400 events, but ends after 399"):
        read_events(with_comment)


def test_a_line_without_end_is_refused_early(tmp_path, monkeypatch):
    from calcarine.stimuli import _event_text

    monkeypatch.setattr(_event_text, "BLOCK", 1 << 10)
    path = text_file(tmp_path, "1,2,3,1\n" + "5" * 100_000)
    with pytest.raises(FileFormatError, match="line 2 is longer than 65536 bytes"):
        read_events(path, size=(4, 4))


def test_our_own_text_notices_that_its_end_is_missing(tmp_path):
    path = random_stream(50).save(tmp_path / "s.csv")
    path.write_text("\n".join(path.read_text().splitlines()[:-3]) + "\n")
    with pytest.raises(
        FileFormatError, match="should hold 50 events, but ends after 47, in line 49"
    ):
        read_events(path)


def test_sizes_are_inferred_with_a_warning(tmp_path):
    path = text_file(tmp_path, "1,2,3\n4,7,1\n")
    with pytest.warns(CalcarineWarning, match="height 4 and width 8 just hold its events"):
        assert read_events(path).size == (4, 8)
    empty = text_file(tmp_path, "t,x,y,p\n")
    with pytest.raises(FileFormatError, match="no events and does not say the size"):
        read_events(empty)
    assert len(read_events(empty, size=(4, 4))) == 0


def test_unsorted_events_are_sorted_when_asked_to(tmp_path):
    path = text_file(tmp_path, "5,0,0\n3,1,0\n5,2,0\n4,3,0\n")
    stream = read_events(path, size=(1, 4), sort=True)
    assert stream.t_us.tolist() == [3, 4, 5, 5]
    assert stream.x.tolist() == [1, 3, 0, 2]
    with pytest.raises(FileFormatError, match="line 4 has x = 3"):
        read_events(path, size=(1, 3), sort=True)


# arrays


def columns_of(**changes):
    columns = {
        "t": np.array([1, 2, 3]),
        "x": np.array([0, 1, 2]),
        "y": np.array([0, 0, 1]),
        "p": np.array([True, False, True]),
        "size": np.array([2, 3]),
    }
    return {k: v for k, v in (columns | changes).items() if v is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": None}, "t is missing. It holds: x, y, p, size"),
        ({"t": np.array([1, 3, 2])}, "row 2 is at 2 us, after 3 us"),
        ({"x": np.array([0, 1])}, "columns of one length"),
        ({"x": np.array([0, 1, 3])}, "row 2 has x = 3"),
        ({"x": np.array([0, 1, 2**17])}, "row 2 has x = 131072"),
        ({"x": np.array([[0, 1, 2]])}, r"shape \(1, 3\)"),
        ({"t": np.array([1.0, 2.0, np.nan])}, "t_us as whole numbers"),
        ({"t": np.array([1j, 2j, 3j])}, "got torch.complex128"),
        ({"t": np.array(["a", "b", "c"])}, "t_us as one column"),
        ({"size": np.array([0, 3])}, "size of the sensor"),
        ({"size": np.array([2, 3, 4])}, "size of the sensor"),
        ({"t": np.array([[1], [2, 3]], dtype=object)}, "can run code"),
    ],
)
def test_archives_that_are_wrong(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **columns_of())
    assert len(read_events(tmp_path / "a.npz")) == 3
    np.savez(tmp_path / "a.npz", **columns_of(**changes))
    with pytest.raises(FileFormatError, match=message):
        read_events(tmp_path / "a.npz")


def test_structured_arrays(tmp_path):
    table = np.zeros(3, dtype=[("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")])
    table["t"], table["x"], table["p"] = [1, 2, 3], [0, 4, 2], [1, -1, 1]
    np.savez(tmp_path / "a.npz", events=table)
    stream = read_events(tmp_path / "a.npz", size=(1, 5))
    assert stream.x.tolist() == [0, 4, 2]
    assert stream.polarity.tolist() == [True, False, True]
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["CD/events"] = table
    assert_same(read_events(tmp_path / "a.h5", size=(1, 5)), stream)


def test_hdf5_groups_and_time_offsets(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name, values in zip(
            ("ts", "xs", "ys", "ps"), ([1, 2], [0, 1], [0, 0], [0, 1]), strict=True
        ):
            file[f"events/{name}"] = np.array(values)
        file["t_offset"] = 10**15
        file.attrs["size"] = (2, 3)
    stream = read_events(path)
    assert stream.t_us.tolist() == [10**15 + 1, 10**15 + 2]
    assert stream.size == (2, 3)
    with h5py.File(path, "w") as file:
        file["other/thing"] = np.zeros(3)
    with pytest.raises(FileFormatError, match=r"t, x, y is missing. It holds: other"):
        read_events(path)


# tensors


def frames() -> torch.Tensor:
    dense = torch.zeros(6, 4, 3, dtype=torch.int64)
    dense[1, 3, 2] = dense[1, 0, 1] = dense[4, 2, 0] = 1
    return dense


@pytest.mark.parametrize("name", ["a.pt", "a.dat", "a.pth"])
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("zipped", [True, False])
def test_tensor_files(tmp_path, name, sparse, dtype, zipped):
    tensor = frames().to(dtype)
    tensor = tensor.to_sparse() if sparse else tensor
    torch.save(tensor, tmp_path / name, _use_new_zipfile_serialization=zipped)
    stream = read_events(tmp_path / name, dt_ms=2.5)
    assert stream.size == (3, 4)
    assert stream.t_us.tolist() == [2500, 2500, 10000]
    assert stream.x.tolist() == [0, 3, 2]
    assert stream.y.tolist() == [1, 2, 0]
    assert stream.polarity.all()
    counts = stream.frames(2.5, steps=6)
    assert torch.equal(counts[:, 0].mT, frames().to(counts))


def test_frames_too_far_apart_for_microseconds(tmp_path):
    torch.save(frames(), tmp_path / "a.pt")
    with pytest.raises(FileFormatError, match="times overflow"):
        read_events(tmp_path / "a.pt", dt_ms=1e300)


def test_unsorted_sparse_indices_and_signs(tmp_path):
    index = torch.tensor([[4, 0, 4], [0, 1, 1], [0, 0, 1]])
    tensor = torch.sparse_coo_tensor(
        index, torch.tensor([-1.0, 1.0, -1.0]), (5, 2, 2), check_invariants=True
    )
    torch.save(tensor, tmp_path / "a.pt")
    stream = read_events(tmp_path / "a.pt")
    assert stream.t_us.tolist() == [0, 4000, 4000]
    assert stream.x.tolist() == [1, 0, 1]
    assert stream.polarity.tolist() == [True, False, False]


def test_counts_in_a_tensor_are_announced(tmp_path):
    torch.save(frames() * 3, tmp_path / "a.pt")
    with pytest.warns(CalcarineWarning, match="values from 3 to 3; each non-zero value"):
        assert len(read_events(tmp_path / "a.pt")) == 3


class Attack:
    def __reduce__(self):
        return (Path.touch, (Path("attacked"),))


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ({"events": torch.zeros(2)}, "holds a dict. Accepted is one tensor"),
        (torch.zeros(3, 4), r"shape \(3, 4\). Accepted is one tensor"),
        (torch.zeros(3, 1, 4, 4), r"axes \(time, x, y\)"),
        (torch.full((2, 2, 2), float("nan")), "NaN"),
        (torch.ones(2, 2, 2, dtype=torch.complex64), "complex64"),
        (Attack(), "would run code"),
    ],
)
@pytest.mark.parametrize("name", ["a.pt", "a.dat"])
def test_tensor_files_that_are_wrong(tmp_path, monkeypatch, name, thing, message):
    monkeypatch.chdir(tmp_path)
    torch.save(thing, tmp_path / name)
    with pytest.raises(FileFormatError, match=message):
        read_events(tmp_path / name)
    assert not (tmp_path / "attacked").exists()


def test_bare_pickles_are_refused_without_being_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.pt", "a.dat"):
        (tmp_path / name).write_bytes(pickle.dumps(Attack(), protocol=2))
        with pytest.raises(FileFormatError, match=r"would run code|neither"):
            read_events(tmp_path / name)
    np.savez(tmp_path / "a.npz", t=np.array([Attack()], dtype=object), x=[0], y=[0])
    with pytest.raises(FileFormatError, match="can run code"):
        read_events(tmp_path / "a.npz")
    assert not (tmp_path / "attacked").exists()


def test_sparse_indices_outside_the_shape_never_reach_memory(tmp_path):
    """What the file says about its indices is checked before they are used."""
    tensor = frames().to_sparse()
    torch.save(tensor, tmp_path / "a.pt")
    index = tensor.indices().numpy().tobytes()
    wrong = np.frombuffer(index, np.int64).copy()
    wrong[-1] = 10**12
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, wrong.tobytes() if data == index else data)
    assert len(read_events(tmp_path / "a.pt")) == 3
    with pytest.raises(FileFormatError, match=r"indices outside|damaged"):
        read_events(tmp_path / "b.pt")


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".h5", ".csv"])
def test_cut_files_are_refused(tmp_path, suffix):
    if suffix == ".h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(frames(), path)
    else:
        random_stream(300).save(path)
    content = path.read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(FileFormatError):
            read_events(path)


@pytest.mark.parametrize(
    "settings", [{"size": (0, 3)}, {"size": "big"}, {"dt_ms": 0.0}, {"dt_ms": float("nan")}]
)
def test_impossible_settings_of_reading(tmp_path, settings):
    torch.save(frames(), tmp_path / "a.pt")
    with pytest.raises(InputError, match="read_events expected"):
        read_events(tmp_path / "a.pt", **settings)
