"""Recipes: a complete run as one strict, commented YAML file.

    format: 1                     version of this layout
    task: color_vision_task       what is learned; its constructor names the sections below
    name: color-sandbox           also the default name of the run folder
    seed: 0
    retina: {size: 64, mosaic: LMS}
    training: {updates: 4000}

The schema of a section *is* the signature of the class it builds (:func:`schema`), so there is no
second list of parameters. Every mistake in a file is reported at once, with its path and, where one
is close, the key that was probably meant. A recipe is written out in full beside every result.
"""

from __future__ import annotations

import inspect
import re
import shlex
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union

import torch
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model

from calcarine import registry
from calcarine.errors import FileFormatError, InputError, RecipeError, UnknownNameError, suggestion
from calcarine.files import write_text

__all__ = ["FORMAT", "DefaultType", "Recipe", "build", "load", "recipe_names", "schema"]

FORMAT = 1
"""Version of the layout of recipe files."""

_targets: dict[type[BaseModel], type] = {}


class DefaultType(NamedTuple):
    """Marks a choice of classes: which one a section without the key ``type`` means.

    Write it as ``Annotated[First | Second, DefaultType("first")]``.
    """

    name: str


@cache
def schema(cls: Any) -> type[BaseModel]:
    """Derive the pydantic model of a class from the signature of its constructor.

    Parameters annotated with another registered class become nested sections; a union of registered
    classes becomes a choice by the key ``type``. Runtime facts (generators, tensors, functions) are
    left out. Descriptions come from the ``Args`` section of the docstring.

    Raises:
        InputError: If a parameter has neither a default nor a type that YAML can hold.
    """
    if issubclass(cls, BaseModel):
        return cls
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    described = _described_arguments(cls)
    fields: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        kind = _recipe_type(hints.get(name, Any))
        required = parameter.default is parameter.empty
        if kind is None:
            if required:
                raise InputError(f"{cls.__name__}({name}=...) cannot be written in a recipe.")
            continue
        section = _default_section(hints.get(name, Any), kind)
        if required and section is not None and not _required_fields(section):
            default: dict[str, Any] = {"default_factory": section}
        else:
            default = {"default": ... if required else parameter.default}
        fields[name] = (kind, Field(**default, description=described.get(name, "")))
    registered = registry.registered_name(cls)
    if registered is not None:
        fields["type"] = (
            Literal[registered],
            Field(default=registered, description="What to build."),
        )
    model = create_model(
        cls.__name__,
        __config__=ConfigDict(extra="forbid", frozen=True, validate_default=True),
        **fields,
    )
    _targets[model] = cls
    return model


def _required_fields(model: type[BaseModel]) -> bool:
    return any(f.is_required() for f in model.model_fields.values())


def _recipe_type(hint: Any) -> Any:
    """Return the type a recipe accepts for an annotation, or ``None`` for a runtime fact."""
    origin = typing.get_origin(hint)
    mark = _default_type(hint)
    if mark is not None:
        named = _recipe_type(typing.get_args(hint)[0])
        return Annotated[named, BeforeValidator(lambda data: _with_type(data, mark.name))]
    if origin in (Union, types.UnionType):
        members = [
            _recipe_type(member) for member in typing.get_args(hint) if member is not type(None)
        ]
        kept = [member for member in members if member is not None]
        if not kept:
            return None
        optional = type(None) in typing.get_args(hint)
        choice: Any = Union[tuple(kept)]  # noqa: UP007 - built from a list at run time
        if len(kept) > 1 and all(isinstance(k, type) and issubclass(k, BaseModel) for k in kept):
            choice = Annotated[choice, Field(discriminator="type")]
        return choice | None if optional else choice
    if origin is Callable or hint is Callable or origin is typing.get_origin(Callable[..., Any]):
        return None
    if isinstance(hint, type) and issubclass(hint, (torch.Generator, torch.Tensor)):
        return None
    if isinstance(hint, type) and (registry.registered_name(hint) or issubclass(hint, BaseModel)):
        return schema(hint)
    if origin is Literal and {"true", "false"} & set(typing.get_args(hint)):
        return Annotated[hint, BeforeValidator(_as_word)]
    return hint


def _as_word(data: Any) -> Any:
    """Return the word that YAML took for a truth value."""
    return str(data).lower() if isinstance(data, bool) else data


