"""The weights of named modules as one safetensors file, and back.

A tensor is stored as ``<module>.<name in its state dict>``, so any safetensors reader opens the
file, and a probe can load one module of a run without the others.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from calcarine import __version__
from calcarine.errors import CheckpointError, InputError, suggestion

__all__ = [
    "check_names",
    "decode_weights",
    "encode_weights",
    "nonfinite",
    "stored_age",
    "take_over",
]


def check_names(modules: Mapping[str, nn.Module]) -> None:
    """Refuse module names that a stored tensor's name could not be split at.

    Raises:
        InputError: If there are no modules, or a name is empty or has a dot.
    """
    if not modules:
        raise InputError("A task expected at least one module in modules(), got none.")
    for name, module in modules.items():
        if not name or "." in name:
            raise InputError(f"A module's name is expected without dots, got {name!r}.")
        if not isinstance(module, nn.Module):
            raise InputError(f"modules()[{name!r}] is expected to be an nn.Module, got {module!r}.")


def encode_weights(modules: Mapping[str, nn.Module], *, update: int) -> bytes:
    """Return the parameters and buffers of some modules as the bytes of a safetensors file.

    Args:
        modules: The modules by name.
        update: Age of the weights in updates, kept in the file's header.
    """
    tensors = {}
    for module, part in modules.items():
        for name, value in part.state_dict().items():
            if not isinstance(value, Tensor):
                raise InputError(
                    f"The state of a module is expected to be tensors, but {module}.{name} is a "
                    f"{type(value).__name__}. Keep it in the task's extra_state()."
                )
            # A copy each: the file format refuses tensors that share memory, such as tied weights.
            tensors[f"{module}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
    # One entry only: the format writes several in random order, and equal weights are to give
    # equal files.
    header = json.dumps({"version": __version__, "update": update})
    return safetensors.torch.save(tensors, metadata={"calcarine": header})


def stored_age(file: Path) -> int | None:
    """Return the age in updates that a file of ours carries in its header, else ``None``."""
    try:
        with safe_open(file, framework="pt") as opened:
            header = (opened.metadata() or {}).get("calcarine")
    except SafetensorError:
        return None  # decode_weights says what is wrong with it
    return json.loads(header)["update"] if header else None


def decode_weights(content: bytes, *, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file on the CPU.

    Args:
        content: The bytes of the file.
        path: Where they come from, for the message.

    Raises:
        CheckpointError: If they are not a whole safetensors file.
    """
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is expected to be a safetensors file of weights, but it is damaged or of "
            f"another kind ({error})."
        ) from error


def take_over(
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    *,
    path: Path,
    exact: bool = False,
) -> None:
    """Load stored tensors into modules; nothing is loaded unless everything fits.

    Args:
        modules: The modules by name. What the file holds for other modules is left alone.
        tensors: What :func:`decode_weights` returned.
        path: Where they come from, for the message.
        exact: Whether the number formats have to agree too.

    Raises:
        CheckpointError: If a module or tensor is missing, left over, or of another size.
    """
    stored = {name.partition(".")[0] for name in tensors}
    problems = []
    for module, part in modules.items():
        own = part.state_dict()
        if own and module not in stored:
            problems.append(
                f"no module {module!r}{suggestion(module, stored)} (it holds "
                f"{', '.join(sorted(stored)) or 'none'})"
            )
            continue
        held = {n.partition(".")[2]: t for n, t in tensors.items() if n.startswith(f"{module}.")}
        problems += [f"missing {module}.{name}" for name in own if name not in held]
        problems += [f"unexpected {module}.{name}" for name in held if name not in own]
        unlike = [
            f"{module}.{name} is {_kind(held[name], exact)} in the file, {_kind(value, exact)} here"
            for name, value in own.items()
            if name in held and _kind(held[name], exact) != _kind(value, exact)
        ]
        problems += unlike if unlike and not _resizes(part, held, exact) else []
    if problems:
        raise CheckpointError(
            f"The weights in {path} do not fit the modules: {'; '.join(problems)}. Build the "
            "modules from the recipe of that run."
        )
    for module, part in modules.items():
        prefix = f"{module}."
        part.load_state_dict(
            {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        )


def _resizes(part: nn.Module, held: Mapping[str, Tensor], exact: bool) -> bool:
    """Whether a module takes over the sizes of what it loads, as connections that have shrunk do.

    A copy tries, so that the module is untouched if it does not.
    """
    other = copy.deepcopy(part)
    try:
        other.load_state_dict(dict(held))
    except (RuntimeError, InputError):
        return False
    loaded = other.state_dict()
    return all(_kind(held[name], exact) == _kind(loaded[name], exact) for name in loaded)


def nonfinite(modules: Mapping[str, nn.Module]) -> list[str]:
    """Name the tensors that diverged: parameters with NaN or infinity, buffers with NaN.

    A buffer may hold infinities on purpose, such as a mask.
    """
    named: list[str] = []
    bad: list[Tensor] = []
    for module, part in modules.items():
        for name, parameter in part.named_parameters():
            named.append(f"{module}.{name}")
            bad.append(~parameter.detach().isfinite().all())
        for name, buffer in part.named_buffers():
            named.append(f"{module}.{name}")
            bad.append(buffer.isnan().any())
    if not bad:
        return []
    flags = torch.stack([flag.to(bad[0].device) for flag in bad]).tolist()
    return [name for name, flag in zip(named, flags, strict=True) if flag]


def _kind(tensor: Tensor, exact: bool) -> str:
    shape = str(tuple(tensor.shape))
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}" if exact else shape
