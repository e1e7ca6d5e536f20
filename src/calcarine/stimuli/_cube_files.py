"""Spectral images in MATLAB files, read a few bands or columns at a time.

    channel(y, x) = sum_band weights(channel, band) max(cube(y, x, band), 0)

A file of MATLAB 7.3 is an HDF5 file in which axes are reversed: what MATLAB shows as (height,
width, bands) lies on disk as (bands, width, height). ``cube`` holds radiance or reflectance, 1 for
white; ``bands`` the wavelengths in nm, one for each. Sensor noise below zero is cut off.

Files come from strangers: nothing in them is executed, links out of the file are refused, and what
is read stays within a fixed amount of memory, however large the file says it is.

Axes    on disk (bands, W, H) | result (C, H, W)
Source  arad2022
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.color import default_wavelengths
from calcarine.errors import FileFormatError, require

__all__ = ["band_weights", "check_cube", "read_channels"]

_LARGEST = 16384  # px; a larger side is a damaged header
_AT_ONCE = 2**22  # numbers in memory
_SLACK_NM = 1.0  # by which the first and last band may miss 400 and 700 nm


def check_cube(path: Path) -> tuple[tuple[int, int], Float[np.ndarray, " bands"]]:
    """Return height and width, and the wavelengths [nm], without reading the cube.

    Raises:
        FileFormatError: If this is not a spectral image that can be used; the message names it.
        MissingDependencyError: If h5py is not installed.
    """
    with _opened(path) as (cube, bands):
        return (cube.shape[2], cube.shape[1]), bands


def read_channels(path: Path, weights: Float[Tensor, "C N"]) -> Float[Tensor, "C H W"]:
    """Read a cube and sum it over its bands.

    Args:
        path: The file.
        weights: Weights of spectra on the grid 400..700 nm in 1 nm.

    Returns:
        The channels, float64.

    Raises:
        FileFormatError: If the file is missing, damaged or of another kind, or a value is not a
            number.
    """
    with _opened(path) as (cube, bands):
        per_band = band_weights(bands, weights)
        channels = torch.zeros(len(weights), cube.shape[1], cube.shape[2], dtype=torch.float64)
        for band, column in _blocks(cube):
            block = torch.from_numpy(np.asarray(_read(cube, band, column, path), np.float64))
            _check_finite(block, path, bands[band])
            channels[:, column] += torch.tensordot(per_band[:, band], block.clamp_min(0), 1)
    return channels.mT.contiguous()


def band_weights(
    bands_nm: Float[np.ndarray, " bands"], weights: Float[Tensor, "C N"]
) -> Float[Tensor, "C bands"]:
    """Move weights of the grid to bands: interpolating a spectrum and summing it is one sum.

    A natural cubic spline runs through the bands.
    """
    from scipy.interpolate import CubicSpline

    grid = default_wavelengths().numpy().clip(bands_nm[0], bands_nm[-1])
    if len(bands_nm) < 3:
        raise FileFormatError(f"Expected at least 3 bands, got {len(bands_nm)}.")
    spline = CubicSpline(bands_nm, np.eye(len(bands_nm)), bc_type="natural")
    return weights @ torch.from_numpy(np.asarray(spline(grid)))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Float[np.ndarray, " bands"]]]:
    h5py: Any = require("h5py", extra="spectral", purpose="Reading spectral images")
    _check_kind(path, h5py)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FileFormatError(
            f"{path}: cannot be opened, it is damaged or incomplete ({error}). Fetch it again."
        ) from error
    with file:
        cube, bands = (_dataset(file, name, path, h5py) for name in ("cube", "bands"))
        yield cube, _checked(cube, bands, path)


def _check_kind(path: Path, h5py: Any) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(128)
    except OSError as error:
        raise FileFormatError(f"Cannot read {path}: {error.strerror or error}.") from error
    if h5py.is_hdf5(path):
        return
    if head.startswith(b"MATLAB 5.0"):
        raise FileFormatError(
            f"{path}: expected a file of MATLAB 7.3, got one of an older version. Save it again in "
            "MATLAB with save(name, 'cube', 'bands', '-v7.3')."
        )
    raise FileFormatError(
        f"{path}: expected a file of MATLAB 7.3 (HDF5), got something else or a damaged file "
        f"({path.stat().st_size} bytes). Fetch it again."
    )


def _dataset(file: Any, name: str, path: Path, h5py: Any) -> Any:
    link = file.get(name, getlink=True)
    if link is None:
        found = ", ".join(key for key in file if not key.startswith("#")) or "nothing"
        raise FileFormatError(f"{path}: expected the variable {name!r}, got {found}.")
    item = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
        raise FileFormatError(
            f"{path}: expected {name!r} as an array inside the file, got something else."
        )
    if item.dtype.kind != "f":
        raise FileFormatError(
            f"{path}: expected {name!r} as floating-point numbers, got {item.dtype}."
        )
    return item


def _checked(cube: Any, bands: Any, path: Path) -> Float[np.ndarray, " bands"]:
    if bands.size > 1000 or cube.ndim != 3:
        raise FileFormatError(
            f"{path}: expected cube (bands, width, height) as MATLAB 7.3 stores it and one "
            f"wavelength for each band, got shapes {cube.shape} and {bands.shape}."
        )
    wavelengths = np.asarray(_read(bands, ..., ..., path), np.float64).ravel()
    if cube.shape[0] != len(wavelengths):
        raise FileFormatError(
            f"{path}: expected as many bands in the cube as in 'bands', got {cube.shape[0]} and "
            f"{len(wavelengths)}: a band is missing, or the axes are not (bands, width, height)."
        )
    if not all(1 <= side <= _LARGEST for side in cube.shape[1:]):
        raise FileFormatError(f"{path}: a cube of shape {cube.shape} cannot be right.")
    finite = len(wavelengths) >= 3 and np.isfinite(wavelengths).all()
    if not finite or (np.diff(wavelengths) <= 0).any():
        raise FileFormatError(
            f"{path}: expected at least 3 wavelengths in ascending order, got {wavelengths}."
        )
    if wavelengths[0] > 400 + _SLACK_NM or wavelengths[-1] < 700 - _SLACK_NM:
        raise FileFormatError(
            f"{path}: expected bands from 400 to 700 nm, got {wavelengths[0]:g} to "
            f"{wavelengths[-1]:g} nm: bands are missing."
        )
    return wavelengths


def _blocks(cube: Any) -> Iterator[tuple[slice, slice]]:
    """Cut the cube into blocks of bands and columns that are stored together."""
    bands, width, height = cube.shape
    chunk = cube.chunks or (1, width, height)
    # Chunks are decompressed as a whole: take all bands of some columns, or all columns of a band.
    if chunk[0] > 1 and chunk[1] < width:
        columns = max(1, _AT_ONCE // (bands * height) // chunk[1]) * chunk[1]
        for start in range(0, width, columns):
            yield slice(0, bands), slice(start, min(start + columns, width))
        return
    step = max(1, _AT_ONCE // (width * height))
    for start in range(0, bands, step):
        yield slice(start, min(start + step, bands)), slice(0, width)


def _read(dataset: Any, first: Any, second: Any, path: Path) -> Any:
    try:
        return dataset[...] if first is ... else dataset[first, second]
    except (OSError, RuntimeError, ValueError) as error:
        raise FileFormatError(
            f"{path}: a part of {dataset.name} cannot be read, the file is damaged ({error}). "
            "Fetch it again."
        ) from error


def _check_finite(block: Tensor, path: Path, bands_nm: Float[np.ndarray, " bands"]) -> None:
    bad = ~block.isfinite()
    if bool(bad.any()):
        band = int(bad.flatten(1).any(1).nonzero()[0])
        raise FileFormatError(
            f"{path}: expected numbers, got {int(bad.sum())} that are NaN or infinite, the first "
            f"in the band of {bands_nm[band]:g} nm."
        )
