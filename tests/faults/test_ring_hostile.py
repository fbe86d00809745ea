"""Rings in memory that somebody has scribbled on: an exception that names the ring, or harmless data.

First all that can be wrong, one by one, with the exception that says so; then 10,000 tries at random, in children,
where a crash, a hang or an allocation out of all proportion is seen.
"""

from __future__ import annotations

import random
import resource
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import shmkit
from support import Processes, wait_until

# Where things are in the payload of a ring's segment: see "ring" in shmkit/_layout.h, whose lines have 128 bytes.
CAPACITY, DATA_AT, TAIL, HEAD, DATA = 0, 8, 1 * 128, 3 * 128, 4096
PRODUCER_COUNT, CONSUMER_COUNT = 2 * 128, 4 * 128  # records, bytes, parks, wakes, below: 8 bytes each
CONSUMER_BELL, PRODUCER_BELL = 5 * 128, 6 * 128  # 4 bytes each
PRODUCER_ROLE, CONSUMER_ROLE = 7 * 128, 8 * 128  # state, epoch, pid, cpu: 4 bytes each; start: 8
NEVER, OPEN, CLOSED = 0, 1, 2  # states of a role
BYTES, ARRAY, PAD = 1, 2, 3  # kinds of a record: see "record" there

SIZE, MOST = 4096, 2**64 - 1  # the capacity of all rings here, and the largest field


def store(memory: memoryview, at: int, form: str, *values: int) -> None:
    struct.pack_into("<" + form, memory, at, *values)


def word(kind: int, span: int, data_at: int, tailpad: int = 0) -> int:
    return (span // 8 | tailpad << 45 | kind << 48 | data_at // 8 << 52) & MOST


def array_record(text: bytes = b"<i4", shape: Sequence[int] = (3,), nbytes: int = 12, **lies: int) -> bytes:
    """An array's record; `lies` are told of ndim, order, descr_size and data_at."""
    true = {"ndim": len(shape), "order": ord("C"), "descr_size": len(text)}
    true["data_at"] = (16 + 8 * len(shape) + len(text) + 63) // 64 * 64
    ndim, order, descr_size, data_at = {**true, **lies}.values()
    span = data_at + (nbytes + 7) // 8 * 8
    record = struct.pack("<QBBHI", word(ARRAY, span, data_at, -nbytes % 8), ndim, order, descr_size, 0)
    record += b"".join(struct.pack("<Q", size & MOST) for size in shape) + text
    return (record + bytes(span))[:span]


class Victim(NamedTuple):
    name: str
    ring: shmkit.Ring
    memory: memoryview  # a second mapping, to scribble through


@pytest.fixture
def victim(name: str) -> Iterator[Victim]:
    with shmkit.Ring.create(name, SIZE) as ring, shmkit.Segment.attach(name) as segment, segment.buf as memory:
        yield Victim(name, ring, memory)
    shmkit.unlink(name, missing_ok=True)


Ways = dict[str, Callable[[shmkit.Ring], object]]
TAKES: Ways = {
    "recv": lambda ring: ring.recv(timeout=0),
    "try_recv": lambda ring: ring.try_recv(),
    "peek": lambda ring: ring.peek(),
    "recv_view": lambda ring: ring.recv_view(timeout=0).array.tobytes(),
    "recv_many": lambda ring: ring.recv_many(timeout=0),
    "iteration": next,
    "recv_into": lambda ring: ring.recv_into(bytearray(SIZE), timeout=0),
    "recv_many_into": lambda ring: ring.recv_many_into(bytearray(SIZE), 12, timeout=0),
}
PUTS: Ways = {
    "send": lambda ring: ring.send(bytes(100), timeout=0),
    "send array": lambda ring: ring.send(np.arange(9.0), timeout=0),
    "try_send": lambda ring: ring.try_send(bytes(100)),
    "send_many": lambda ring: ring.send_many([bytes(100)] * 3, timeout=0),
    "send_many rows": lambda ring: ring.send_many(bytes(300), itemsize=100, timeout=0),
    "reserve": lambda ring: ring.reserve(100, timeout=0).commit(),
}


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *((CAPACITY, value) for value in (0, 1, 512, 1000, 4095, 4104, 2 * SIZE, 2**32, 2**63, MOST)),
        *((DATA_AT, value) for value in (0, 8, DATA - 8, DATA + 8, 2 * DATA, 2**63, MOST)),
    ],
)
def test_a_header_out_of_bounds_is_not_attached_to(victim: Victim, at: int, value: int) -> None:
    """LayoutMismatch; and whoever is attached already does not read it again."""
    store(victim.memory, at, "Q", value)
    with pytest.raises(shmkit.LayoutMismatch, match=victim.name):
        shmkit.Ring.attach(victim.name)
    for n in range(200):
        victim.ring.send(bytes([n]) * n, timeout=0)
        assert victim.ring.recv(timeout=0) == bytes([n]) * n


