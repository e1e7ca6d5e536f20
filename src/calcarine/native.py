"""Compiled kernels: C++ beside the Python that calls it, built once where there is a compiler.

Nothing needs them: without a compiler the same numbers come from torch operations, more slowly. A
library is kept in the cache folder (``$CALCARINE_CACHE`` or ``~/.cache/calcarine``) under a name
that changes with the source, the compiler and the processor. ``CALCARINE_KERNEL=torch`` leaves
all of them out. ``calcarine doctor`` says which of the two is in use.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from calcarine.files import cache_folder

__all__ = ["Kernel", "plain", "transformed"]

_FLAGS = ("-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno")
_SECONDS = 120  # longest time a compiler may take; usual are three


@dataclass(frozen=True)
class Kernel:
    """A library of functions for the CPU, compiled when it is first asked for.

    Args:
        name: First part of the file's name in the cache.
        source: The C++ file.
        headers: Files of ours that it includes.
        flags: Compiler flags beside the usual ones, such as what may be reordered.
        declare: Told the loaded library once, to state the argument types of its functions.
    """

    name: str
    source: Path
    headers: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    declare: Callable[[ctypes.CDLL], None] = lambda built: None

    def library(self) -> ctypes.CDLL | None:
        """Return the library, building it on the first call, or ``None`` without a compiler."""
        return _load(self).library

    def loaded(self) -> ctypes.CDLL:
        """Return the library where :meth:`library` is known to have one."""
        library = self.library()
        assert library is not None
        return library

    def status(self) -> str:
        """Return what does the work on the CPU, and why, in one sentence."""
        return _load(self).status


def plain(tensors: Sequence[Tensor]) -> bool:
    """Return whether tensors are of one floating-point type, and seen by reverse mode at most."""
    return (
        not torch.compiler.is_compiling()
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in tensors)
        and all(x.dtype == tensors[0].dtype for x in tensors)
        and tensors[0].dtype in (torch.float32, torch.float64)
        and not transformed()
    )


def transformed() -> bool:
    """Return whether forward mode or torch.func is at work: they see operations, not kernels."""
    return bool(
        torch.autograd.forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
    )


class _Built(NamedTuple):
    library: ctypes.CDLL | None
    status: str


@functools.cache
def _load(kernel: Kernel) -> _Built:
    if os.environ.get("CALCARINE_KERNEL", "auto") == "torch":
        return _Built(None, "torch operations, because CALCARINE_KERNEL=torch")
    compiler = next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), None)
    if compiler is None:
        return _Built(None, "torch operations (slower), because there is no C++ compiler")
    try:
        path = _built(kernel, compiler)
        library = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        said = reason[0] if reason else type(error).__name__
        return _Built(None, f"torch operations (slower), because {compiler} failed: {said}")
    kernel.declare(library)
    return _Built(library, f"compiled kernel {path}")


def _built(kernel: Kernel, compiler: str) -> Path:
    """Return the library for this source, compiler and processor, compiling where it is missing."""
    # torch's own OpenMP: two thread pools in one process would wait for each other.
    openmp = [str(p) for p in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*")]
    command = [compiler, *_FLAGS, *kernel.flags, "-march=native", str(kernel.source), *openmp]
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
    ).stdout
    texts = [path.read_text() for path in (kernel.source, *kernel.headers)]
    identity = "\n".join([*texts, version, _processor(), *command])
    name = f"{kernel.name}-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
    for place in (cache_folder, lambda: Path(tempfile.mkdtemp(prefix="calcarine-"))):
        folder = place()
        if folder is None:
            continue
        path = folder / name
        if path.is_file():
            return path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as file:
                part = Path(file.name)
        except OSError:
            continue  # a folder that cannot be written
        _compile(command, part, path)
        return path
    raise OSError("no folder to keep the compiled kernel in; set CALCARINE_CACHE")


def _compile(command: list[str], part: Path, path: Path) -> None:
    """Compile beside the library's place and move it there: nobody loads half a file."""
    try:
        subprocess.run(
            [*command, "-o", str(part)], capture_output=True, text=True, check=True,
            timeout=_SECONDS,
        )  # fmt: skip
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _processor() -> str:
    """Return what tells processors apart: a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        sorted({x for x in lines if x.startswith(("flags", "Features", "model name"))})
    )
