"""Labeled pictures from files: every usual layout, augmentation, bad files, other processes."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import warnings

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from calcarine import cite, recipe
from calcarine.errors import (
    CalcarineWarning,
    FileFormatError,
    InputError,
    RunError,
    UnknownNameError,
)
from calcarine.stimuli import LabeledData, NamedData
from calcarine.stimuli._loading import made_ahead

CLASSES = ("cat", "dog", "hen")
PLAIN = {"augmentation": "none", "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def pixels(number: int, size: tuple[int, int] = (32, 32), channels: int = 3) -> np.ndarray:
    shape = (*size, 3) if channels == 3 else size
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format=kind)
    return file.getvalue()


def code(number: int, **options) -> torch.Tensor:
    array = pixels(number, **options)
    return torch.tensor(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).float() / 255


def table(first: int, count: int, column="img", label="label", **options):
    cells = [{"bytes": encoded(pixels(first + i, **options)), "path": None} for i in range(count)]
    names = datasets.ClassLabel(names=list(CLASSES))
    features = datasets.Features({column: datasets.Image(), label: names})
    rows = {column: cells, label: [(first + i) % 3 for i in range(count)]}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Parquet files in the layout of CIFAR-10: 12 pictures to learn from, 5 held out."""
    tmp_path = tmp_path_factory.mktemp("cifar")
    table(0, 12).to_parquet(tmp_path / "cifar" / "train-00000-of-00001.parquet")
    table(100, 5).to_parquet(tmp_path / "cifar" / "test-00000-of-00001.parquet")
    return {"name": str(tmp_path / "cifar"), "cache_dir": str(tmp_path / "cache")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photographs of several sizes, formats and modes."""
    tmp_path = tmp_path_factory.mktemp("photos")
    for number in range(12):
        array = pixels(number, (20 + number, 41 - number))
        where = tmp_path / "photos" / "train" / CLASSES[number % 3]
        where.mkdir(parents=True, exist_ok=True)
        if number % 4 == 0:
            mode = "CMYK" if number == 8 else "RGB"
            Image.fromarray(array).convert(mode).save(where / f"{number:02}.jpg", quality=90)
        elif number == 10:  # 16 bits
            Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(where / "10.png")
        else:
            mode = {1: "RGB", 2: "L", 3: "RGBA"}[number % 4]
            Image.fromarray(array).convert(mode).save(where / f"{number:02}.png")
    for number in range(100, 106):
        where = tmp_path / "photos" / "val" / CLASSES[number % 3]
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number, (50, 30))).save(where / f"{number}.png")
    return {"name": str(tmp_path / "photos"), "cache_dir": str(tmp_path / "cache"), "size": 16}


def same(one, two, tolerance=0.0):
    assert one.images.shape == two.images.shape
    assert torch.equal(one.targets, two.targets)
    assert (one.images - two.images).abs().max() <= tolerance


def test_parquet_in_the_layout_of_cifar10(cifar):
    data = NamedData(**cifar, **PLAIN)
    assert isinstance(data, LabeledData)
    assert (len(data), data.held_out_count, data.classes) == (12, 5, 3)
    assert data.class_names == CLASSES
    assert (data.channels, data.size, data.split_held_out) == (3, (32, 32), "test")
    batches = [data.batch(n, 4, seed=0) for n in range(3)]
    found = torch.cat([batch.images for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    whole = torch.stack([code(i) for i in range(12)])
    order = (found[:, None] == whole).all((2, 3, 4)).nonzero()[:, 1]
    assert sorted(order.tolist()) == list(range(12))
    assert targets.tolist() == [i % 3 for i in order.tolist()]
    held = list(data.held_out(2))
    assert [len(batch.targets) for batch in held] == [2, 2, 1]
    expected = torch.stack([code(100 + i) for i in range(5)])
    assert torch.equal(torch.cat([batch.images for batch in held]), expected)
    assert torch.cat([batch.targets for batch in held]).tolist() == [1, 2, 0, 1, 2]
    assert data.in_memory


def test_parquet_in_the_layout_of_mnist(tmp_path):
    grey = {"size": (28, 28), "channels": 1}
    table(0, 8, "image", **grey).to_parquet(tmp_path / "mnist" / "train-00000-of-00001.parquet")
    table(50, 4, "image", **grey).to_parquet(tmp_path / "mnist" / "test-00000-of-00001.parquet")
    place = {"name": str(tmp_path / "mnist"), "cache_dir": str(tmp_path / "cache")}
    plain = NamedData(**place, size=28, channels=1, augmentation="none", mean=(0.0,), std=(1.0,))
    (held,) = plain.held_out(10)
    assert torch.equal(held.images, torch.stack([code(50 + i, **grey) for i in range(4)]))
    data = NamedData(**place, channels=1, flip=False)
    assert data.batch(0, 4, 0).images.shape == (4, 1, 32, 32)
    assert NamedData(**place).batch(0, 4, 0).images.shape == (4, 3, 32, 32)


def test_parquet_in_the_layout_of_cifar100(tmp_path):
    for split, first in (("train", 0), ("test", 60)):
        fine = table(first, 6, label="fine_label")
        coarse = datasets.ClassLabel(names=["beast", "bird"])
        labels = [int(i % 3 == 2) for i in range(6)]
        both = fine.add_column("coarse_label", labels).cast_column("coarse_label", coarse)
        both.to_parquet(tmp_path / "cifar100" / f"{split}-00000-of-00001.parquet")
    place = {"name": str(tmp_path / "cifar100"), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"fine_label, coarse_label\).*Pass label_column"):
        NamedData(**place)
    assert NamedData(**place, label_column="fine_label").class_names == CLASSES
    coarse = NamedData(**place, label_column="coarse_label")
    assert coarse.class_names == ("beast", "bird")
    with pytest.raises(UnknownNameError, match="Did you mean 'fine_label'"):
        NamedData(**place, label_column="fine_lable")


@pytest.mark.parametrize("held_out", ["validation", "test"])
def test_saved_tables(tmp_path, held_out):
    parts = {"train": table(0, 6), held_out: table(40, 3), "extra": table(50, 2)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    data = NamedData(name=str(tmp_path / "saved"), **PLAIN)
    assert (data.split_held_out, data.held_out_count) == (held_out, 3)
    same(data.batch(0, 6, 0), NamedData(name=str(tmp_path / "saved"), **PLAIN).batch(0, 6, 0))
    other = NamedData(name=str(tmp_path / "saved"), split_held_out="extra", **PLAIN)
    assert other.held_out_count == 2
    with pytest.raises(UnknownNameError, match="Did you mean 'extra'"):
        NamedData(name=str(tmp_path / "saved"), split_held_out="extr")


def test_a_single_part_can_be_shared_out(tmp_path):
    table(0, 10).to_parquet(tmp_path / "one" / "train.parquet")
    place = {"name": str(tmp_path / "one"), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(InputError, match=r"splits are train.*split_held_out='train\[90%:\]'"):
        NamedData(**place)
    with pytest.raises(InputError, match="cannot hold it out"):
        NamedData(**place, split_held_out="train")
    data = NamedData(**place, split_train="train[:70%]", split_held_out="train[70%:]", **PLAIN)
    assert (len(data), data.held_out_count) == (7, 3)
    with pytest.raises(InputError, match="no split 'tain'"):
        NamedData(**place, split_train="tain", split_held_out="train")


def test_folder_of_photographs_of_any_size_and_mode(photos):
    data = NamedData(**photos, **PLAIN)
    assert data.class_names == CLASSES
    assert (len(data), data.held_out_count, data.split_held_out) == (12, 6, "validation")
    batch = data.batch(0, 12, 0)
    assert batch.images.shape == (12, 3, 16, 16)
    assert sorted(batch.targets.tolist()) == sorted(list(range(3)) * 4)
    assert NamedData(**photos, channels=1).batch(0, 3, 0).images.shape == (3, 1, 16, 16)
    rectangle = {**photos, "size": (11, 24)}
    assert NamedData(**rectangle).batch(0, 3, 0).images.shape == (3, 3, 11, 24)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("augmentation", ["flip_crop", "random_resized_crop"])
def test_prepared_pictures_are_those_held_out(photos, channels, augmentation):
    data = NamedData(**photos, channels=channels, augmentation=augmentation)
    (held,) = data.held_out(10)
    numbers = sorted(range(100, 106), key=lambda n: (CLASSES[n % 3], n))
    pictures = torch.stack([code(n, size=(50, 30)) for n in numbers])
    assert torch.equal(data.prepare(pictures), held.images)
    assert data.prepare(pictures.double()).dtype == torch.double
    assert torch.allclose(data.display(held.images), data.fit(pictures), atol=1e-6)
    grey = data.prepare(pictures[:, :1])
    assert grey.shape == held.images.shape


def test_held_out_photographs_are_cut_from_their_centre(tmp_path):
    """A white disk in the middle of black stays in the middle, and its size tells the scale."""
    rows, columns = np.mgrid[-30:30, -45:45] + 0.5
    disk = ((rows**2 + columns**2 < 20**2) * np.uint8(255)).astype(np.uint8)
    for part, name in itertools.product(("train", "val"), ("black", "white")):
        (tmp_path / "disk" / part / name).mkdir(parents=True)
        shown = disk if name == "white" else np.zeros_like(disk)
        Image.fromarray(shown).save(tmp_path / "disk" / part / name / "a.png")
    place = {"name": str(tmp_path / "disk"), "cache_dir": str(tmp_path / "cache"), "size": 28}
    for augmentation, cover in (("none", 1.0), ("random_resized_crop", 8 / 7)):
        data = NamedData(**place, **{**PLAIN, "augmentation": augmentation})
        _, held = data.held_out(1)
        white = held.images[0, 0].double()
        assert torch.allclose(white, white.flip(0), atol=1e-5)
        assert torch.allclose(white, white.flip(1), atol=1e-5)
        scale = cover * 28 / 60
        assert white.sum().item() == pytest.approx(np.pi * (20 * scale) ** 2, rel=0.03)


@pytest.mark.parametrize(
    ("source", "augmentation", "mix"),
    [
        ("cifar", "none", "none"),
        ("cifar", "flip_crop", "mixup"),
        ("cifar", "randaugment", "cutmix"),
        ("photos", "flip_crop", "none"),
        ("photos", "randaugment", "mixup"),
        ("photos", "random_resized_crop", "cutmix"),
        ("photos", "random_resized_crop_randaugment", "both"),
    ],
)
def test_processes_share_the_rows_of_one(request, source, augmentation, mix):
    place = {"size": 16, **request.getfixturevalue(source)}
    data = NamedData(**place, augmentation=augmentation, mix=mix, workers=0)
    other = NamedData(**place, augmentation=augmentation, mix=mix, memory_budget_mb=0)
    assert data.in_memory
    assert not other.in_memory
    whole = data.batch(3, 8, seed=1)
    assert whole.images.shape == (8, 3, 16, 16)
    assert whole.images.isfinite().all()
    assert whole.targets.shape == ((8,) if mix == "none" else (8, 3))
    for size in (2, 4):
        parts = [other.batch(3, 8, 1, part=(rank, size)) for rank in range(size)]
        joined = type(whole)(*(torch.cat(part) for part in zip(*parts, strict=True)))
        same(joined, whole, 1e-5)
    assert not torch.equal(data.batch(3, 8, seed=2).images, whole.images)


@pytest.mark.parametrize("augmentation", ["flip_crop", "random_resized_crop"])
def test_pictures_look_different_in_every_epoch(photos, augmentation):
    data = NamedData(**photos, augmentation=augmentation)
    seen = [data.batch(n, 12, 0).images for n in range(4)]
    same = sum(torch.equal(*pair) for pair in itertools.combinations(torch.cat(seen), 2))
    assert same < 4  # of 72 pairs of a picture in two epochs; there are 162 windows of each


def test_crops_of_a_held_set_are_windows(cifar):
    data = NamedData(**cifar, **{**PLAIN, "augmentation": "flip_crop"})
    batch = data.batch(0, 12, 0)
    padded = torch.nn.functional.pad(torch.stack([code(i) for i in range(12)]), (4,) * 4)
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (12, 3, 9, 9, 32, 32)
    mirrored = 0
    for image, target in zip(batch.images, batch.targets, strict=True):
        plain = (windows == image[None, :, None, None]).all((1, 4, 5)).nonzero()
        turned = (windows == image.flip(-1)[None, :, None, None]).all((1, 4, 5)).nonzero()
        found = torch.cat([plain, turned])
        assert len(found) == 1
        assert found[0, 0] % 3 == target
        mirrored += len(turned)
    assert 0 < mirrored < 12


@pytest.mark.parametrize("augmentation", ["flip_crop", "randaugment"])
def test_other_processes_make_the_same_batches_in_order(photos, augmentation):
    settings = {"augmentation": augmentation, "mix": "mixup", "memory_budget_mb": 0}
    data = NamedData(**photos, **settings, workers=2)
    before = torch.random.get_rng_state()
    stream = data.stream(5, batch_size=4, seed=1)
    for number, batch in zip(range(5, 10), stream, strict=False):
        same(batch, data.batch(number, 4, 1), 1e-6)
    stream.close()
    assert torch.equal(before, torch.random.get_rng_state())
    shared = data.stream(0, batch_size=4, seed=1, part=(1, 2))
    same(next(shared), data.batch(0, 4, 1, part=(1, 2)), 1e-6)
    shared.close()
    alone = NamedData(**photos, **settings, workers=0)
    for one, two in zip(data.held_out(4), alone.held_out(4), strict=True):
        same(one, two)


def test_a_held_set_needs_no_other_processes(cifar):
    data = NamedData(**cifar, workers=2)
    for number, batch in zip(range(2, 4), data.stream(2, batch_size=5, seed=0), strict=False):
        same(batch, data.batch(number, 5, 0))


@pytest.fixture
def spoiled(photos, tmp_path):
    """The photographs, three of them cut off in the middle of the file."""
    shutil.copytree(photos["name"], tmp_path / "photos")
    for place in ("train/cat/00.jpg", "train/dog/04.jpg", "val/hen/101.png"):
        content = (tmp_path / "photos" / place).read_bytes()
        (tmp_path / "photos" / place).write_bytes(content[: len(content) // 2])
    return {**photos, "name": str(tmp_path / "photos"), "cache_dir": str(tmp_path / "cache")}


@pytest.mark.parametrize("memory", [0, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_pictures_stop_unless_they_are_to_be_skipped(spoiled, memory, workers):
    settings = {**spoiled, "memory_budget_mb": memory, "workers": workers}
    strict = NamedData(**settings, **PLAIN)
    with pytest.raises(FileFormatError, match=r"00\.jpg\) is incomplete.*skip_corrupt=True"):
        next(strict.stream(0, batch_size=12, seed=0))
    with pytest.raises(FileFormatError, match=r"101\.png\) is incomplete"):
        list(strict.held_out(3))
    data = NamedData(**settings, **PLAIN, skip_corrupt=True)
    with pytest.warns(CalcarineWarning, match=r"of 12 pictures of .*photos cannot be read"):
        batch = next(data.stream(0, batch_size=12, seed=0))
    with pytest.warns(CalcarineWarning, match="1 of 6 pictures"):
        held = list(data.held_out(3))
    assert len(data.skipped) == 3
    assert sum("00.jpg" in line for line in data.skipped) == 1
    assert sum("04.jpg" in line for line in data.skipped) == 1
    assert sum("101.png" in line for line in data.skipped) == 1
    assert sum(len(b.targets) for b in held) == 5
    assert batch.images.shape == (12, 3, 16, 16)
    # the next picture, and its label, stands in for a bad one
    again = NamedData(**spoiled, **PLAIN, skip_corrupt=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalcarineWarning)
        same(again.batch(0, 12, 0), batch)
    flat = batch.images.flatten(1)
    assert (torch.cdist(flat, flat) == 0).sum() == 12 + 2 * 2


def test_nothing_can_be_shown_if_all_pictures_are_bad(tmp_path):
    for part, name in itertools.product(("train", "val"), ("cat", "dog")):
        (tmp_path / "bad" / part / name).mkdir(parents=True)
        (tmp_path / "bad" / part / name / "a.png").write_bytes(encoded(pixels(0))[:300])
    data = NamedData(
        name=str(tmp_path / "bad"), cache_dir=str(tmp_path / "cache"), skip_corrupt=True
    )
    with (
        pytest.warns(CalcarineWarning, match="of 2 pictures"),
        pytest.raises(FileFormatError, match="None of the 2 pictures"),
    ):
        data.batch(0, 1, 0)
    with pytest.warns(CalcarineWarning, match="of 2 pictures"):
        assert list(data.held_out(2)) == []


def test_a_process_that_dies_is_told():
    def die(key: int) -> int:
        if key == 3:
            os._exit(7)
        return key

    made = made_ahead(
        die, itertools.count(), workers=1, bad=lambda: {}, found_bad=lambda found: None
    )
    with pytest.raises(RunError, match=r"loads pictures has stopped.*workers=0"):
        list(itertools.islice(made, 10))


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1, -1], "run from -1 to 1"), ([0, 5, 1], "run from 0 to 5")]
)
def test_labels_must_be_class_numbers(tmp_path, labels, message):
    rows = {"img": table(0, 3)["img"][:], "label": labels}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    bad = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table(0, 3), "test": bad}).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match=message):
        NamedData(name=str(tmp_path / "saved"))


def test_labels_must_not_be_missing_or_differ(tmp_path):
    rows = {"img": table(0, 2)["img"][:], "label": [0, None]}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    bad = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": bad, "test": table(0, 3)}).save_to_disk(tmp_path / "a")
    with pytest.raises(InputError, match="missing"):
        NamedData(name=str(tmp_path / "a"))
    other = table(0, 3).cast_column("label", datasets.ClassLabel(names=["hen", "dog", "cat"]))
    datasets.DatasetDict({"train": other, "test": table(0, 3)}).save_to_disk(tmp_path / "b")
    with pytest.raises(InputError, match="different classes"):
        NamedData(name=str(tmp_path / "b"))


@pytest.fixture
def cached(tmp_path):
    """A cache as if the data set somebody/birds of the hub had been opened before."""
    cache = tmp_path / "cache"
    table(0, 12).to_parquet(tmp_path / "birds" / "train-00000-of-00001.parquet")
    table(100, 5).to_parquet(tmp_path / "birds" / "test-00000-of-00001.parquet")
    datasets.load_dataset(str(tmp_path / "birds"), cache_dir=str(cache))
    (cache / "birds").rename(cache / "somebody___birds")
    prepared = next(p for p in (cache / "somebody___birds/default/0.0.0").iterdir() if p.is_dir())
    prepared.rename(prepared.with_name(40 * "a"))
    return {"name": "somebody/birds", "cache_dir": str(cache)}


def test_a_name_of_the_hub_is_found_in_the_cache(cached, cifar):
    data, local = NamedData(**cached), NamedData(**cifar)
    assert (data.class_names, data.split_held_out) == (CLASSES, "test")
    same(data.batch(2, 6, seed=3), local.batch(2, 6, seed=3))


def test_unknown_names_tell_what_is_there(cached, tmp_path):
    with pytest.raises(InputError, match=r"no.*'tets'|Unknown split"):
        NamedData(**cached, split_held_out="tets")
    with pytest.raises(RunError, match="Did you mean 'somebody/birds'"):
        NamedData(name="birds", cache_dir=cached["cache_dir"])
    with pytest.raises(RunError, match=r"HF_HUB_OFFLINE.*cache:.*somebody/birds.*Did you mean"):
        NamedData(name="somebody/brids", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(FileFormatError, match="no such file"):
        NamedData(name=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"augmentation": "flip"}, "Did you mean 'flip_crop'"),
        ({"mix": "mixupp"}, "Did you mean 'mixup'"),
        ({"channels": 2}, "1 .grey. or 3"),
        ({"size": 0}, "size"),
        ({"workers": -1}, "workers"),
        ({"cover": 0.5}, "at least 1"),
        ({"mean": (0.0,)}, "each of 3"),
        ({"augmentation": "randaugment", "magnitude": 30}, "below 30"),
    ],
)
def test_wrong_settings_are_refused(cifar, settings, message):
    with pytest.raises(InputError, match=message):
        NamedData(**cifar, **settings)


def test_sources_are_those_of_the_settings_in_use(cifar):
    assert NamedData(**cifar, **PLAIN).sources == ()
    plain, full = NamedData(**cifar), NamedData(**cifar, augmentation="randaugment", mix="both")
    assert plain.sources == ("he2016", "russakovsky2015")
    assert {"cubuk2020", "zhang2018", "yun2019"} <= set(full.sources)
    assert "RandAugment" in cite(full)


def test_recipes_can_name_it(cifar):
    config = recipe.schema(NamedData)(**cifar, size=24, mean=[0.5, 0.5, 0.5])
    built = recipe.build(config)
    assert built.size == (24, 24)
    assert built.mean == (0.5, 0.5, 0.5)
