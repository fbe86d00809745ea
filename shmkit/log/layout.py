"""The bytes of a log.

::

    +--------+---------+-------+----------+-------+-------+------+-----+
    | magic  | version | flags | identity | first | start | turn | crc |    a head, twice: at 0 and at 512
    | 8 × u8 |   u32   |  u32  |   u64    |  u64  |  u64  | u64  | u32 |
    +--------+---------+-------+----------+-------+-------+------+-----+
    at 1024 a byte that the writer locks, at 1028 its pid, at 1040 where it has left (u64, u32 crc)
    records from 4096 on, each at a multiple of 8:
    +--------+----------+------+-------------+------------+---------+-----+
    | length | sequence | mark | payload crc | header crc | payload | pad |
    |  u64   |   u64    | u32  |     u32     |    u32     |         |     |
    +--------+----------+------+-------------+------------+---------+-----+

All little-endian.  A header has a checksum of its own, so that a length is believed, and a record that is not whole is
told from one that was spoilt.  The header's checksum begins with the log's identity: what an earlier file left on the
disk is no record of this one.  Sequence numbers go up by one.

*first* and *start* are the sequence number and the place of the oldest record that was not dropped.  Of the two heads
the one that is whole, and was written last, counts: a change is written over the other one, so one is always whole.
*Where it has left* is the end of the last record when a writer closed the log in order.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import NamedTuple

from shmkit.errors import LayoutMismatch, RecordCorrupt

__all__ = [
    "ALIGN",
    "RECORD",
    "RECORDS_AT",
    "Head",
    "Record",
    "Tail",
    "corrupt",
    "find_whole",
    "head_text",
    "parse_record",
    "read_head",
    "read_left",
    "record_header",
    "record_size",
    "write_left",
]

MAGIC = b"shmkitLG"
VERSION = 1
ALIGN = 8
RECORDS_AT = 4096
HEAD_AT = (0, 512)
_LEFT_AT = 1040
_MARK = 0x6C6F6721

_HEAD = struct.Struct("<8sIIQQQQ")
_CRC = struct.Struct("<I")
RECORD = struct.Struct("<QQIII4x")
_UNSIGNED = struct.Struct("<QQII")


class Head(NamedTuple):
    """What a log says of itself."""

    identity: int
    first: int
    start: int
    turn: int
    """How many times it was written; the lower bit says where."""


class Record(NamedTuple):
    """A record's header."""

    length: int
    sequence: int
    crc: int


class Tail(NamedTuple):
    """What stands at the end of a log and is no whole record: the rest of an append that a crash interrupted."""

    offset: int
    """Where it begins in the file."""
    nbytes: int
    """How long it is."""
    sequence: int
    """The number that the record would have had."""


def head_text(head: Head) -> bytes:
    """A head as it is written."""
    text = _HEAD.pack(MAGIC, VERSION, 0, head.identity, head.first, head.start, head.turn)
    return text + _CRC.pack(zlib.crc32(text))


def read_head(fd: int, path: str) -> Head:
    """The head that counts.  LayoutMismatch: this is no log, or of another version."""
    found: list[Head] = []
    foreign = True
    for place in HEAD_AT:
        text = os.pread(fd, _HEAD.size + _CRC.size, place)
        if text[:8] == MAGIC:
            foreign = False
        if (
            len(text) < _HEAD.size + _CRC.size
            or zlib.crc32(text[: _HEAD.size]) != _CRC.unpack_from(text, _HEAD.size)[0]
        ):
            continue
        magic, version, _, identity, first, start, turn = _HEAD.unpack_from(text)
        if magic != MAGIC:
            continue
        if version != VERSION:
            raise LayoutMismatch(f"{path!r} is a log of version {version}: this one reads version {VERSION}")
        found.append(Head(identity, first, start, turn))
    if not found:
        what = "is no log" if foreign else "is a log whose head is spoilt"
        raise LayoutMismatch(f"{path!r} {what}")
    return max(found, key=lambda head: head.turn)


def write_left(fd: int, end: int) -> None:
    """The writer leaves in order, and the log ends there."""
    text = struct.pack("<Q", end)
    os.pwrite(fd, text + _CRC.pack(zlib.crc32(text)), _LEFT_AT)


def read_left(fd: int) -> int:
    """Where the log ended when the last writer left in order; 0: none has."""
    text = os.pread(fd, 12, _LEFT_AT)
    if len(text) < 12 or zlib.crc32(text[:8]) != _CRC.unpack_from(text, 8)[0]:
        return 0
    return int.from_bytes(text[:8], "little")


def record_size(length: int) -> int:
    """Bytes that a record with so many bytes of payload takes in the file."""
    return RECORD.size + -(-length // ALIGN) * ALIGN


def record_header(identity: int, length: int, sequence: int, crc: int) -> bytes:
    """A record's first bytes."""
    signed = zlib.crc32(_UNSIGNED.pack(length, sequence, _MARK, crc), identity & 0xFFFFFFFF)
    return RECORD.pack(length, sequence, _MARK, crc, signed)


def parse_record(text: bytes | memoryview, identity: int) -> Record | None:
    """The header that begins there; None: none, or a spoilt one."""
    length, sequence, mark, crc, signed = RECORD.unpack(text)
    if mark != _MARK or length >= 2**62:
        return None
    if zlib.crc32(_UNSIGNED.pack(length, sequence, _MARK, crc), identity & 0xFFFFFFFF) != signed:
        return None
    return Record(length, sequence, crc)


def find_whole(fd: int, start: int, end: int, identity: int, sequence: int) -> int:
    """Where the next whole record after ``start`` begins; 0: nowhere, so that what stands there is a torn end."""
    window = 1 << 20
    place = start + ALIGN
    while place + RECORD.size <= end:
        text = os.pread(fd, window + RECORD.size, place)
        mark = text.find(_MARK_TEXT)
        while 0 <= mark < window + _MARK_IN:
            offset = mark - _MARK_IN
            header = text[offset : offset + RECORD.size] if offset >= 0 and offset % ALIGN == 0 else b""
            record = parse_record(header, identity) if len(header) == RECORD.size else None
            if record is not None and record.sequence > sequence and _whole(fd, place + offset, record):
                return place + offset
            mark = text.find(_MARK_TEXT, mark + 1)
        place += window
    return 0


_MARK_TEXT = struct.pack("<I", _MARK)
_MARK_IN = 16


def _whole(fd: int, place: int, record: Record) -> bool:
    crc, left, at = 0, record.length, place + RECORD.size
    while left:
        text = os.pread(fd, min(left, 1 << 20), at)
        if not text:
            return False
        crc = zlib.crc32(text, crc)
        left -= len(text)
        at += len(text)
    return crc == record.crc


def corrupt(path: str, offset: int, sequence: int, next_at: int, way_out: str) -> RecordCorrupt:
    """The error of a record that is spoilt, though what follows is not; ``way_out``: what one can do."""
    return RecordCorrupt(
        f"log {path!r} is spoilt at byte {offset}: record {sequence} does not have its checksum, and whole records "
        f"follow from byte {next_at} on ({way_out})"
    )
