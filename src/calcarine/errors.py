"""The errors and warnings of the house.

    CalcarineError                 every error that calcarine raises on purpose
    ├── InputError (ValueError)    what the caller passed cannot be used
    │   ├── ShapeError             axes or sizes differ from the expected ones
    │   ├── UnknownNameError       a name that nothing is registered under
    │   ├── FileFormatError        a file that is missing, damaged or of another kind
    │   └── RecipeError            a recipe with unknown keys or impossible values
    ├── RunError (RuntimeError)    something failed while working
    │   ├── CheckpointError        a checkpoint that cannot be continued from
    │   └── NonFiniteError         NaN or infinity where numbers were expected
    └── MissingDependencyError (ImportError)   an optional part is not installed

A message says what was expected, what came, and what to do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

__all__ = [
    "CalcarineError",
    "CalcarineWarning",
    "CheckpointError",
    "FileFormatError",
    "InputError",
    "MissingDependencyError",
    "NonFiniteError",
    "RecipeError",
    "RunError",
    "ShapeError",
    "UnknownNameError",
    "require",
    "suggestion",
]


class CalcarineError(Exception):
    """Any error that calcarine raises on purpose."""


class InputError(CalcarineError, ValueError):
    """An argument, a file or a setting that cannot be used as it is."""


class ShapeError(InputError):
    """A tensor whose axes or sizes differ from the expected ones."""


class UnknownNameError(InputError):
    """A name that nothing is registered under."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        super().__init__(
            f"There is no {kind} named {name!r}.{suggestion(name, known)} "
            f"Known: {', '.join(known) or 'none'}."
        )


class FileFormatError(InputError):
    """A file that is missing, damaged, or of another kind than expected."""


class RecipeError(InputError):
    """A recipe with unknown keys, missing parts or impossible values."""


class RunError(CalcarineError, RuntimeError):
    """A failure at work that the input alone does not explain."""


class CheckpointError(RunError):
    """A checkpoint that cannot be continued from."""


class NonFiniteError(RunError):
    """NaN or infinity where numbers were expected."""


class MissingDependencyError(CalcarineError, ImportError):
    """An optional part of calcarine that is not installed."""


class CalcarineWarning(UserWarning):
    """A setting without effect, or a result to be read with care."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` when a known name is close, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which extra brings it.

    Args:
        module: Name of the module to import, dotted if need be.
        extra: The extra of calcarine that installs it.
        purpose: What it is needed for, completing "... needs".

    Raises:
        MissingDependencyError: If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs the package {module.split('.')[0]!r}, which is not installed "
            f"({error}). Install it with: pip install 'calcarine[{extra}]'"
        ) from error
