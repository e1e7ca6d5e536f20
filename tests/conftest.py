"""What every test starts from: off the network, out of the caches of the person who runs it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "calcarine-test-hf")


@pytest.fixture(autouse=True, scope="session")
def _interrupts_arrive():
    """A shell starts jobs in the background with Ctrl-C ignored; tests of Ctrl-C need it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_weights_every_time():
    """Modules draw their weights from torch's own generator; another seed must pass, too."""
    torch.manual_seed(int(os.environ.get("CALCARINE_TEST_SEED", "0")))
