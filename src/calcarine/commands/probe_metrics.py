"""Metrics by name, for the verb that sets two of them against each other.

mse, l2_norm, nlpd              as they are: 0 for identical pictures
ssim, ms_ssim                   as distances: 1 - similarity
any model                       root of the mean squared difference of its responses
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from calcarine.commands.probe_models import Found, find_model
from calcarine.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MetricChoice", "find_metric"]

_DISTANCES = ("l2_norm", "mse", "nlpd")
_SIMILARITIES = ("ms_ssim", "ssim")


@dataclass(frozen=True)
class MetricChoice:
    """A metric that there is.

    Args:
        name: For people and for names of files.
        found: The model behind it, if it is one.
    """

    name: str
    found: Found | None = None

    def distance(self, model: Any) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the distance of two pictures, 0 for identical ones.

        Args:
            model: The model, ready; ``None`` for a metric that is not one.
        """
        from calcarine import probes

        if model is not None:
            return probes.model_metric(model)
        function = getattr(probes, self.name.removeprefix("1-"))
        if not self.name.startswith("1-"):
            return function

        def dissimilarity(x: Tensor, y: Tensor) -> Tensor:
            return 1 - function(x, y)

        return dissimilarity


def find_metric(text: str, overrides: Sequence[str] = ()) -> MetricChoice:
    """Find a metric by what was typed.

    Args:
        text: A name, or a model as ``--model`` takes them.
        overrides: Changes KEY=VALUE, if it is a model of ours.

    Raises:
        InputError: If there is no such metric.
    """
    if text in _DISTANCES or text in _SIMILARITIES:
        if overrides:
            raise InputError(f"--set changes models, and {text} is none.")
        return MetricChoice(f"1-{text}" if text in _SIMILARITIES else text)
    try:
        found = find_model(text, overrides)
    except InputError as error:
        if "There is no model" not in str(error):
            raise
        raise InputError(
            f"{error} Metrics are {', '.join(sorted((*_DISTANCES, *_SIMILARITIES)))}."
        ) from error
    return MetricChoice(found.name, found)