@pytest.mark.parametrize("how", TAKES)
@pytest.mark.parametrize("tail", [16, 20, 33, 24 + SIZE + 8, 2**63, MOST, MOST - 7])
def test_a_tail_that_cannot_be_is_refused_by_the_consumer(victim: Victim, how: str, tail: int) -> None:
    """RecordCorrupt out of every way to receive, for a successor too; with the true tail, that one goes on."""
    victim.ring.send(bytes(12))
    victim.ring.recv()
    store(victim.memory, TAIL, "Q", tail)
    with shmkit.Ring.attach(victim.name) as successor:
        for ring in (victim.ring, successor):
            with pytest.raises(shmkit.RecordCorrupt, match=victim.name):
                TAKES[how](ring)
            victim.ring.close()
        store(victim.memory, TAIL, "Q", 24)
        successor.send(bytes(12))
        assert TAKES[how](successor)


@pytest.mark.parametrize("how", PUTS)
@pytest.mark.parametrize("head", [SIZE + 8, 2 * SIZE, 2**32, 2**63])
def test_a_head_that_cannot_be_is_refused_by_the_producer(victim: Victim, how: str, head: int) -> None:
    """RecordCorrupt when it has to look, for a successor too; nothing is overwritten; with the true head it goes on."""
    while victim.ring.try_send(bytes(100)):
        pass
    before = bytes(victim.memory[DATA:])
    store(victim.memory, HEAD, "Q", head)
    with shmkit.Ring.attach(victim.name) as successor:
        for _ in range(2):
            with pytest.raises(shmkit.RecordCorrupt, match=victim.name):
                PUTS[how](victim.ring)
        victim.ring.close()
        with pytest.raises(shmkit.RecordCorrupt, match=victim.name):
            PUTS[how](successor)
        assert bytes(victim.memory[DATA:]) == before
        store(victim.memory, HEAD, "Q", 0)
        assert successor.recv_many() == [bytes(100)] * 36
        PUTS[how](successor)


@pytest.mark.parametrize("count", [2**62, 2**63, MOST])
def test_counts_are_only_counts(victim: Victim, count: int) -> None:
    """Whatever they say, len() and statistics() answer, and records come and go."""
    store(victim.memory, PRODUCER_COUNT, "5Q", *[count] * 5)
    assert 0 <= len(victim.ring) <= sys.maxsize
    store(victim.memory, CONSUMER_COUNT, "5Q", *[count] * 5)
    victim.ring.send(b"x")
    assert victim.ring.recv() == b"x"
    assert len(victim.ring) == 0


@pytest.mark.parametrize("bell", [1, 2, 2**31, 2**32 - 1])
def test_bells_are_only_hints(victim: Victim, bell: int) -> None:
    """One that rings for nobody costs a wake-up; one that is silenced costs a slice of time, not the record."""
    store(victim.memory, CONSUMER_BELL, "I", bell)
    victim.ring.send(b"x")
    assert victim.ring.recv() == b"x"
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(victim.ring.recv, timeout=30)
        wait_until(lambda: victim.memory[CONSUMER_BELL])
        store(victim.memory, CONSUMER_BELL, "I", 0)
        victim.ring.send(b"y")
        assert received.result() == b"y"


@pytest.mark.parametrize("state", [NEVER, OPEN, CLOSED, 3, 2**32 - 1])
def test_a_role_is_believed_to_be_what_it_says(victim: Victim, state: int) -> None:
    """Once there is nothing to receive, or no room; pid and start are for messages only."""
    fates = {OPEN: (shmkit.PeerDied, shmkit.PeerDied), CLOSED: (shmkit.EndOfStream, shmkit.Broken)}
    receiving, sending = fates.get(state, (TimeoutError, TimeoutError))
    role = (state, 2**32 - 1, 2**32 - 1, 2**32 - 1, MOST)
    store(victim.memory, PRODUCER_ROLE, "IIIIQ", *role)
    with pytest.raises(receiving, match=victim.name):
        victim.ring.recv(timeout=0.1)
    victim.ring.close()
    store(victim.memory, CONSUMER_ROLE, "IIIIQ", *role)
    with shmkit.Ring.attach(victim.name) as ring, pytest.raises(sending, match=victim.name):
        while True:
            ring.send(bytes(100), timeout=0.1)


