"""The Python of the documentation, block by block.

A block is a program by itself.  One that goes on from something the reader has is preceded by an HTML comment,
which no reader sees and which is run first: ``<!-- before: queue = shmkit.Queue() -->``.  After ``<!-- continued -->``
a block goes on from the one before it.  ``<!-- not run: reason -->`` is for what cannot be.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

from support import REPOSITORY

__all__ = ["PAGES", "Block", "blocks_of"]

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# Has a test of its own, with a scene of what it speaks of.
ELSEWHERE = {"command-line.md"}

BLOCK = re.compile(
    r"(?:<!--(?P<comment>[^>]*)-->\n+)?^(?P<indent> *)```(?:python|\{code-block\} python)\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """One block, and all that has to stand before it."""

    page: Path
    line: int
    code: str
    skipped: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every block of Python in it."""
    if page.name in ELSEWHERE or not page.exists():
        return []
    text = page.read_text()
    found: list[Block] = []
    for match in BLOCK.finditer(text):
        code = textwrap.dedent(match["code"])
        what, _, rest = (match["comment"] or "").strip().partition(":")
        skipped = rest.strip() if what == "not run" else None
        if what == "before":
            code = textwrap.dedent(rest.strip("\n")).strip() + "\n" + code
        elif what == "continued":
            code = found[-1].code + code
        found.append(Block(page, text.count("\n", 0, match.start("code")) + 1, code, skipped))
    return found
