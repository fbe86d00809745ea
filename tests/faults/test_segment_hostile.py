"""Segments that somebody tampered with: an exception, whatever their bytes say; never a crash, never a wrong view."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import shmkit
from shmkit import _header, _make_array
from shmkit.segment import header
from support import Processes, unique_name

# Runs in a process of its own: what must not happen would end it.
MUTATE = """
import os, pickle, random, struct, sys
import numpy as np
import shmkit
from shmkit import Segment
name, backing, tries, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
path = "/dev/shm/" + name
options = {"backing": "sysv"} if backing == "sysv" else {}
EDGES = [0, 1, 2, 3, 255, 256, 4095, 4096, 4097, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
EDGES += [2**62, 2**63, 2**64 - 4096, 2**64 - 1]
FIELDS = [(0, 8), (8, 4), (12, 4), (16, 8), (24, 4), (28, 4), (32, 8), (40, 4), (48, 8), (64, 4), (128, 8)]
TEXTS = [b"{}", b"{'shape': (", b"[" * 500, b"-" * 900, b"{'descr': 'O'}", b"'" * 77, b"(" * 150 + b")" * 150,
         b"{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,)}",
         b"{'descr': '<f8', 'fortran_order': 3, 'shape': 4}",
         b"{'descr': [('a', [('b', '<f8', 3)], 9)], 'fortran_order': True, 'shape': (9,)}", bytes(range(256))]

def model(kind):
    if kind == "array":
        array = shmkit.create(name, (3, 4), "<f8", **options)
        segment = array.segment
    else:
        segment = Segment.create(name, 500, **options)
    content = bytearray(open(path, "rb").read()) if backing == "posix" else bytearray(
        segment.mapping.peek().ljust(4096, b"\\0") + bytes(segment.buf))
    segment.unlink()
    return content

MODELS = [model("array"), model("bytes")]

def mutated():
    content = bytearray(chance.choice(MODELS))
    for _ in range(chance.choice([1, 1, 1, 2, 5])):
        way = chance.randrange(7)
        if way <= 2:
            at, size = chance.choice(FIELDS)
            value = chance.choice(EDGES) if way else chance.getrandbits(64)
            content[at:at + size] = (value % 256**size).to_bytes(size, "little")
        elif way == 3:
            at = chance.randrange(min(len(content), 700) or 1)
            content[at:at + 1] = bytes([chance.randrange(256)])
        elif way == 4:
            del content[chance.choice([0, 1, 8, 64, 255, 256, 300, 4095, 4096, chance.randrange(5000)]):]
        elif way == 5:
            text = chance.choice(TEXTS)
            content[256:256 + len(text)] = text
            content[64:68] = struct.pack("<I", len(text))
        else:
            content += bytes(chance.randrange(100))
    return bytes(content)

def look(attach):
    try:
        found = attach()
    except (shmkit.SegmentError, ValueError):
        return 0
    # What was believed can be used, all of it.
    if isinstance(found, np.ndarray):
        found.tobytes()
    else:
        bytes(found.buf)
        pickle.loads(pickle.dumps(found))
    return 1

accepted = 0
for turn in range(tries):
    content = mutated()
    if backing == "posix":
        with open(path, "wb") as target:
            target.write(content)
        attempts = [lambda: Segment.attach(name), lambda: shmkit.attach(name, readonly=True)]
    else:
        import sysv_ipc
        from shmkit.segment import sysv
        sysv.PATIENCE = 0.0
        memory = sysv_ipc.SharedMemory(sysv.key_of(name), sysv_ipc.IPC_CREX, size=max(1, len(content)))
        memory.write(content or b"\\0")
        memory.detach()
        attempts = [lambda: Segment.attach(name, backing="sysv"), lambda: shmkit.attach(name, backing="sysv")]
    for attempt in attempts:
        accepted += look(attempt)
    if turn % 100 == 0:
        Segment.list()
    shmkit.unlink(name, missing_ok=True, **options)
shmkit.collect()
print(tries, accepted)
"""


@pytest.mark.parametrize(("backing", "tries"), [("posix", 10_000), ("sysv", 1_000)])
@pytest.mark.parametrize("seed", [1])
def test_ten_thousand_mutations_are_exceptions(backing: str, tries: int, seed: int, process: Processes) -> None:
    """Each either an exception of shmkit's, or a segment that can be used to its last byte."""
    program = process.python(MUTATE, unique_name("hostile"), backing, str(tries), str(seed))
    said = program.communicate()[0]
    assert program.returncode == 0
    count, accepted = map(int, said.split())
    assert count == tries
    # Some mutations do no harm (of a pid, say): the others were refused for what they were.
    assert 0 < accepted < tries


edges = st.sampled_from([0, 1, 255, 256, 4095, 4096, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1])


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A good header with a few fields replaced."""
    content = bytearray(4096)
    for field, value in {
        "magic": _header.MAGIC,
        "layout_version": _header.LAYOUT_VERSION,
        "header_size": 4096,
        "payload_size": 100,
        "kind": draw(st.sampled_from([1, 2, 3])),
        "identity": 5,
    }.items():
        at, size = _header.FIELDS[field]
        content[at : at + size] = value.to_bytes(size, "little")
    for field in draw(st.lists(st.sampled_from(sorted(_header.FIELDS)), max_size=3)):
        at, size = _header.FIELDS[field]
        value = draw(st.one_of(edges, st.integers(0, 2**64 - 1)))
        content[at : at + size] = (value % 256**size).to_bytes(size, "little")
    return bytes(content)


@given(headers(), st.one_of(edges, st.integers(0, 10_000)))
def test_a_header_that_passes_keeps_every_rule(raw: bytes, room: int) -> None:
    """What is believed fits into the segment, whatever was drawn."""
    try:
        found = header.check(raw, room, "x")
    except shmkit.LayoutMismatch as error:
        assert "segment 'x'" in str(error)
        return
    assert found.magic == _header.MAGIC
    assert found.header_size + found.payload_size <= room
    assert _header.HEADER_SIZE + found.meta_size <= found.header_size
    assert found.header_size % 4096 == 0
    assert found.identity


@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
def test_a_meta_text_is_a_dict_or_refused(text: bytes) -> None:
    """Whatever text it is, nothing is run, and nothing but a dict comes out."""
    raw = bytes(256) + text
    head = _header.parse_header(raw)._replace(meta_size=len(text))
    try:
        meta = header.parse_meta(raw, head, "x")
    except shmkit.LayoutMismatch:
        return
    assert isinstance(meta, dict)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 2**70), st.text(max_size=5)),
    lambda children: st.one_of(
        st.lists(children, max_size=3), st.tuples(children, children), st.dictionaries(st.text(max_size=3), children)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), plain, max_size=4))
def test_a_dict_of_plain_values_survives_its_text(meta: dict[str, object]) -> None:
    """Written and read back, it is the same."""
    text = header.format_meta(meta)
    raw = bytes(256) + text
    head = _header.parse_header(raw)._replace(meta_size=len(text))
    assert header.parse_meta(raw, head, "x") == meta
    assert not text or ast.literal_eval(text.decode()) == meta


@given(
    st.integers(-5, 300),
    st.lists(st.integers(0, 8), max_size=4).map(tuple),
    st.lists(st.integers(-40, 40), min_size=4, max_size=4),
    st.integers(1, 9),
    st.booleans(),
)
def test_fits_says_exactly_what_stays_inside(
    offset: int, shape: tuple[int, ...], steps: list[int], itemsize: int, strided: bool
) -> None:
    """Every byte of every element, and none beyond."""
    size = 200
    strides = tuple(steps[: len(shape)]) if strided else None
    bytes_of = range(itemsize)
    if strides is None:
        count = 1
        for side in shape:
            count *= side
        touched = [offset + number * itemsize + byte for number in range(count) for byte in bytes_of]
    else:
        starts = [offset]
        for side, stride in zip(shape, strides, strict=True):
            starts = [start + number * stride for start in starts for number in range(side)]
        touched = [start + byte for start in starts for byte in bytes_of]
    inside = 0 <= offset <= size and all(0 <= byte < size for byte in touched)
    assert _make_array.fits(shape, itemsize, offset, strides, size) == inside