# Of a record that stands 64 bytes before the lap's end, and 128 before tail.
IMPOSSIBLE_WORDS = [
    0,
    MOST,
    *(word(kind, span, 8) for kind in (BYTES, ARRAY, PAD) for span in (0, 72, 136, SIZE, 2 * SIZE, 2**48 - 8)),
    *(word(kind, 24, 8) for kind in (0, 4, 15)),
    *(word(BYTES, 24, data_at) for data_at in (0, 32, 4095 * 8)),
    *(word(BYTES, 8, 8, tailpad) for tailpad in (1, 7)),
]


@pytest.mark.parametrize("how", TAKES)
def test_an_impossible_record_word_is_refused(victim: Victim, how: str) -> None:
    """RecordCorrupt, time and again; with the true word, the record is there."""
    at = DATA + SIZE - 64
    store(victim.memory, HEAD, "Q", SIZE - 64)
    store(victim.memory, TAIL, "Q", SIZE + 64)
    for wrong in IMPOSSIBLE_WORDS:
        store(victim.memory, at, "Q", wrong)
        with pytest.raises(shmkit.RecordCorrupt, match=victim.name):
            TAKES[how](victim.ring)
    store(victim.memory, at, "Q", word(BYTES, 24, 8, 4))
    assert TAKES[how](victim.ring)


IMPOSSIBLE_ARRAYS = {
    "65 dimensions": array_record(ndim=65),
    "no room for a description": array_record(b"", (), 16, data_at=8),
    "a negative dimension": array_record(shape=(-3,)),
    "an element too many": array_record(shape=(4,)),
    "a product that overflows to what is there": array_record(shape=(2**62 + 3,)),
    "zero times too much": array_record(shape=(0, 2**62), nbytes=0),
    "too much times zero": array_record(shape=(2**40, 2**40, 0), nbytes=0),
    "a text that is no text": array_record(b"\xff\xfe"),
    "objects": array_record(b"|O", (2,), 16),
    "objects in a field of a field": array_record(b"[('a', ('<i8', {'f': ('O', 0)}))]", (1,), 8),
    "strings of variable length": array_record(b"T", (1,), 16),
    "an array of arrays": array_record(b"(2,2)i2", (3,), 24),
    "more dimensions than NumPy has": array_record(b"(2,2)i2", (1,) * 64, 8),
    "elements without bytes": array_record(b"V0", (2**62,), 0),
    "a call": array_record(b"[__import__('os').abort()]"),
    "a deep list": array_record(b"[" * 900),
    "a deep number": array_record(b"[" + b"-" * 3000 + b"1]"),
}


@pytest.mark.parametrize("lie", IMPOSSIBLE_ARRAYS)
def test_a_description_that_cannot_be_true_is_refused(victim: Victim, lie: str) -> None:
    """RecordCorrupt; what came before it is received, by recv_many too."""
    victim.ring.send(b"before")
    victim.memory[DATA + 16 : DATA + 16 + len(IMPOSSIBLE_ARRAYS[lie])] = IMPOSSIBLE_ARRAYS[lie]
    store(victim.memory, TAIL, "Q", 16 + len(IMPOSSIBLE_ARRAYS[lie]))
    assert victim.ring.recv_many() == [b"before"]
    for how in list(TAKES)[:6]:  # the others give an array's bytes, whatever array they are said to be
        with pytest.raises(shmkit.RecordCorrupt, match=victim.name):
            TAKES[how](victim.ring)


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        *((8, "I", version) for version in (0, 2)),
        *((16, "Q", payload) for payload in (0, 100, DATA - 1, DATA, DATA + SIZE - 1, 2**63)),
        *((24, "I", kind) for kind in (0, 1, 2, 77)),
        *((size, "truncated", 0) for size in (0, 1, 255, 4095, 4096, 4096 + 9 * 128, 4096 + DATA + SIZE - 1)),
    ],
)
def test_what_is_no_whole_ring_is_not_attached_to(victim: Victim, at: int, form: str, value: int) -> None:
    """LayoutMismatch: of another layout, another kind, another size than it says."""
    path = Path("/dev/shm", victim.name)
    content = bytearray(path.read_bytes())
    path.unlink()
    if form == "truncated":
        del content[at:]
    else:
        store(memoryview(content), at, form, value)
    path.write_bytes(content)
    with pytest.raises(shmkit.LayoutMismatch, match=victim.name):
        shmkit.Ring.attach(victim.name)


