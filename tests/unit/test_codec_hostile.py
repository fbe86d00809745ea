"""Items whose bytes were scribbled over: an error that says so, or some object; never a crash, nothing is run."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import PickleRefused, RecordCorrupt, _map
from shmkit._codec import decode, encode

ITEMS: list[Any] = [
    (1, 2.5, "three", b"four", None, True, 10**40, 1j), ["a" * 50, "é" * 50, "日" * 50, "😀" * 20],
    {"a": [1, {2, 3}], (1, 2): frozenset("ab")}, np.arange(5.0), np.zeros((2, 3), ">i4", "F"), np.zeros(3, "U4"),
    np.zeros(2, [("a", "i4"), ("b", "S3", (2,))]), np.float32(3), np.datetime64(3, "ns"), np.str_("😀"),
    np.zeros(1, [("a", "i4")])[0], (7, np.arange(1000.0)), ["x" * 2000, b"y" * 1024, bytearray(3000)],
    "é" * 3000, "日" * 3000, "😀" * 3000, [np.zeros((3, 0, 2)), np.zeros((1,) * 32)],
]  # fmt: skip

EXPECTED = (RecordCorrupt, PickleRefused, MemoryError)


def look(item: Any) -> None:
    """Does with what arrived what a receiver would: prints it, sums it."""
    # Characters beyond Unicode are NumPy's to complain of, and numbers of thousands of digits Python's.
    with contextlib.suppress(ValueError, SystemError, OverflowError):
        if not isinstance(item, np.ndarray) or item.size < 10_000:
            repr(item)
        if isinstance(item, np.ndarray):
            item.copy()


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: f"{type(item).__name__} {str(item)[:20]!a}")
def test_every_byte_changed_and_every_length(item: Any) -> None:
    head, body = encode(item)
    for cut in range(len(head)):
        with contextlib.suppress(*EXPECTED):
            look(decode(head[:cut], body, False))
    for at in range(len(head)):
        for value in {0, 1, 23, 127, 128, 255, head[at] ^ 1, head[at] ^ 128, (head[at] + 1) % 256} - {head[at]}:
            with contextlib.suppress(*EXPECTED):
                look(decode(head[:at] + bytes([value]) + head[at + 1 :], body, False))
    if body is None:
        return
    for cut in {*range(min(len(body), 150)), len(body) - 1}:
        with contextlib.suppress(*EXPECTED):
            look(decode(head, bytearray(body[:cut]), False))
    for at in range(min(len(body), 150)):
        for value in (0, 24, 127, 128, 255, body[at] ^ 1):
            changed = bytearray(body)
            changed[at] = value
            with contextlib.suppress(*EXPECTED):
                look(decode(head, changed, False))


def test_random_bytes() -> None:
    """The first one a code that exists, so that they get far."""
    random = np.random.default_rng(7)
    for _ in range(30_000):
        head = bytes([int(random.integers(1, 26))]) + random.bytes(int(random.integers(0, 60)))
        body = bytearray(random.bytes(int(random.integers(0, 300)))) or None
        with contextlib.suppress(*EXPECTED):
            look(decode(head, body, False))


def number(value: int) -> bytes:
    said = bytearray()
    while value >= 128:
        said.append(value & 127 | 128)
        value >>= 7
    said.append(value)
    return bytes(said)


def run(data: bytes) -> bytes:
    return number(len(data)) + data


def array_head(kind: bytes, sides: tuple[int, ...], data: bytes) -> bytes:
    return bytes([21, 254]) + run(kind) + bytes([len(sides)]) + b"".join(map(number, sides)) + run(data)


LARGE = 2**62
BAD = {
    "nothing": b"",
    "no such code": b"\x00",
    "a code of the future": b"\xc8",
    "a list of more than there is": b"\x10" + number(LARGE),
    "a tuple of more than there is": b"\x0f" + number(10**6) + b"\x01" * 50,
    "lists in lists": b"\x10\x01" * 40 + b"\x01",
    "a number without an end": b"\x10" + b"\xff" * 20,
    "a key that is a list": b"\x11\x01\x10\x00\x01",
    "a set of lists": b"\x12\x01\x10\x00",
    "text that is not ASCII": b"\x0b" + run("é".encode()),
    "Latin text that is ASCII": b"\x0c" + run(b"abc"),
    "wide text that is narrow": b"\x0d" + run("ab".encode("utf-16-le")),
    "wider text that is wide": b"\x0e" + run("日本".encode("utf-32-le")),
    "characters beyond Unicode": b"\x0e" + run(struct.pack("<I", 0x110000)),
    "half a wide character": b"\x0d" + run(b"abc"),
    "a run without a body": b"\x09" + number(1024),
    "a run beyond everything": b"\x09" + number(LARGE),
    "a spilled stream without a body": b"\x18" + number(100),
    "an array of objects": array_head(b"|O", (1,), b"\x00" * 8),
    "a field of objects": array_head(b"[('a', '|O')]", (1,), b"\x00" * 8),
    "elements without bytes": array_head(b"|S0", (LARGE,), b""),
    "structs without bytes": array_head(b"[]", (LARGE,), b""),
    "a dtype of arrays": array_head(b"(2,3)f8", (1,), b"\x00" * 48),
    "no dtype": array_head(b"f9", (1,), b"\x00" * 9),
    "code for a dtype": array_head(b"__import__('os')", (1,), b"\x00" * 9),
    "text that nests": array_head(b"[" * 50, (1,), b"\x00" * 9),
    "too many dimensions": bytes([21, 12, 65]) + b"\x01" * 65 + run(b"x" * 8),
    "too many elements": bytes([21, 12, 3]) + number(2**40) * 3 + run(b""),
    "no elements, in too many dimensions": bytes([21, 12, 2]) + number(0) + number(LARGE) + run(b""),
    "fewer bytes than elements": bytes([21, 12, 1]) + number(5) + run(b"x" * 8),
    "an array at a place in no body": bytes([22, 12, 1]) + number(5) + number(0),
    "a plain dtype of objects": bytes([21, 17, 0]) + run(b"\x00" * 8),
    "a plain dtype that does not exist": bytes([21, 99, 0]) + run(b"\x00" * 8),
    "a scalar of another size": bytes([20, 12]) + run(b"x"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_contradicts_itself_is_an_error(name: str) -> None:
    with pytest.raises(RecordCorrupt):
        decode(BAD[name], None, False)


def test_a_place_beyond_the_body() -> None:
    for place in (1, 8, 4096, LARGE, 2**64 - 8):
        with pytest.raises(RecordCorrupt):
            decode(bytes([22, 12, 1]) + number(512) + number(place), bytearray(4096), False)
    found = decode(bytes([22, 12, 1]) + number(512) + number(0), bytearray(4096), False)
    assert found.shape == (512,)


def test_an_array_at_an_odd_place_says_that_it_is_not_aligned() -> None:
    """NumPy would otherwise use instructions that need it."""
    found = decode(bytes([22, 12, 1]) + number(500) + number(3), bytearray(4096), False)
    assert not found.flags.aligned
    assert found.sum() == 0


def test_scribbled_references_to_shared_arrays() -> None:
    """They are opened only if they are what they say; never beyond their segment."""
    array = shmkit.array(np.arange(100.0))
    for item in (array, array[10:90:7], array.reshape(10, 10).T):
        head, body = encode(item)
        assert body is None
        allowed = (*EXPECTED, shmkit.SegmentError, OverflowError, ValueError)
        for at in range(1, len(head)):
            for value in {0, 1, 127, 128, 255, head[at] ^ 1} - {head[at]}:
                changed = head[:at] + bytes([value]) + head[at + 1 :]
                if changed[1] == 255:
                    continue  # a dtype that is pickled
                try:
                    found = decode(changed, None, True)
                except allowed:
                    continue
                assert found.size < 10_000
                found.tobytes()
    _map.forget_references()
