"""When what is shared may be pickled: while a child is being started, and not what was made for forked children."""

from __future__ import annotations

from multiprocessing import context
from typing import Any

__all__ = ["check_spawning", "is_for_forks"]


def is_for_forks(ctx: Any) -> bool:
    """Whether what is made for this context is inherited by forked children."""
    if ctx is None:
        ctx = context._default_context.get_context()
    return bool(ctx.get_start_method() == "fork")


def check_spawning(obj: Any, is_fork_ctx: bool) -> None:
    """RuntimeError where the standard library says no: in its words, which tests look for."""
    context.assert_spawning(obj)
    if is_fork_ctx:
        raise RuntimeError(
            "A SemLock created in a fork context is being shared with a process in a spawn context. This is not "
            "supported. Please use the same context to create multiprocessing objects and Process."
        )
