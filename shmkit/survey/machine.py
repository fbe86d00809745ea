"""A machine as it is looked at, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["LEVELS", "Check", "Finding", "Machine"]

LEVELS = ("ok", "note", "warning", "problem")


class Finding(NamedTuple):
    """``level``: "ok"; "note": worth knowing; "warning": it will hurt some day; "problem": it does not work so."""

    level: str
    subject: str
    text: str
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return self._asdict()


class Machine:
    """The kernel's files, below ``root``; another one in tests."""

    def __init__(self, root: str | os.PathLike[str] = "/") -> None:
        self.root = Path(root)

    def text(self, path: str) -> str | None:
        """What a file says; None if there is none, or it is not to be read."""
        try:
            return (self.root / path.lstrip("/")).read_text().strip()
        except (OSError, UnicodeDecodeError):
            return None

    def numbers(self, path: str) -> list[int]:
        """The numbers that a file consists of; empty if there are none."""
        try:
            return [int(word) for word in (self.text(path) or "").split()]
        except ValueError:
            return []

    def number(self, path: str) -> int | None:
        """The number that a file says."""
        found = self.numbers(path)
        return found[0] if found else None

    def memory(self, key: str) -> int | None:
        """A line of /proc/meminfo, in bytes or in pages."""
        for line in (self.text("/proc/meminfo") or "").splitlines():
            if line.startswith(f"{key}:"):
                words = line.split()
                return int(words[1]) * (1024 if words[-1] == "kB" else 1)
        return None


Check = Callable[[Machine], Iterator[Finding]]
