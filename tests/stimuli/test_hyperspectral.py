"""Hyperspectral scenes: files as MATLAB 7.3 writes them, good ones and bad ones."""

from __future__ import annotations

import io
import os
import signal
import threading
import warnings

import h5py
import numpy as np
import pytest
import torch

from calcarine.color import ConeSpace, reflectances
from calcarine.errors import (
    CalcarineWarning,
    FileFormatError,
    InputError,
    RunError,
    UnknownNameError,
)
from calcarine.stimuli import HyperspectralScenes, _prepared_scenes
from calcarine.stimuli._cube_files import band_weights, check_cube, read_channels
from calcarine.stimuli.scenes import response_weights, whites

LMS = (560.0, 530.0, 419.0)
LMSQ = (560.0, 545.0, 530.0, 419.0)
BANDS = np.arange(400.0, 701.0, 10.0)
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" ")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CALCARINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scenes"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    return made


def image(seed=0, height=40, width=52, bands=BANDS):
    """Measured surfaces in a pattern without symmetry, axes (height, width, bands)."""
    chance = np.random.default_rng(seed)
    surfaces = reflectances(torch.from_numpy(bands)).numpy()
    return surfaces[chance.integers(len(surfaces), size=(height, width))]


def write(path, cube, bands=BANDS, *, chunks=None, names=("cube", "bands"), dtype=np.float32):
    """Write a cube (height, width, bands) as MATLAB does: axes reversed, 512 bytes in front."""
    with h5py.File(path, "w", userblock_size=512) as file:
        stored = np.ascontiguousarray(cube.T).astype(dtype)
        packed = {"chunks": chunks, "compression": "gzip"} if chunks else {}
        file.create_dataset(names[0], data=stored, **packed)
        if len(names) > 1:
            file.create_dataset(names[1], data=np.asarray(bands, np.float64)[:, None])
    with path.open("r+b") as file:
        file.write(HEADER)
    return path


def direct(cube, peaks, bands=BANDS):
    """Interpolate every spectrum, then sum it up: the definition, pixel by pixel."""
    from scipy.interpolate import CubicSpline

    spectra = CubicSpline(bands, cube, axis=-1, bc_type="natural")(np.arange(400.0, 701.0))
    return torch.from_numpy(np.moveaxis(spectra, -1, 0)), ConeSpace(peaks)


