"""What every test starts from: off the network, out of the caches of the person who runs it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "calcarine-test-hf")


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive():
    """A shell starts jobs in the background with Ctrl-C ignored; tests of Ctrl-C need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
