"""Items of all kinds that prove themselves: each bears its producer, its number and a checksum of the rest.

Bytes that stand in a cell and bytes that do not, tuples, arrays of 64 bytes to 3 MiB, columns of a table, a dataclass
that is encoded without pickle, and an object that only pickle can say.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

HEADER = struct.Struct("<QQQ")
SIZES = (16, 40, 88, 300, 5_000, 70_000)
LENGTHS = (8, 100, 700, 5_000, 12_000)  # of arrays of eight bytes
GIANT = 3 << 17  # of them: 3 MiB
KINDS = ("bytes", "bytes", "tuple", "array", "table", "dataclass", "pickle")


@dataclass
class Row:
    """What a program would have of its own."""

    producer: int
    number: int
    checksum: int
    note: str
    body: np.ndarray


class Pickled:
    """Says for itself how it is pickled, so nothing but pickle can."""

    def __init__(self, *state: Any) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return Pickled, self.state


def chance(producer: int, number: int) -> int:
    """The same for both ends."""
    return zlib.crc32(struct.pack("<QQ", producer, number))


def array(producer: int, number: int) -> Any:
    mixed = chance(number, producer)
    length = GIANT if mixed % 197 == 0 else LENGTHS[mixed % len(LENGTHS)]
    made = np.full(length, number * 2654435761 % 2**64, np.uint64)
    made[0], made[1] = producer, number
    return made


def sum_of(body: Any) -> int:
    return zlib.crc32(body)


def made(producer: int, number: int) -> Any:
    mixed = chance(producer, number)
    kind = KINDS[mixed % len(KINDS)]
    if kind in ("bytes", "tuple"):
        body = struct.pack("<Q", number * 2654435761 % 2**64) * (SIZES[mixed // 7 % len(SIZES)] // 8)
        if kind == "bytes":
            return HEADER.pack(producer, number, sum_of(body)) + body
        return producer, number, sum_of(body), body
    body = array(producer, number)
    body[2] = sum_of(body[3:])
    if kind == "array":
        return body
    if kind == "table":
        index, name = np.arange(len(body), dtype=np.int32), np.full(len(body), b"%d" % producer, "S2")
        checksum = sum_of(body) ^ sum_of(index) ^ sum_of(name)
        return {"of": [producer, number, checksum], "body": body, "index": index, "name": name}
    if kind == "dataclass":
        return Row(producer, number, sum_of(body), f"row {number}", body)
    return Pickled(producer, number, sum_of(body), body)


def proven(item: Any) -> tuple[int, int]:
    """Its producer and its number; AssertionError: it is torn, or not of the kind that it was."""
    if isinstance(item, bytes):
        producer, number, checksum = HEADER.unpack_from(item)
        found, kind = sum_of(item[HEADER.size :]), ("bytes",)
    elif isinstance(item, tuple):
        producer, number, checksum, body = item
        found, kind = sum_of(body), ("tuple",)
    elif isinstance(item, np.ndarray):
        producer, number, checksum = map(int, item[:3])
        found, kind = sum_of(item[3:]), ("array",)
    elif isinstance(item, dict):
        producer, number, checksum = item["of"]
        found = sum_of(item["body"]) ^ sum_of(item["index"]) ^ sum_of(item["name"])
        kind = ("table",)
    elif isinstance(item, Row):
        producer, number, checksum, found = item.producer, item.number, item.checksum, sum_of(item.body)
        assert item.note == f"row {number}"
        kind = ("dataclass",)
    else:
        assert type(item) is Pickled, f"nothing that was put: {item!r:.80}"
        producer, number, checksum, body = item.state
        found, kind = sum_of(body), ("pickle",)
    assert found == checksum, f"torn: {producer}, {number}"
    assert KINDS[chance(producer, number) % len(KINDS)] in kind, f"of another kind: {producer}, {number}"
    return producer, number
