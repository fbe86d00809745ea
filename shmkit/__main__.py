"""``python -m shmkit``: the same as the command ``shmkit``."""

from __future__ import annotations

import sys

from shmkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
