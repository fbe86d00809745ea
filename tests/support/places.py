"""Where things are: the checkout, its sources, and the debug build."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "shmkit"
# Where `make debug` installs the debug build for this interpreter; the Makefile computes the same path.
DEBUG_TREE = REPOSITORY / "build" / "debug" / f"{sys.implementation.cache_tag}{sys.abiflags}"


def debug_environment(**extra: str) -> dict[str, str]:
    """The environment in which ``import shmkit`` finds the debug build."""
    return {**os.environ, "PYTHONPATH": str(DEBUG_TREE), **extra}
