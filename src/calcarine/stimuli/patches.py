"""Endless random crops of photographs, cut in the training loop.

Each crop is drawn independently: one of the images, one of its scales, a position, left or right
way round, all uniformly. What is drawn depends on the generator alone, never on what was drawn or
held before, so restoring the generator resumes a run bit for bit.

    memory    All images are held as 8-bit values at every scale if they fit into the memory budget,
              and a draw is a few copies. If they do not fit, the ones used last are held and the
              others are decoded again when drawn. The draws are the same either way.
    bad files In place of an image that has to be skipped, the next usable one in the list is used.

Axes    B batch | 3 channels, red green blue (sRGB code values) | S height and width of a crop
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.devices import send
from calcarine.errors import CalcarineWarning, InputError
from calcarine.stimuli._checks import checked_dtype, checked_size, is_count
from calcarine.stimuli._sources import open_source
from calcarine.stimuli._store import ImageStore

__all__ = ["ImagePatches"]


class ImagePatches:
    """Random crops of photographs, without end.

    >>> patches = ImagePatches(size=64)
    >>> batch = patches.draw(8, torch.Generator().manual_seed(0))     # (8, 3, 64, 64)

    Values are sRGB code values in [0, 1]; grey images get three equal channels. Smaller scales are
    made once, by averaging light. A scale at which an image no longer covers a crop is left out for
    that image.

    Args:
        source: ``"samples"`` for photographs inside installed packages; a folder, searched
            recursively (write ``"./samples"`` for one of that name); or ``"hf:NAME"`` for a data
            set, NAME as in :func:`calcarine.stimuli.named_images`.
        size: Height and width of a crop [px], or one number for a square.
        scales: Sizes of the images relative to the file, each above 0 and at most 1.
        flip: Mirror half of the crops left to right.
        names: Use only these images: names of samples, or paths relative to the folder. By default
            :data:`calcarine.stimuli.TRAINING_SAMPLES`, or the whole folder.
        split: Part of the data set, for ``"hf:NAME"``.
        column: Column of the images, for ``"hf:NAME"`` with several.
        memory_budget_mb: Memory for decoded images [MB].
        images_per_draw: Take the crops of one draw from at most this many images, so that fewer
            have to be decoded when they do not fit into memory. ``None``: every crop chooses anew.
        skip_bad: Skip images that cannot be read or are smaller than a crop (a warning names
            them) instead of refusing the source.

    Raises:
        FileFormatError: If images are bad (all that are found are named), or there are none.
        UnknownNameError: If a name is not known.
        InputError: If a setting is out of its range.
    """

    def __init__(
        self,
        *,
        source: str | Path = "samples",
        size: int | tuple[int, int] = 64,
        scales: tuple[float, ...] = (1.0, 0.5, 0.25),
        flip: bool = True,
        names: tuple[str, ...] | None = None,
        split: str = "train",
        column: str | None = None,
        memory_budget_mb: float = 1024.0,
        images_per_draw: int | None = None,
        skip_bad: bool = False,
    ) -> None:
        self.size = checked_size("ImagePatches", size)
        self.scales = _checked_scales(scales)
        self.flip = flip
        self.images_per_draw = _checked_limit(images_per_draw)
        if not memory_budget_mb > 0:
            raise InputError(
                f"ImagePatches expected memory_budget_mb above 0, got {memory_budget_mb!r}."
            )
        if not str(source).startswith("hf:") and (split != "train" or column is not None):
            warnings.warn(
                f"ImagePatches: split and column have no effect with source={str(source)!r}; they "
                "belong to data sets, 'hf:NAME'.",
                CalcarineWarning,
                stacklevel=2,
            )
        self._store = ImageStore(
            open_source(source, names, split, column),
            size=self.size,
            scales=self.scales,
            budget=memory_budget_mb * 1e6,
            skip_bad=skip_bad,
        )

    @property
    def names(self) -> Sequence[str]:
        """Names of all images, in the order that random choices refer to."""
        return self._store.source.names

    @property
    def bad(self) -> Mapping[str, str]:
        """Images known to be unusable so far, and why."""
        return {self.names[index]: reason for index, reason in self._store.bad.items()}

    def __len__(self) -> int:
        """Return the number of images, without those known to be bad."""
        return len(self.names) - len(self._store.bad)

    def draw(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "B 3 S S"]:
        """Draw crops.

        Args:
            batch_size: How many.
            generator: Source of randomness, torch's default one if left out. Its state alone
                decides what is drawn.
            dtype: Floating-point type, torch's default one if left out.
            device: Where to put the crops; they travel there as 8-bit values.

        Returns:
            sRGB code values in [0, 1].

        Raises:
            FileFormatError: If an image that did not fit into memory turns out to be bad.
        """
        if not is_count(batch_size):
            raise InputError(
                f"draw expected a batch size of at least 1 (a whole number), got {batch_size!r}."
            )
        dtype = checked_dtype("draw", dtype)
        where = "cpu" if generator is None else generator.device
        chances = torch.rand(batch_size, 5, generator=generator, dtype=torch.double, device=where)
        rows = chances.tolist()
        different = min(self.images_per_draw or batch_size, batch_size)
        crops = torch.empty(batch_size, 3, *self.size, dtype=torch.uint8, device="cpu")
        for i, (_, *chance) in enumerate(rows):
            index = int(rows[i % different][0] * len(self.names))
            crops[i] = self._crop(index, *chance)
        return send(crops, device).to(dtype).div_(255)

    def _crop(self, index: int, scale: float, top: float, left: float, mirror: float) -> Tensor:
        """Cut one crop; chances are uniform in [0, 1)."""
        ladder = self._store.ladder(index)
        picture = ladder[int(scale * len(ladder))]
        height, width = self.size
        y = int(top * (picture.shape[-2] - height + 1))
        x = int(left * (picture.shape[-1] - width + 1))
        window = picture[:, y : y + height, x : x + width]
        return window.flip(-1) if self.flip and mirror < 0.5 else window

    def images(
        self, *, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[str, Float[Tensor, "1 3 H W"]]]:
        """Go once through the whole images, as ``(name, image)``, at full size and in order.

        Args:
            dtype: Floating-point type, torch's default one if left out.
        """
        dtype = checked_dtype("images", dtype)
        for name, whole in self._store.wholes():
            yield name, whole[None].to(dtype).div_(255)


def _checked_scales(scales: object) -> tuple[float, ...]:
    """Return the scales from large to small."""
    values = tuple(scales) if isinstance(scales, (tuple, list)) else ()
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if not values or len(numbers) != len(values) or not all(0 < v <= 1 for v in numbers):
        raise InputError(
            "ImagePatches expected scales as a tuple of numbers above 0 and at most 1, such as "
            f"(1.0, 0.5), got {scales!r}."
        )
    return tuple(sorted(map(float, numbers), reverse=True))


def _checked_limit(images_per_draw: object) -> int | None:
    if images_per_draw is None or is_count(images_per_draw):
        return images_per_draw  # type: ignore[return-value]
    raise InputError(
        "ImagePatches expected images_per_draw as a whole number of at least 1 or None, got "
        f"{images_per_draw!r}."
    )
