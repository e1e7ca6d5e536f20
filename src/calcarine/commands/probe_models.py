"""Models by name, for the verbs that probe one.

    gaussian, LuminanceGainControl, ...     a stage of ours, for pictures of the size at hand
    runs/color-sandbox                      what a run learned, such as the percept of a cortex
    package.module:factory                  code of the user's own, from the current folder too

A stage of ours is built with the values fitted to people where there are any, unless a change asks
for others. Pyramids answer with all their bands at once.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calcarine.errors import InputError, RunError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Found", "find_model", "model_names"]

_ROOMS = ("lgn", "v1", "models")
_PYRAMIDS = {
    "laplacian_pyramid": "calcarine.v1.laplacian_pyramid:LaplacianPyramid",
    "steerable_pyramid": "calcarine.v1.steerable_pyramid:SteerablePyramid",
}
_KEEPS_FIT = {"kernel_size", "pad_mode", "pretrained", "apply_mask", "cache_filt"}
_KERNEL = 31  # berardino2018, the size that the fitted values are for


@dataclass(frozen=True)
class Found:
    """A model that there is, not yet built.

    Args:
        name: For people and for names of files.
        build: Makes it for pictures of a height and a width.
        origin: Whose it is.
        channels: Channels of the picture it needs; ``None`` where it takes grey and colour.
        window_px: Height and width of the picture it needs; ``None`` for any size.
        foreign: Whether it is code of the user's own.
    """

    name: str
    build: Callable[[tuple[int, int]], Any]
    origin: str
    channels: int | None = None
    window_px: tuple[int, int] | None = None
    foreign: bool = False


def model_names() -> list[str]:
    """Return the names of the models of ours that take a picture."""
    return sorted(_targets())


def find_model(text: str, overrides: Sequence[str] = ()) -> Found:
    """Find a model by what was typed after ``--model``.

    Args:
        text: See the module.
        overrides: Changes KEY=VALUE to the constructor of a stage of ours.

    Raises:
        UnknownNameError: If there is no such model, with the closest one.
        InputError: If changes do not apply, or code of the user's own cannot be used.
    """
    key = _plain(text)
    ours = {_plain(name): name for name in model_names()}
    ours |= {_plain(target.partition(":")[2]): name for name, target in _targets().items()}
    if key in ours:
        return _ours(ours[key], overrides)
    if overrides:
        raise InputError(
            f"--set changes stages of calcarine ({', '.join(model_names())}), got it with {text!r}."
        )
    if (Path(text) / "recipe.yaml").is_file():
        return _run(Path(text))
    if ":" in text and not Path(text).exists():
        return _code(text)
    if Path(text).is_dir() or "/" in text:
        from calcarine.commands.shared import check_run

        check_run(Path(text))
    close = difflib.get_close_matches(key, ours, n=1)
    hint = f" Did you mean {ours[close[0]]!r}?" if close else ""
    raise InputError(
        f"There is no model to probe named {text!r}.{hint} Known: {', '.join(model_names())}; the "
        "folder of a run, such as runs/color-sandbox; and code of your own as "
        "package.module:factory."
    )


def _plain(text: str) -> str:
    """Return a name as it is compared: no case, no underscores or hyphens."""
    return text.lower().replace("_", "").replace("-", "")


def _targets() -> dict[str, str]:
    """Return name -> ``module:Class`` of what takes a picture and remembers nothing."""
    from calcarine import registry

    found = dict(_PYRAMIDS)
    for name in registry.names():
        entry = registry.entry(name)
        room = entry.target.split(".")[1] if entry.target.startswith("calcarine.") else ""
        pictures = entry.example is not None and len(entry.example) == 4
        if entry.kind in ("stage", "model") and room in _ROOMS and pictures:
            found[name] = entry.target
    return found


def _ours(name: str, overrides: Sequence[str]) -> Found:
    from calcarine import recipe, registry

    cls = registry.Entry(_targets()[name]).load()
    schema = recipe.schema(cls)
    given = dict(_override(each) for each in overrides)

    def build(size: tuple[int, int]) -> Any:
        values = {**_defaults(schema.model_fields, given, size), **given}
        model = recipe.build(recipe.validate(schema, values, f"--model {name}"))
        return _bands_model(model) if name in _PYRAMIDS else model

    recipe.validate(schema, {**_defaults(schema.model_fields, given, (256, 256)), **given}, name)
    return Found(name, build, "calcarine")


def _override(text: str) -> tuple[str, Any]:
    """Read one KEY=VALUE, the value as YAML."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set expected a change like kernel_size=31, got {text!r}.")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"Cannot read the value of --set {text!r}: {error}") from error