def _default_type(hint: Any) -> DefaultType | None:
    marks = hint.__metadata__ if typing.get_origin(hint) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, DefaultType)), None)


def _with_type(data: Any, name: str) -> Any:
    if isinstance(data, Mapping) and "type" not in data:
        return {"type": name, **data}
    return data


def _default_section(hint: Any, kind: Any) -> type[BaseModel] | None:
    """Return the section that is built where a recipe leaves one out, if there is one."""
    mark = _default_type(hint)
    if mark is not None:
        return schema(registry.get(mark.name))
    return kind if isinstance(kind, type) and kind in _targets else None


def _described_arguments(cls: type) -> dict[str, str]:
    """Read ``name: text`` pairs from the Args section of a Google-style docstring."""
    doc = inspect.getdoc(cls) or ""
    match = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", doc, flags=re.MULTILINE)
    if not match:
        return {}
    found: dict[str, str] = {}
    for item in re.split(r"\n(?= {4}\w)", match.group(1)):
        name, _, text = item.strip().partition(":")
        for each in name.split(","):
            found[each.strip()] = " ".join(text.split())
    return found


def build(config: BaseModel) -> Any:
    """Construct what a section describes, inner sections first."""
    if type(config) not in _targets:
        return config
    values = {name: getattr(config, name) for name in type(config).model_fields if name != "type"}
    built = {k: build(v) if isinstance(v, BaseModel) else v for k, v in values.items()}
    return _targets[type(config)](**built)


@cache
def _recipe_schema(task: str) -> type[BaseModel]:
    sections = schema(registry.get(task))
    fields: dict[str, Any] = {
        "format": (Literal[FORMAT], Field(FORMAT, description="Version of the recipe layout.")),
        "task": (Literal[task], Field(task, description="What is learned.")),
        "name": (
            Annotated[str, Field(pattern=r"^[\w.-]+$")],
            Field(..., description="Name of the run."),
        ),
        "description": (str, Field("", description="One sentence for people.")),
        "seed": (Annotated[int, Field(ge=0)], Field(0, description="Seed of every random draw.")),
    }
    for name, info in sections.model_fields.items():
        if name != "type":
            fields[name] = (info.annotation, info)
    training = registry.get("training")
    fields["training"] = (
        training,
        Field(default_factory=training, description="How it is learned."),
    )
    return create_model("Recipe", __config__=ConfigDict(extra="forbid", frozen=True), **fields)


