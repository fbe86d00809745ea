"""The bytes of a segment are the ones that _layout.h draws, today as yesterday.

``tests/golden/<struct>.v<version>.bin`` holds the bytes of each layout version.  A change of any of them needs a new
version, and a new file; ``python tests/unit/test_layout.py`` writes it.
"""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from pathlib import Path

import pytest

import shmkit
from shmkit import _header, _map
from shmkit._membership import member

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LAYOUT = Path(__file__).resolve().parents[2] / "shmkit" / "_layout.h"

# As drawn in _layout.h: nobody else types an offset.
DRAWN = {
    "magic": (0, 8),
    "layout_version": (8, 4),
    "header_size": (12, 4),
    "payload_size": (16, 8),
    "kind": (24, 4),
    "flags": (28, 4),
    "identity": (32, 8),
    "creator_pid": (40, 4),
    "creator_uid": (44, 4),
    "creator_start": (48, 8),
    "created_ns": (56, 8),
    "meta_size": (64, 4),
    "references_made": (128, 8),
    "references_taken": (136, 8),
}
# What differs from one segment to the next.
PINNED = {
    "identity": 0x1122334455667788,
    "creator_pid": 4321,
    "creator_uid": 1000,
    "creator_start": 99,
    "created_ns": 1,
}


def fresh(pinned: bool = True) -> bytes:
    """Header and meta text of an array that was just made."""
    name = f"shmkit-test-{os.environ.get('SHMKIT_TEST_SESSION', os.getpid())}-layout"
    array = shmkit.create(name, (2, 3), [("a", "<i4"), ("b", "<f8", (2,))], order="F", lifetime="leased")
    content = array.segment.mapping.peek()
    for field, value in PINNED.items() if pinned else ():
        at, size = DRAWN[field]
        content = content[:at] + value.to_bytes(size, "little") + content[at + size :]
    return content


def test_every_field_stands_where_it_is_drawn() -> None:
    """The compiler's offsets are the diagram's."""
    assert _header.FIELDS == DRAWN
    assert _header.HEADER_SIZE == 256


def test_a_new_segments_header_is_the_golden_one() -> None:
    """Byte by byte, its pid, time and identity aside."""
    golden = GOLDEN / f"segment_header.v{_header.LAYOUT_VERSION}.bin"
    assert fresh() == golden.read_bytes()


def test_a_header_says_who_made_it_and_when() -> None:
    """The fields that the golden file cannot hold."""
    before = time.time_ns()
    header = _header.parse_header(fresh(pinned=False))
    assert before - 10**9 <= header.created_ns <= time.time_ns()
    assert (header.creator_pid, header.creator_uid) == (os.getpid(), os.geteuid())
    assert header.creator_start == _map.process_start(os.getpid())
    assert header.identity != 0


def test_the_golden_header_is_read_back() -> None:
    """Every field, as it was written."""
    content = (GOLDEN / f"segment_header.v{_header.LAYOUT_VERSION}.bin").read_bytes()
    header = _header.parse_header(content)
    assert header.magic == _header.MAGIC
    assert content[:8] == b"1KTSHM01"
    assert header.header_size == 4096
    assert header.payload_size == 6 * 20
    assert (header.kind, header.flags) == (_header.KIND_ARRAY, _header.LEASED)
    assert {field: getattr(header, field) for field in PINNED} == PINNED
    meta = content[256:].decode()
    assert meta == "{'descr': [('a', '<i4'), ('b', '<f8', (2,))], 'fortran_order': True, 'shape': (2, 3)}"
    assert header.meta_size == len(meta)


def test_the_file_is_the_memory(name: str) -> None:
    """A program that reads the file finds the header at its start and the payload behind it."""
    with shmkit.Segment.create(name, 5) as segment:
        segment.buf[:] = b"hello"
        content = Path("/dev/shm", name).read_bytes()
        segment.unlink()
    (header_size,) = struct.unpack_from("<I", content, DRAWN["header_size"][0])
    assert content[header_size:] == b"hello"
    assert content[256:header_size] == bytes(header_size - 256)


def test_a_short_header_is_no_header() -> None:
    """Parsing reads nothing beyond what it is given."""
    with pytest.raises(ValueError, match="256 bytes: got 255"):
        _header.parse_header(bytes(255))


