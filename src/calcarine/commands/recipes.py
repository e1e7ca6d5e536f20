"""``calcarine recipes``: list the recipes, show one, or explain every setting."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from importlib import resources
from typing import Any

from calcarine.commands.shared import print_table
from calcarine.errors import UnknownNameError

__all__ = ["recipes"]

_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def recipes(name: str | None = None, /, *, options: bool = False) -> None:
    """List the recipes, show one, or explain every setting.

    A recipe is a complete run as one YAML file. To make your own, save one, change it and train
    from the file; for a single change, use `calcarine train --set`.

    ```
    calcarine recipes
    calcarine recipes color-sandbox
    calcarine recipes color-sandbox > mine.yaml
    calcarine recipes --options
    ```

    Args:
        name: Recipe to show in full, with its comments.
        options: List every key that the recipe may hold, with type, default and meaning.
    """
    from calcarine import recipe

    known = recipe.recipe_names()
    if name is not None and name not in known:
        raise UnknownNameError("recipe", name, known)
    if options:
        loaded = recipe.load(name or known[0])
        print_table(("key", "type", "default", "meaning"), _options(type(loaded.config)))
    elif name is not None:
        path = resources.files("calcarine") / "recipes" / f"{name}.yaml"
        print(path.read_text(encoding="utf-8"), end="")
    else:
        rows = [(each, recipe.load(each).config.description) for each in known]
        print_table(("recipe", "what it is"), rows)
        print(f"\nNow try: calcarine recipes {known[0]}")


def _options(model: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield key, type, default and meaning of every setting, sections in place."""
    for name, field in model.model_fields.items():
        sections = _sections(field.annotation)
        if sections and field.default is None:  # a section that may be left out
            yield f"{prefix}{name}", "section | null", "null", _plain(field.description or "")
        for section in sections:
            yield from _options(section, f"{prefix}{name}.")
        if sections or (prefix and name == "type"):
            continue
        default = "(required)" if field.is_required() else _as_yaml(field.get_default())
        kind = " ".join([_type_name(field.annotation), *_bounds(field.metadata)])
        yield f"{prefix}{name}", kind, default, _plain(field.description or "")
        if typing.get_origin(field.annotation) is tuple:  # of named sections, such as phases
            for section in _sections(typing.get_args(field.annotation)[0]):
                yield from _options(section, f"{prefix}{name}.NAME.")


def _sections(annotation: Any) -> list[Any]:
    """Return the models that an annotation allows."""
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    members = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    return [m for m in members if hasattr(m, "model_fields")]


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _bounds(metadata: list[Any]) -> list[str]:
    found = [(sign, getattr(item, key, None)) for item in metadata for key, sign in _BOUNDS.items()]
    return [f"{sign} {value}" for sign, value in found if value is not None]


def _type_name(annotation: Any) -> str:
    """Say what a value may be, in the words of YAML."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(args[0])
    if _is_union(annotation):
        return " | ".join(dict.fromkeys(_type_name(member) for member in args))
    if origin is typing.Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        inner = args[:1] if len(args) == 2 and args[1] is Ellipsis else args
        names = ", ".join(_type_name(each) for each in inner)
        return f"[{names}{', ...' if inner != args else ''}]"
    if annotation is type(None):
        return "null"
    return {"Path": "path", "str": "text"}.get(
        getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation))
    )


def _plain(text: str) -> str:
    """Turn a line of documentation into one for a terminal."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")
    return text.replace("None", "null")


def _as_yaml(value: Any) -> str:
    import yaml

    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()
