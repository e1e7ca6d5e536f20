from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageFile

from calcarine.errors import FileFormatError, InputError, NonFiniteError, ShapeError
from calcarine.stimuli import cover_image, load_image, save_image
from calcarine.stimuli.samples import picture_path, sample_path


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def png(values: np.ndarray, colour_type: int) -> bytes:
    """Encode a 16-bit PNG (H, W, C) by hand: Pillow cannot write colour with 16 bits."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def as_array(image: torch.Tensor) -> np.ndarray:
    assert image.ndim == 4
    assert image.shape[0] == 1
    return image[0].permute(1, 2, 0).numpy()


def load64(path: Path, **options) -> np.ndarray:
    return as_array(load_image(path, dtype=torch.double, **options))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".png", {}),
        (".bmp", {}),
        (".tif", {}),
        (".tiff", {"compression": "tiff_lzw"}),
        (".webp", {"lossless": True}),
        (".ppm", {}),
    ],
)
def test_lossless_colour_formats_are_exact(tmp_path, rng, suffix, options):
    codes = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(codes).save(tmp_path / f"a{suffix}", **options)
    assert np.array_equal(load64(tmp_path / f"a{suffix}"), codes / 255)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".gif", ".pgm"])
def test_grey_files_have_one_channel(tmp_path, rng, suffix):
    codes = rng.integers(0, 256, (6, 9), dtype=np.uint8)
    Image.fromarray(codes).save(tmp_path / f"a{suffix}")
    assert np.array_equal(load64(tmp_path / f"a{suffix}"), codes[..., None] / 255)
    colour = load64(tmp_path / f"a{suffix}", channels="rgb")
    assert np.array_equal(colour, np.repeat(codes[..., None], 3, -1) / 255)


def test_jpeg_is_close(tmp_path):
    y, x = np.mgrid[0:40, 0:60]
    codes = np.stack([x * 4, y * 6, 255 - x * 4], -1).astype(np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    assert np.abs(load64(tmp_path / "a.jpg") - codes / 255).max() < 0.03


@pytest.mark.parametrize(("colour_type", "count"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_png_keeps_every_bit(tmp_path, rng, colour_type, count):
    codes = rng.integers(0, 65536, (5, 7, count))
    if count in (2, 4):
        codes[..., -1] = 65535  # opaque
    (tmp_path / "a.png").write_bytes(png(codes, colour_type))
    colours = 1 if count < 3 else 3
    assert np.array_equal(load64(tmp_path / "a.png"), codes[..., :colours] / 65535)


def test_sixteen_bit_transparency_is_composited(tmp_path):
    codes = np.array([[[40000, 10000, 0, 32768]]])
    (tmp_path / "a.png").write_bytes(png(codes, 6))
    share = 32768 / 65535
    for background in (1.0, 0.0):
        expected = codes[..., :3] / 65535 * share + background * (1 - share)
        got = load64(tmp_path / "a.png", background=background)
        assert np.abs(got - expected).max() < 1e-5


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bit_tiff_keeps_every_bit(tmp_path, rng, compression, byteorder):
    codes = rng.integers(0, 65536, (5, 7, 3)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", codes, photometric="rgb", compression=compression, byteorder=byteorder
    )
    assert np.array_equal(load64(tmp_path / "a.tif"), codes / 65535)


def test_float_tiff_is_taken_as_it_is(tmp_path, rng):
    values = rng.random((5, 7)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert np.array_equal(load64(tmp_path / "a.tif")[..., 0], values.astype(np.float64))
    Image.fromarray(values * 3).save(tmp_path / "b.tif")
    with pytest.raises(FileFormatError, match=r"finite values in \[0, 1\]"):
        load_image(tmp_path / "b.tif")


def test_whole_numbers_without_a_white_are_refused(tmp_path):
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(FileFormatError, match="0 to 70000"):
        load_image(tmp_path / "a.tif")


def test_palette_bilevel_and_grey_palette(tmp_path, rng):
    colours = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).quantize(8)
    colours.save(tmp_path / "p.png")
    assert np.array_equal(load64(tmp_path / "p.png"), np.asarray(colours.convert("RGB")) / 255)
    greys = Image.frombytes("P", (3, 1), bytes([0, 1, 1]))
    greys.putpalette([10, 10, 10, 200, 200, 200])
    greys.save(tmp_path / "g.png")
    assert np.array_equal(load64(tmp_path / "g.png")[0, :, 0] * 255, [10, 200, 200])
    Image.frombytes("1", (8, 1), bytes([0b10110000])).save(tmp_path / "b.png")
    assert load64(tmp_path / "b.png")[0, :, 0].tolist() == [1, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white_unless_told(tmp_path, mode):
    if mode == "P":
        image = Image.frombytes("P", (2, 1), bytes([0, 1]))
        image.putpalette([0, 0, 0, 40, 50, 60])
        image.save(tmp_path / "a.png", transparency=0)
        opaque = [40, 50, 60]
    else:
        opaque = [40, 50, 60][: len(mode) - 1]
        pixels = np.array([[[0] * len(opaque) + [0], [*opaque, 255]]], dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a.png")
    white, black = load64(tmp_path / "a.png"), load64(tmp_path / "a.png", background=0.0)
    assert (white[0, 0] == 1).all()
    assert (black[0, 0] == 0).all()
    assert np.array_equal(white[0, 1] * 255, opaque)


TO_STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_orientation_noted_by_a_camera_is_applied(tmp_path, rng, orientation, suffix):
    upright = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    stored = np.ascontiguousarray(TO_STORED[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(stored).save(tmp_path / f"a{suffix}", exif=exif, **options)
    assert np.array_equal(load64(tmp_path / f"a{suffix}"), upright / 255)


def test_damaged_notes_do_not_spoil_sound_pixels(tmp_path):
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense")
    assert load64(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_colours_in_adobe_rgb_become_srgb(tmp_path):
    """Closed form: gamma 2.19921875, Adobe RGB (1998) primaries, both spaces with white D65."""
    with Image.open(sample_path("rocket")) as image:
        profile = image.info["icc_profile"]
        named = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert "Adobe RGB" in named
    codes = np.array([[[120, 130, 140], [150, 110, 100], [90, 120, 80]]], dtype=np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.png", icc_profile=profile)
    to_xyz = np.array(
        [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
    )
    srgb = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    linear = (codes / 255) ** 2.19921875 @ (np.linalg.inv(srgb) @ to_xyz).T
    expected = 1.055 * linear ** (1 / 2.4) - 0.055
    got = load64(tmp_path / "a.png")
    assert np.abs(got - expected).max() < 1.5 / 255
    assert np.abs(got - codes / 255).max() > 5 / 255  # the profile changes something
    Image.fromarray(codes).save(tmp_path / "b.png", icc_profile=b"not a profile")
    assert np.array_equal(load64(tmp_path / "b.png"), codes / 255)


def test_cmyk_and_lab_become_rgb(tmp_path):
    inks = np.array([[[255, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.frombytes("CMYK", (3, 1), inks.tobytes()).save(tmp_path / "a.tif")
    got = load64(tmp_path / "a.tif")[0] * 255
    assert np.abs(got - [[0, 255, 255], [255, 0, 0], [127, 127, 127]]).max() <= 1
    Image.frombytes("LAB", (2, 1), bytes([255, 0, 0, 136, 0, 0])).save(tmp_path / "b.tif")
    lab = load64(tmp_path / "b.tif")[0] * 255  # L* 100 and L* 53.4, the latter near code 127
    assert np.abs(lab - [[255] * 3, [127] * 3]).max() <= 2


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".tif", ".webp"):
        path = tmp_path / f"a{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert load64(path)[0, 0, 0] > 0.95
        assert load64(path)[0, 0, 2] < 0.05


def test_grey_is_the_code_of_equal_luminance(tmp_path):
    Image.fromarray(np.array([[[0, 255, 0], [77, 77, 77], [255, 255, 255]]], np.uint8)).save(
        tmp_path / "a.png"
    )
    grey = load64(tmp_path / "a.png", channels="gray")
    assert grey.shape == (1, 3, 1)
    green = 1.055 * 0.7152 ** (1 / 2.4) - 0.055
    assert grey[0, :, 0] == pytest.approx([green, 77 / 255, 1.0], abs=1e-12)


def test_resizing_averages_light(tmp_path):
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "a.png")
    small = load64(tmp_path / "a.png", size=8)
    half_the_light = 1.055 * 0.5 ** (1 / 2.4) - 0.055
    assert small.shape == (8, 8, 1)
    assert small[2:-2, 2:-2] == pytest.approx(half_the_light, abs=0.01)


def test_resizing_does_not_alias_or_overshoot(tmp_path):
    x = np.arange(240)
    fine = 0.5 + 0.4 * np.sin(2 * np.pi * x / 2.7)  # a period of about half a pixel after shrinking
    codes = np.rint(np.tile(fine, (240, 1)) * 255).astype(np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.png")
    small = load64(tmp_path / "a.png", size=48)[4:-4, 4:-4]
    assert small.std() < 0.02 < codes.std() / 255
    edge = np.where(x < 120, 60, 200)[None].repeat(240, 0).astype(np.uint8)
    Image.fromarray(edge).save(tmp_path / "b.png")
    resized = load64(tmp_path / "b.png", size=(33, 50)) * 255
    assert resized.min() == pytest.approx(60, abs=1e-9)
    assert resized.max() == pytest.approx(200, abs=1e-9)


@pytest.mark.parametrize(
    ("size", "expected"), [(10, (10, 20)), ((7, 5), (7, 5)), (80, (80, 160)), (40, (40, 80))]
)
def test_sizes(tmp_path, size, expected):
    Image.new("RGB", (80, 40), "white").save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", size=size)
    assert image.shape == (1, 3, *expected)
    assert image == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, None])
def test_dtype_is_followed(tmp_path, dtype):
    Image.new("L", (5, 4), 51).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", dtype=dtype, size=3)
    assert image.dtype == (dtype or torch.get_default_dtype())
    assert image.double() == pytest.approx(0.2, abs=1e-3)


FORMATS = {
    ".png": {},
    ".jpg": {},
    ".gif": {},
    ".bmp": {},
    ".tif": {},
    ".webp": {"lossless": True},
}


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("lenient", [False, True])
def test_incomplete_files_are_refused_whatever_pillow_is_told(
    tmp_path, rng, monkeypatch, suffix, kept, lenient
):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path, **FORMATS[suffix])
    content = path.read_bytes()
    load_image(path)
    path.write_bytes(content[: int(len(content) * kept)])
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    with pytest.raises(FileFormatError, match=path.name):
        load_image(path)
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES


def test_what_is_not_an_image_file(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "astronaut.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(FileFormatError, match=r"No such file.*Did you mean 'astronaut.png'"):
        load_image(tmp_path / "astronat.png")
    with pytest.raises(FileFormatError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(FileFormatError, match="0 bytes"):
        load_image(tmp_path / "empty.png")
    with pytest.raises(FileFormatError, match="not an image"):
        load_image(tmp_path / "text.png")


@pytest.mark.parametrize("side", [11, 40])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_decompression_bombs_are_refused(tmp_path, monkeypatch, side, action):
    Image.new("L", (side, side)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(FileFormatError, match="MAX_IMAGE_PIXELS"):
            load_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert load_image(tmp_path / "a.png").shape == (1, 1, side, side)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "at least 1"),
        ({"size": (4, 2.5)}, "height, width"),
        ({"size": True}, "size"),
        ({"channels": "grey"}, "Did you mean 'gray'"),
        ({"background": 1.5}, "background"),
        ({"dtype": torch.uint8}, "floating-point"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=message):
        load_image(tmp_path / "a.png", **options)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".ppm"])
def test_saving_and_loading_returns_every_value(tmp_path, channels, suffix):
    codes = torch.arange(256).repeat(channels, 1, 1).reshape(1, channels, 8, 32)
    image = codes.double() / 255
    path = save_image(image, tmp_path / "new" / f"a{suffix}")
    back = load_image(path, dtype=torch.double, channels="rgb" if channels == 3 else "gray")
    assert torch.allclose(back, image, atol=1e-12)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_saving_takes_a_plane_a_gradient_and_rounding_errors(tmp_path):
    image = torch.full((4, 5), 1.0 + 1e-6, requires_grad=True)
    assert (load_image(save_image(image, tmp_path / "a.jpg")) > 0.99).all()


def test_saving_refuses_what_eight_bits_cannot_hold(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match=r"got -0\.5 to 1\.5"):
        save_image(torch.tensor([[-0.5, 1.5]]), path)
    assert not path.exists()
    save_image(torch.tensor([[-0.5, 1.5]]), path, clip=True)
    assert load_image(path).flatten().tolist() == [0.0, 1.0]
    for value in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteError, match="1 that are NaN or infinite among 2"):
            save_image(torch.tensor([[0.5, value]]), path, clip=True)
    with pytest.raises(InputError, match="image / 255"):
        save_image(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), path)
    for shape in ((2, 3, 4, 4), (1, 2, 4, 4), (4,), (1, 3, 0, 4)):
        with pytest.raises(ShapeError, match="one image"):
            save_image(torch.zeros(shape), path)
    with pytest.raises(InputError, match="file name ending"):
        save_image(torch.zeros(4, 4), tmp_path / "a.gif")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_image(torch.zeros(4, 4), tmp_path / "a.png")
    before = path.read_bytes()

    def fail(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space"):
        save_image(torch.ones(4, 4), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("shape", [(30, 20), (8, 24), (40, 40)])
def test_a_covering_image_is_the_undistorted_centre(tmp_path, shape):
    ramp = torch.linspace(0, 1, 24).expand(1, 1, 16, 24)
    save_image(ramp, tmp_path / "ramp.png")
    image = cover_image(tmp_path / "ramp.png", shape)
    assert image.shape == (1, 1, *shape)
    scale = max(shape[0] / 16, shape[1] / 24)
    step = image[0, 0, 0].diff().mean()
    assert step == pytest.approx(1 / 23 / scale, rel=0.15)
    assert image.mean() == pytest.approx(0.5, abs=0.02)


def test_pictures_are_found_by_path_or_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert picture_path("sample:camera") == picture_path("camera") == sample_path("camera")
    (tmp_path / "camera").write_bytes(b"x")
    assert picture_path("camera") == Path("camera")
    with pytest.raises(FileFormatError, match=r"Did you mean 'camera'"):
        picture_path("camra")
