from __future__ import annotations

import io
import sys
import tarfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from calcarine.errors import (
    FileFormatError,
    InputError,
    MissingDependencyError,
    RunError,
    UnknownNameError,
)
from calcarine.stimuli import (
    ImagePatches,
    LabeledImage,
    NamedImages,
    StreamedImages,
    digits,
    named_images,
)

COUNT = 6


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels(number)).save(file, format="PNG")
    return file.getvalue()


@pytest.fixture
def table():
    features = datasets.Features(
        {"picture": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    rows = {
        "picture": [{"bytes": encoded(i), "path": None} for i in range(COUNT)],
        "label": [i % 2 for i in range(COUNT)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def cache(tmp_path):
    return str(tmp_path / "cache")


def check(images, order=range(COUNT)):
    """Every image and label, exactly."""
    items = list(images)
    assert len(items) == len(list(order))
    for item, number in zip(items, order, strict=True):
        assert isinstance(item, LabeledImage)
        expected = torch.tensor(pixels(number)).permute(2, 0, 1)[None] / 255
        assert torch.equal(item.image, expected)
        assert item.label == number % 2


def test_saved_table(table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    images = named_images(tmp_path / "saved")
    assert isinstance(images, NamedImages)
    assert len(images) == COUNT
    assert images.class_names == ("cat", "dog")
    assert images.column == "picture"
    check(images)
    assert images.labels().tolist() == [0, 1, 0, 1, 0, 1]
    assert torch.equal(images[-1].image, images[COUNT - 1].image)
    assert len(images[1:3]) == 2
    with pytest.raises(IndexError, match="6 images"):
        images[COUNT]
    small = named_images(str(tmp_path / "saved"), size=8, channels="gray", dtype=torch.double)
    assert small[0].image.shape == (1, 1, 8, 12)
    assert small[0].image.dtype == torch.double


def test_saved_splits(table, tmp_path):
    parts = datasets.DatasetDict({"train": table.select([0, 1]), "test": table.select([2, 3])})
    parts.save_to_disk(tmp_path / "saved")
    check(named_images(tmp_path / "saved", "test"), [2, 3])
    with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
        named_images(tmp_path / "saved", "tset")


def test_parquet_file_and_folder(table, tmp_path, cache):
    table.to_parquet(tmp_path / "data" / "train.parquet")
    check(named_images(tmp_path / "data" / "train.parquet", cache_dir=cache))
    check(named_images(tmp_path / "data", cache_dir=cache))
    check(named_images("parquet", data_dir=str(tmp_path / "data"), cache_dir=cache))
    check(named_images(tmp_path / "data", "train[:2]", cache_dir=cache), [0, 1])


def test_image_folder_with_classes(tmp_path, cache):
    for number in range(COUNT):
        place = tmp_path / "photos" / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(encoded(number))
    order = [0, 2, 4, 1, 3, 5]
    by_format = named_images("imagefolder", data_dir=str(tmp_path / "photos"), cache_dir=cache)
    check(by_format, order)
    assert by_format.class_names == ("cat", "dog")
    check(named_images(tmp_path / "photos", cache_dir=cache), order)
    check(named_images(tmp_path / "photos", streaming=True, cache_dir=cache), order)


def test_stream_of_archives_learns_its_columns_from_the_first_row(tmp_path, cache):
    with tarfile.open(tmp_path / "train-0.tar", "w") as archive:
        for number in range(COUNT):
            for suffix, content in (("png", encoded(number)), ("cls", str(number % 2).encode())):
                entry = tarfile.TarInfo(f"{number}.{suffix}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    images = named_images(
        "webdataset",
        data_dir=str(tmp_path),
        label_column="cls",
        streaming=True,
        cache_dir=cache,
    )
    check(images)
    assert images.class_names == ()


def test_streaming(table, tmp_path, cache, monkeypatch):
    # the library waits five seconds after each shuffled pass for the threads of others
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    table.to_parquet(tmp_path / "train.parquet")
    images = named_images(tmp_path / "train.parquet", streaming=True, cache_dir=cache)
    assert isinstance(images, StreamedImages)
    assert images.class_names == ("cat", "dog")
    check(images)
    check(images)  # again from the start
    orders = [[item.image.sum().item() for item in images.shuffled(s)] for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(item.image.sum().item() for item in images)
    table.save_to_disk(tmp_path / "saved")
    check(named_images(tmp_path / "saved", streaming=True))


def test_columns_must_be_clear(tmp_path):
    rows = {
        "left": [{"bytes": encoded(0), "path": None}],
        "right": [{"bytes": encoded(1), "path": None}],
        "size": [3],
        "title": ["x"],
        "raw": [encoded(2)],
    }
    features = datasets.Features(
        {
            "left": datasets.Image(),
            "right": datasets.Image(),
            "size": datasets.Value("int64"),
            "title": datasets.Value("string"),
            "raw": datasets.Value("binary"),
        }
    )
    place = tmp_path / "saved"
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(place)
    with pytest.raises(InputError, match=r"found left, right\. Name one as column"):
        named_images(place)
    images = named_images(place, column="right", label_column="size")
    assert torch.equal(images[0].image[0, :, 0, 0] * 255, torch.tensor(pixels(1)[0, 0]).float())
    assert images[0].label == 3
    raw = named_images(place, column="raw")
    assert torch.equal(raw[0].image[0, :, 0, 0] * 255, torch.tensor(pixels(2)[0, 0]).float())
    assert raw[0].label is None
    with pytest.raises(InputError, match="holds labels"):
        raw.labels()
    with pytest.raises(UnknownNameError, match="Did you mean 'left'"):
        named_images(place, column="lefd")
    with pytest.raises(InputError, match="holds string, not images"):
        named_images(place, column="title")
    with pytest.raises(InputError, match="holds string, not class numbers"):
        named_images(place, column="left", label_column="title")


def test_bad_rows_are_named(tmp_path):
    whole = encoded(0)
    cells = [{"bytes": whole[: len(whole) // 2], "path": None}, None]
    features = datasets.Features({"image": datasets.Image()})
    place = tmp_path / "saved"
    datasets.Dataset.from_dict({"image": cells}, features=features).save_to_disk(place)
    images = named_images(place)
    with pytest.raises(FileFormatError, match=r"saved\[0\] is incomplete"):
        images[0]
    with pytest.raises(FileFormatError, match=r"saved\[1\], but the cell is empty"):
        images[1]


def test_offline_and_missing(tmp_path, cache):
    with pytest.raises(RunError, match="offline mode is on"):
        named_images("nobody/nothing", cache_dir=cache)
    with pytest.raises(FileFormatError, match="no such file or folder"):
        named_images(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(FileFormatError, match=r"\.parquet or \.arrow"):
        named_images(tmp_path / "a.txt")
    (tmp_path / "b.parquet").write_text("not a table")
    with pytest.raises(FileFormatError, match="Cannot read a data set"):
        named_images(tmp_path / "b.parquet", cache_dir=cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match="Cannot read a data set"):
        named_images(tmp_path / "empty", cache_dir=cache)


def test_unknown_split_and_bad_arguments(table, tmp_path, cache):
    table.to_parquet(tmp_path / "data" / "train.parquet")
    with pytest.raises(InputError, match="no split 'valid'"):
        named_images(tmp_path / "data", "valid", cache_dir=cache)
    with pytest.raises(InputError, match="data_dir"):
        named_images("imagefolder")
    with pytest.raises(FileFormatError, match="none at"):
        named_images("imagefolder", data_dir=str(tmp_path / "nowhere"))
    with pytest.raises(UnknownNameError, match="'gray'"):
        named_images(tmp_path / "data", channels="grey")
    with pytest.raises(InputError, match="size"):
        named_images(tmp_path / "data", size=0)


def test_missing_packages(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[data\]"):
        named_images(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"calcarine\[data\]"):
        digits()


def test_patches_of_a_data_set(table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    patches = ImagePatches(
        source=f"hf:{tmp_path / 'saved'}", size=(20, 30), scales=(1.0,), flip=False
    )
    assert len(patches) == COUNT
    batch = patches.draw(40, torch.Generator().manual_seed(0))
    wholes = torch.cat([image for _, image in patches.images()])
    which = (batch[:, None] == wholes).all((-3, -2, -1))
    assert (which.sum(1) == 1).all()
    assert which.any(0).all()
    assert patches.names[2].endswith("saved[2]")
    assert list(patches.names[:2]) == [patches.names[0], patches.names[1]]
    with pytest.raises(InputError, match="names for samples and folders only"):
        ImagePatches(source="hf:x", names=("a",))


def test_digits():
    images, labels = digits(dtype=torch.double)
    assert images.shape == (1797, 1, 8, 8)
    assert images.min() == 0
    assert images.max() == 1
    assert len(images.unique()) == 17
    assert labels.shape == (1797,)
    assert torch.bincount(labels).min() > 170
    assert digits().images.dtype == torch.get_default_dtype()
    means = torch.stack([images[labels == d].mean(0) for d in range(10)])
    nearest = (images - means.squeeze(1)).square().sum((-2, -1)).argmin(1)
    assert (nearest == labels).double().mean() > 0.85  # labels belong to their images
