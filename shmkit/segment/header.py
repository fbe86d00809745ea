"""The rules that a segment's header has to keep before anything in the segment is believed.

What is checked is a private copy; the shared one is never read again.  Each complaint is a ``LayoutMismatch`` that
names the segment, the rule and the value.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from shmkit import _header
from shmkit._header import HEADER_SIZE, LAYOUT_VERSION, MAGIC, META_LIMIT, PAGE_SIZE, Header
from shmkit.errors import LayoutMismatch
from shmkit.segment.trouble import Name, label

__all__ = ["ASKING", "KINDS", "READ_SIZE", "check", "format_meta", "parse_meta"]

KINDS = {
    _header.KIND_IDLE: "idle",
    _header.KIND_BYTES: "bytes",
    _header.KIND_ARRAY: "array",
    _header.KIND_RING: "ring",
    _header.KIND_SYNC: "sync",
    _header.KIND_HEAP: "heap",
    _header.KIND_TOPIC: "topic",
}
# The kinds whose users ask the kernel about each other, through a descriptor that stays open.
ASKING = frozenset({_header.KIND_RING, _header.KIND_SYNC, _header.KIND_HEAP, _header.KIND_TOPIC})
READ_SIZE = HEADER_SIZE + META_LIMIT
_FLAGS = _header.LEASED | _header.HUGE
_DEEPEST = 32
# What a literal of names, numbers, tuples, lists and dicts consists of, once its strings are out of the way: no
# operators, whose nesting could exhaust the parser's stack.
_STRINGS = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_PLAIN = re.compile(r"[\s\d()\[\]{},:]*(?:\b(?:True|False|None)\b[\s\d()\[\]{},:]*)*")


def check(raw: bytes, room: int, name: Name, kind: int | None = None, idle_too: bool = False) -> Header:
    """The header at the start of ``raw``, once it has kept every rule; ``room`` is the size of the whole segment."""

    def refuse(rule: str, value: object) -> LayoutMismatch:
        return LayoutMismatch(f"{rule}: got {value} ({label(name)})")

    if len(raw) < HEADER_SIZE or room < HEADER_SIZE:
        raise refuse(f"a segment has at least {HEADER_SIZE} bytes", min(len(raw), room))
    header = _header.parse_header(raw)
    if header.magic != MAGIC:
        raise refuse(
            f"a segment of shmkit begins with the magic {MAGIC:#x} (raw=True attaches to memory without a header)",
            f"{header.magic:#x}",
        )
    if header.layout_version != LAYOUT_VERSION:
        raise refuse(f"this version of shmkit reads layout version {LAYOUT_VERSION}", header.layout_version)
    if header.header_size % PAGE_SIZE or not PAGE_SIZE <= header.header_size <= READ_SIZE + PAGE_SIZE:
        raise refuse(f"the header's size must be a multiple of {PAGE_SIZE} within bounds", header.header_size)
    if header.meta_size > META_LIMIT or HEADER_SIZE + header.meta_size > header.header_size:
        raise refuse("the meta text must fit into the header", f"{header.meta_size} bytes in {header.header_size}")
    if header.header_size + header.payload_size > room:
        raise refuse(
            "header and payload must fit into the segment, or it was truncated",
            f"{header.header_size} + {header.payload_size} bytes in {room}",
        )
    if header.kind not in KINDS or (header.kind == _header.KIND_IDLE and not idle_too):
        raise refuse("the kind must be one that is known", header.kind)
    if header.flags & ~_FLAGS:
        raise refuse("the flags must be known ones", f"{header.flags:#x}")
    if header.identity == 0:
        raise refuse("the identity must not be zero", 0)
    if kind is not None and header.kind != kind:
        raise refuse(f"the segment must hold {_a(KINDS[kind])}", _a(KINDS[header.kind]))
    return header


def _a(kind: str) -> str:
    return {"array": "an array", "ring": "a ring", "sync": "primitives"}.get(kind, kind)


def format_meta(meta: Mapping[str, Any] | None) -> bytes:
    """The meta text for a dict of plain values; ValueError where it is too long for a header."""
    if not meta:
        return b""
    text = repr(dict(meta)).encode()
    if len(text) > META_LIMIT:
        raise ValueError(f"the description of a segment takes at most {META_LIMIT} bytes: got {len(text)}")
    return text


def parse_meta(raw: bytes, header: Header, name: Name) -> dict[str, Any]:
    """The dict that the meta text after the header spells."""
    data = raw[HEADER_SIZE : HEADER_SIZE + header.meta_size]
    if len(data) < header.meta_size:
        raise LayoutMismatch(f"the meta text must be {header.meta_size} bytes long: got {len(data)} ({label(name)})")
    if not data:
        return {}
    try:
        text = data.decode()
        bare = _STRINGS.sub("", text)
        if not _PLAIN.fullmatch(bare) or _depth(bare) > _DEEPEST:
            raise ValueError("it is more than a dict of plain values")
        meta = ast.literal_eval(text)
        if not isinstance(meta, dict) or not all(isinstance(key, str) for key in meta):
            raise ValueError("it is no dict with text for keys")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise LayoutMismatch(f"the meta text must spell a dict: got {data[:80]!r}, {error} ({label(name)})") from None
    return meta


def _depth(text: str) -> int:
    deepest = depth = 0
    for letter in text:
        if letter in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif letter in ")]}":
            depth -= 1
    return deepest