def test_a_segment_of_another_kind_is_no_ring(make_name: Callable[[], str]) -> None:
    """LayoutMismatch, though it be large enough."""
    plain, raw, array = make_name(), make_name(), make_name()
    shmkit.Segment.create(plain, 3 * SIZE).close()
    shmkit.Segment.create(raw, 3 * SIZE, raw=True).close()
    shmkit.create(array, 3000, "i4")
    for name in (plain, raw, array):
        with pytest.raises(shmkit.LayoutMismatch, match=name):
            shmkit.Ring.attach(name)
        shmkit.unlink(name)


# ── 10,000 tries ────────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS = [
    *((at, 8) for at in (CAPACITY, DATA_AT, TAIL, HEAD, PRODUCER_ROLE + 16, CONSUMER_ROLE + 16)),
    *((count + 8 * n, 8) for count in (PRODUCER_COUNT, CONSUMER_COUNT) for n in range(5)),
    *((role + 4 * n, 4) for role in (PRODUCER_ROLE, CONSUMER_ROLE) for n in range(4)),
    *((bell, 4) for bell in (CONSUMER_BELL, PRODUCER_BELL)),
]
BOUNDARIES = [0, 1, 7, 8, 16, 24, 255, SIZE, 2**16, 2**31, 2**32 - 1, 2**45 - 1, 2**62, 2**63, MOST - 7, MOST]
held: list[shmkit.RecordView] = []


USES: Ways = {
    **{how: way for how, way in {**TAKES, **PUTS}.items() if how != "iteration"},  # which waits as long as it takes
    "overwrite": lambda ring: np.asarray(ring.recv_view(timeout=0).buf).fill(0),
    "hold": lambda ring: held.append(ring.recv_view(timeout=0)),
    "let go": lambda ring: held.clear(),
    "wait": lambda ring: ring.recv(timeout=0.001),
    "len": len,
    "repr": repr,
    "close": lambda ring: random.random() < 0.3 and ring.close(),
}


def use(ring: shmkit.Ring, how: str) -> None:
    """Does it; what comes out must be harmless, or name the ring."""
    try:
        USES[how](ring)
    except (shmkit.ShmkitError, TimeoutError, ValueError, RuntimeError) as error:
        assert f"ring {ring.name!r}" in str(error) or "itemsize is" in str(error), repr(error)


def scribble(memory: memoryview, chance: random.Random) -> None:
    """Changes a field of the header, the next record's word or description, or any bytes."""
    head, tail = (int.from_bytes(memory[at : at + 8], "little") for at in (HEAD, TAIL))
    value = chance.choice([*BOUNDARIES, head, tail, chance.getrandbits(64)]) + 8 * chance.randrange(-2, 3)
    at, size = DATA + head % SIZE, 8
    what = chance.choice(["field", "word", "description", "bytes"])
    if what == "field":
        at, size = chance.choice(FIELDS)
    elif what == "word":
        span = chance.choice([8 * chance.randrange(40), value & (2**48 - 8)])
        value = word(chance.randrange(5), span, 8 * chance.randrange(20), chance.randrange(8))
    elif what == "description":
        at, size = at + chance.randrange(8, 32), chance.choice([1, 2, 8])
    else:
        at, size = chance.randrange(len(memory)), chance.randrange(1, 9)
    at = min(at, len(memory) - size)
    memory[at : at + size] = (value & MOST).to_bytes(8, "little")[:size]


