"""Hyperspectral scenes: real light, band by band, for any set of cones.

    cones_t = balance_t sum_lambda spectrum fundamental_t / sum_lambda y-bar

    equal_energy   balance_t = white_t / response_t to a spectrum of 1 at every wavelength
    brightest      balance_t = white_t / 99.5th percentile of channel t in this image
    none           balance_t = 1

``white`` is that of the display (D65) in cone space, 1 for red, green and blue of the picture.

Files are those of the ARAD_1K data set (NTIRE 2022): MATLAB 7.3, ``cube`` and ``bands``, 31 bands
from 400 to 700 nm. Before the first draw every file is read once, for one eye, and what its cones
see is kept in the cache folder; see :mod:`calcarine.stimuli._prepared_scenes`. Draws then read only
the crops that they need. Smaller scales average light over areas of pixels.

Axes    B batch | T cone types | H W rows down, columns right | C = T + 3 channels
Source  arad2022 (files), kotani2024 (white balance to the white of cone space)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from calcarine.devices import send
from calcarine.errors import CalcarineWarning, FileFormatError, InputError, UnknownNameError
from calcarine.progress import open_progress
from calcarine.stimuli._checks import checked_dtype, checked_size, is_count
from calcarine.stimuli._cube_files import check_cube, read_channels
from calcarine.stimuli._prepared_scenes import PreparedScenes
from calcarine.stimuli.scenes import DEFAULT_PEAKS_NM, SceneBatch, response_weights, whites

__all__ = ["HyperspectralScenes"]

WhiteBalance = Literal["equal_energy", "brightest", "none"]

_BRIGHT = 0.995  # a few specular highlights may be brighter than white. Ours
_LISTED = 10


class HyperspectralScenes:
    """Endless random crops of hyperspectral images.

    >>> scenes = HyperspectralScenes(source="ARAD_1K/train", size=286)
    >>> scenes.prepare((560.0, 545.0, 530.0, 419.0))        # or at the first draw
    >>> batch = scenes.draw(8, peaks_nm=(560.0, 545.0, 530.0, 419.0))

    Args:
        source: Folder, searched recursively for ``.mat`` files.
        size: Height and width of a scene [px], or one number for a square.
        scales: Sizes of the images relative to the file, each above 0 and at most 1. A scale at
            which an image no longer covers a scene is left out for that image.
        white_balance: ``"equal_energy"`` for reflectances, or radiances divided by their white;
            ``"brightest"`` for radiances under unknown light; ``"none"``.
        flip: Mirror half of the scenes left to right.
        names: Use only these files, paths relative to the folder.
        skip_bad: Leave out files that cannot be used (a warning names them).

    Raises:
        FileFormatError: If files are bad (all whose header is wrong are named), or there are none.
        UnknownNameError: If a name is not known.
        InputError: If a setting is out of its range.
        MissingDependencyError: If h5py or colour-science is not installed.
    """

    sources: ClassVar[tuple[str, ...]] = ("arad2022", "kotani2024")

    def __init__(
        self,
        *,
        source: str | Path,
        size: int | tuple[int, int] = 64,
        scales: tuple[float, ...] = (1.0, 0.5, 0.25),
        white_balance: WhiteBalance = "equal_energy",
        flip: bool = True,
        names: tuple[str, ...] | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.source, self.flip, self.skip_bad = source, flip, skip_bad
        self.size = checked_size("HyperspectralScenes", size)
        self.scales = _checked_scales(scales)
        if white_balance not in get_args(WhiteBalance):
            raise UnknownNameError("white balance", str(white_balance), get_args(WhiteBalance))
        self.white_balance = white_balance
        self._folder = Path(source)
        self.names: Sequence[str] = _file_names(self._folder, names)
        self.bad: Mapping[str, str] = {}
        self._check_headers()
        self._ready: dict[tuple[float, ...], list[Float[np.ndarray, "C H W"]]] = {}

    def __len__(self) -> int:
        """Return the number of images, without those known to be bad."""
        return len(self.names)

    def _check_headers(self) -> None:
        bad = {}
        for name in self.names:
            try:
                sides, _ = check_cube(self._folder / name)
                if sides[0] < self.size[0] or sides[1] < self.size[1]:
                    raise FileFormatError(
                        f"{self._folder / name}: {sides[0]} x {sides[1]} pixels are too few for a "
                        f"scene of {self.size[0]} x {self.size[1]}."
                    )
            except FileFormatError as error:
                bad[name] = str(error)
        if bad:
            self._leave_out(bad)

    def _leave_out(self, bad: Mapping[str, str]) -> None:
        lines = [f"\n  {text}" for text in bad.values()]
        more = f"\n  ... and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        text = f"{len(bad)} of the {len(self.names)} files in {self._folder} cannot be used:"
        text += "".join(lines[:_LISTED]) + more
        if not self.skip_bad:
            raise FileFormatError(f"{text}\nRemove or replace them, or pass skip_bad=True.")
        self.bad = {**self.bad, **bad}
        self.names = [name for name in self.names if name not in bad]
        if not self.names:
            raise FileFormatError(f"Not one file is left: {text}")
        warnings.warn(f"HyperspectralScenes: skipping. {text}", CalcarineWarning, stacklevel=4)

    def prepare(
        self, peaks_nm: tuple[float, ...] = DEFAULT_PEAKS_NM, *, progress: bool = True
    ) -> None:
        """Turn all files into the signals of one eye, as far as that is not done already.

        May be interrupted: files that are finished are kept, and the next call goes on.

        Args:
            peaks_nm: Peaks of the eye's pigments, nm.
            progress: Whether to show how far the work is, on standard error.

        Raises:
            FileFormatError: If a file is damaged and ``skip_bad`` is off.
            RunError: If the cache folder cannot be written.
        """
        peaks_nm = tuple(map(float, peaks_nm))
        settings = f"{peaks_nm}|{self.white_balance}"
        kept = PreparedScenes(settings, lambda path: self._channels(path, peaks_nm))
        found = {name: kept.find(self._folder / name) for name in self.names}
        missing = [name for name, channels in found.items() if channels is None]
        bar = open_progress(
            len(found), len(found) - len(missing), shown=progress and bool(missing), unit="file"
        )
        bad = {}
        if missing:
            bar.note(f"Preparing {len(missing)} of {len(found)} images in {self._folder}, once.")
        try:
            for done, name in enumerate(missing, len(found) - len(missing) + 1):
                try:
                    found[name] = kept.prepare(self._folder / name)
                except FileFormatError as error:
                    bad[name] = str(error)
                    if not self.skip_bad:
                        break
                bar.advance(done)
        except KeyboardInterrupt:
            ready = sum(channels is not None for channels in found.values())
            bar.note(f"{ready} of {len(found)} images are prepared and kept; the next run goes on.")
            raise
        finally:
            bar.close()
        if bad:
            self._leave_out(bad)
        self._ready[peaks_nm] = [c for c in found.values() if c is not None]

    def _channels(self, path: Path, peaks_nm: tuple[float, ...]) -> Float[Tensor, "C H W"]:
        """Read one file and balance its channels."""
        weights = response_weights(peaks_nm)
        channels = read_channels(path, weights)
        white = whites(peaks_nm)
        if self.white_balance == "none":
            return channels
        if self.white_balance == "equal_energy":
            now = weights.sum(1)
        else:
            values = channels.flatten(1)
            now = values.kthvalue(max(1, round(_BRIGHT * values.shape[1])), dim=1).values
            if not bool((now > 0).all()):
                raise FileFormatError(f"{path}: the image is black, there is no white to find.")
        return channels * (white / now)[:, None, None]

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        peaks_nm: tuple[float, ...] = DEFAULT_PEAKS_NM,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> SceneBatch:
        """Draw scenes; the first draw for an eye prepares the files, see :meth:`prepare`.

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out. Its state alone
                decides what is drawn.
            peaks_nm: Peaks of the eye's pigments, nm.
            dtype: Floating-point type, torch's default one if left out.
            device: Where to put the scenes.

        Returns:
            Cone signals and linear sRGB.
        """
        if not is_count(batch_size):
            raise InputError(
                f"draw expected a batch size of at least 1 (a whole number), got {batch_size!r}."
            )
        dtype = checked_dtype("draw", dtype)
        peaks_nm = tuple(map(float, peaks_nm))
        if peaks_nm not in self._ready:
            self.prepare(peaks_nm)
        images = self._ready[peaks_nm]
        where = "cpu" if generator is None else generator.device
        chances = torch.rand(batch_size, 5, generator=generator, dtype=torch.double, device=where)
        crops = [self._crop(images[int(c[0] * len(images))], *c[1:]) for c in chances.tolist()]
        scene = send(torch.stack(crops), device).to(dtype)
        return SceneBatch(scene[:, :-3].contiguous(), scene[:, -3:].contiguous())

    def _crop(
        self,
        image: Float[np.ndarray, "C H W"],
        scale: float,
        top: float,
        left: float,
        mirror: float,
    ) -> Float[Tensor, "C S S"]:
        """Cut one crop; chances are uniform in [0, 1)."""
        windows = [(round(self.size[0] / s), round(self.size[1] / s)) for s in self.scales]
        fitting = [w for w in windows if w[0] <= image.shape[1] and w[1] <= image.shape[2]]
        # A file may be smaller than a scene at every scale below 1, but never at 1.
        height, width = (fitting or [self.size])[int(scale * max(1, len(fitting)))]
        y = int(top * (image.shape[1] - height + 1))
        x = int(left * (image.shape[2] - width + 1))
        window = torch.from_numpy(np.array(image[:, y : y + height, x : x + width]))
        crop = functional.interpolate(window.float()[None], self.size, mode="area")[0]
        return crop.flip(-1) if self.flip and mirror < 0.5 else crop


def _checked_scales(scales: tuple[float, ...]) -> tuple[float, ...]:
    if not scales or not all(0 < s <= 1 for s in scales):
        raise InputError(
            "HyperspectralScenes expected scales as a tuple of numbers above 0 and at most 1, such "
            f"as (1.0, 0.5), got {scales!r}."
        )
    return tuple(sorted(map(float, scales), reverse=True))


def _file_names(folder: Path, names: Sequence[str] | None) -> list[str]:
    """Return the files wanted, as paths relative to the folder, in order."""
    if not folder.is_dir():
        raise FileFormatError(
            f"HyperspectralScenes expected a folder of .mat files, there is none at {folder}."
        )
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.mat")
        if path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise FileFormatError(f"HyperspectralScenes found no .mat file in {folder}.")
    unknown = [name for name in names or () if name not in found]
    if unknown:
        raise UnknownNameError("file in the folder", unknown[0], found)
    return found if names is None else list(names)
