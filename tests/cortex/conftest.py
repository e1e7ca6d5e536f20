"""What tests of a compiled kernel share; each names the kernel's module as ``KERNEL``."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture
def kernel(request):
    """Leave a test out where the kernel could not be compiled."""
    if request.module.KERNEL._KERNEL.library() is None:
        pytest.skip(request.module.KERNEL.kernel_status())


@pytest.fixture
def by_torch(request, monkeypatch):
    """Return what calls a function with torch operations in the kernel's place."""

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(request.module.KERNEL, "_KERNEL", SimpleNamespace(library=lambda: None))
            return function()

    return call
