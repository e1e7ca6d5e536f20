"""Results of probes on disk: one file, written once for every probe, read by later versions too.

    <name>.safetensors    tensors by name; in its header, as JSON: what made it, the format's
                          version, the version of calcarine, plain facts (numbers, text, lists),
                          and which tensors are complex: these end in an axis of two real parts

Reading runs no code. The file appears when it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calcarine import __version__
from calcarine.errors import FileFormatError, InputError
from calcarine.files import write_bytes

__all__ = ["FORMAT", "read_result", "result_kind", "write_result"]

FORMAT = 1
"""Version of the layout. Later versions keep reading the earlier ones."""

_HEADER = "calcarine"
_SUFFIX = ".safetensors"


def write_result(
    path: str | os.PathLike[str],
    kind: str,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
) -> Path:
    """Write the result of a probe.

    Args:
        path: The file, ending in .safetensors; missing folders are made.
        kind: What made it, for example ``"metamer"``.
        tensors: What it consists of; names without further meaning to this module.
        facts: Numbers, text, booleans, ``None``, and lists and dicts of them.

    Returns:
        The path.

    Raises:
        InputError: If the name ends otherwise.
        RunError: If the folder cannot be written.
    """
    from safetensors.torch import save

    path = Path(path)
    if path.suffix.lower() != _SUFFIX:
        raise InputError(f"A result expected a file name ending in {_SUFFIX}, got {path.name!r}.")
    label: dict[str, Any] = {"kind": kind, "format": FORMAT, "version": __version__}
    label["facts"] = dict(facts)
    label["complex"] = [name for name, t in tensors.items() if t.is_complex()]
    # Clones: safetensors refuses tensors that share memory, as views of one history do.
    plain = {
        name: (torch.view_as_real(t.resolve_conj()) if t.is_complex() else t)
        .detach()
        .to("cpu", copy=True)
        .contiguous()
        for name, t in tensors.items()
    }
    return write_bytes(path, save(plain, metadata={_HEADER: json.dumps(label)}))


def read_result(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the result of a probe.

    Args:
        path: The file.
        kind: What is expected to have made it.

    Returns:
        Tensors on the CPU, and facts, as they were given to :func:`write_result`. Asking for one
        that is not there raises ``FileFormatError``.

    Raises:
        FileFormatError: If the file is missing, damaged, of another kind or of a later format.
    """
    label, tensors = _read(Path(path))
    if label["kind"] != kind:
        raise FileFormatError(
            f"{path} holds the result of {label['kind']!r}, expected one of {kind!r}. Load it with "
            "the probe that made it."
        )
    return _Held(path, tensors), _Held(path, label["facts"])


class _Held(dict[str, Any]):
    """What a file holds; what it lacks is the file's fault."""

    def __init__(self, path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise FileFormatError(
            f"{self._path} lacks {name!r}: it is incomplete, or was not written by calcarine."
        )


def result_kind(path: str | os.PathLike[str]) -> str:
    """Return which probe made a file.

    Raises:
        FileFormatError: If the file is missing, damaged or of a later format.
    """
    return _read(Path(path))[0]["kind"]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileFormatError(f"There is no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
            # Copies: views into the file are not aligned as arithmetic on complex numbers needs.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise FileFormatError(f"{path} is damaged or not a .safetensors file: {error}") from error
    try:
        label = json.loads(text or "")
        version, known = label["format"], {"kind": str, "facts": dict, "format": int}
        fits = all(isinstance(label[name], type_) for name, type_ in known.items())
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{path} holds tensors, but no result of a probe.") from error
    if not fits:
        raise FileFormatError(f"{path} holds tensors, but no result of a probe.")
    if version > FORMAT:
        raise FileFormatError(
            f"{path} has format {version}, newer than format {FORMAT}, which this version of "
            "calcarine reads. Update calcarine."
        )
    try:
        pairs = {name: torch.view_as_complex(tensors[name]) for name in label["complex"]}
    except (KeyError, TypeError, RuntimeError) as error:
        raise FileFormatError(f"{path} holds tensors, but no result of a probe.") from error
    return label, tensors | pairs
