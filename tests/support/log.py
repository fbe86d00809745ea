"""Numbers that a killed process leaves behind."""

from __future__ import annotations

import mmap


class Log:
    """64-bit numbers in shared memory, which a process that forks shares with its children.

    Each is stored at once.  (struct.pack_into stores zeros first, and who calls it may be killed right there.)
    """

    def __init__(self) -> None:
        self.words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")

    def __setitem__(self, slot: int, value: int) -> None:
        self.words[slot] = value

    def __getitem__(self, slot: int) -> int:
        return self.words[slot]
