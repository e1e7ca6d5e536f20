"""What the verbs that probe share: pictures, a model that is ready, a folder, and plain numbers.

Every probe writes one folder: pictures and figures as PNG, the result as .safetensors,
numbers.json, and report.html. A folder that holds a result is written to again only when asked to.
"""

from __future__ import annotations

import inspect
import json
import math
import platform
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calcarine.commands.probe_models import Found, find_model
from calcarine.commands.shared import note, open_picture, picture_name
from calcarine.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

__all__ = [
    "Subject",
    "as_command",
    "check_numbers",
    "check_subject",
    "folder_name",
    "initial_picture",
    "made_ready",
    "open_folder",
    "open_subject",
    "picture_for",
    "plain_numbers",
    "rms",
    "write_numbers",
]

_NUMBERS, _PAGE = "numbers.json", "report.html"
_LARGEST_PX = 2048


@dataclass(frozen=True)
class Subject:
    """A picture, and a model that is ready to be probed with it.

    Args:
        picture: sRGB code values in [0, 1].
        model: The model, in ``eval()``, its parameters frozen.
        name: What the model is called.
        origin: Whose it is.
        changed: What had to be done to make code of the user's own ready, in words.
    """

    picture: Float[Tensor, "1 C H W"]
    model: Any
    name: str
    origin: str
    changed: str


def open_subject(
    image: str,
    model: str,
    *,
    overrides: tuple[str, ...] = (),
    size: int = 256,
    color: bool = False,
    layer: str | None = None,
    time_ms: float | None = None,
) -> Subject:
    """Find model and picture, and make the model ready.

    Raises:
        InputError: If something cannot be found, or the model cannot be probed; what fails is
            listed on standard error.
    """
    found = find_model(model, overrides)
    picture = picture_for(image, found, size=size, color=color)
    built = found.build((picture.shape[-2], picture.shape[-1]))
    built, changed = made_ready(built)
    name = found.name
    if layer is not None or time_ms is not None:
        from calcarine.probes import readout

        built = readout(built, layer or "", time_ms)
        name += f"-{layer}" if layer else ""
        name += "" if time_ms is None else f"-{time_ms:g}ms"
    check_subject(built, picture, name)
    return Subject(picture, built, name, found.origin, changed if found.foreign else "")


def picture_for(image: str, found: Found, *, size: int, color: bool) -> Float[Tensor, "1 C H W"]:
    """Load a picture as a model needs it.

    Args:
        image: A path, or ``sample:NAME``.
        found: The model.
        size: Length of the shorter side, px, unless the model needs another one.
        color: Three channels where the model takes both.
    """
    from calcarine.stimuli import cover_image
    from calcarine.stimuli.samples import picture_path

    if not 8 <= size <= _LARGEST_PX:
        raise InputError(f"--size expected 8 to {_LARGEST_PX} px, got {size}.")
    if found.window_px is None:
        picture = open_picture(image, size)
    else:
        picture = cover_image(picture_path(image), found.window_px, channels="rgb")
    if (found.channels or (3 if color else 1)) == 1:
        from calcarine.stimuli import luminance

        picture = luminance(picture)
    return picture


def made_ready(model: Any) -> tuple[Any, str]:
    """Put a module into ``eval()`` and freeze it; return it, and what that changed, in words."""
    from torch import nn

    if not isinstance(model, nn.Module):
        return model, ""
    done = []
    if any(module.training for module in model.modules()):
        model.eval()
        done.append("put into eval()")
    free = [p for p in model.parameters() if p.requires_grad]
    if free:
        model.requires_grad_(False)
        done.append(f"{len(free)} parameter{'s' if len(free) > 1 else ''} frozen")
    return model, " and ".join(done)


def check_subject(model: Any, picture: Tensor, name: str) -> None:
    """Raise unless a model can be probed; tell on standard error what fails.

    Raises:
        InputError: With the first check that fails.
    """
    from calcarine.probes import check_model

    found = check_model(model, picture)
    if found.passed:
        return
    note(str(found))
    failures = "; ".join(f"{check.name}: {check.detail}" for check in found.failures[:1])
    raise InputError(f"{name} cannot be probed. {failures}")


