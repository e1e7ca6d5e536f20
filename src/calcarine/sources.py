"""Who to cite: the papers behind exactly the stages in use."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib import resources
from typing import Any

from torch import nn

from calcarine.errors import UnknownNameError

__all__ = ["bibliography", "cite", "source_keys"]


@lru_cache(maxsize=1)
def bibliography() -> dict[str, str]:
    """Return every reference of calcarine, key -> BibTeX entry."""
    text = (resources.files("calcarine") / "references.bib").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=@)", text.strip())
    return {re.match(r"@\w+\{([^,]+),", entry)[1]: entry.strip() for entry in entries}  # type: ignore[index]


def source_keys(model: Any) -> list[str]:
    """Return the keys of the papers that a model and the stages inside it implement, sorted."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else [model]
    return sorted({key for part in parts for key in getattr(part, "sources", ())})


def cite(model: Any) -> str:
    """Return the BibTeX of exactly the stages in use.

    Args:
        model: A model, a stage, or any object or class with an attribute ``sources``.

    Raises:
        UnknownNameError: If a stage names a source that ``references.bib`` does not hold.
    """
    known = bibliography()
    keys = source_keys(model)
    for key in keys:
        if key not in known:
            raise UnknownNameError("source in references.bib", key, known)
    return "\n\n".join(known[key] for key in keys)
