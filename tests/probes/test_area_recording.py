"""What is recorded is what happened; a recording is whole, or goes on where it stopped."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from calcarine.errors import FileFormatError, InputError, RunError, UnknownNameError
from calcarine.probes import open_recording, record_areas

TIMES = {"warmup_ms": 20.0, "stimulus_ms": 30.0, "off_ms": 10.0}


@pytest.mark.parametrize("every", [1, 3])
def test_files_hold_the_activity_of_the_trial(cordsnet, tmp_path, every):
    batches = torch.rand(5, 1, 17, 21).split([2, 3])
    made = record_areas(cordsnet, batches, None, tmp_path / "new", every=every, **TIMES)
    recording = open_recording(tmp_path / "new")
    assert recording.areas == made.areas == ("area1", "area2")
    assert recording.batches == 2
    assert recording.time_ms.tolist() == list(range(0, 41, 2 * every))
    assert (recording.stimulus_ms, recording.dt_ms) == (30, 2)
    for number, images in enumerate(batches):
        trace = cordsnet.trace(images, **TIMES)
        for k in (1, 2):
            values = recording.values(f"area{k}", number)
            assert isinstance(values, np.memmap)
            assert not values.flags.writeable
            expected = trace[k][9::every]
            assert torch.allclose(torch.tensor(values), expected, rtol=1e-5, atol=1e-6)
    assert [len(v[0]) for v in recording.batched("area1")] == [2, 3]
    assert not list((tmp_path / "new").glob("*.part"))


def test_any_model_with_memory_can_be_recorded(leaky, tmp_path):
    model = leaky(torch.tensor(10.0, dtype=torch.double), bias=1.0)
    images = torch.rand(3, 4, dtype=torch.double)
    recording = record_areas(model, images, "r", tmp_path, warmup_ms=0, stimulus_ms=20)
    values = torch.tensor(recording.values("r"))
    steps = torch.arange(11, dtype=torch.double)[:, None, None]
    assert torch.allclose(values, (1 + images) * (1 - 0.8**steps))


def test_an_interrupted_recording_goes_on_and_ends_the_same(cordsnet, tmp_path):
    batches = torch.rand(6, 1, 17, 21).split(2)

    def interrupted():
        yield from batches[:2]
        raise KeyboardInterrupt

    whole = record_areas(cordsnet, batches, ["area2"], tmp_path / "whole", **TIMES)
    with pytest.raises(KeyboardInterrupt):
        record_areas(cordsnet, interrupted(), ["area2"], tmp_path / "parts", **TIMES)
    with pytest.raises(FileFormatError, match="not finished"):
        open_recording(tmp_path / "parts")
    first = tmp_path / "parts" / "area2-00000.npy"
    written = first.stat().st_mtime_ns
    parts = record_areas(cordsnet, batches, ["area2"], tmp_path / "parts", **TIMES)
    assert first.stat().st_mtime_ns == written
    for number in range(3):
        assert np.array_equal(whole.values("area2", number), parts.values("area2", number))


def test_a_failure_within_a_batch_leaves_no_file(leaky, tmp_path):
    model, calls = leaky(torch.tensor(10.0)), []

    def explode(*_: object) -> None:
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("power cut")

    model.register_forward_pre_hook(explode)
    with pytest.raises(RuntimeError, match="power cut"):
        record_areas(model, torch.rand(2, 3), None, tmp_path, **{**TIMES, "warmup_ms": 0.0})
    assert [p.name for p in tmp_path.iterdir()] == ["recording.json"]


def test_another_model_settings_or_images_are_refused(cordsnet, tmp_path):
    images = torch.rand(2, 1, 17, 21)
    record_areas(cordsnet, images, ["area2"], tmp_path, **TIMES)
    with pytest.raises(InputError, match="other areas"):
        record_areas(cordsnet, images, ["area1"], tmp_path, **TIMES)
    with pytest.raises(InputError, match="other stimulus_ms"):
        record_areas(cordsnet, images, ["area2"], tmp_path, **{**TIMES, "stimulus_ms": 32.0})
    with pytest.raises(InputError, match="other images in batch 0"):
        record_areas(cordsnet, images + 1, ["area2"], tmp_path, **TIMES)
    with torch.no_grad():
        cordsnet.area1.bias += 1
    with pytest.raises(InputError, match="other weights"):
        record_areas(cordsnet, images, ["area2"], tmp_path, **TIMES)


def test_a_full_disk_is_told_before_anything_is_written(cordsnet, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(RunError, match="Record fewer"):
        record_areas(cordsnet, torch.rand(2, 1, 17, 21), None, tmp_path, **TIMES)
    assert not list(tmp_path.glob("*.npy"))


def test_bad_requests_are_refused(cordsnet, tmp_path):
    images = torch.rand(2, 1, 17, 21)
    with pytest.raises(InputError, match="every >= 1"):
        record_areas(cordsnet, images, None, tmp_path, every=0)
    with pytest.raises(UnknownNameError, match="Known: area1, area2"):
        record_areas(cordsnet, images, ["area9"], tmp_path)
    with pytest.raises(InputError, match="at least one batch"):
        record_areas(cordsnet, [], None, tmp_path)
    with pytest.raises(InputError, match="at least 2 ms"):
        record_areas(cordsnet, images, None, tmp_path, stimulus_ms=0)


def test_damaged_recordings_are_told(cordsnet, tmp_path):
    with pytest.raises(FileFormatError, match="no recording"):
        open_recording(tmp_path)
    recording = record_areas(cordsnet, torch.rand(1, 1, 17, 21), "area1", tmp_path, **TIMES)
    with pytest.raises(UnknownNameError, match="area1"):
        recording.values("area2")
    with pytest.raises(InputError, match=r"0\.\.0"):
        recording.values("area1", 1)
    file, settings = tmp_path / "area1-00000.npy", tmp_path / "recording.json"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(FileFormatError, match="Record it again"):
        recording.values("area1")
    np.save(file, np.zeros(3))
    with pytest.raises(FileFormatError, match="3 frames"):
        recording.values("area1")
    content = json.loads(settings.read_text())
    for damage in ("{", "[]", json.dumps({**content, "format": "other"})):
        settings.write_text(damage)
        with pytest.raises(FileFormatError, match=r"recording\.json"):
            open_recording(tmp_path)
    settings.write_text(json.dumps({**content, "time_ms": "soon"}))
    with pytest.raises(FileFormatError, match="damaged"):
        open_recording(tmp_path)