def initial_picture(text: str, like: Tensor, seed: int) -> Float[Tensor, "1 C H W"]:
    """Return where a synthesis begins: noise by name, or a picture of the same size.

    Raises:
        InputError: If it is neither.
    """
    import torch

    from calcarine.stimuli import luminance, pink_noise

    draw = torch.Generator().manual_seed(seed)
    if text == "white":
        return torch.rand(like.shape, generator=draw, dtype=like.dtype)
    if text == "pink":
        batch, channels, height, width = like.shape
        shape = (batch, channels, height, width)
        return pink_noise(shape, std=0.2, generator=draw, dtype=like.dtype)
    picture = open_picture(text, max(like.shape[-2:]))
    if like.shape[1] == 1:
        picture = luminance(picture)
    top, left = ((p - q) // 2 for p, q in zip(picture.shape[-2:], like.shape[-2:], strict=True))
    cut = picture[..., top : top + like.shape[-2], left : left + like.shape[-1]]
    return cut.to(like)


def open_folder(out: Path | None, default: str, *, force: bool, resume: bool = False) -> Path:
    """Return the folder to write to.

    Raises:
        InputError: If it holds a result already and neither ``--force`` nor ``--resume`` was given,
            or there is nothing to resume.
    """
    folder = Path(default) if out is None else out
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; --out expected a folder.")
    held = sorted(path.name for path in folder.glob("*.safetensors"))
    held += [name for name in (_NUMBERS, _PAGE) if (folder / name).exists()]
    if resume and not held:
        raise InputError(f"{folder} holds no result to resume. Run it without --resume first.")
    if held and not (force or resume):
        raise InputError(
            f"{folder} already holds a result ({held[0]}). Choose another folder with --out, or "
            "write over it with --force."
        )
    return folder


def folder_name(verb: str, image: str, name: str) -> str:
    """Return the folder that a verb writes to by default."""
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in f"{picture_name(image)}-{name}")
    return f"{verb}-{safe}"


def check_numbers(**least: tuple[float, float]) -> None:
    """Check options ``name=(value, least)``.

    Raises:
        InputError: If a value is smaller.
    """
    for name, (value, smallest) in least.items():
        if not value >= smallest:
            raise InputError(
                f"--{name.replace('_', '-')} expected at least {smallest:g}, got {value:g}."
            )


def as_command(verb: Callable[..., Any], name: str, values: Mapping[str, Any]) -> str:
    """Return the command that repeats a call, options at their defaults left out.

    Args:
        verb: The verb's function.
        name: How the verb is called.
        values: Its arguments.
    """
    words = ["calcarine", name]
    for key, parameter in inspect.signature(verb).parameters.items():
        value = values[key]
        if parameter.kind is parameter.POSITIONAL_ONLY:
            words.append(str(value))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            words += map(str, value)
        elif value != parameter.default and key not in ("resume", "force", "quiet"):
            option = "--set" if key == "overrides" else f"--{key.replace('_', '-')}"
            each = value if isinstance(value, tuple) else (value,)
            words += [w for v in each for w in ([option] if v is True else [option, str(v)])]
    return shlex.join(words)


def rms(a: Tensor, b: Tensor) -> float:
    """Return the root of the mean squared difference of two pictures."""
    return float((a - b).square().mean().sqrt())


def write_numbers(folder: Path, numbers: Mapping[str, Any]) -> Path:
    """Write numbers.json: what was asked for, what was found, and with which versions."""
    import torch

    from calcarine import __version__
    from calcarine.files import write_text

    versions = {
        "calcarine": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    text = json.dumps(plain_numbers({**numbers, "versions": versions}), indent=1, allow_nan=False)
    return write_text(folder / _NUMBERS, text + "\n")


def plain_numbers(value: Any) -> Any:
    """Return what JSON can hold: tensors as lists, paths as text, what is not finite as null."""
    import torch

    if isinstance(value, torch.Tensor):
        return plain_numbers(value.detach().cpu().tolist())
    if isinstance(value, Mapping):
        return {str(k): plain_numbers(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_numbers(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
