"""Experiment trackers behind the logger interface: Comet and Weights & Biases.

Both are optional (``pip install 'calcarine[loggers]'``), and both write into the run folder when no
key is set, to be uploaded later with the tracker's own command. A resumed run keeps its ``run_id``,
so the tracker shows one experiment.

Axes    C channel (1 or 3) | H W image grid, rows down, columns right
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from calcarine.errors import require
from calcarine.training.loggers import Logger

__all__ = ["CometLogger", "WandbLogger"]


class CometLogger(Logger):
    """Scalars and pictures for Comet.

    Online with a key in ``COMET_API_KEY`` or Comet's configuration file, offline in
    ``<run>/comet`` otherwise.

    Args:
        folder: The run's folder; its name becomes the experiment's.
        run_id: 32 hexadecimal digits that name the experiment.
        recipe: Noted as parameters.
        resumed: Whether an earlier part of the run has been logged.

    Raises:
        MissingDependencyError: If comet-ml is not installed.
    """

    def __init__(
        self, folder: Path, *, run_id: str, recipe: dict[str, Any], resumed: bool = False
    ) -> None:
        comet = require("comet_ml", extra="loggers", purpose="The Comet logger")
        online = comet.get_config("comet.api_key") is not None
        # Offline, "create" would replace what the earlier part has stored; "get" adds to it.
        mode = "get_or_create" if online else ("get" if resumed else "create")
        config = comet.ExperimentConfig(
            name=folder.name,
            offline_directory=str(folder / "comet"),
            parse_args=False,
            log_code=False,
            auto_metric_logging=False,
            auto_param_logging=False,
        )
        self._experiment = comet.start(
            project_name="calcarine",
            experiment_key=run_id,
            mode=mode,
            online=online,
            experiment_config=config,
        )
        self._experiment.log_parameters(recipe)

    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Log the numbers."""
        self._experiment.log_metrics(dict(scalars), step=update)

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:
        """Log a picture."""
        pixels = array.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        self._experiment.log_image(pixels, name=name, step=update)

    def close(self) -> None:
        """Upload or store what is left."""
        self._experiment.end()


class WandbLogger(Logger):
    """Scalars and pictures for Weights & Biases.

    ``WANDB_MODE`` decides when it is set. Otherwise the run is online with a key in
    ``WANDB_API_KEY`` and offline in ``<run>/wandb`` without.

    Args:
        folder: The run's folder; its name becomes the run's.
        run_id: Names the run on the server.
        recipe: Noted as configuration.

    Raises:
        MissingDependencyError: If wandb is not installed.
    """

    def __init__(self, folder: Path, *, run_id: str, recipe: dict[str, Any]) -> None:
        self._wandb = require("wandb", extra="loggers", purpose="The Weights & Biases logger")
        decided = os.environ.get("WANDB_MODE") or os.environ.get("WANDB_API_KEY")
        self._run = self._wandb.init(
            project="calcarine",
            name=folder.name,
            id=run_id,
            resume="allow",
            dir=str(folder),
            config=recipe,
            mode=None if decided else "offline",
        )

    def log(self, update: int, scalars: Mapping[str, float]) -> None:
        """Log the numbers."""
        self._run.log(dict(scalars), step=update)

    def image(self, name: str, update: int, array: Float[Tensor, "C H W"]) -> None:
        """Log a picture."""
        pixels = array.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
        self._run.log({name: self._wandb.Image(pixels)}, step=update)

    def close(self) -> None:
        """Upload or store what is left."""
        self._run.finish()