def attempt(name: str, chance: random.Random) -> None:
    """Uses a ring, by one or two handles, scribbles, and goes on, or attaches to it anew."""
    with shmkit.Ring.create(name, SIZE) as ring, shmkit.Segment.attach(name) as segment, segment.buf as memory:
        rings = [ring, *(shmkit.Ring.attach(name) for _ in range(chance.choice([0, 0, 1])))]
        for _ in range(chance.randrange(25)):
            use(chance.choice(rings), chance.choice([*PUTS, *PUTS, *list(TAKES)[:5]]))
        if chance.random() < 0.3:
            ring.close()
        for n in range(9):
            if n == 0 or chance.random() < 0.3:
                scribble(memory, chance)
            use(chance.choice(rings), chance.choice(list(USES)))
            try:
                if rings[-1].closed or chance.random() < 0.1:
                    rings.append(shmkit.Ring.attach(name, role=chance.choice([None, "producer", "consumer"])))
            except shmkit.ShmkitError as error:
                assert name in str(error)
        held.clear()
        for ring in rings:
            ring.close()
        shmkit.unlink(name)


def in_a_child(process: Processes, name: str, notes: Path, tries: Callable[[Callable[[str], object]], object]) -> None:
    """Runs the tries where they may crash, and have a quarter of a gigabyte; they note where they are."""

    def limited() -> None:
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, now + 2**28))
        tries((notes / "try").write_text)

    child = process(limited)
    child.join(100)
    shmkit.unlink(name, missing_ok=True)
    assert child.exitcode == 0, f"try {(notes / 'try').read_text()}"


@pytest.mark.parametrize("seed", range(4))
def test_9000_random_tries(process: Processes, name: str, tmp_path: Path, seed: int) -> None:
    """With rings that are used, or attached to anew: an exception that names the ring, or harmless data."""

    def tries(note: Callable[[str], object]) -> None:
        for n in range(2250):
            note(f"{seed}/{n}")
            attempt(name, random.Random(f"{seed}/{n}"))

    in_a_child(process, name, tmp_path, tries)


LITERALS = st.recursive(
    st.sampled_from(["<i4", "|O", "V8", "U0", "", "a", "b", 0, 1, 3, -1, 2**40]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(st.sampled_from(["", "a", "b"]), inner),
        st.dictionaries(st.sampled_from(["names", "formats", "offsets", "a"]), inner, max_size=3),
    ),
)
TEXTS = st.sampled_from([b"<i4", b"<M8[ns]", b"|V3", b"(2,)<u2", b"|O"]) | st.binary(max_size=40)
RECORDS = st.builds(
    lambda text, shape, nbytes, lies: array_record(text, shape, nbytes, **lies),
    TEXTS | LITERALS.map(lambda literal: f"[{literal!r}]".encode()),
    st.lists(st.sampled_from([0, 1, 2, 3, 12, -1, 2**31, 2**62, -(2**63)]), max_size=4),
    st.sampled_from([0, 1, 4, 8, 12, 24, 48]),
    st.fixed_dictionaries(
        {},
        optional={
            "ndim": st.integers(0, 255),
            "order": st.integers(0, 255),
            "descr_size": st.integers(0, 2**16 - 1),
            "data_at": st.integers(1, 40).map(lambda units: 8 * units),
        },
    ),
)


def test_1000_tries_with_descriptions(process: Processes, name: str, tmp_path: Path) -> None:
    """Whatever an array's record says of itself."""

    def tries(note: Callable[[str], object]) -> None:
        @settings(max_examples=1000, database=None)
        @given(RECORDS)
        def one(record: bytes) -> None:
            note(record.hex())
            with shmkit.Ring.create(name, SIZE) as ring, shmkit.Segment.attach(name) as segment:
                ring.unlink()
                segment.buf[DATA : DATA + len(record)] = record
                store(segment.buf, TAIL, "Q", len(record))
                for how in ("peek", "recv_view", "recv_many", "recv"):
                    use(ring, how)

        one()

    in_a_child(process, name, tmp_path, tries)


def test_scribbling_while_the_ring_is_used(process: Processes, victim: Victim, tmp_path: Path) -> None:
    """What was checked is what is used: nothing is read from the ring's memory again."""
    whole = bytes(victim.memory)
    victim.ring.close()

    def scribbler() -> None:
        chance = random.Random(1)
        while True:
            scribble(victim.memory, chance)

    def tries(note: Callable[[str], object]) -> None:
        chance = random.Random(2)
        for n in range(500):
            note(f"{n}")
            victim.memory[:] = whole
            try:
                ring = shmkit.Ring.attach(victim.name)
            except shmkit.ShmkitError:
                continue
            for _ in range(30):
                use(ring, chance.choice(list(USES)))
            held.clear()
            ring.close()

    process(scribbler)
    in_a_child(process, victim.name, tmp_path, tries)
