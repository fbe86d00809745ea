"""Where atomics stand: anonymous, named, at an offset of any segment, over arrays, and beside a program in C."""

from __future__ import annotations

import copy
import gc
import mmap
import os
import pickle
import shutil
import struct
import subprocess
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shmkit
from shmkit import AtomicArray, AtomicFlag, AtomicInt64, AtomicUInt64, Segment
from support import Processes
from unit import atomic_children as children

WATCHDOG = 60.0
KINDS: dict[str, Any] = {"AtomicInt64": AtomicInt64, "AtomicUInt64": AtomicUInt64, "AtomicFlag": AtomicFlag}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


def change(word: Any) -> None:
    """Makes it something that it was not."""
    if isinstance(word, AtomicFlag):
        assert not word.test_and_set()
    else:
        word.add(5)


def same(one: Any, other: Any) -> bool:
    """Whether what happens to one happens to the other."""
    if isinstance(one, AtomicFlag):
        one.test_and_set()
        seen = other.test()
        one.clear()
        return bool(seen and not other.test())
    before = one.add(7)
    return bool(other.sub(7) == before + 7 and one.load() == before)


@pytest.fixture(params=["posix", "sysv", "file", "leased"])
def named(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> dict[str, Any]:
    """What to create a named one with."""
    return {
        "posix": {"name": name},
        "sysv": {"name": name, "backing": "sysv"},
        "file": {"name": str(tmp_path / name), "backing": "file"},
        "leased": {"name": name, "lifetime": "leased"},
    }[request.param]


def found_by(named: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in named.items() if key != "lifetime"}


# ── with a name ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_name_is_created_attached_and_unlinked(kind: Any, named: dict[str, Any]) -> None:
    """In every backing; SegmentExists, SegmentNotFound; who is attached goes on."""
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(**found_by(named))
    made = kind.create(**named)
    change(made)
    assert type(made) is kind
    assert (made.name, made.offset, made.nbytes) == (named["name"], 0, 4 if kind is AtomicFlag else 8)
    with pytest.raises(shmkit.SegmentExists):
        kind.create(**named)
    found = kind.attach(**found_by(named))
    assert repr(found).rpartition(":")[2] == repr(made).rpartition(":")[2] != " 0>"
    assert same(made, found)
    assert same(found, kind.create_or_attach(**named))
    assert same(made, pickle.loads(pickle.dumps(found)))
    made.unlink()
    with pytest.raises(shmkit.SegmentNotFound):
        kind.attach(**found_by(named))
    assert same(found, made)


@pytest.mark.parametrize("which", [AtomicInt64, AtomicUInt64])
def test_a_first_value_is_for_a_new_one_only(which: Any, named: dict[str, Any]) -> None:
    """create_or_attach leaves what it finds as it is."""
    made = which.create_or_attach(**named, value=2**63 - 1)
    assert made.load() == 2**63 - 1
    assert which.create_or_attach(**named, value=7).load() == 2**63 - 1
    made.unlink()


def test_a_name_of_something_else(kind: Any, name: str) -> None:
    """A named segment says what is in it: LayoutMismatch for a lock, an array, another kind of atomic."""
    for other in [shmkit.Lock, *KINDS.values()]:
        if other is not kind:
            made = other.create(name)
            with pytest.raises(shmkit.LayoutMismatch):
                kind.attach(name)
            with pytest.raises(shmkit.LayoutMismatch):
                kind.create_or_attach(name)
            made.unlink()
    shmkit.create(name, 4, "int64")
    with pytest.raises(shmkit.LayoutMismatch):
        kind.attach(name)
    shmkit.unlink(name)


# ── anonymous ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_ones_are_apart(kind: Any) -> None:
    """A line each, clear at first, even where one stood before; none has a name to unlink."""
    words = [kind() for _ in range(100)]
    assert len({(word.segment, word.offset) for word in words}) == 100
    assert all(word.offset % 128 == 0 for word in words)
    for word in words:
        change(word)
    with pytest.raises(ValueError, match="no name"):
        words[0].unlink()
    del words, word
    gc.collect()
    fresh = kind()
    assert same(fresh, pickle.loads(pickle.dumps(fresh)))
    assert repr(fresh).rpartition(": ")[2] in ("0>", "clear>")


def test_one_travels_and_is_inherited(kind: Any, start_method: BaseContext, process: Processes) -> None:
    """A child changes it, under any start method."""
    word = kind()
    child = process(change, word, context=start_method)
    assert word.wait(0, WATCHDOG)
    child.join(WATCHDOG)
    assert child.exitcode == 0


def test_closing_ends_a_handle_not_the_word(kind: Any) -> None:
    """And a closed handle is not pickled."""
    word = kind()
    other = pickle.loads(pickle.dumps(word))
    word.close()
    change(other)
    with pytest.raises(shmkit.Closed):
        pickle.dumps(word)


# ── at an offset ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["memfd", "posix", "sysv", "file", "raw posix", "raw sysv", "raw file"])
def segment(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Any:
    backing = request.param.split()[-1]
    if backing == "memfd":
        made = Segment.create(size=256)
        yield made
        made.close()
        return
    where = str(tmp_path / name) if backing == "file" else name
    made = Segment.create(where, 256, backing=backing, raw="raw" in request.param)
    yield made
    made.unlink()
    made.close()


def test_one_at_an_offset_is_the_word_and_nothing_else(kind: Any, segment: Segment) -> None:
    """In any segment, raw ones too: little-endian, as C has it, and its neighbours are left alone."""
    segment.buf[:] = b"\xee" * 256
    made = kind.create_at(segment, 16)
    assert bytes(segment.buf[16 : 16 + made.nbytes]) == bytes(made.nbytes)
    change(made)
    expected = struct.pack("<I", 1) if kind is AtomicFlag else struct.pack("<q", 5)
    assert bytes(segment.buf) == b"\xee" * 16 + expected + b"\xee" * (256 - 16 - len(expected))
    found = kind.attach_at(segment, 16)
    assert found.offset == 16
    assert found.name is None
    assert same(made, found)
    assert same(found, pickle.loads(pickle.dumps(made)))


def test_any_word_can_be_attached_to(segment: Segment) -> None:
    """Whoever wrote it, and however."""
    segment.ndarray(32, "int64")[5] = -3
    assert AtomicInt64.attach_at(segment, 40).load() == -3
    assert AtomicUInt64.attach_at(segment, 40).load() == 2**64 - 3
    assert AtomicFlag.attach_at(segment, 44).test()
    assert AtomicInt64.attach_at(segment).load() == 0


def test_offsets_that_cannot_be(kind: Any) -> None:
    """A multiple of its size, wholly within the segment; ValueError, and nothing is stored."""
    segment = Segment.create(size=20)
    size = 4 if kind is AtomicFlag else 8
    for offset in (-size, 1, size - 1, 20, 24, 2**40, 20 - size + 1, *([4, 16] if size == 8 else [])):
        for make in (kind.create_at, kind.attach_at):
            with pytest.raises(ValueError, match=f"multiple of {size}"):
                make(segment, offset)
    assert bytes(segment.buf) == bytes(20)
    for offset in (0, 8, 20 - size - 20 % size):
        assert same(kind.create_at(segment, offset), kind.attach_at(segment, offset))


@pytest.mark.parametrize("bad", [None, bytearray(64), "segment", 3])
def test_what_is_no_segment(kind: Any, bad: Any) -> None:
    """TypeError."""
    for make in (kind.create_at, kind.attach_at):
        with pytest.raises(TypeError, match=r"shmkit\.Segment"):
            make(bad, 0)


def test_a_segment_for_reading_only(kind: Any, name: str) -> None:
    """The word is loaded and waited for; every change is a ValueError, never a signal."""
    segment = Segment.create(name, 64)
    written = kind.create_at(segment, 8)
    change(written)
    reading = Segment.attach(name, readonly=True)
    word = kind.attach_at(reading, 8)
    assert word.wait(0, 0)
    assert not word.wait(1 if kind is AtomicFlag else 5, 0.001)
    word.notify()
    word.notify_all()
    if kind is AtomicFlag:
        assert word.test()
        calls: dict[str, tuple[int, ...]] = {"test_and_set": (), "clear": ()}
    else:
        assert word.load() == 5
        calls = dict.fromkeys(("store", "exchange", "add", "sub", "and_", "or_", "xor"), (1,))
        calls["compare_exchange"] = (5, 6)
    for call, args in calls.items():
        with pytest.raises(ValueError, match="reading only"):
            getattr(word, call)(*args)
    with pytest.raises(ValueError, match="reading only"):
        kind.create_at(reading, 16)
    segment.unlink()


def test_a_word_keeps_its_memory_mapped(kind: Any) -> None:
    """Whatever is closed and forgotten."""
    segment = Segment.create(size=64)
    word = kind.create_at(segment, 8)
    segment.close()
    del segment
    gc.collect()
    change(word)
    assert word.wait(0, 0)


# ── over an array ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_an_array_is_over_the_same_memory(dtype: str) -> None:
    """Shared or not, an array or any buffer of such integers."""
    for memory in (
        np.zeros(6, dtype),
        shmkit.zeros(6, dtype),
        memoryview(np.zeros(6, dtype)),
        np.zeros(12, dtype)[3:9],
    ):
        words = AtomicArray(memory)
        assert len(words) == 6
        assert words.add(1, 5) == 0
        words[-1] = 9
        assert list(words) == [0, 5, 0, 0, 0, 9] == list(memory) == list(words.array)
        memory[0] = 3
        assert words[0] == words[-6] == words.load(0, "relaxed") == 3
        assert 9 in words
        assert repr(words).endswith(f": 6 × {dtype}>")


def test_bytes_can_be_seen_as_integers() -> None:
    """An mmap, say: numpy.frombuffer is how, and the message says so."""
    with mmap.mmap(-1, 4096) as memory:
        with pytest.raises(TypeError, match="frombuffer"):
            AtomicArray(memory)
        words = AtomicArray(np.frombuffer(memory, "int64"))
        words.store(1, -2)
        assert memory[8:16] == struct.pack("<q", -2)
        del words


@pytest.mark.parametrize("where", [6, -7, 2**31, 2**70, -(2**70)])
def test_there_is_no_such_element(where: int) -> None:
    """IndexError from every method."""
    words = AtomicArray(np.zeros(6, "int64"))
    for call, args in {"load": (), "store": (1,), "add": (1,), "compare_exchange": (0, 1), "wait": (0, 0)}.items():
        with pytest.raises(IndexError, match="of 6 has no element"):
            getattr(words, call)(where, *args)
    for method in (words.notify, words.notify_all, words.__getitem__):
        with pytest.raises(IndexError):
            method(where)
    with pytest.raises(IndexError):
        words[where] = 1
    assert list(words) == [0] * 6


@pytest.mark.parametrize("where", [1.0, "1", None, slice(1, 2), (1,)])
def test_an_index_is_an_integer(where: Any) -> None:
    """TypeError otherwise; a slice is taken of the array."""
    words = AtomicArray(np.zeros(6, "int64"))
    with pytest.raises(TypeError):
        words[where]
    with pytest.raises(TypeError):
        words.add(where)


def test_an_array_without_elements() -> None:
    """Has none."""
    words = AtomicArray(shmkit.zeros(0, "int64"))
    assert list(words) == []
    assert len(words) == 0
    with pytest.raises(IndexError):
        words[0]


MISFITS: dict[str, tuple[Any, type[Exception]]] = {
    "int32": (np.zeros(4, "int32"), TypeError),
    "float64": (np.zeros(4), TypeError),
    "big-endian": (np.zeros(4, ">i8"), TypeError),
    "bytes": (bytes(64), TypeError),
    "bytearray": (bytearray(64), TypeError),
    "list": ([1, 2], TypeError),
    "None": (None, TypeError),
    "bool": (np.zeros(8, "bool"), TypeError),
    "datetime": (np.zeros(8, "M8[s]"), TypeError),
    "two dimensions": (np.zeros((2, 2), "int64"), ValueError),
    "none": (np.array(3), ValueError),
    "strided": (np.zeros(8, "int64")[::2], ValueError),
    "backward": (np.zeros(8, "int64")[::-1], ValueError),
    "misaligned": (np.frombuffer(bytearray(68), "B")[4:68].view("int64"), ValueError),
    "read-only": (np.frombuffer(bytes(64), "int64"), ValueError),
}


@pytest.mark.parametrize("what", MISFITS)
def test_memory_that_cannot_be_an_array_of_atomics(what: str) -> None:
    """An error that says what is wanted."""
    memory, error = MISFITS[what]
    if what == "misaligned" and memory.ctypes.data % 8 == 0:
        memory = np.frombuffer(bytearray(72), "B")[1:65].view("int64")
    with pytest.raises(error):
        AtomicArray(memory)


def test_an_array_that_was_never_made() -> None:
    """TypeError, not a crash."""
    empty = AtomicArray.__new__(AtomicArray)
    for call in (lambda: empty.load(0), lambda: empty[0], lambda: empty.wait(0, 0), lambda: empty.notify_all(0)):
        with pytest.raises((TypeError, IndexError)):
            call()
    assert list(empty) == []


def test_a_range_of_a_segment(segment: Segment) -> None:
    """From an offset on, so many or all that fit, raw segments too."""
    segment.buf[:] = bytes(256)
    assert len(AtomicArray.attach_at(segment)) == 32
    words = AtomicArray.attach_at(segment, 16, 4, "uint64")
    words[3] = 2**64 - 1
    assert bytes(segment.buf[40:48]) == b"\xff" * 8
    assert AtomicInt64.attach_at(segment, 40).add(3) == -1
    assert list(AtomicArray.attach_at(segment, 24, dtype="int64"))[:3] == [0, 0, 2]
    for offset, length in ((4, 1), (-8, 1), (16, 31), (256, 1), (0, -1)):
        with pytest.raises(ValueError, match=r"multiple of 8|fit|negative"):
            AtomicArray.attach_at(segment, offset, length)


def test_an_array_travels_as_a_reference(start_method: BaseContext, process: Processes) -> None:
    """A slice of a shared array too; one in private memory is not copied behind one's back, but refused."""
    memory = shmkit.zeros(10, "int64")
    words = AtomicArray(memory[2:5])
    child = process(children.add_often, AtomicInt64(), words, 30, "seq_cst", context=start_method)
    child.join(WATCHDOG)
    assert list(memory) == [0, 0, 10, 10, 10, 0, 0, 0, 0, 0]
    segment = Segment.create(size=64)
    again = pickle.loads(pickle.dumps(AtomicArray.attach_at(segment, 8, 2)))
    again[1] = 4
    assert bytes(segment.buf[16:24]) == struct.pack("<q", 4)
    for refused in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match="not shared"):
            refused(AtomicArray(np.zeros(3, "int64")))


# ── beside a program in C ───────────────────────────────────────────────────────────────────────────────────────────

PROGRAM = r"""
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Waits for *go, counts, waits for *turn to become 1, makes it 2 and wakes its sleepers. */
int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDWR);
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || memory == MAP_FAILED)
        return 1;
    _Atomic int64_t *counter = (_Atomic int64_t *)(memory + 64);
    _Atomic uint32_t *go = (_Atomic uint32_t *)(memory + 128);
    _Atomic uint64_t *turn = (_Atomic uint64_t *)(memory + 192);
    struct timespec limit = {.tv_nsec = 50000000};
    while (atomic_load_explicit(go, memory_order_acquire) == 0)
        syscall(SYS_futex, go, FUTEX_WAIT, 0, &limit, NULL, 0);
    for (int i = 0; i < atoi(argv[2]); i++)
        atomic_fetch_sub(counter, 3);
    while (atomic_load(turn) != 1)
        syscall(SYS_futex, turn, FUTEX_WAIT, 0, &limit, NULL, 0);
    atomic_store_explicit(turn, 2, memory_order_release);
    syscall(SYS_futex, turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_c_program_is_the_other_side(tmp_path: Path, name: str, process: Processes) -> None:
    """It counts in the same word at the same time, is woken by notify, and wakes who waits here."""
    source, binary, times = tmp_path / "other.c", tmp_path / "other", 200_000
    source.write_text(PROGRAM)
    subprocess.run(["cc", "-std=gnu11", "-O2", "-o", str(binary), str(source)], check=True)
    segment = Segment.create(str(tmp_path / name), 4096, backing="file", raw=True)
    counter, go, turn = AtomicInt64.attach_at(segment, 64), AtomicFlag.attach_at(segment, 128), None
    turn = AtomicUInt64.attach_at(segment, 192)
    other = process.popen([binary, os.fspath(tmp_path / name), str(times)])
    assert not go.test_and_set("release")
    go.notify_all()
    mine = 0
    while mine < 20_000:
        counter.add(3)
        mine += 1
    turn.store(1)
    turn.notify()
    assert turn.wait(1, WATCHDOG)
    assert turn.load("acquire") == 2
    assert counter.load() == 3 * (mine - times)
    assert other.wait(WATCHDOG) == 0
    segment.unlink()
