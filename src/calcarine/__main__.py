"""``python -m calcarine`` is the same as ``calcarine``."""

import sys

from calcarine.cli import main

if __name__ == "__main__":
    sys.exit(main())
