"""Where scalars and pictures go while a task learns.

    local        log.jsonl, one JSON object per line, and images/<name>/<update>.png; always there
    tensorboard  tensorboard/
    comet, wandb optional trackers, offline when no key is set (see trackers.py)

A logger that fails in the middle of a run is dropped with a warning; training goes on.

Axes    C channel (1 or 3) | H W image grid, rows down, columns right
"""

from __future__ import annotations

import json
import math
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calcarine.errors import CalcarineWarning, InputError, MissingDependencyError, require
from calcarine.files import write_text
from calcarine.training.settings import TrainingSettings

__all__ = [
    "LocalLogger",
    "Logger",
    "Loggers",
    "TensorBoardLogger",
    "open_loggers",
    "read_log",
]


class Logger(ABC):
    """A place for scalars and pictures, by update."""

    @abstractmethod
    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Note some numbers.

        Args:
            update: Number of updates done.
            scalars: The numbers by name; ``/`` groups names.
        """

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:  # noqa: B027
        """Note a picture, values in [0, 1]; a logger without pictures ignores it."""

    def flush(self) -> None:  # noqa: B027 (most keep nothing back)
        """Bring everything noted so far to disk; called before every checkpoint."""

    @abstractmethod
    def close(self) -> None:
        """Finish; called once, also after an interrupt or error."""


class LocalLogger(Logger):
    """``log.jsonl`` and PNG files inside the run folder.

    Non-finite numbers are written as ``null``, since JSON has none.

    Args:
        folder: The run's folder.
        update: Age to continue from. Later lines, and a last line cut short, are dropped, so that
            the file is as if the run had never stopped.
    """

    def __init__(self, folder: Path, *, update: int = 0) -> None:
        self._folder = folder
        path = folder / "log.jsonl"
        if path.is_file():
            kept = [json.dumps(line) for line in read_log(path) if line["update"] <= update]
            write_text(path, "".join(f"{line}\n" for line in kept))
        self._file = path.open("a", buffering=1, encoding="utf-8")

    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Append one line."""
        numbers = {name: v if math.isfinite(v) else None for name, v in scalars.items()}
        self._file.write(json.dumps({"update": update, **numbers}) + "\n")

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:
        """Write ``images/<name>/<update>.png``."""
        from PIL import Image

        path = self._folder / "images" / name / f"{update:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = _bytes(name, array)
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)

    def flush(self) -> None:
        """Wait until the lines are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardLogger(Logger):
    """Event files for TensorBoard: ``tensorboard --logdir <run>/tensorboard``.

    Args:
        folder: Where the event files go.
        update: Age to continue from; the board hides what an earlier part logged beyond it.

    Raises:
        MissingDependencyError: If tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, update: int = 0) -> None:
        require("tensorboard", extra="train", purpose="The TensorBoard logger")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensorboard's own dependencies
            board = require(
                "torch.utils.tensorboard", extra="train", purpose="The TensorBoard logger"
            )
        self._writer = board.SummaryWriter(str(folder), purge_step=update + 1 if update else None)

    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Add one point per scalar."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, update)

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:
        """Add a picture."""
        self._writer.add_image(name, _bytes(name, array), update, dataformats="HWC")

    def flush(self) -> None:
        """Write the event file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Loggers(Logger):
    """Several loggers as one; a failing one is dropped with a warning.

    Args:
        loggers: The loggers by name.
    """

    def __init__(self, loggers: Mapping[str, Logger]) -> None:
        self._loggers = dict(loggers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the loggers that still work."""
        return tuple(self._loggers)

    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Pass the numbers on."""
        self._each(lambda logger: logger.log(update, scalars))

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:
        """Pass the picture on."""
        self._each(lambda logger: logger.image(name, update, array))

    def flush(self) -> None:
        """Flush all."""
        self._each(lambda logger: logger.flush())

    def close(self) -> None:
        """Close all."""
        self._each(lambda logger: logger.close())

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                call(logger)
            except Exception as error:
                del self._loggers[name]
                warnings.warn(
                    f"The logger {name!r} failed and is switched off; training goes on "
                    f"({type(error).__name__}: {error}).",
                    CalcarineWarning,
                    stacklevel=4,
                )


def open_loggers(
    settings: TrainingSettings,
    folder: Path,
    *,
    update: int,
    run_id: str,
    recipe: dict[str, Any],
) -> Loggers:
    """Open the loggers that the settings name.

    TensorBoard is among the default ones, so without it there is only a warning; a logger that
    somebody chose has to be there.

    Args:
        settings: Which loggers.
        folder: The run's folder.
        update: Age to continue from; 0 for a new run.
        run_id: Name of the run for trackers.
        recipe: Noted by trackers beside the numbers.

    Raises:
        MissingDependencyError: If a chosen logger is not installed.
    """
    from calcarine.training.trackers import CometLogger, WandbLogger

    makers: dict[str, Callable[[], Logger]] = {
        "local": lambda: LocalLogger(folder, update=update),
        "tensorboard": lambda: TensorBoardLogger(folder / "tensorboard", update=update),
        "comet": lambda: CometLogger(folder, run_id=run_id, recipe=recipe, resumed=update > 0),
        "wandb": lambda: WandbLogger(folder, run_id=run_id, recipe=recipe),
    }
    by_default = settings.loggers == TrainingSettings.model_fields["loggers"].default
    opened: dict[str, Logger] = {}
    for name in settings.loggers:
        try:
            opened[name] = makers[name]()
        except MissingDependencyError as error:
            if not by_default:
                Loggers(opened).close()
                raise
            warnings.warn(
                f"{error} Training logs to {folder / 'log.jsonl'} only.",
                CalcarineWarning,
                stacklevel=3,
            )
    return Loggers(opened)


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Return the lines of a ``log.jsonl`` as dicts; a last line cut short is left out."""
    lines: Iterable[str] = Path(path).read_text(encoding="utf-8").split("\n")
    # What follows the last line break is empty, or a line whose writer was killed.
    return [json.loads(line) for line in list(lines)[:-1]]


def _bytes(name: str, array: Float[Tensor, "C H W"]) -> Any:
    """Turn a picture with values in [0, 1] into an (H, W, C) array of bytes."""
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise InputError(
            f"The picture {name!r} is expected with axes (channel, height, width) and 1 or 3 "
            f"channels, got shape {tuple(array.shape)}."
        )
    pixels = (array.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(1, 2, 0).cpu().numpy()
