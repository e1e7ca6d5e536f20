"""Keep these tests off the network and out of the caches of the person who runs them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HOME", str(Path(tempfile.gettempdir()) / "calcarine-test-hf"))