@pytest.mark.parametrize("chunks", [None, (1, 52, 40), (31, 7, 40), (4, 13, 9)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("peaks", [LMS, LMSQ])
def test_channels_are_the_integral_over_interpolated_spectra(folder, chunks, dtype, peaks):
    cube = image().astype(dtype)
    path = write(folder / "a.mat", cube, chunks=chunks, dtype=dtype)
    assert check_cube(path)[0] == (40, 52)
    channels = read_channels(path, response_weights(peaks))
    spectra, space = direct(cube, peaks)
    assert channels.shape == (len(peaks) + 3, 40, 52)
    torch.testing.assert_close(channels[:-3], space.spectra_to_cones(spectra))


def test_reading_in_small_blocks_changes_nothing(folder, monkeypatch):
    weights = response_weights(LMS)
    paths = [
        write(folder / "a.mat", image(), chunks=(31, 5, 40)),
        write(folder / "b.mat", image()),
    ]
    whole = [read_channels(path, weights) for path in paths]
    monkeypatch.setattr("calcarine.stimuli._cube_files._AT_ONCE", 3000)
    for path, before in zip(paths, whole, strict=True):
        torch.testing.assert_close(read_channels(path, weights), before)


def test_moving_weights_to_bands_is_exact_for_a_flat_spectrum():
    weights = response_weights(LMS)
    torch.testing.assert_close(band_weights(BANDS, weights).sum(1), weights.sum(1))


@pytest.mark.parametrize("balance", ["equal_energy", "brightest", "none"])
def test_white_becomes_the_defined_white(folder, balance):
    cube = 0.2 * image()
    cube[3:20, 5:25] = 1.0
    write(folder / "a.mat", cube)
    scenes = HyperspectralScenes(source=folder, size=40, scales=(1.0,), white_balance=balance)
    both = torch.cat(scenes.draw(1, torch.Generator().manual_seed(0), peaks_nm=LMS), 1)
    expected = response_weights(LMS).sum(1) if balance == "none" else whites(LMS)
    found = both.amax(dim=(0, 2, 3)).double()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)


def test_draws_are_crops_of_the_prepared_image(folder):
    cube = image()
    write(folder / "a.mat", cube)
    scenes = HyperspectralScenes(source=folder, size=(11, 17), scales=(1.0,), flip=False)
    cones, linear = scenes.draw(4, torch.Generator().manual_seed(2), dtype=torch.float64)
    assert cones.shape == linear.shape == (4, 3, 11, 17)
    spectra, space = direct(cube.astype(np.float32), LMS)
    balance = whites(LMS) / response_weights(LMS).sum(1)
    whole = space.spectra_to_cones(spectra) * balance[:3, None, None]
    places = whole.unfold(1, 11, 1).unfold(2, 17, 1)
    for crop in cones:
        off = (places - crop[:, None, None]).abs().amax(dim=(0, 3, 4))
        assert off.min() < 1e-3 < off.median()


def test_smaller_scales_average_light(folder):
    write(folder / "a.mat", image(height=40, width=40))
    scenes = HyperspectralScenes(source=folder, size=20, scales=(0.5,), flip=False)
    half = scenes.draw(1, torch.Generator().manual_seed(0)).cones
    full = HyperspectralScenes(source=folder, size=40, scales=(1.0,), flip=False)
    whole = full.draw(1, torch.Generator().manual_seed(0)).cones
    expected = whole.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(half, expected, rtol=1e-3, atol=1e-5)


def test_draws_depend_on_the_generator_alone_and_mirror_half(folder):
    for seed in range(3):
        write(folder / f"{seed}.mat", image(seed))
    scenes = HyperspectralScenes(source=folder, size=40, scales=(1.0,))
    first, again, other = (
        scenes.draw(6, torch.Generator().manual_seed(n)).cones for n in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert HyperspectralScenes(source=folder, size=40, names=("1.mat",)).names == ["1.mat"]


def test_prepared_files_are_not_read_again(folder, cache, monkeypatch):
    for seed in range(2):
        write(folder / f"{seed}.mat", image(seed))
    HyperspectralScenes(source=folder, size=20).prepare(LMS)
    before = sorted(cache.glob("*.npy"))
    assert len(before) == 2
    (folder / "sub").mkdir()
    (folder / "0.mat").rename(folder / "sub" / "renamed.mat")

    def fail(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("calcarine.stimuli.hyperspectral.read_channels", fail)
    scenes = HyperspectralScenes(source=folder, size=20)
    scenes.prepare(LMS)
    assert len(scenes) == 2
    assert sorted(cache.glob("*.npy")) == before


def test_another_eye_another_balance_and_another_content_are_prepared_anew(folder, cache):
    path = write(folder / "a.mat", image(0))
    HyperspectralScenes(source=folder, size=20).prepare(LMS)
    HyperspectralScenes(source=folder, size=20).prepare(LMSQ)
    HyperspectralScenes(source=folder, size=20, white_balance="none").prepare(LMS)
    assert len(list(cache.glob("*.npy"))) == 3
    write(path, image(1))
    HyperspectralScenes(source=folder, size=20).prepare(LMS)
    assert len(list(cache.glob("*.npy"))) == 4


def test_a_damaged_entry_is_made_again(folder, cache):
    write(folder / "a.mat", image())
    scenes = HyperspectralScenes(source=folder, size=20)
    first = scenes.draw(2, torch.Generator().manual_seed(0)).cones
    (entry,) = cache.glob("*.npy")
    entry.write_bytes(entry.read_bytes()[:300])
    again = HyperspectralScenes(source=folder, size=20).draw(2, torch.Generator().manual_seed(0))
    assert torch.equal(first, again.cones)


def test_interrupted_preparation_goes_on_where_it_stopped(folder, cache, monkeypatch, capsys):
    for seed in range(4):
        write(folder / f"{seed}.mat", image(seed))
    done = []

    def interrupted(path, weights):
        if len(done) == 2:
            signal.raise_signal(signal.SIGINT)
        done.append(path.name)
        return read_channels(path, weights)

    monkeypatch.setattr("calcarine.stimuli.hyperspectral.read_channels", interrupted)
    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        HyperspectralScenes(source=folder, size=20).prepare(LMS)
    assert done == ["0.mat", "1.mat"]
    said = capsys.readouterr().err
    assert "Preparing 4 of 4 images" in said
    assert "2 of 4 images are prepared and kept; the next run goes on." in said
    assert len(list(cache.glob("*.npy"))) == 2
    assert not list(cache.glob("*.part"))
    done.append("interrupt")
    HyperspectralScenes(source=folder, size=20).prepare(LMS)
    assert done[3:] == ["2.mat", "3.mat"]


def test_progress_is_shown_while_there_is_work(folder, capsys):
    write(folder / "a.mat", image())
    scenes = HyperspectralScenes(source=folder, size=20)
    scenes.prepare(LMS)
    assert "file 1/1" in capsys.readouterr().err
    HyperspectralScenes(source=folder, size=20).prepare(LMS)
    assert capsys.readouterr().err == ""


def spoil_nan(path):
    cube = image()
    cube[4, 5, 3] = np.nan
    write(path, cube)


def spoil_chunk(path):
    write(path, image(), chunks=(1, 52, 40))
    with h5py.File(path, "r") as file:
        place = file["cube"].id.get_chunk_info(7)
    data = bytearray(path.read_bytes())
    middle = place.byte_offset + place.size // 2
    data[middle : middle + 64] = os.urandom(64)
    path.write_bytes(bytes(data))


def spoil_old(path):
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, {"cube": image(), "bands": BANDS})
    path.write_bytes(buffer.getvalue())


def spoil_link(path):
    write(path.with_suffix(".h5"), image())
    with h5py.File(path, "w", userblock_size=512) as file:
        file["cube"] = h5py.ExternalLink(str(path.with_suffix(".h5")), "/cube")
        file["bands"] = BANDS


BAD = {
    "old": (spoil_old, r"7\.3.*older version.*save\(name, 'cube', 'bands', '-v7\.3'\)"),
    "text": (lambda p: p.write_text("hello"), "something else or a damaged file"),
    "cut": (
        lambda p: (write(p, image()), os.truncate(p, p.stat().st_size // 2)),
        "damaged or incomplete",
    ),
    "no cube": (
        lambda p: write(p, image(), names=("rad", "bands")),
        "the variable 'cube', got bands, rad",
    ),
    "no bands": (lambda p: write(p, image(), names=("cube",)), "the variable 'bands'"),
    "missing band": (lambda p: write(p, image(), BANDS[:-1]), "got 31 and 30: a band is missing"),
    "too few": (
        lambda p: write(p, image(bands=BANDS[3:]), BANDS[3:]),
        "from 400 to 700 nm, got 430 to 700 nm",
    ),
    "order": (lambda p: write(p, image(), BANDS[::-1]), "ascending order"),
    "flat": (lambda p: write(p, image()[0]), r"expected cube \(bands, width, height\)"),
    "turned": (lambda p: write(p, image().transpose(2, 0, 1)), "got 52 and 31: a band is missing"),
    "whole numbers": (lambda p: write(p, image(), dtype=np.uint16), "floating-point numbers"),
    "elsewhere": (spoil_link, "an array inside the file"),
    "small": (lambda p: write(p, image(height=19)), "19 x 52 pixels are too few"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_at_once(folder, kind):
    spoil, message = BAD[kind]
    write(folder / "good.mat", image())
    spoil(folder / "bad.mat")
    with pytest.raises(FileFormatError, match=message) as caught:
        HyperspectralScenes(source=folder, size=20)
    assert "bad.mat" in str(caught.value)
    assert "good.mat" not in str(caught.value)
    assert "skip_bad=True" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_nan, "1 that are NaN or infinite, the first in the band of 430 nm"),
        (spoil_chunk, "cannot be read, the file is damaged"),
        (lambda p: write(p, 1e5 * image()), "about 1 for white.*white_balance=brightest"),
    ],
)
def test_damage_inside_a_file_is_named_and_the_others_are_kept(folder, cache, spoil, message):
    write(folder / "a.mat", image(1))
    spoil(folder / "b.mat")
    scenes = HyperspectralScenes(source=folder, size=20)
    with pytest.raises(FileFormatError, match=message) as caught:
        scenes.draw(1)
    assert "b.mat" in str(caught.value)
    assert len(list(cache.glob("*.npy"))) == 1


def test_bad_files_are_left_out_when_asked(folder):
    write(folder / "a.mat", image(1))
    spoil_old(folder / "b.mat")
    spoil_nan(folder / "c.mat")
    with pytest.warns(CalcarineWarning, match=r"b\.mat"):
        scenes = HyperspectralScenes(source=folder, size=20, skip_bad=True)
    with pytest.warns(CalcarineWarning, match=r"c\.mat"):
        scenes.prepare(LMS)
    assert scenes.names == ["a.mat"]
    assert set(scenes.bad) == {"b.mat", "c.mat"}
    assert scenes.draw(2).cones.isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scenes.draw(1, peaks_nm=LMSQ)


def test_nothing_left_is_an_error(folder):
    spoil_old(folder / "b.mat")
    with pytest.raises(FileFormatError, match="Not one file is left"):
        HyperspectralScenes(source=folder, size=20, skip_bad=True)


def test_a_black_image_has_no_white(folder):
    write(folder / "a.mat", 0 * image())
    scenes = HyperspectralScenes(source=folder, size=20, white_balance="brightest")
    with pytest.raises(FileFormatError, match="black"):
        scenes.draw(1)


def test_noise_below_zero_is_cut_off(folder):
    cube = image()
    cube[:, :, :5] = -0.1
    path = write(folder / "a.mat", cube)
    cube[:, :, :5] = 0
    expected = read_channels(write(folder / "b.mat", cube), response_weights(LMS))
    assert torch.equal(read_channels(path, response_weights(LMS)), expected)


def test_a_full_or_forbidden_cache_is_explained(folder, cache, monkeypatch):
    write(folder / "a.mat", image())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_prepared_scenes.np, "save", full)
    with pytest.raises(RunError, match=r"No space left.*CALCARINE_CACHE"):
        HyperspectralScenes(source=folder, size=20).draw(1)
    assert not list(cache.glob("*.npy"))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"scales": ()}, InputError, "scales"),
        ({"scales": (2.0,)}, InputError, "scales"),
        ({"white_balance": "equal_energi"}, UnknownNameError, "Did you mean 'equal_energy'"),
        ({"names": ("b.mat",)}, UnknownNameError, r"b\.mat"),
        ({"size": 0}, InputError, "size"),
    ],
)
def test_impossible_settings_are_named(folder, settings, error, message):
    write(folder / "a.mat", image())
    with pytest.raises(error, match=message):
        HyperspectralScenes(source=folder, **settings)


def test_missing_folders_and_empty_ones_are_named(folder):
    with pytest.raises(FileFormatError, match="there is none at"):
        HyperspectralScenes(source=folder / "none")
    with pytest.raises(FileFormatError, match=r"no \.mat file"):
        HyperspectralScenes(source=folder)


def test_an_empty_batch_is_refused(folder):
    write(folder / "a.mat", image())
    with pytest.raises(InputError, match="batch size"):
        HyperspectralScenes(source=folder, size=20).draw(0)
