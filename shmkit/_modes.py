"""The mode of a file, or of what else the kernel keeps like one."""

from __future__ import annotations

from shmkit.sizes import whole_number

__all__ = ["permissions"]


def permissions(mode: int) -> int:
    """Who may read and write it, as in ``chmod``; TypeError, ValueError: it is none, or says more than that."""
    found = whole_number(mode, "a mode")
    if not 0 <= found <= 0o777:
        raise ValueError(f"a mode is a number from 0 to 0o777: got {oct(found)}")
    return found
