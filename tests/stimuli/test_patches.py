from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calcarine import recipe
from calcarine.errors import CalcarineWarning, FileFormatError, InputError, UnknownNameError
from calcarine.stimuli import TRAINING_SAMPLES, ImagePatches, sample_image, save_image


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coded(path: Path, number: int, height: int, width: int) -> None:
    """Write an image whose pixels say where they are: red = column, green = row, blue = image."""
    y, x = np.mgrid[0:height, 0:width]
    codes = np.stack([x, y, np.full_like(x, number)], -1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(codes).save(path)


@pytest.fixture
def folder(tmp_path):
    """Four sound images; in sorted order a.png, b/c.PNG, b/d.bmp, e.png."""
    root = tmp_path / "photos"
    for number, name in enumerate(("a.png", "b/c.PNG", "b/d.bmp", "e.png")):
        coded(root / name, number, 24 + number, 40 - number)
    (root / "notes.txt").write_text("not an image")
    (root / ".hidden.png").write_text("not looked at")
    return root


def places(crops: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Read image, top, left and mirroring back from coded crops, checking every pixel."""
    codes = (crops * 255).round().long()
    height, width = codes.shape[-2:]
    x, y, number = codes.unbind(1)
    step = x[:, 0, 1] - x[:, 0, 0]
    assert (step.abs() == 1).all()
    across = x[:, :1, :1] + step[:, None, None] * torch.arange(width)
    assert (x == across).all()
    assert (y == y[:, :1, :1] + torch.arange(height)[:, None]).all()
    assert (number == number[:, :1, :1]).all()
    return number[:, 0, 0], y[:, 0, 0], x.amin((1, 2)), step < 0


def test_crops_are_whole_windows_at_uniform_places(folder):
    patches = ImagePatches(source=folder, size=(20, 12), scales=(1.0,))
    assert list(patches.names) == ["a.png", "b/c.PNG", "b/d.bmp", "e.png"]
    assert len(patches) == 4
    n = 8000
    image, top, left, mirrored = places(patches.draw(n, seeded()))
    assert torch.bincount(image) / n == pytest.approx(np.full(4, 0.25), abs=0.025)
    assert mirrored.double().mean().item() == pytest.approx(0.5, abs=0.03)
    for number in range(4):
        mine = image == number
        rows, columns = 24 + number - 20 + 1, 40 - number - 12 + 1
        for counts, total in ((top[mine].bincount(), rows), (left[mine].bincount(), columns)):
            assert len(counts) == total  # up to the last row and column
            expected = mine.sum() / total
            chi2 = ((counts - expected) ** 2 / expected).sum()
            assert chi2 < total + 5 * (2 * total) ** 0.5


def test_no_mirroring_unless_asked(folder):
    patches = ImagePatches(source=folder, size=12, scales=(1.0,), flip=False)
    assert not places(patches.draw(200, seeded()))[3].any()


def test_scales_are_equally_likely_and_left_out_where_too_small(tmp_path):
    coded(tmp_path / "a.png", 0, 64, 64)
    patches = ImagePatches(source=tmp_path, size=20, scales=(0.25, 1.0, 0.5), flip=False)
    codes = patches.draw(3000, seeded()) * 255
    slope = (codes[:, 0, 0, 15] - codes[:, 0, 0, 5]) / 10  # columns of the file per pixel
    assert (slope.round().long().bincount() / 3000)[1:] == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize("code", [0, 1, 77, 128, 254, 255])
def test_smaller_scales_keep_a_uniform_value(tmp_path, code):
    Image.new("RGB", (40, 30), (code, 255 - code, code)).save(tmp_path / "a.png")
    crops = ImagePatches(source=tmp_path, size=6, scales=(0.3, 0.7)).draw(20, seeded()) * 255
    assert (crops.round()[:, 0] == code).all()
    assert (crops.round()[:, 1] == 255 - code).all()


def test_smaller_scales_are_those_of_load_image(tmp_path):
    save_image(sample_image("coffee"), tmp_path / "a.png")
    patches = ImagePatches(source=tmp_path, size=(200, 300), scales=(0.5,), flip=False)
    expected = sample_image("coffee", size=(200, 300), dtype=torch.double)
    crop = patches.draw(1, seeded(), dtype=torch.double)
    assert (crop - expected).abs().max() < 0.51 / 255  # rounded to 8 bits


def test_restoring_the_generator_resumes_exactly():
    patches = ImagePatches(size=32)
    generator = seeded(5)
    patches.draw(3, generator)
    state = generator.get_state()
    following = [patches.draw(8, generator) for _ in range(3)]
    again = seeded()
    again.set_state(state)
    fresh = ImagePatches(size=32)
    assert all(torch.equal(batch, fresh.draw(8, again)) for batch in following)
    assert not torch.equal(following[0], following[1])


def test_memory_budget_changes_nothing_but_memory(folder):
    options = {"source": folder, "size": 12, "scales": (1.0, 0.6)}
    roomy = ImagePatches(**options)
    with pytest.warns(CalcarineWarning, match=r"only 1 of the 4 images .* raise memory_budget_mb"):
        tight = ImagePatches(memory_budget_mb=0.004, **options)
    assert len(tight) == 4
    one, other = seeded(), seeded()
    for _ in range(20):
        assert torch.equal(roomy.draw(5, one), tight.draw(5, other))
        assert tight._store._bytes <= 5000
    names = [name for name, _ in tight.images()]
    assert names == list(tight.names)


def test_images_per_draw_limits_the_variety_of_one_draw_only(folder):
    patches = ImagePatches(source=folder, size=12, scales=(1.0,), images_per_draw=2)
    generator = seeded()
    draws = [places(patches.draw(12, generator))[0] for _ in range(30)]
    assert max(len(set(d.tolist())) for d in draws) == 2
    assert set(torch.cat(draws).tolist()) == {0, 1, 2, 3}


def test_defaults_and_types():
    patches = ImagePatches()
    assert tuple(patches.names) == TRAINING_SAMPLES
    batch = patches.draw(4, seeded())
    assert batch.shape == (4, 3, 64, 64)
    assert batch.dtype == torch.get_default_dtype()
    assert 0 <= batch.min() < 0.1 < 0.9 < batch.max() <= 1
    assert torch.allclose(patches.draw(4, seeded(), dtype=torch.double), batch.double())
    assert patches.draw(2, seeded(), dtype=torch.bfloat16).dtype == torch.bfloat16
    kept = batch.clone()
    patches.draw(4, seeded(1))
    assert torch.equal(batch, kept)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert torch.equal(patches.draw(4), batch)


def test_whole_images_pass_by_once():
    patches = ImagePatches(names=("coffee", "camera"), scales=(0.5,))
    seen = dict(patches.images(dtype=torch.double))
    assert list(seen) == ["coffee", "camera"]
    assert torch.equal(seen["coffee"], sample_image("coffee", dtype=torch.double))
    camera = sample_image("camera", channels="rgb", dtype=torch.double)
    assert torch.equal(seen["camera"], camera)


def test_names_restrict_a_folder(folder):
    patches = ImagePatches(source=str(folder), size=12, names=("e.png", "b/c.PNG"), scales=(1.0,))
    assert set(places(patches.draw(50, seeded()))[0].tolist()) == {1, 3}
    with pytest.raises(UnknownNameError, match=r"Did you mean 'e.png'"):
        ImagePatches(source=folder, size=12, names=("e.pg",))
    with pytest.raises(UnknownNameError, match="sample image"):
        ImagePatches(names=("astronat",))
    for names in ((), "astronaut"):
        with pytest.raises(InputError, match="tuple of at least one name"):
            ImagePatches(names=names)


def spoil(folder: Path) -> None:
    coded(folder / "b/small.png", 9, 5, 50)
    content = (folder / "a.png").read_bytes()
    (folder / "b/torn.png").write_bytes(content[: len(content) // 2])


def test_bad_images_are_all_named(folder):
    spoil(folder)
    with pytest.raises(FileFormatError) as caught:
        ImagePatches(source=folder, size=12)
    text = str(caught.value)
    assert "2 of the 6 images" in text
    assert "b/small.png: 5 x 50 pixels are too few for a crop of 12 x 12" in text
    assert "b/torn.png" in text
    assert "incomplete" in text
    assert "skip_bad=True" in text


def test_bad_images_are_skipped_counted_and_named_when_asked(folder):
    spoil(folder)
    with pytest.warns(CalcarineWarning, match="2 of the 6 images") as warned:
        patches = ImagePatches(source=folder, size=12, scales=(1.0,), skip_bad=True)
    assert len(warned) == 1
    assert len(patches) == 4
    assert set(patches.bad) == {"b/small.png", "b/torn.png"}
    assert set(places(patches.draw(200, seeded()))[0].tolist()) == {0, 1, 2, 3}
    assert len(list(patches.images())) == 4
    with pytest.warns(CalcarineWarning) as warned:
        tight = ImagePatches(
            source=folder, size=12, scales=(1.0,), skip_bad=True, memory_budget_mb=0.003
        )
    assert any("only 1 of the 6" in str(w.message) for w in warned)
    assert torch.equal(tight.draw(200, seeded()), patches.draw(200, seeded()))


def test_a_file_that_goes_bad_later_is_named_in_the_draw(folder):
    with pytest.warns(CalcarineWarning, match="memory budget"):
        patches = ImagePatches(source=folder, size=12, memory_budget_mb=0.003)
    (folder / "a.png").write_bytes(b"gone")
    with pytest.raises(FileFormatError, match=r"a\.png"):
        patches.draw(50, seeded())


def test_nothing_usable(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileFormatError, match=r"no images in .*\.png"):
        ImagePatches(source=tmp_path / "empty")
    with pytest.raises(FileFormatError, match="nothing at"):
        ImagePatches(source=tmp_path / "nowhere")
    with pytest.raises(FileFormatError, match="a file at"):
        ImagePatches(source=folder / "a.png")
    with pytest.raises(FileFormatError, match="Not one image is left"):
        ImagePatches(source=folder, size=100, skip_bad=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size"),
        ({"size": (4, 5, 6)}, "size"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, 2.0)}, "at most 1"),
        ({"scales": 0.5}, "scales"),
        ({"scales": (True,)}, "scales"),
        ({"memory_budget_mb": 0}, "memory_budget_mb"),
        ({"images_per_draw": 0}, "images_per_draw"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(InputError, match=message):
        ImagePatches(**options)


def test_bad_batch_size_and_settings_without_effect():
    patches = ImagePatches(names=("cat",))
    for size in (0, 2.0, True):
        with pytest.raises(InputError, match="batch size"):
            patches.draw(size)
    with pytest.warns(CalcarineWarning, match="no effect"):
        ImagePatches(names=("cat",), split="test")


def test_settings_can_be_written_in_a_recipe():
    schema = recipe.schema(ImagePatches)
    config = schema.model_validate({"size": [20, 30], "scales": [1.0], "names": ["cat"]})
    assert recipe.build(config).draw(2, seeded()).shape == (2, 3, 20, 30)
    assert all(field.description for field in schema.model_fields.values())
