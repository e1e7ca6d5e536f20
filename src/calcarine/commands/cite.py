"""``calcarine cite``: who to cite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from calcarine.errors import UnknownNameError

__all__ = ["cite"]


def cite(name: str = "color-sandbox", /) -> None:
    """Print the BibTeX of exactly what is used.

    ```
    calcarine cite
    calcarine cite color-sandbox > references.bib
    calcarine cite lateral_inhibition
    calcarine cite runs/color-sandbox
    ```

    Args:
        name: A recipe, the folder of a run, or the name of a single stage or model.
    """
    from calcarine import sources

    text = sources.cite(_Used(name))
    if text:
        print(text)
    else:
        print(f"{name} implements no published method; there is nothing to cite.", file=sys.stderr)


class _Used:
    """Everything behind a name, with the keys of the papers of all of it."""

    def __init__(self, name: str) -> None:
        from calcarine import sources

        parts = _parts(name)
        self.sources = sorted({key for part in parts for key in sources.source_keys(part)})


def _parts(name: str) -> list[Any]:
    from calcarine import recipe, registry

    own = Path(name) / "recipe.yaml"
    if own.is_file() or name in recipe.recipe_names() or Path(name).is_file():
        task = recipe.load(own if own.is_file() else name).build_task()
        return [task, *vars(task).values()]
    if name not in registry.names():
        raise UnknownNameError(
            "recipe, run or stage", name, [*recipe.recipe_names(), *registry.names()]
        )
    entry = registry.entry(name)
    cls = entry.load()
    if entry.kind in ("task", "stimulus"):
        return [cls]
    return [cls(**entry.settings)]
