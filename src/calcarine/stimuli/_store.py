"""Decoded images at several scales, as many of them as fit into a memory budget.

Looking an image up gives the same whether it is held or has to be decoded again, so what is held
never shows in the results, only in the time they take. Least recently used images go first.
"""

from __future__ import annotations

import os
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from calcarine.color.transfer import srgb_to_linear
from calcarine.errors import CalcarineWarning, FileFormatError
from calcarine.stimuli._decode import as_bytes
from calcarine.stimuli._sources import ImageSource
from calcarine.stimuli.light import encoded_at

__all__ = ["ImageStore", "Ladder"]

Ladder = tuple[Tensor, ...]
"""One image at its scales, large to small, 8 bits, axes (3, height, width)."""

_CHUNK = 16
_LISTED = 10


class ImageStore:
    """The images of a source, by number, at every scale that still covers a crop.

    Args:
        source: Where the images come from.
        size: Height and width of a crop [px].
        scales: Relative sizes, large to small.
        budget: Memory for decoded images [bytes].
        skip_bad: Skip images that cannot be used instead of raising.
    """

    def __init__(
        self,
        source: ImageSource,
        *,
        size: tuple[int, int],
        scales: tuple[float, ...],
        budget: float,
        skip_bad: bool,
    ) -> None:
        self.source = source
        self.bad: dict[int, str] = {}
        self._size, self._scales = size, scales
        self._budget, self._skip_bad = budget, skip_bad
        self._held: OrderedDict[int, Ladder] = OrderedDict()
        self._bytes = 0
        self._fill()

    def ladder(self, index: int) -> Ladder:
        """Return the scales of an image, or of the next one that is not bad."""
        held = self._held.get(index)
        if held is not None:
            self._held.move_to_end(index)
            return held
        count = len(self.source.names)
        for number in ((index + step) % count for step in range(count)):
            if number in self.bad:
                continue
            if number in self._held:
                return self.ladder(number)
            try:
                ladder = self._build(number)
            except FileFormatError as error:
                self._note_bad({number: str(error)})
                continue
            self._hold(number, ladder)
            return ladder
        raise FileFormatError(f"Not one image of {self.source.label} can be used.")

    def wholes(self) -> Iterator[tuple[str, Tensor]]:
        """Go through the images at full size, leaving what is held as it is."""
        for index, name in enumerate(self.source.names):
            if index in self.bad:
                continue
            try:
                held = self._held.get(index)
                whole = held[0] if held and self._scales[0] == 1 else self._read(index)
            except FileFormatError as error:
                self._note_bad({index: str(error)})
                continue
            yield name, whole

    def _fill(self) -> None:
        """Decode images in order until all are held or the budget is used up."""
        count = len(self.source.names)
        errors: dict[int, str] = {}
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, count, _CHUNK):
                chunk = range(start, min(start + _CHUNK, count))
                for index, result in zip(chunk, pool.map(self._try, chunk), strict=True):
                    if isinstance(result, FileFormatError):
                        errors[index] = str(result)
                    else:
                        self._hold(index, result)
                if len(self._held) + len(errors) < chunk.stop:
                    break
        if errors:
            self._note_bad(errors)
        if len(self._held) + len(self.bad) < count:
            _warn(
                f"only {len(self._held)} of the {count} images of {self.source.label} fit into the "
                f"memory budget of {self._budget / 1e6:g} MB. The others are decoded when drawn, "
                "which is slow: raise memory_budget_mb, or set images_per_draw."
            )

    def _try(self, index: int) -> Ladder | FileFormatError:
        try:
            return self._build(index)
        except FileFormatError as error:
            return error

    def _read(self, index: int) -> Tensor:
        pixels = torch.tensor(as_bytes(self.source.read(index)), device="cpu")
        return pixels.permute(2, 0, 1).expand(3, -1, -1).contiguous()

    def _build(self, index: int) -> Ladder:
        """Decode an image and make its smaller versions."""
        whole = self._read(index)
        light = _linear(whole) if self._scales[-1] < 1 else whole
        ladder = []
        for scale in self._scales:
            height, width = round(whole.shape[-2] * scale), round(whole.shape[-1] * scale)
            if height >= self._size[0] and width >= self._size[1]:
                ladder.append(whole if scale == 1 else _smaller(light, (height, width)))
        if not ladder:
            raise FileFormatError(
                f"{whole.shape[-2]} x {whole.shape[-1]} pixels are too few for a crop of "
                f"{self._size[0]} x {self._size[1]} at scale {self._scales[0]:g}."
            )
        return tuple(ladder)

    def _hold(self, index: int, ladder: Ladder) -> None:
        """Keep an image, and let go of those used longest ago when there are too many."""
        self._held[index] = ladder
        self._bytes += _bytes(ladder)
        while self._bytes > self._budget and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= _bytes(oldest)

    def _note_bad(self, errors: Mapping[int, str]) -> None:
        """Refuse bad images, or remember and announce them when they may be skipped."""
        count = len(self.source.names)
        lines = [f"\n  {self.source.names[index]}: {text}" for index, text in errors.items()]
        more = f"\n  ... and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        text = f"{len(lines)} of the {count} images of {self.source.label} cannot be used:"
        text += "".join(lines[:_LISTED]) + more
        if not self._skip_bad:
            raise FileFormatError(f"{text}\nRemove them, or pass skip_bad=True.")
        self.bad |= errors
        if len(self.bad) == count:
            raise FileFormatError(f"Not one image is left: {text}")
        _warn(f"skipping images. {text}")


def _warn(text: str) -> None:
    warnings.warn(f"ImagePatches: {text}", CalcarineWarning, stacklevel=5)


def _linear(whole: Tensor) -> Tensor:
    """Look up the light of 8-bit code values, which is quicker than computing it."""
    table = srgb_to_linear(torch.arange(256, dtype=torch.double, device="cpu") / 255)
    return table[whole[None].long()]


def _smaller(light: Tensor, size: tuple[int, int]) -> Tensor:
    return (encoded_at(light, size)[0] * 255).round().to(torch.uint8)


def _bytes(ladder: Ladder) -> int:
    return sum(picture.numel() for picture in ladder)
