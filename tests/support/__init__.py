"""What several tests share.  Importable in spawned children too: tests/ is on their path (pyproject.toml says why)."""

from __future__ import annotations

from .names import unique_name
from .places import DEBUG_TREE, PACKAGE, REPOSITORY, debug_environment
from .processes import Processes, alive, die_with_parent
from .waiting import wait_until

__all__ = [
    "DEBUG_TREE",
    "PACKAGE",
    "REPOSITORY",
    "Processes",
    "alive",
    "debug_environment",
    "die_with_parent",
    "unique_name",
    "wait_until",
]