def test_the_constants_are_the_headers() -> None:
    """Python's names for what _layout.h defines."""
    text = LAYOUT.read_text()
    for name, value in {
        "SHMKIT_LAYOUT_VERSION": _header.LAYOUT_VERSION,
        "SHMKIT_MAGIC": _header.MAGIC,
        "SEGMENT_KIND_BYTES": _header.KIND_BYTES,
        "SEGMENT_KIND_ARRAY": _header.KIND_ARRAY,
        "SEGMENT_KIND_RING": _header.KIND_RING,
        "SEGMENT_LEASED": _header.LEASED,
        "SEGMENT_HUGE": _header.HUGE,
        "SEGMENT_META_LIMIT": _header.META_LIMIT,
        "PAGE": _header.PAGE_SIZE,
    }.items():
        found = re.search(rf"^#define {name} (\w+)", text, re.MULTILINE)
        assert found is not None
        assert int(found[1].rstrip("ul"), 0) == value


# ── cells ───────────────────────────────────────────────────────────────────────────────────────────────────────────

CELLS = {
    "lock": shmkit.Lock.create_at,
    "rlock": lambda segment: shmkit.RLock.create_at(segment, on_owner_death="recover"),
    "semaphore": lambda segment: shmkit.Semaphore.create_at(segment, 0, 3),
    "bounded_semaphore": lambda segment: shmkit.BoundedSemaphore.create_at(segment, 0, 5),
    "owned_semaphore": lambda segment: shmkit.Semaphore.create_at(segment, 0, 2, undo=True),
    "event": shmkit.Event.create_at,
    "condition": shmkit.Condition.create_at,
    "rwlock": shmkit.RWLock.create_at,
    "barrier": lambda segment: shmkit.Barrier.create_at(segment, 0, 3),
}


def fresh_cell(which: str) -> bytes:
    """A primitive that was just made, in memory that was full of something else."""
    segment = shmkit.Segment.create(None, 2048)
    segment.buf[:] = b"\xee" * 2048
    made = CELLS[which](segment)
    return bytes(segment.buf[: made.nbytes])


@pytest.mark.parametrize("which", CELLS)
def test_a_new_cell_is_the_golden_one(which: str) -> None:
    """Byte by byte."""
    assert fresh_cell(which) == (GOLDEN / f"{which}_cell.v{_header.LAYOUT_VERSION}.bin").read_bytes()


def number(segment: shmkit.Segment, at: int, size: int) -> int:
    return int.from_bytes(segment.buf[at : at + size], "little")


def test_the_words_of_cells_stand_where_they_are_drawn() -> None:
    """Seen by what changes when they are used."""
    segment = shmkit.Segment.create(None, 2048)
    lock = shmkit.RLock.create_at(segment)
    me = member(segment.mapping).id
    assert number(segment, 8, 8) == number(segment, 20, 4) == number(segment, 24, 8) == 0
    with lock, lock:
        assert number(segment, 8, 8) == me * 4
        assert number(segment, 20, 4) == 2
        assert number(segment, 24, 8) != 0
    assert number(segment, 8, 8) == number(segment, 20, 4) == number(segment, 24, 8) == 0
    semaphore = shmkit.BoundedSemaphore.create_at(segment, 0, 5)
    semaphore.acquire()
    assert [number(segment, at, 4) for at in (8, 12, 20)] == [5, 4, 0]
    owned = shmkit.Semaphore.create_at(segment, 0, 2, undo=True)
    owned.acquire()
    assert [number(segment, at, 4) for at in (8, 12, 20)] == [2, 0, 2]
    assert sorted(number(segment, at, 8) for at in (128, 136)) == [0, me * 4]
    event = shmkit.Event.create_at(segment)
    for times in (1, 2):
        event.set()
        assert number(segment, 8, 8) == 2 * times + 1
        event.clear()
        assert number(segment, 8, 8) == 2 * times
    condition = shmkit.Condition.create_at(segment)
    with condition:
        condition.wait(0)
        assert number(segment, 128 + 16, 8) == 1
        assert number(segment, 128 + 128, 16) == 0


if __name__ == "__main__":
    for cell in CELLS:
        (GOLDEN / f"{cell}_cell.v{_header.LAYOUT_VERSION}.bin").write_bytes(fresh_cell(cell))
    path = GOLDEN / f"segment_header.v{_header.LAYOUT_VERSION}.bin"
    if path.exists() and path.read_bytes() != fresh():
        sys.exit(f"{path} exists and differs: a changed layout needs a new SHMKIT_LAYOUT_VERSION")
    path.write_bytes(fresh())
