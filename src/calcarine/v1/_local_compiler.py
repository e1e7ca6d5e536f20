"""The compiled kernel of local connections, built once where there is a C++ compiler.

Nothing needs it: without a compiler the same numbers come from torch operations, more slowly. The
library is kept in the cache folder (``$CALCARINE_CACHE`` or ``~/.cache/calcarine``) under a name
that changes with the source, the compiler and the processor. ``CALCARINE_KERNEL=torch`` leaves it
out. ``calcarine doctor`` says which of the two is in use.
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
from pathlib import Path
from typing import NamedTuple

import torch

from calcarine.files import cache_folder

__all__ = ["Fields", "kernel_status", "library"]

_SOURCE = Path(__file__).with_name("_local_kernel.cpp")
_HEADER = Path(__file__).with_name("_local_numbers.h")
# Sums may be reordered, but NaN and infinity keep their meaning.
_FLAGS = (
    "-O3", "-std=c++17", "-fPIC", "-shared", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fassociative-math",
)  # fmt: skip
_SECONDS = 120  # longest time a compiler may take; usual are three


class Fields(ctypes.Structure):
    """Connection fields as the kernel reads them; the same order as in the C++ file."""

    _fields_ = (
        ("offsets", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("runs", ctypes.c_void_p),
        ("units", ctypes.c_int64),
        ("sources", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("longest", ctypes.c_int64),
    )


class _Built(NamedTuple):
    library: ctypes.CDLL | None
    status: str


def library() -> ctypes.CDLL | None:
    """Return the compiled kernel, building it on the first call, or ``None`` without a compiler."""
    return _load().library


def kernel_status() -> str:
    """Return what computes local connections on the CPU, and why, in one sentence."""
    return _load().status


@functools.cache
def _load() -> _Built:
    if os.environ.get("CALCARINE_KERNEL", "auto") == "torch":
        return _Built(None, "torch operations, because CALCARINE_KERNEL=torch")
    compiler = next((c for c in ("g++", "clang++", "c++") if shutil.which(c)), None)
    if compiler is None:
        return _Built(None, "torch operations (slower), because there is no C++ compiler")
    try:
        path = _built(compiler)
        return _Built(_declared(ctypes.CDLL(str(path))), f"compiled kernel {path}")
    except (OSError, subprocess.SubprocessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        said = reason[0] if reason else type(error).__name__
        return _Built(None, f"torch operations (slower), because {compiler} failed: {said}")


def _built(compiler: str) -> Path:
    """Return the library for this source, compiler and processor, compiling where it is missing."""
    # torch's own OpenMP: two thread pools in one process would wait for each other.
    openmp = [str(p) for p in (Path(torch.__file__).parent / "lib").glob("libgomp*.so*")]
    command = [compiler, *_FLAGS, "-march=native", str(_SOURCE), *openmp]
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
    ).stdout
    texts = [_SOURCE.read_text(), _HEADER.read_text()]
    identity = "\n".join([*texts, version, _processor(), *command])
    name = f"local-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.so"
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
        try:
            subprocess.run(
                [*command, "-o", str(part)], capture_output=True, text=True, check=True,
                timeout=_SECONDS,
            )  # fmt: skip
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path
    raise OSError("no folder to keep the compiled kernel in; set CALCARINE_CACHE")


def _processor() -> str:
    """Return what tells processors apart: a cache may be shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(
        sorted({x for x in lines if x.startswith(("flags", "Features", "model name"))})
    )


def _declared(built: ctypes.CDLL) -> ctypes.CDLL:
    pointer, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    fields = ctypes.POINTER(Fields)
    built.local_forward.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_transpose.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_outer.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_hebbian.argtypes = (
        fields, number, ctypes.POINTER(pointer), ctypes.POINTER(pointer),
        ctypes.POINTER(ctypes.c_double), number, pointer, count, number,
    )  # fmt: skip
    return built
