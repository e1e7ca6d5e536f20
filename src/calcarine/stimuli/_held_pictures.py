"""Pictures of one split of a data set by number: decoded once where they fit into memory.

    memory      If all pictures, at their own sizes and 8 bits, fit into the budget (an estimate
                from some of them), they are decoded once, when the first is asked for. Otherwise
                every picture is decoded when it is asked for.
    bad files   An error by default. Where they are to be skipped, the next good picture of the
                split, and its label, takes the place of a bad one.

Axes    C channel, 1 (grey) or 3 | H W rows down, columns right
Units   8-bit sRGB code values
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor

from calcarine.distributed import world
from calcarine.errors import CalcarineWarning, FileFormatError
from calcarine.progress import open_progress
from calcarine.stimuli._decode import as_bytes
from calcarine.stimuli.datasets import NamedImages

__all__ = ["HeldPictures", "Picture"]

_SHOWN = 2000  # pictures from which on decoding takes long enough to show how far it is
_PROBED = 16  # pictures from which the memory that all need is estimated


class Picture(NamedTuple):
    """A picture and its label, as stored."""

    pixels: UInt8[Tensor, "C H W"]
    label: int


class HeldPictures:
    """Pictures of a split.

    Args:
        table: Where they come from.
        budget_mb: Memory that decoded pictures may take, MB.
        skip_corrupt: Skip pictures that cannot be read.

    Attributes:
        labels: Class numbers of all rows of the table.
        bad: Numbers of the pictures that are known to be bad, and why.
    """

    def __init__(self, table: NamedImages, *, budget_mb: float, skip_corrupt: bool) -> None:
        self.table, self.budget_mb, self.skip_corrupt = table, budget_mb, skip_corrupt
        self.labels = table.labels()
        self.bad: dict[int, str] = {}
        self._said = 0
        self._held: list[Tensor | None] | None = None
        self._stacked: Tensor | None = None
        self._looked = False

    def __len__(self) -> int:
        return len(self.table)

    @property
    def in_memory(self) -> bool:
        """Whether all pictures are held; decodes them at the first call."""
        self._look()
        return self._held is not None

    def stacked(self) -> UInt8[Tensor, "N C H W"] | None:
        """Return all pictures as one tensor, or ``None`` where they are not held or differ."""
        self._look()
        return self._stacked

    def good(self, index: int) -> int | None:
        """Return the number itself, or ``None`` if that picture is bad and to be skipped.

        Raises:
            FileFormatError: If it is bad, and bad pictures are not to be skipped.
        """
        self._look()
        if index not in self.bad and self._held is None:
            self._read(index)
        return None if index in self.bad else index

    def next_good(self, index: int) -> int:
        """Return the number of the first good picture from one on, round the end to the start.

        Raises:
            FileFormatError: If there is none.
        """
        self._look()
        if not self.bad:
            return index
        for step in range(len(self)):
            if (index + step) % len(self) not in self.bad:
                return (index + step) % len(self)
        raise FileFormatError(f"None of the {len(self)} pictures of {self.table.name} can be read.")

    def picture(self, index: int) -> Picture:
        """Return a picture, or the next good one, and its label.

        Raises:
            FileFormatError: If it is bad, and bad pictures are not to be skipped.
        """
        self._look()
        while True:
            index = self.next_good(index)
            pixels = self._read(index) if self._held is None else self._held[index]
            if pixels is not None:
                return Picture(pixels, int(self.labels[index]))

    def add_bad(self, found: dict[int, str]) -> None:
        """Take over what another process has found to be bad; the first one is told at once."""
        first = not self.bad and bool(found)
        self.bad.update(found)
        if first:
            self.tell()

    def tell(self) -> None:
        """Warn of the pictures skipped, if there are more than at the last time."""
        if len(self.bad) == self._said:
            return
        self._said = len(self.bad)
        reasons = list(self.bad.values())
        more = f" ... and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        warnings.warn(
            f"{self._said} of {len(self)} pictures of {self.table.name} cannot be read and were "
            f"skipped: {' '.join(reasons[:3])}{more}",
            CalcarineWarning,
            stacklevel=2,
        )

    def _read(self, index: int) -> Tensor | None:
        """Decode a picture; note it and return ``None`` where it is bad and to be skipped."""
        try:
            pixels = as_bytes(self.table.pixels(index))
        except FileFormatError as error:
            if not self.skip_corrupt:
                raise FileFormatError(
                    f"{error} Repair or remove it, or pass skip_corrupt=True to go on without it."
                ) from error
            self.add_bad({index: str(error)})
            return None
        return torch.tensor(pixels).permute(2, 0, 1)

    def _look(self) -> None:
        """Decode all pictures once if they seem to fit into the memory."""
        if self._looked:
            return
        self._looked = True
        count = len(self)
        probed = {round(i * (count - 1) / (_PROBED - 1)) for i in range(_PROBED)} if count else ()
        sizes = [p.numel() for p in map(self._read, sorted(probed)) if p is not None]
        if not sizes or sum(sizes) / len(sizes) * count > self.budget_mb * 1e6:
            self.tell()
            return
        shown = count > _SHOWN and world().is_writer
        bar = open_progress(count, 0, shown=shown, unit="picture")
        held: list[Tensor | None] = []
        try:
            for index in range(count):
                held.append(self._read(index))
                bar.advance(index + 1)
        finally:
            bar.close()
        self._held = held
        good = [p for p in held if p is not None]
        if good and len({p.shape for p in good}) == 1:
            blank = torch.zeros_like(good[0])
            self._stacked = torch.stack([blank if p is None else p for p in held])
            self._held = list(self._stacked)  # views: the pictures themselves are held once
            for index in self.bad:
                self._held[index] = None
        self.tell()