def _defaults(fields: Any, given: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return what the constructor of a stage of ours needs, unless it was given."""
    fitted = not set(given) - _KEEPS_FIT and given.get("kernel_size", _KERNEL) == _KERNEL
    usual = {"kernel_size": _KERNEL, "pretrained": fitted, "image_shape": size, "downsample": False}
    return {name: value for name, value in usual.items() if name in fields}


def _bands_model(pyramid: Any) -> Any:
    """Return a model whose representation is all bands of a pyramid.

    Bands of one size are channels; of several sizes, one after another in a vector.
    """
    import torch
    from torch import nn

    class Bands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pyramid = pyramid

        def forward(self, image: Tensor) -> Tensor:
            found = self.pyramid(image)
            bands = list(found.values() if isinstance(found, dict) else found)
            parts = [p for b in bands for p in ((b.real, b.imag) if b.is_complex() else (b,))]
            parts = [p if p.ndim == 5 else p[:, :, None] for p in parts]
            if len({p.shape[-2:] for p in parts}) == 1:
                return torch.cat(parts, dim=2).flatten(1, 2)
            return torch.cat([p.flatten(2) for p in parts], dim=2)

    return Bands()


def _run(folder: Path) -> Found:
    """Return what a run has for the probes."""
    from calcarine.training.run import open_run

    task = open_run(folder).task
    probed = task.probed()
    if probed is None:
        raise InputError(
            f"{folder} is a run of {type(task).__name__}, which has no model to probe."
        )
    return Found(folder.name, lambda size: probed.model, str(folder), probed.channels, probed.size)


def _code(text: str) -> Found:
    """Import the user's own code, by their own request."""
    module, _, attribute = text.partition(":")
    with _importable_here():
        try:
            thing: Any = importlib.import_module(module)
            for name in attribute.split("."):
                thing = getattr(thing, name)
        except (ImportError, AttributeError, ValueError) as error:
            raise InputError(
                f"Cannot import {text!r} ({error}). Give a model of your own as "
                "package.module:factory; modules in the current folder are found too."
            ) from error
        except Exception as error:
            raise RunError(f"Importing {module!r} raised {_told(error)}.") from error
    name = attribute.rpartition(".")[2]
    return Found(name, lambda size: _made(thing, text), text, foreign=True)


def _made(thing: Any, text: str) -> Any:
    """Call a factory; take a module as it is."""
    from torch import nn

    if isinstance(thing, nn.Module):
        return thing
    if not callable(thing):
        raise InputError(
            f"{text} is a {type(thing).__name__}; expected a module, or a function or class that "
            "returns one when called without arguments."
        )
    try:
        inspect.signature(thing).bind()
    except TypeError as error:
        raise InputError(
            f"{text} expected arguments ({error}). Write a function without arguments that returns "
            "the model."
        ) from error
    with _importable_here():
        try:
            model = thing()
        except Exception as error:
            raise RunError(f"{text} raised {_told(error)}.") from error
    if not callable(model):
        raise InputError(
            f"{text} returned a {type(model).__name__}; expected a model that can be called."
        )
    return model


@contextlib.contextmanager
def _importable_here() -> Iterator[None]:
    """Let modules of the current folder be imported."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _told(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first} (repeat with --debug to see where)"
