"""The compiled kernel of local connections; see :mod:`calcarine.native`."""

from __future__ import annotations

import ctypes
from pathlib import Path

from calcarine.native import Kernel

__all__ = ["Fields", "kernel_status", "library"]


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


def library() -> ctypes.CDLL | None:
    """Return the compiled kernel, building it on the first call, or ``None`` without a compiler."""
    return _KERNEL.library()


def kernel_status() -> str:
    """Return what computes local connections on the CPU, and why, in one sentence."""
    return _KERNEL.status()


def _declare(built: ctypes.CDLL) -> None:
    pointer, number, count = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    fields = ctypes.POINTER(Fields)
    built.local_forward.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_transpose.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_outer.argtypes = (fields, number, pointer, pointer, pointer, count, number)
    built.local_hebbian.argtypes = (
        fields, number, ctypes.POINTER(pointer), ctypes.POINTER(pointer),
        ctypes.POINTER(ctypes.c_double), number, pointer, count, number,
    )  # fmt: skip


_KERNEL = Kernel(
    "local",
    Path(__file__).with_name("_local_kernel.cpp"),
    headers=(Path(__file__).with_name("_local_numbers.h"),),
    # Sums may be reordered, but NaN and infinity keep their meaning.
    flags=("-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
    declare=_declare,
)
