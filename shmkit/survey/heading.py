"""What a segment's first bytes say: a header that keeps every rule, or which rule it breaks."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from shmkit import _header
from shmkit.errors import LayoutMismatch
from shmkit.segment import header

if TYPE_CHECKING:
    from shmkit._header import Header
    from shmkit.survey.reading import Reading

__all__ = ["FIRST_LOOK", "Heading", "look"]

# Enough for a header without much text, and for the first page's worth of what follows it.
FIRST_LOOK = 2 * _header.PAGE_SIZE


class Heading(NamedTuple):
    """``state``: "whole"; "foreign" (not shmkit's); "other version", "unknown kind" or "corrupt", with the ``trouble``.

    ``raw`` is the start of the segment as it was read.
    """

    state: str
    trouble: str | None
    header: Header | None
    raw: bytes

    @property
    def kind(self) -> str:
        """What it holds, in a word."""
        if self.header is None or self.state in ("foreign", "corrupt"):
            return "raw" if self.state == "foreign" else "?"
        return header.KINDS.get(self.header.kind, f"kind {self.header.kind}")

    @property
    def meta(self) -> dict[str, Any]:
        """The description that the text after the header spells; empty where it spells none."""
        if self.header is None:
            return {}
        return _meta(self.raw[_header.HEADER_SIZE : _header.HEADER_SIZE + self.header.meta_size], self.header.meta_size)


def look(reading: Reading) -> Heading:
    """Reads and judges the start of a segment; whatever stands there, this does not raise."""
    raw = reading.read(0, FIRST_LOOK)
    if len(raw) < _header.HEADER_SIZE:
        return Heading("foreign", None, None, raw)
    found = _header.parse_header(raw)
    if found.magic != _header.MAGIC:
        return Heading("foreign", None, None, raw)
    try:
        header.check(raw, reading.size, None, idle_too=True)
    except LayoutMismatch as error:
        trouble = str(error).removesuffix(" (an anonymous segment)")
        if found.layout_version != _header.LAYOUT_VERSION:
            return Heading("other version", trouble, found, raw)
        fits = found.header_size + found.payload_size <= reading.size
        if found.kind not in header.KINDS and found.header_size % _header.PAGE_SIZE == 0 and fits:
            return Heading("unknown kind", trouble, found, raw)
        return Heading("corrupt", trouble, found, raw)
    if _header.HEADER_SIZE + found.meta_size > len(raw):
        raw = reading.read(0, found.header_size + _header.PAGE_SIZE)
    return Heading("whole", None, found, raw)


@lru_cache(maxsize=256)
def _meta(text: bytes, size: int) -> dict[str, Any]:
    # parse_meta wants a whole header; of which it looks at the size only.
    stand_in = _header.Header(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, size)
    try:
        return header.parse_meta(bytes(_header.HEADER_SIZE) + text, stand_in, None)
    except LayoutMismatch:
        return {}