@dataclass(frozen=True)
class Recipe:
    """A validated recipe.

    Args:
        config: The values, defaults filled in; sections are attributes (``config.retina.size``).
    """

    config: Any

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.config.name

    @property
    def seed(self) -> int:
        """Seed of every random draw."""
        return self.config.seed

    @property
    def training(self) -> Any:
        """The settings of the training driver."""
        return self.config.training

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, every default written out."""
        return self.config.model_dump(mode="json")

    def to_yaml(self) -> str:
        """Return the recipe as YAML, every default written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: str | Path) -> Path:
        """Write the recipe as YAML, atomically."""
        return write_text(path, self.to_yaml())

    def build_task(self) -> Any:
        """Construct the task with weights drawn from the recipe's seed.

        The seed acts inside this call only; the caller's random state is left as it was.
        """
        cls = registry.get(self.config.task)
        section_names = [n for n in schema(cls).model_fields if n != "type"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            sections = {name: getattr(self.config, name) for name in section_names}
            built = {k: build(v) if isinstance(v, BaseModel) else v for k, v in sections.items()}
            return cls(**built)


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with calcarine."""
    folder = resources.files("calcarine") / "recipes"
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        source: Name of a recipe that comes with calcarine, path of a YAML file, or plain data.
        overrides: Changes as ``"section.key=value"``, the value read as YAML.

    Raises:
        FileFormatError: If the file is missing or not YAML.
        UnknownNameError: If the name is not known.
        RecipeError: With every unknown key and impossible value, by path.
    """
    data = dict(source) if isinstance(source, Mapping) else _read(source)
    for override in overrides:
        _apply(data, override)
    label = "recipe" if isinstance(source, Mapping) else str(source)
    task = data.get("task")
    if task is None:
        raise RecipeError(
            f"{label}: expected a key 'task', one of {', '.join(registry.names('task'))}."
        )
    if task not in registry.names("task"):
        raise UnknownNameError("task", str(task), registry.names("task"))
    if isinstance(data.get("format"), int) and data["format"] > FORMAT:
        raise RecipeError(
            f"{label}: format {data['format']} is newer than format {FORMAT}, which this version "
            "of calcarine reads. Update calcarine."
        )
    return Recipe(validate(_recipe_schema(task), data, label))


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        if str(source) not in recipe_names():
            if path.is_dir():
                raise FileFormatError(
                    f"{source} is a folder, not a recipe. If it is a run, give its recipe.yaml or "
                    f"continue it: calcarine train --run {shlex.quote(str(source))} --resume"
                )
            raise UnknownNameError("recipe", str(source), recipe_names())
        text = (resources.files("calcarine") / "recipes" / f"{source}.yaml").read_text()
    else:
        text = read_text(path)
    return parse_yaml(text, str(source))


def read_text(path: Path) -> str:
    """Read a UTF-8 text file, or say why not.

    Raises:
        FileFormatError: If there is no such file or it is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise FileFormatError(f"Cannot read {path}: {reason}.") from error


def parse_yaml(text: str, label: str) -> dict[str, Any]:
    """Parse a YAML mapping.

    Raises:
        FileFormatError: If the text is not YAML, or not a mapping; the message names the line.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FileFormatError(f"{label} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise FileFormatError(
            f"{label}: expected a mapping of sections, got {type(data).__name__}."
        )
    return data


def _apply(data: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(f"Expected an override like training.updates=2000, got {override!r}.")
    here: Any = data
    for key in keys[:-1]:
        here = _section(here, key, path)
    if isinstance(here, list):
        raise RecipeError(f"Cannot set {path!r}: name a key of {keys[-1]!r}, such as {path}.name.")
    try:
        here[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"Cannot read the value of {override!r}: {error}") from error


def _section(here: Any, key: str, path: str) -> Any:
    """Put a copy in the place of an inner section, and return it.

    In a list of named sections, such as the phases of a training, the key is a name.
    """
    if isinstance(here, list):
        names = [item["name"] for item in here]
        if key not in names:
            raise RecipeError(
                f"Cannot set {path!r}: there is no {key!r}.{suggestion(key, names)} Known: "
                f"{', '.join(names)}."
            )
        place: Any = names.index(key)
        inner = here[place]
    else:
        place, inner = key, here.get(key)
    if inner is None or isinstance(inner, dict):
        here[place] = dict(inner or {})
    elif isinstance(inner, list) and inner and all(_is_named(item) for item in inner):
        here[place] = list(inner)
    else:
        raise RecipeError(f"Cannot set {path!r}: {key!r} is a value, not a section.")
    return here[place]


def _is_named(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("name"), str)


def validate(model: type[BaseModel], data: Mapping[str, Any], label: str) -> BaseModel:
    """Check data against a schema.

    Raises:
        RecipeError: With every mistake, one per line, by path.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [_explain(model, dict(item)) for item in error.errors()]
        raise RecipeError(f"{label} has {len(lines)} mistake(s):\n" + "\n".join(lines)) from error


def _explain(model: type[BaseModel], item: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, item["loc"][:-1])
        closest = suggestion(str(item["loc"][-1]), known)
        return f"  {path}: unknown key.{closest} Known: {', '.join(known)}."
    got = "" if item["type"] == "missing" else f" (got {item['input']!r})"
    return f"  {path}: {item['msg'][0].lower()}{item['msg'][1:]}{got}"


def _known_keys(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    choices: list[type[BaseModel]] = []
    for key in path:
        if isinstance(key, int):
            continue  # an item of a list, whose type stands in the annotation of the list
        chosen = [c for c in choices if "type" in c.model_fields and _tag(c) == key]
        if chosen:
            model, choices = chosen[0], []
            continue
        inner = model.model_fields.get(str(key))
        candidates = [inner.annotation] if inner else []
        if inner and typing.get_args(inner.annotation):
            candidates = [c for c in typing.get_args(inner.annotation) if isinstance(c, type)]
        found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not found:
            return []
        model, choices = found[0], found
    return sorted(model.model_fields)


def _tag(model: type[BaseModel]) -> str:
    return str(model.model_fields["type"].default)
