"""``concurrent.futures``' ProcessPoolExecutor, for ``shmkit.install()``: it is a `shmkit.Executor`."""

from __future__ import annotations

from concurrent.futures import process as _theirs
from typing import Any

from shmkit.executor import Executor

__all__ = ["ProcessPoolExecutor"]

# What a derived class that has its own of them counts on; it keeps the standard library's inside.
_INSIDE = (
    "_start_executor_manager_thread",
    "_start_queue_management_thread",
    "_adjust_process_count",
    "_launch_processes",
    "_spawn_process",
)


class ProcessPoolExecutor(Executor, _theirs.ProcessPoolExecutor):  # type: ignore[misc, override]
    """Runs functions in worker processes; see `shmkit.Executor`, which it is."""

    @classmethod
    def _stands_for(cls, kind: type) -> bool:
        theirs: Any = _theirs.ProcessPoolExecutor
        return all(getattr(kind, name, None) is getattr(theirs, name, None) for name in _INSIDE)
